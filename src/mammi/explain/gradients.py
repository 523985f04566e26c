"""Slopes of the logits at a layer, for networks whose outputs are no plain sum of its units."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mammi.capture import LayerPlan
from mammi.errors import CaptureError
from mammi.explain.heads import LinearHead
from mammi.targets import Target

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

__all__ = ["Attached", "leaf_at", "logits_of", "no_way", "pooled_at", "replaced_at", "unit_sums"]


def replaced_at(model: nn.Module, plan: LayerPlan, change: Callable[[Any], Tensor]) -> "RemovableHandle":
    """Put something else in the place of what a layer gives or, with ``@in``, of its first input, placed or named."""
    module = dict(model.named_modules())[plan.module]

    def before(_module: nn.Module, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - whatever a module takes
        if args:
            return (change(args[0]), *args[1:]), kwargs
        name = next(iter(kwargs), None)
        if name is None:
            raise CaptureError(f"layer {plan.name!r} takes nothing: choose another layer")
        return args, {**kwargs, name: change(kwargs[name])}

    handle: RemovableHandle = (
        module.register_forward_pre_hook(before, with_kwargs=True)
        if plan.is_input
        else module.register_forward_hook(lambda _module, _args, output: change(output))
    )
    return handle


def no_way(target: Target, plan: LayerPlan, output: int, error: RuntimeError) -> CaptureError:
    """Say that an output does not follow from a layer by gradients."""
    return CaptureError(
        f"output {output} of {target.name} does not follow from layer {plan.name!r} by gradients "
        f"({str(error).splitlines()[0][:160]}): choose a layer on its way"
    )


@contextmanager
def leaf_at(model: nn.Module, plan: LayerPlan) -> Iterator[dict[str, Tensor]]:
    """Cut the network at a layer: what it gives becomes a leaf that gradients arrive at, under ``"leaf"``."""
    caught: dict[str, Tensor] = {}

    def cut(value: Any) -> Tensor:  # noqa: ANN401 - whatever the module gave
        caught["leaf"] = plan.one_tensor(value).clone().requires_grad_()
        return caught["leaf"].clone()  # an in-place ReLU behind the layer must not meet the leaf itself

    handle = replaced_at(model, plan, cut)
    try:
        yield caught
    finally:
        handle.remove()


@contextmanager
def logits_of(target: Target, own: LinearHead | None) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yield a function from a batch to its logits: what the network returns, or what its last linear layer gave."""
    if own is None or own.link == "none":
        yield target.model
        return
    kept: dict[str, Tensor] = {}
    module = dict(target.model.named_modules())[own.module]
    handle = module.register_forward_hook(lambda _module, _args, output: kept.__setitem__("z", output))

    def logits(batch: Tensor) -> Tensor:
        target.model(batch)
        return kept["z"]

    try:
        yield logits
    finally:
        handle.remove()


def unit_sums(values: Tensor, plan: LayerPlan) -> NDArray[np.float32 | np.float64]:
    """Add up a layer's values over all places but the units' axis: shape ``(n_images, n_units)``.

    float64 if the values are, else float32.
    """
    if plan.layout == "map":
        values = values.sum(dim=(2, 3))
    elif plan.layout == "map_last":
        values = values.sum(dim=(1, 2))
    elif plan.layout == "tokens":
        values = values.sum(dim=1)
    summed: NDArray[np.float32 | np.float64] = (
        (values if values.dtype == torch.float64 else values.float()).cpu().numpy()
    )
    return summed


class Attached(LayerPlan):
    """A plan that pools without cutting the gradient."""

    def one_tensor(self, value: Any) -> Tensor:  # noqa: ANN401 - whatever the module gave
        """Return what the module gave, checked as in any plan, still attached."""
        super().one_tensor(value)
        given: Tensor = value
        return given


@contextmanager
def pooled_at(model: nn.Module, plan: LayerPlan) -> Iterator[list[Tensor]]:
    """Collect the pooled activations of a layer, as often as it is called."""
    pooled: list[Tensor] = []

    def before(_module: nn.Module, args: Any, kwargs: Any) -> None:  # noqa: ANN401 - whatever a module takes
        pooled.append(plan.pool(args[0] if args else next(iter(kwargs.values()), None)))

    module = dict(model.named_modules())[plan.module]
    handle = (
        module.register_forward_pre_hook(before, with_kwargs=True)
        if plan.is_input
        else module.register_forward_hook(lambda _module, _args, output: pooled.append(plan.pool(output)))
    )
    try:
        yield pooled
    finally:
        handle.remove()
