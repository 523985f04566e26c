"""Finding a model's files: a folder, the local Hugging Face cache, and only then the network.

Loading always starts from a folder, so a model that is stored here loads without asking anyone, and a machine
without a network is told so in seconds instead of after the client's retries.
"""

from collections.abc import Sequence
from pathlib import Path

from mammi.errors import VlmError
from mammi.registry import import_extra
from mammi.vlms.annotator import one_line

__all__ = ["TOKENIZER_FILES", "choose_files", "explain_load", "find_folder"]

#: Any of these is a tokenizer's vocabulary. Without one, transformers makes an empty tokenizer and says nothing.
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model")
_TEXT_SUFFIXES = (".json", ".txt", ".model")


def choose_files(names: Sequence[str], weights: Sequence[str]) -> list[str]:
    """Choose what to download of a repository: settings, tokenizer and one set of weights.

    Args:
        names: every file of the repository.
        weights: names of weights files, best first; of a sharded file the ``.index.json`` brings the shards.

    Returns:
        The chosen names; no weights among them if none of ``weights`` is there.

    >>> choose_files(["config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.json"],
    ...              ["model.safetensors", "pytorch_model.bin"])
    ['config.json', 'model.safetensors']
    """
    chosen = [n for n in names if "/" not in n and n.endswith(_TEXT_SUFFIXES) and not n.endswith(".index.json")]
    for name in weights:
        if name in names:
            return [*chosen, name]
        if f"{name}.index.json" in names:
            stem, _, suffix = name.rpartition(".")
            shards = [n for n in names if n.startswith(f"{stem}-") and n.endswith(f".{suffix}")]
            return [*chosen, f"{name}.index.json", *shards]
    return chosen


def find_folder(
    name: str,
    spec: str,
    *,
    needs: Sequence[str | Sequence[str]],
    weights: Sequence[str] = (),
    extra: str,
    way_out: str = "",
) -> Path:
    """Return the folder of a model: ``name`` itself if it is one, else from the cache, else downloaded.

    Args:
        name: a folder, or ``organisation/name`` on the Hugging Face hub.
        spec: what the user asked for, for messages.
        needs: files that must be there; for a group of names, one of them.
        weights: names of weights files of which one (or its shards) must be there, best first.
        extra: the extra that brings the hub's client.
        way_out: what to do without a network, in place of the usual advice.

    Returns:
        A folder that holds ``needs`` and one of ``weights``.

    Raises:
        VlmError: if it is nowhere, gated, out of reach or incomplete; the message says what to do.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_complete(folder, spec, needs, weights)
        return folder
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise VlmError(f"{spec}: there is no folder {name!r}; give a folder, or 'organisation/name' on the hub")
    hub = import_extra("huggingface_hub", extra)
    errors = import_extra("huggingface_hub.errors", extra)
    try:
        cached = Path(hub.snapshot_download(name, local_files_only=True))
        _check_complete(cached, spec, needs, weights)
    except (VlmError, errors.LocalEntryNotFoundError):
        pass
    except errors.HFValidationError as error:
        raise VlmError(f"{spec}: {name!r} is not 'organisation/name': {one_line(error)}") from error
    else:
        return cached
    way_out = way_out or f"download {name!r} on another machine and give its folder in place of the name"
    try:
        # One quick question first: the client retries a dead network for half a minute a file.
        info = hub.HfApi().model_info(name, timeout=10)
        files = choose_files([sibling.rfilename for sibling in info.siblings or ()], weights)
        folder = Path(hub.snapshot_download(name, revision=info.sha, allow_patterns=files))
    except errors.GatedRepoError as error:
        raise VlmError(
            f"{spec} is behind a licence: accept it on the model's page, run 'hf auth login', and try again"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise VlmError(
            f"{spec}: the hub knows no {name!r}, or it is private: check the spelling, or run 'hf auth login'"
        ) from error
    except Exception as error:
        raise VlmError(
            f"{spec} is not stored here and could not be downloaded ({one_line(error)}): {way_out}"
        ) from error
    _check_complete(folder, spec, needs, weights)
    return folder


def explain_load(spec: str, folder: Path | str, error: BaseException) -> VlmError:
    """Turn whatever a library raised while loading into one line with a way out."""
    text = str(error)
    if "weights_only" in text or "Weights only" in text or "TorchScript" in text:
        return VlmError(
            f"{spec}: the weights in {str(folder)!r} hold more than tensors, which could run code, so they were not "
            "opened: where they were made, save the state dict alone, or as safetensors"
        )
    if isinstance(error, ImportError) or "sentencepiece" in text.lower() or "tiktoken" in text.lower():
        return VlmError(
            f"{spec}: its tokenizer needs a package that is not installed ({one_line(error)}): "
            "most often 'pip install sentencepiece protobuf' is what is missing"
        )
    if type(error).__name__ == "SafetensorError" or isinstance(error, EOFError) or "zip archive" in text:
        return VlmError(
            f"{spec}: the weights in {str(folder)!r} are truncated, or not what their name says ({one_line(error)}): download them again"
        )
    return VlmError(f"{spec} cannot be loaded from {str(folder)!r}: {one_line(error)}")


def _check_complete(folder: Path, spec: str, needs: Sequence[str | Sequence[str]], weights: Sequence[str]) -> None:
    groups = [(need,) if isinstance(need, str) else tuple(need) for need in needs]
    if weights:
        groups.append(tuple(weights))
    missing = [
        " or ".join(group)
        for group in groups
        if not any((folder / name).is_file() or (folder / f"{name}.index.json").is_file() for name in group)
    ]
    if missing:
        raise VlmError(
            f"{spec}: the folder {str(folder)!r} is incomplete, without {', '.join(missing)}: download all of it again"
        )
