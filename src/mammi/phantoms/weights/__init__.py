"""The weights of the small models, kept beside the code."""

from importlib.resources import files
from pathlib import Path

from safetensors.torch import load, save
from torch import nn

__all__ = ["load_packed", "load_weights", "pack_weights"]


def _fill(net: nn.Module, *packed: bytes) -> None:
    state = {key: value for part in packed for key, value in load(part).items()}
    net.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in state.items()})


def load_weights(net: nn.Module, *names: str) -> None:
    """Load ``weights/{name}.safetensors`` into ``net``, every tensor or an error; half precision becomes float32.

    With several names each file replaces tensors of those before it: the second need hold only what differs.
    """
    _fill(net, *((files(__package__) / f"{name}.safetensors").read_bytes() for name in names))


def load_packed(net: nn.Module, *paths: Path) -> None:
    """Load files that hold what ``pack_weights`` returned, every tensor or an error; later ones replace tensors."""
    _fill(net, *(path.read_bytes() for path in paths))


def pack_weights(net: nn.Module, parts: tuple[str, ...] = ("",)) -> bytes:
    """Return the bytes to keep: floating tensors in half precision, which is what the models are tested with.

    Args:
        net: the network.
        parts: how the names of the tensors to keep begin, all of them by default.
    """
    state = {key: value.detach().cpu() for key, value in net.state_dict().items() if key.startswith(parts)}
    packed: bytes = save({k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in state.items()})
    return packed
