"""Content hashes: what was computed is named by what it was computed from, never by a file's name or age."""

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # most of what is named here is files and settings: reading films must not wait for torch
    from torch import Tensor, nn

__all__ = ["fingerprint_bytes", "fingerprint_file", "fingerprint_module", "fingerprint_tensors", "fingerprint_value"]


def fingerprint_bytes(data: bytes) -> str:
    """Return the SHA-256 of ``data``, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def fingerprint_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint_value(value: Any) -> str:  # noqa: ANN401 - anything JSON can write
    """Return the SHA-256 of a JSON-writable value, independent of the order of keys."""
    return fingerprint_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def fingerprint_tensors(tensors: "dict[str, Tensor]") -> str:
    """Return the SHA-256 over names, dtypes, shapes and bytes of ``tensors``, independent of their order."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fingerprint_module(module: "nn.Module") -> str:
    """Return the SHA-256 of a network: its printed structure, parameters and buffers.

    Two checkpoints of one architecture never share it; a change of device does not change it.
    """
    from torch import Tensor

    state = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    # Some modules print functions with their address in memory, which is another in every process.
    structure = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(module))
    return fingerprint_bytes((structure + fingerprint_tensors(state)).encode())
