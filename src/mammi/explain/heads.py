"""Whether a network's outputs are a weighted sum of a layer's units: then their contributions add up exactly."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mammi.capture import LayerPlan, Recorder
from mammi.targets import Target
from mammi.targets.layers import evaluating

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LinearHead", "linear_head", "output_head"]

#: Largest difference that still counts as equal, relative to the size of the values: float32 sums in another order.
TOLERANCE = 1e-4
#: Films that the question is tried on: noise about mid grey, and about what is dark and what is bright. A unit that follows
#: the grey of the film, and is negative on dark ones only, would else look as if no ReLU cut it.
TRIED = (0.0, 0.0, 0.0, -2.0, 2.0)


@dataclass(frozen=True)
class LinearHead:
    r"""The linear layer that gives a network's outputs: :math:`z = W a + b`.

    Attributes:
        module: its dotted name.
        link: what the network applies after it: ``"none"``, ``"sigmoid"`` or ``"softmax"``.
        weight: float64, shape ``(n_outputs, n_units)``.
        bias: float64, shape ``(n_outputs,)``.
    """

    module: str
    link: str
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]


def _noise(target: Target) -> Tensor:
    """Return films of noise as the network takes them: whatever holds on these holds by structure."""
    shape = (len(TRIED), target.preprocessing.channels, *target.preprocessing.size)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return (noise + torch.tensor(TRIED).reshape(-1, 1, 1, 1)).to(target.device)


def _same(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    scale = float(a.abs().max().clamp(min=1e-12))
    return bool(torch.isfinite(a).all()) and float((a - b).abs().max()) <= TOLERANCE * scale


def output_head(target: Target) -> LinearHead | None:
    """Return the linear layer whose output, or its sigmoid or softmax, is what the network returns; None without one."""
    seen: dict[str, tuple[nn.Linear, Tensor]] = {}
    handles = []
    try:
        for name, module in target.model.named_modules():
            if isinstance(module, nn.Linear):

                def note(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:  # noqa: ANN401
                    if isinstance(module, nn.Linear) and isinstance(output, Tensor):
                        seen[name] = (module, output.detach().clone())

                handles.append(module.register_forward_hook(note))
        with evaluating(target.model), torch.no_grad():
            returned = target.model(_noise(target))
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(returned, Tensor) or returned.ndim != 2:
        return None
    links: dict[str, Callable[[Tensor], Tensor]] = {
        "none": lambda z: z,
        "sigmoid": torch.sigmoid,
        "softmax": lambda z: torch.softmax(z, dim=-1),
    }
    for name, (module, output) in reversed(seen.items()):
        for link, function in links.items():
            if output.ndim == 2 and _same(returned, function(output)):
                weight = module.weight.detach().double().cpu().numpy()
                bias = np.zeros(len(weight)) if module.bias is None else module.bias.detach().double().cpu().numpy()
                return LinearHead(name, link, weight, bias)
    return None


def linear_head(target: Target, plan: LayerPlan) -> LinearHead | None:
    """Return the head if what it is given is exactly the pooled units of a layer.

    The question is settled by looking: the layer's pooled units and the head's input are recorded on films of noise
    and compared, so that a ReLU or a second pooling on the way is not overlooked.

    Args:
        target: the network.
        plan: the layer and its pooling.

    Returns:
        The head, or None where the outputs are no weighted sum of the layer's units.
    """
    head = output_head(target)
    if head is None or plan.n_units != head.weight.shape[1] or (plan.module == head.module and not plan.is_input):
        return None
    into = LayerPlan(f"{head.module}@in", "vector", "none", head.weight.shape[1])
    if plan.name == into.name:
        return head
    with Recorder(target.model, [plan, into]) as recorder:
        recorded = recorder.record(_noise(target))
    return head if _same(recorded[into.name], recorded[plan.name]) else None
