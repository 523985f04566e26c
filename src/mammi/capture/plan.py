"""What to record of which layer, decided before the first film: nothing is found out in the middle of a run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mammi.errors import CaptureError, InputError, UnknownNameError
from mammi.functional.pooling import MAP_RULES, TOKEN_RULES, pool_map, pool_tokens
from mammi.targets import Target
from mammi.targets.layers import (
    LayerInfo,
    Layout,
    default_pooling,
    evaluating,
    layout_of,
    list_layers,
    n_prefix_tokens,
    unit_axis,
)

__all__ = ["LayerPlan", "output_layers", "plan_layers"]

_INPUT = "@in"


@dataclass(frozen=True)
class LayerPlan:
    """One layer to record, and how its output becomes one number per unit.

    Attributes:
        name: dotted name from ``named_modules()``; with ``@in`` at the end, what goes into that module.
        layout: which axis holds the units: ``"vector"``, ``"map"``, ``"map_last"`` or ``"tokens"``.
        pooling: ``"none"`` for a vector, ``"mean"`` or ``"max"`` for a map, ``"cls"`` or ``"mean"`` for tokens.
        n_units: number of units.
        n_prefix: leading tokens that are no patches.
    """

    name: str
    layout: Layout
    pooling: str
    n_units: int
    n_prefix: int = 0

    @property
    def is_input(self) -> bool:
        """Whether the module's input is recorded rather than its output."""
        return self.name.endswith(_INPUT)

    @property
    def module(self) -> str:
        """Dotted name of the module to hook."""
        return self.name.removesuffix(_INPUT)

    def pool(self, value: Any) -> Tensor:  # noqa: ANN401 - whatever the module gave
        """Reduce what the module gave to ``(n_images, n_units)``, a copy that later in-place changes cannot reach.

        Raises:
            CaptureError: if it is no tensor, or has other axes than planned.
        """
        given = self.one_tensor(value)
        if self.layout == "vector":
            return given.float().clone()
        if self.layout == "tokens":
            return pool_tokens(given, self.pooling, self.n_prefix).clone()  # type: ignore[arg-type]
        maps = given if self.layout == "map" else given.movedim(-1, 1)
        return pool_map(maps, self.pooling)  # type: ignore[arg-type]

    def one_tensor(self, value: Any) -> Tensor:  # noqa: ANN401 - whatever the module gave
        """Return what the module gave, detached, if it is a tensor with the axes planned.

        Raises:
            CaptureError: if not.
        """
        if not isinstance(value, Tensor):
            raise CaptureError(
                f"layer {self.name!r} gave a {type(value).__name__}, not one tensor: choose one inside it"
            )
        axes = {"vector": 2, "map": 4, "map_last": 4, "tokens": 3}[self.layout]
        if value.ndim != axes:
            raise CaptureError(f"layer {self.name!r} gave shape {tuple(value.shape)}, expected {axes} axes")
        return value.detach()

    def to_dict(self) -> dict[str, Any]:
        """Return what the manifest and the content key hold."""
        return {"name": self.name, "layout": self.layout, "pooling": self.pooling, "n_units": self.n_units}


def plan_layers(target: Target, names: Sequence[str], pooling: str | None = None) -> list[LayerPlan]:
    """Plan the recording of some layers of a target.

    Args:
        target: the network under study.
        names: dotted names, each at most once; ``name@in`` for what goes into a layer.
        pooling: ``"mean"``, ``"max"`` or ``"cls"`` for the layers it applies to (maps: mean, max; tokens: cls, mean);
            None for each layer's own: mean for maps, the class token where there is one.

    Raises:
        UnknownNameError: if a layer is not in the network; the nearest is named.
        CaptureError: if a layer's units cannot be told, or it is called more than once in a forward pass.
        InputError: if no layer is named, one is named twice, or the pooling applies to none of them.
    """
    if not names:
        raise InputError("name at least one layer: 'mammi layers' lists them all")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise InputError(f"layer {twice[0]!r} is named twice")
    if pooling is not None and pooling not in {*MAP_RULES, *TOKEN_RULES}:
        raise InputError(f"'pooling' must be mean, max or cls, got {pooling!r}")
    layers = {layer.name: layer for layer in list_layers(target)}
    for name in names:
        module = name.removesuffix(_INPUT)
        if module not in layers:
            raise UnknownNameError.among(
                f"Layer of {target.name}:", module, layers, "'mammi layers' with the same target lists them all."
            )
    inputs = [name for name in names if name.endswith(_INPUT)]
    described = {name: layers[name] for name in names if name not in inputs} | _describe_inputs(target, inputs)
    prefix = n_prefix_tokens(target.model)
    plans = [_plan(described[name], pooling, prefix) for name in names]
    if pooling is not None and all(plan.pooling != pooling for plan in plans):
        raise InputError(f"pooling {pooling!r} applies to none of {', '.join(names)}: leave it out")
    return plans


def output_layers(target: Target) -> set[str]:
    """Return the layers whose output is what the network returns: the last layer, and what it is wrapped in."""
    given: dict[str, Any] = {}
    handles = []
    try:
        for name, module in target.model.named_modules():

            def note(_module: nn.Module, _inputs: Any, output: Any, name: str = name) -> None:  # noqa: ANN401
                given[name] = output

            handles.append(module.register_forward_hook(note))
        with evaluating(target.model), torch.no_grad():
            film = torch.zeros(1, target.preprocessing.channels, *target.preprocessing.size, device=target.device)
            returned = target.model(film)
    finally:
        for handle in handles:
            handle.remove()
    return {name for name, output in given.items() if name and output is returned}


def _plan(layer: LayerInfo, pooling: str | None, prefix: int) -> LayerPlan:
    if layer.n_calls > 1:
        raise CaptureError(
            f"layer {layer.name!r} ({layer.kind}) is called {layer.n_calls} times in one forward pass, so its units "
            "have no single value: record the layer before or after it"
        )
    if layer.layout is None:
        raise CaptureError(f"layer {layer.name!r} ({layer.kind}) has no units: {layer.reason}")
    rules = {"vector": (), "tokens": TOKEN_RULES}.get(layer.layout, MAP_RULES)
    rule: str = pooling if pooling is not None and pooling in rules else layer.pooling
    # Tokens without the class token (patches alone) have no prefix to skip, whatever the network as a whole has.
    n_prefix = prefix if layer.layout == "tokens" and layer.pooling == "cls" else 0
    return LayerPlan(layer.name, layer.layout, rule, layer.n_units, n_prefix)


def _describe_inputs(target: Target, names: Sequence[str]) -> dict[str, LayerInfo]:
    """Describe what goes into some modules, by looking twice as for outputs: at two sizes of film."""
    if not names:
        return {}
    height, width = target.preprocessing.size
    step = -64 if min(height, width) >= 192 else 64
    first = _input_shapes(target, names, (height, width))
    try:
        second = _input_shapes(target, names, (height + step, width + step))
    except Exception:  # noqa: BLE001 - a network of fixed size refuses as it likes: one look must do
        second = {}
    described = {}
    modules = dict(target.model.named_modules())
    for name in names:
        module = modules[name.removesuffix(_INPUT)]
        described[name] = _describe_input(
            LayerInfo(name, f"input of {type(module).__name__}", None, None, 0, "none", len(first[name])),
            first[name][0] if first[name] else None,
            second[name][0] if second.get(name) else None,
            "last" if isinstance(module, nn.Linear | nn.LayerNorm) else "first",
            target,
        )
    return described


def _describe_input(
    blank: LayerInfo,
    shape: tuple[int, ...] | None,
    other: tuple[int, ...] | None,
    hint: Literal["first", "last"],
    target: Target,
) -> LayerInfo:
    if shape is None:
        return replace(blank, reason="it takes no single tensor" if blank.n_calls else "it is not called")
    # A linear layer takes tokens as readily as a convolution takes maps: only four axes leave a doubt.
    layout = layout_of(shape, other, hint=hint if len(shape) == 4 else None, aspect=target.preprocessing.size)
    if layout is None:
        return replace(blank, shape=shape[1:], reason=f"its input {shape[1:]} per image has no axis of units")
    has_class = layout == "tokens" and n_prefix_tokens(target.model) > 0
    pooling = default_pooling(layout, has_class_token=has_class)
    return replace(blank, shape=shape[1:], layout=layout, n_units=shape[unit_axis(layout)], pooling=pooling)


def _input_shapes(
    target: Target, names: Sequence[str], size: tuple[int, int]
) -> dict[str, list[tuple[int, ...] | None]]:
    """Return the shape of each call's first input, for one black film of a size."""
    shapes: dict[str, list[tuple[int, ...] | None]] = {name: [] for name in names}
    modules = dict(target.model.named_modules())

    @contextmanager
    def hooked() -> Iterator[None]:
        handles = []
        try:
            for name in names:

                def note(_module: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:  # noqa: ANN401
                    value = args[0] if args else next(iter(kwargs.values()), None)
                    shapes[name].append(tuple(value.shape) if isinstance(value, Tensor) else None)

                module = modules[name.removesuffix(_INPUT)]
                handles.append(module.register_forward_pre_hook(note, with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    with hooked(), evaluating(target.model), torch.no_grad():
        target.model(torch.zeros(1, target.preprocessing.channels, *size, device=target.device))
    return shapes
