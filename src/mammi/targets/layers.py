"""Which layers a network has, and what their outputs are: found by looking at it twice, see `mammi.targets.layout`."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from mammi.errors import InputError, TargetError
from mammi.targets.layout import Layout, Pooling, default_pooling, layout_of, unit_axis
from mammi.targets.preprocessing import TargetPreprocessing

if TYPE_CHECKING:
    from mammi.targets.target import Target

__all__ = [
    "LayerInfo",
    "Layout",
    "Pooling",
    "default_pooling",
    "layout_of",
    "list_layers",
    "n_prefix_tokens",
    "unit_axis",
]

_FIRST = (nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)
_LAST = (nn.Linear, nn.LayerNorm)


@dataclass(frozen=True)
class LayerInfo:
    """One layer, as seen in one forward pass of one image.

    Attributes:
        name: dotted name from ``named_modules()``.
        kind: class name.
        shape: shape of its output without the batch axis; ``None`` if it was not called or gave no tensor.
        layout: which axis holds the units; ``None`` if its units cannot be told.
        n_units: number of units, 0 if they cannot be told.
        pooling: how places or tokens become one number per unit by default.
        n_calls: how often it was called in one forward pass.
        reason: why its units cannot be told, in words; empty otherwise.
    """

    name: str
    kind: str
    shape: tuple[int, ...] | None
    layout: Layout | None
    n_units: int
    pooling: Pooling
    n_calls: int
    reason: str = ""


def n_prefix_tokens(model: nn.Module) -> int:
    """Return how many tokens come before those of the patches, 0 if the first is not a class token.

    Knows timm (``cls_token``, ``num_prefix_tokens``), torchvision (``class_token``) and the common ``cls_token``, with
    transformers' ``distillation_token`` and ``register_tokens`` behind it.
    """
    for module in model.modules():
        for key in ("cls_token", "class_token"):
            if isinstance(getattr(module, key, None), Tensor):
                more = [getattr(module, name, None) for name in ("distillation_token", "register_tokens")]
                others = sum(int(tokens.shape[1]) for tokens in more if isinstance(tokens, Tensor) and tokens.ndim == 3)
                return int(getattr(module, "num_prefix_tokens", 1 + others))
    return 0


def list_layers(target: "Target | nn.Module", preprocessing: TargetPreprocessing | None = None) -> list[LayerInfo]:
    """List every layer of a network, in the order of ``named_modules()``.

    Runs one black film through it, and another of a different size where the network takes it. Leaves no hook
    behind, and every module in the train or eval state it was in.

    Args:
        target: the network under study, or an ``nn.Module``.
        preprocessing: needed for an ``nn.Module``: tells the size of its input.

    Returns:
        One entry per layer, without the network itself.

    Raises:
        TargetError: if the network refuses the film.
    """
    model, preprocessing = _unpack(target, preprocessing)
    height, width = preprocessing.size
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    film = torch.zeros(1, preprocessing.channels, height, width, device=device)
    seen, error = _record(model, film)
    if error is not None:
        raise TargetError(
            f"{type(model).__name__} refuses one film as a {tuple(film.shape)} batch "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}): give the channels and size it takes"
        ) from error
    # A smaller second look is cheap, but deep maps of small inputs have no room left to shrink. It is one at two films,
    # so that what has no row per film (a table of positions, windows) is not taken for what has.
    step = -64 if min(height, width) >= 192 else 64
    others, refused = _record(model, torch.zeros(2, preprocessing.channels, height + step, width + step, device=device))
    if refused is not None:
        same, _ = _record(model, torch.zeros(2, *film.shape[1:], device=device))
        others = same | others
    layers = [
        _describe(name, module, seen.get(name), others.get(name), seen, preprocessing.size)
        for name, module in model.named_modules()
        if name
    ]
    return _with_class_token(_without_transposed(layers), n_prefix_tokens(model))


@dataclass
class _Seen:
    """What a layer gave in one forward pass: the first call's shape (or why there is none), and when it ended."""

    shape: tuple[int, ...] | None
    reason: str
    order: int
    n_calls: int = 1


def _unpack(
    target: "Target | nn.Module", preprocessing: TargetPreprocessing | None
) -> tuple[nn.Module, TargetPreprocessing]:
    if not isinstance(target, nn.Module):
        return target.model, preprocessing or target.preprocessing
    if preprocessing is None:
        raise InputError("'preprocessing' is needed with an nn.Module: it tells the size of the input")
    return target, preprocessing


def _record(model: nn.Module, films: Tensor) -> tuple[dict[str, _Seen], Exception | None]:
    """Run one forward pass; return what each layer gave, up to the error if there was one."""
    seen: dict[str, _Seen] = {}
    handles = []

    def watch(name: str) -> Any:  # noqa: ANN401 - a forward hook
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:  # noqa: ANN401
            if name in seen:
                seen[name].n_calls += 1
                return
            shape = tuple(output.shape) if isinstance(output, Tensor) else None
            reason = "" if shape is not None else f"it returns a {type(output).__name__}, not one tensor"
            seen[name] = _Seen(shape, reason, len(seen))

        return hook

    try:
        for name, module in model.named_modules():
            if name:
                handles.append(module.register_forward_hook(watch(name)))
        with evaluating(model), torch.no_grad():
            model(films)
    except Exception as error:  # noqa: BLE001 - the network's own code may raise anything; the caller decides
        return seen, error
    finally:
        for handle in handles:
            handle.remove()
    return seen, None


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network in ``eval()`` mode, and every module of it back as it was afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _describe(
    name: str,
    module: nn.Module,
    seen: _Seen | None,
    other: _Seen | None,
    everything: dict[str, _Seen],
    size: tuple[int, int],
) -> LayerInfo:
    kind = type(module).__name__
    if seen is None:
        return LayerInfo(name, kind, None, None, 0, "none", 0, "it is not called in a forward pass")
    if seen.shape is None:
        return LayerInfo(name, kind, None, None, 0, "none", seen.n_calls, seen.reason)
    per_film = other is None or other.shape is None or other.shape[:1] == (2,)
    if len(seen.shape) < 2 or seen.shape[0] != 1 or not per_film:
        reason = f"its output {seen.shape} has no row per image (windows or a scalar)"
        return LayerInfo(name, kind, seen.shape, None, 0, "none", seen.n_calls, reason)
    hint = _hint(name, module, seen.shape, everything)
    layout = layout_of(seen.shape, other.shape if other is not None else None, hint=hint, aspect=size)
    shape = seen.shape[1:]
    if layout is None:
        reason = f"its output {shape} per image is neither a vector, a map nor tokens with features last"
        return LayerInfo(name, kind, shape, None, 0, "none", seen.n_calls, reason)
    n_units = seen.shape[unit_axis(layout)]
    return LayerInfo(name, kind, shape, layout, n_units, default_pooling(layout), seen.n_calls)


def _hint(
    name: str, module: nn.Module, shape: tuple[int, ...], everything: dict[str, _Seen]
) -> Literal["first", "last"] | None:
    """Tell from the layer, or from the last layer inside it that gave the same shape, where channels are kept."""
    inside = [(f"{name}.{child}" if child else name, part) for child, part in module.named_modules()]
    typed = [
        (everything[key].order, part)
        for key, part in inside
        if isinstance(part, (*_FIRST, *_LAST, nn.Conv1d)) and key in everything and everything[key].shape == shape
    ]
    if not typed:
        return None
    return "last" if isinstance(max(typed, key=lambda pair: pair[0])[1], _LAST) else "first"


def _with_class_token(layers: list[LayerInfo], prefix: int) -> list[LayerInfo]:
    """Set ``cls`` for the layers that carry the class token: those with the usual number of tokens."""
    counts = Counter(layer.shape[0] for layer in layers if layer.layout == "tokens" and layer.shape)
    if not prefix or not counts:
        return layers
    usual = max(counts, key=lambda n: (counts[n], n))  # patches alone, before the class token joins, are fewer
    return [
        replace(layer, pooling=default_pooling("tokens", has_class_token=True))
        if layer.layout == "tokens" and layer.shape and layer.shape[0] == usual
        else layer
        for layer in layers
    ]


def _without_transposed(layers: list[LayerInfo]) -> list[LayerInfo]:
    """Take back ``(n, features, tokens)`` outputs, as inside an MLP-Mixer: their last axis is places."""
    shapes = Counter(layer.shape for layer in layers if layer.layout == "tokens" and layer.shape)
    if not shapes:
        return layers
    tokens, features = max(shapes, key=lambda shape: shapes[shape])
    return [
        replace(layer, layout=None, n_units=0, pooling="none", reason=f"its output {layer.shape} has features first")
        if layer.layout == "tokens" and layer.shape and layer.shape[0] == features != tokens
        else layer
        for layer in layers
    ]
