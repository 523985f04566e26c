"""What a cell of a layer's maps looks at: not the middle of its share of the input, where strided layers are padded."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from mammi.capture import MapPlan
from mammi.errors import CaptureError, TargetError
from mammi.explain.gradients import Attached, pooled_at
from mammi.targets import Target
from mammi.targets.layers import evaluating
from mammi.targets.randomised import copied

__all__ = ["cell_offset"]

#: Films that are looked at.
TRIED = 4
#: An offset below this many pixels of the input is rounding.
LEAST = 0.25


class _AttachedMaps(Attached, MapPlan):
    """A plan that keeps maps whole without cutting the gradient."""


def cell_offset(target: Target, plan: MapPlan) -> tuple[float, float]:
    r"""Measure how far the cells of a layer look away from the middles of their shares of the network's input.

    A convolution with stride 2 and a 3x3 kernel that is padded by one on every side sees around the first pixel of a cell,
    not around its middle; over several such layers that grows to half a cell (Araujo, Norris, Sim, *Computing receptive
    fields of convolutional neural networks*, Distill 2019). Instead of following the arithmetic of every layer, it is
    looked at, in a copy of the network whose convolutions average and whose normalisations do nothing, so that only
    strides, kernels and padding are left: of the cells in the middle, the gradient with respect to the input has its
    centre of mass in the middle of the input if every cell looks at the middle of its share.

    Args:
        target: the network.
        plan: the layer, from `plan_maps`.

    Returns:
        How far down and to the right, in pixels of the network's input, negative for up and left. What reaches every
        cell alike (attention, squeeze and excitation) draws the answer towards 0; 0 for a network that cannot be copied.

    Raises:
        CaptureError: if the layer does not follow from the input.
    """
    try:
        model = copied(target)
    except TargetError:
        return 0.0, 0.0
    _level(model)
    shape = (TRIED, target.preprocessing.channels, *target.preprocessing.size)
    # Bright, so that every ReLU is open, and uneven, so that a maximum is as often on one side as on the other.
    views = (1 + 0.1 * torch.rand(shape, generator=torch.Generator().manual_seed(0))).requires_grad_()
    attached = _AttachedMaps(plan.name, plan.layout, plan.pooling, plan.n_units, plan.n_prefix, plan.aspect)
    with evaluating(model), pooled_at(model, attached) as kept, torch.enable_grad():
        model(views)
        rows, columns = (_middle(n) for n in kept[-1].shape[-2:])
        (slope,) = torch.autograd.grad(kept[-1][:, :, rows, columns].sum(), views, allow_unused=True)
    if slope is None:
        raise CaptureError(f"layer {plan.name!r} does not follow from the network's input")
    mass = slope.double().abs().sum(dim=(0, 1))
    return _away(mass.sum(dim=1)), _away(mass.sum(dim=0))


@torch.no_grad()
def _level(model: nn.Module) -> None:
    """Make convolutions averages and normalisations nothing, in place: only where values come from is left."""
    for module in model.modules():
        if isinstance(module, _ConvNd):
            module.weight.fill_(1 / module.weight[0].numel())
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, _BatchNorm):
            module.reset_running_stats()
            if module.affine:
                module.weight.fill_(1)
                module.bias.zero_()


def _middle(n: int) -> slice:
    """Return a quarter of the cells, at least one or two, as many on either side of the middle: away from the edges."""
    half = max(1, n // 8)
    return slice((n - 1) // 2 - half + 1, n // 2 + half)


def _away(mass: Tensor) -> float:
    """Return how far the centre of mass lies from the middle, in pixels; 0 below `LEAST`, and where there is no mass."""
    total = float(mass.sum())
    if not total > 0:
        return 0.0
    centre = float((mass * (torch.arange(len(mass), dtype=torch.float64) + 0.5)).sum()) / total
    away = centre - len(mass) / 2
    return away if abs(away) >= LEAST else 0.0
