"""What every family of targets is held to: the library's own network, run by itself, gives the same."""

import torch
from torch import Tensor, nn

from mammi.capture import Recorder, plan_layers
from mammi.targets import Target


def films_for(target: Target, n: int = 2) -> Tensor:
    """Films of noise as the network takes them."""
    shape = (n, target.preprocessing.channels, *target.preprocessing.size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def hooks_of(model: nn.Module) -> int:
    """Count every hook of every module."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())


def recorded(target: Target, layer: str, films: Tensor, pooling: str | None = None) -> Tensor:
    """Record one layer as a run does."""
    with Recorder(target.model, plan_layers(target, [layer], pooling)) as recorder:
        return recorder.record(films)[layer]


def seen_by_hand(model: nn.Module, layer: str, films: Tensor) -> tuple[Tensor, Tensor]:
    """Run somebody's network with one hook of our own; return what it and the layer gave, copied."""
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda _m, _i, output: kept.append(output.detach().clone())
    )
    with torch.no_grad():
        output = model.eval()(films)
    handle.remove()
    return output, kept[0]
