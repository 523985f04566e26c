"""Weights of a network that a library builds by name: a file of the user's, the library's own, or random ones."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mammi.errors import TargetError
from mammi.registry import import_extra
from mammi.targets.preprocessing import Preprocessing
from mammi.weights_file import load_weights, match_prefix, read_weights

__all__ = ["assumed", "check_hub", "download", "fill", "need_weights", "quiet_construction"]


def need_weights(spec: str, weights: str | None) -> None:
    """Refuse to guess what weights a network should have."""
    if weights is None:
        raise TargetError(
            f"{spec} needs weights: give a file, or weights='pretrained' (downloads the library's own), "
            "or weights='random' (a network that knows nothing)"
        )


def assumed(spec: str, preprocessing: Preprocessing | None) -> tuple[str, ...]:
    """Return a note on the preprocessing that comes with the name and perhaps not with the weights."""
    if preprocessing is None:
        return ()
    note = f"{spec}: assumed the library's own preprocessing, {preprocessing}"
    return (f"{note}; give size, mean, std and resize if the weights were trained otherwise",)


def fill(
    model: nn.Module,
    head: str,
    weights: str | None,
    spec: str,
    remake: Callable[[int | None, int | None], nn.Module],
    first: str = "",
) -> tuple[nn.Module, tuple[str, ...]]:
    """Load a weights file, with as many outputs (and input channels) as the file has."""
    if weights is None or weights == "random":
        return model, (f"RANDOM WEIGHTS: {spec} has learned nothing, and neither will its annotations mean anything",)
    state = read_weights(Path(weights).expanduser())
    prefix = match_prefix(set(state), set(model.state_dict()))
    n_outputs = _rows(model, state, head, prefix, axis=0)
    channels = _rows(model, state, first, prefix, axis=1)
    notes: tuple[str, ...] = ()
    if n_outputs is not None or channels is not None:
        model = remake(n_outputs, channels)
        sizes = ((n_outputs, "outputs"), (channels, "input channels"))
        told = " and ".join(f"{n} {what}" for n, what in sizes if n is not None)
        notes = (f"{spec} was built with {told}, as in {weights!r}",)
    return model, (*notes, *load_weights(model, state, repr(weights)))


def _rows(model: nn.Module, state: dict[str, Tensor], layer: str, prefix: str, axis: int) -> int | None:
    """Return the length of a layer's weight along ``axis`` in a file, if only that differs from the network's."""
    ours, theirs = model.state_dict().get(f"{layer}.weight"), state.get(f"{prefix}{layer}.weight")
    if not isinstance(ours, Tensor) or theirs is None or ours.ndim != theirs.ndim:
        return None
    differ = [i for i in range(ours.ndim) if ours.shape[i] != theirs.shape[i]]
    return int(theirs.shape[axis]) if differ == [axis] else None


def check_hub(spec: str, repository: str | None) -> None:
    """Fail in seconds, not after a storm of retries, when weights are neither stored here nor within reach."""
    if not repository:
        return
    hub = import_extra("huggingface_hub", "timm")
    names = ("model.safetensors", "pytorch_model.bin")
    if any(isinstance(hub.try_to_load_from_cache(repository, name), str) for name in names):
        return
    download(spec, lambda: hub.HfApi().model_info(repository, timeout=10))


def download(spec: str, fetch: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever is fetched
    """Return what ``fetch`` does; raise `TargetError` with the way out where it cannot."""
    try:
        return fetch()
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise TargetError(
            f"The pretrained weights of {spec} could not be downloaded ({type(error).__name__}: {text}): "
            "download them elsewhere and give the file"
        ) from error


@contextmanager
def quiet_construction() -> Iterator[None]:
    """Keep the libraries' remarks about their own future (initialisation, moved names) from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
