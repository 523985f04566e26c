"""What each unit of a layer contributes to the outputs for one film: read off the weights, or integrated gradients."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mammi.capture import LayerPlan, Recorder
from mammi.explain.gradients import logits_of, no_way, replaced_at, unit_sums
from mammi.explain.heads import LinearHead, output_head
from mammi.registry import import_extra
from mammi.targets import Target
from mammi.targets.layers import evaluating
from mammi.types import Progress, no_progress

__all__ = ["STEPS", "Attribution", "integrated_gradients", "weighted_units"]

#: Points on the way from the baseline to the film, by the Gauss-Legendre rule: exact for smooth slopes, good at kinks.
STEPS = 64
#: Points per forward pass: bounds memory, not results.
AT_ONCE = 16


@dataclass(frozen=True)
class Attribution:
    """How some outputs follow from the units of a layer, for one film.

    Attributes:
        logits: what the network gives, float64, shape ``(n_outputs,)``.
        base: the logit that no unit accounts for: the bias, or the logit of the baseline; float64, ``(n_outputs,)``.
        contributions: float64, shape ``(n_outputs, n_units)``, on the scale of the logit.
        activations: the units' pooled activations, float32, shape ``(n_units,)``.
    """

    logits: NDArray[np.float64]
    base: NDArray[np.float64]
    contributions: NDArray[np.float64]
    activations: NDArray[np.float32]

    @property
    def gap(self) -> NDArray[np.float64]:
        """What base and contributions leave of each logit, float64, shape ``(n_outputs,)``: shown, never spread out."""
        left: NDArray[np.float64] = self.logits - self.base - self.contributions.sum(axis=1)
        return left


def weighted_units(
    target: Target, plan: LayerPlan, head: LinearHead, view: Tensor, outputs: Sequence[int]
) -> Attribution:
    r"""Read contributions off the weights: :math:`z_c = b_c + \sum_i w_{ci} a_i`, unit i contributes :math:`w_{ci} a_i`.

    The logit is the network's own, from the same forward pass, so that `Attribution.gap` shows whether it is so.

    Args:
        target: the network.
        plan: the layer, pooled as the head takes it.
        head: what `linear_head` found for it.
        view: the network's view of the film, float32 ``(channels, height, width)``.
        outputs: numbers of the outputs asked for.

    Raises:
        CaptureError: if the layer cannot be recorded.
    """
    wanted = list(outputs)
    # The logit of the very same pass is what has to add up.
    out = LayerPlan(head.module, "vector", "none", len(head.bias))
    with Recorder(target.model, [plan, out]) as recorder:
        recorded = recorder.record(view[None].to(target.device))
    activations = recorded[plan.name][0].numpy()
    logits = recorded[out.name][0].double().numpy()[wanted]
    return Attribution(logits, head.bias[wanted], head.weight[wanted] * activations.astype(np.float64), activations)


def integrated_gradients(
    target: Target,
    plan: LayerPlan,
    view: Tensor,
    outputs: Sequence[int],
    *,
    steps: int = STEPS,
    progress: Progress = no_progress,
) -> Attribution:
    r"""Attribute logits to the units of a layer by integrated gradients (Sundararajan, Taly, Yan, ICML 2017, eq. 1).

    With :math:`a` what the layer gives for the film and :math:`a'` what it gives for the baseline, unit i contributes

    .. math:: \sum_p (a_i(p) - a'_i(p)) \int_0^1 \frac{\partial z_c}{\partial a_i(p)}
              \bigl(a' + t (a - a')\bigr)\, dt

    over the places p of its map or tokens (Captum's ``LayerIntegratedGradients``). The baseline is the network's input
    of zeros: an even film of the mean grey that the preprocessing subtracts. Contributions add up to the logit less
    that of the baseline (completeness), but for the error of the sum over points and for what passes the layer by (a
    skip connection around it sees the film on every point of the way): `Attribution.gap` is both.

    Args:
        target: the network; its parameters get no gradient.
        plan: the layer: maps, tokens or a vector, its output or, with ``@in``, its input.
        view: the network's view of the film, float32 ``(channels, height, width)``.
        outputs: numbers of the outputs asked for.
        steps: points on the way.
        progress: told of every output.

    Returns:
        The attribution; logits are those before a final sigmoid or softmax.

    Raises:
        MissingExtraError: if Captum is not installed.
        CaptureError: if an output does not follow from the layer.
    """
    captum = import_extra("captum.attr", "attribution")
    wanted = list(outputs)
    film = view[None].to(target.device)
    with Recorder(target.model, [plan]) as recorder:
        activations = recorder.record(film)[plan.name][0].numpy()
    contributions = np.empty((len(wanted), plan.n_units))
    # The layer is cut before the logits are watched, so that a network whose last layer it is sees the cut.
    with evaluating(target.model), _gate(target.model, plan) as gate, logits_of(target, output_head(target)) as logits:
        with torch.no_grad():
            ends = torch.cat([logits(torch.zeros_like(film)), logits(film)]).double().cpu().numpy()[:, wanted]
        method = captum.LayerIntegratedGradients(logits, gate)
        for row, output in enumerate(wanted):
            try:
                shares = method.attribute(film, target=output, n_steps=steps, internal_batch_size=AT_ONCE)
            except RuntimeError as error:
                raise no_way(target, plan, output, error) from error
            contributions[row] = unit_sums(shares.detach().double(), plan)[0]
            progress("attributing", row + 1, len(wanted))
    return Attribution(ends[1], ends[0], contributions, activations)


@contextmanager
def _gate(model: nn.Module, plan: LayerPlan) -> Iterator[nn.Identity]:
    """Lead what a layer gives, or takes, through an identity: there Captum can put any value in its place.

    Captum returns its own leaf from a hook; an in-place ReLU behind the layer must not meet it, hence the copy.
    """
    gate = nn.Identity()

    def through(value: Any) -> Tensor:  # noqa: ANN401 - whatever the module gave
        passed: Tensor = gate(plan.one_tensor(value))
        return passed.clone()

    handle = replaced_at(model, plan, through)
    try:
        yield gate
    finally:
        handle.remove()
