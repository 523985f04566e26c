"""Weights files: safetensors, or torch files read without running anything in them."""

import struct
import warnings
import zipfile
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mammi.errors import MammiError, TargetError

__all__ = ["load_weights", "match_prefix", "read_checkpoint", "read_weights"]

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
#: What OmegaConf's lists and all that hangs on them name in a torch file. Hydra's training scripts save such settings
#: beside the weights; here each becomes an inert `_Setting`, so that neither OmegaConf nor any code of the file is run.
_SETTINGS = (
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "String", "Integer", "Float", "Boolean")),
    *("omegaconf.listconfig.ListConfig", "omegaconf.dictconfig.DictConfig"),
    *("omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata", "typing.Any"),
    *(f"builtins.{kind}" for kind in ("dict", "list", "int", "float", "str", "bool")),
)
_WAY_OUT = "save the weights alone: torch.save(model.state_dict(), 'weights.pt')"


def read_weights(path: Path, *, error: type[MammiError] = TargetError) -> dict[str, Tensor]:
    """Read a state dict, on the CPU, without running code from the file.

    Args:
        path: a ``.safetensors`` file, or a torch file that holds a state dict, bare or under ``state_dict``,
            ``model`` or ``model_state_dict``.
        error: what to raise.

    Returns:
        Tensors by name, as stored.

    Raises:
        MammiError: of the class ``error``, if the file is absent, truncated, of another kind, or holds code (which is
            never run).
    """
    return read_checkpoint(path, error=error)[0]


def read_checkpoint(path: Path, *, error: type[MammiError] = TargetError) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a state dict and what else a torch file holds beside it, such as its training configuration.

    Args:
        path: as for `read_weights`.
        error: what to raise.

    Returns:
        Tensors by name, as stored; and the other entries of the file but the optimizer's, plain numbers, texts, lists
        and mappings, OmegaConf's too; empty for a bare state dict and for safetensors.

    Raises:
        MammiError: as `read_weights` does.
    """
    try:
        return _read(path)
    except TargetError as found:
        if error is TargetError:
            raise
        raise error(str(found)) from found


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise TargetError(f"The weights file {str(path)!r} {what}: give a .safetensors or .pt file")
    kind = _kind(path)
    if kind == "safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path)), {}
        except (SafetensorError, OSError, ValueError) as error:
            raise TargetError(f"{str(path)!r} is not a whole safetensors file ({error}): copy it again") from error
    if kind == "torchscript":
        raise TargetError(
            f"{str(path)!r} is a TorchScript program, which holds code: load it where it was made and {_WAY_OUT}"
        )
    loaded = _torch_load(path)
    state = _state_dict(loaded, path)
    if not isinstance(loaded, dict) or _wrapped(loaded) is None:
        return state, {}
    return state, {str(key): _plain(value) for key, value in loaded.items() if key not in (*_WRAPPERS, "optimizer")}


def match_prefix(names: set[str], expected: set[str]) -> str:
    """Return the prefix shared by all ``names`` whose removal makes most of them fit; ``""`` if none helps.

    >>> match_prefix({"module.fc.weight", "module.fc.bias"}, {"fc.weight", "fc.bias"})
    'module.'
    """
    best, best_fit, prefix = "", len(names & expected), ""
    for _ in range(3):  # "module.model." and the like
        step = next((p for p in _PREFIXES if names and all(n.startswith(prefix + p) for n in names)), None)
        if step is None:
            break
        prefix += step
        fit = sum(name.removeprefix(prefix) in expected for name in names)
        if fit > best_fit:
            best, best_fit = prefix, fit
    return best


def load_weights(
    model: nn.Module, state: dict[str, Tensor], source: str, *, error: type[MammiError] = TargetError
) -> tuple[str, ...]:
    """Copy ``state`` into ``model``; every name and shape must fit.

    Args:
        model: changed in place.
        state: tensors by name, as `read_weights` gives them.
        source: what to call the weights in messages.
        error: what to raise.

    Returns:
        Notes in words, for example that a prefix was taken off.

    Raises:
        MammiError: of the class ``error``, naming the first of the missing and unexpected tensors and of the shapes
            that differ.
    """
    expected = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    prefix = match_prefix(set(state), set(expected))
    state = {name.removeprefix(prefix): value for name, value in state.items()}
    # Files older than PyTorch 0.4.1 lack these counters, which evaluation does not read.
    missing = [n for n in expected if n not in state and not n.endswith("num_batches_tracked")]
    unexpected = [n for n in state if n not in expected]
    shapes = [
        f"{n} {tuple(state[n].shape)} instead of {tuple(expected[n].shape)}"
        for n in expected
        if n in state and state[n].shape != expected[n].shape
    ]
    parts = [
        f"{len(names)} {what}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if parts:
        hint = _near_miss(missing, unexpected)
        fit = len(set(state) & set(expected))
        raise error(
            f"{source} does not fit {type(model).__name__} ({fit} of {len(expected)} names agree). {'; '.join(parts)}."
            f"{hint} Use the class and settings the weights were trained with."
        )
    model.load_state_dict(state, strict=False)
    return (f"took the prefix {prefix!r} off the names in {source}",) if prefix else ()


def _near_miss(missing: list[str], unexpected: list[str]) -> str:
    """Return a sentence that pairs the first missing name with the most similar unexpected one."""
    for name in missing[:5]:
        tails = [other for other in unexpected if other.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
        near = get_close_matches(name, tails, n=1, cutoff=0.5)
        if near:
            return f" Is {near[0]!r} what the network calls {name!r}?"
    return ""


def _kind(path: Path) -> str:
    """Tell the kind of a file from its bytes: its name says nothing reliable."""
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise TargetError(f"The weights file {str(path)!r} is empty: copy it again")
    if head.startswith(b"version https://git-lfs"):
        raise TargetError(f"{str(path)!r} is a Git LFS pointer, not the weights: run 'git lfs pull' where it came from")
    if head[:2] == b"PK":
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile as error:
            raise TargetError(f"{str(path)!r} is a truncated torch file: copy it again") from error
        return "torchscript" if any(n.endswith("constants.pkl") or "/code/" in n for n in names) else "torch"
    if head[0] == 0x80 or (len(head) > 2 and head[:1] in b"(}]c"):
        return "torch"  # the format before PyTorch 1.6
    if len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 1 << 27:
        return "safetensors"
    raise TargetError(f"{str(path)!r} is neither a safetensors nor a torch file: give a .safetensors or .pt file")


def _torch_load(path: Path) -> Any:  # noqa: ANN401 - whatever was saved
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*TypedStorage is deprecated", category=UserWarning)
            inert: list[Any] = [(_Setting, name) for name in _SETTINGS] + [(_no_entries, "collections.defaultdict")]
            # An open file: of a path, torch goes by the name and not by what is inside.
            with torch.serialization.safe_globals(inert), path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        text = str(error)
        if "weights_only" in text or "Weights only" in text or "GLOBAL" in text:
            named = text.split("GLOBAL ")[1].split()[0].rstrip(".,") if "GLOBAL " in text else "other objects"
            raise TargetError(
                f"{str(path)!r} holds more than tensors ({named}), which could run code, so it was not opened: "
                f"where it was made, {_WAY_OUT}"
            ) from error
        first = " ".join(text.split())[:200] or type(error).__name__
        raise TargetError(f"{str(path)!r} cannot be read as a torch file ({first}): copy it again") from error


def _state_dict(loaded: Any, path: Path) -> dict[str, Tensor]:  # noqa: ANN401 - whatever was saved
    for _ in range(2):
        inner = _wrapped(loaded) if isinstance(loaded, dict) else None
        if inner is None:
            break
        loaded = inner
    if not isinstance(loaded, dict):
        raise TargetError(f"{str(path)!r} holds a {type(loaded).__name__}, not a state dict: {_WAY_OUT}")
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if not tensors:
        keys = ", ".join(map(repr, list(loaded)[:5])) or "nothing"
        raise TargetError(
            f"{str(path)!r} holds no tensors by name (found {keys}): expected a state dict, bare or under "
            f"{', '.join(_WRAPPERS)}"
        )
    return tensors


def _wrapped(loaded: dict[Any, Any]) -> dict[Any, Any] | None:
    """Return the state dict inside a training checkpoint, whose other entries may be tensors (a loss, say)."""
    inner = [loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), dict)]
    bare = any(isinstance(value, Tensor) for value in loaded.values())
    return next((found for found in inner if not bare or any(isinstance(v, Tensor) for v in found.values())), None)


class _Setting:
    """Stands where a file names a class of OmegaConf; keeps what it held and does nothing."""

    def __init__(self, *_: object) -> None:
        self.held: Any = None

    def __setstate__(self, state: object) -> None:
        self.held = state


def _no_entries(*_: object) -> dict[Any, Any]:
    """Stand where a file calls ``defaultdict``."""
    return {}


def _plain(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 - whatever was saved
    """Turn settings into plain numbers, texts, lists and mappings; what is none of these becomes None."""
    if isinstance(value, _Setting):
        held = value.held if isinstance(value.held, dict) else {}
        return _plain(held.get("_content", held.get("_val")), depth)
    if depth > 20:  # a settings file that holds itself
        return None
    if isinstance(value, dict):
        return {str(key): _plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, depth + 1) for inner in value]
    return value if isinstance(value, bool | int | float | str) else None
