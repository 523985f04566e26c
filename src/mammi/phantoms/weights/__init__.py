"""The weights of the two small models, kept beside the code."""

from importlib.resources import files
from pathlib import Path

from safetensors.torch import load, save
from torch import nn

__all__ = ["load_packed", "load_weights", "pack_weights"]


def _fill(net: nn.Module, packed: bytes) -> None:
    state = load(packed)
    net.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in state.items()})


def load_weights(net: nn.Module, name: str) -> None:
    """Load ``weights/{name}.safetensors`` into ``net``, every tensor or an error; half precision becomes float32."""
    _fill(net, (files(__package__) / f"{name}.safetensors").read_bytes())


def load_packed(net: nn.Module, path: Path) -> None:
    """Load a file that holds what ``pack_weights`` returned, every tensor or an error."""
    _fill(net, path.read_bytes())


def pack_weights(net: nn.Module) -> bytes:
    """Return the bytes to keep: floating tensors in half precision, which is what the models are tested with."""
    state = {key: value.detach().cpu() for key, value in net.state_dict().items()}
    packed: bytes = save({k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in state.items()})
    return packed
