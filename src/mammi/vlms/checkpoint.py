"""The files of a model that no library loads by itself: its weights, and the vocabulary of its text tower.

Such a model is given as a FILE with its weights, as a FOLDER that holds one, or as ``organisation/name`` on the hub.
Nothing in a file is run: `mammi.weights_file` reads tensors and plain settings only.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mammi.errors import VlmError
from mammi.vlms.hub import TOKENIZER_FILES, find_folder

__all__ = ["find_tokenizer_folder", "find_weights", "tokenizer_content"]


def find_weights(name: str, spec: str, names: Sequence[str]) -> Path:
    """Return the weights file that a user means.

    Args:
        name: a file, a folder, or ``organisation/name`` on the hub.
        spec: what the user asked for, for messages.
        names: the published names of the file, best first, as a folder or the hub has them; a folder may hold one
            ``.pt``, ``.pth``, ``.bin``, ``.tar`` or ``.safetensors`` file of any name instead.

    Raises:
        VlmError: if there is none, or a folder holds several.
    """
    if not name:
        raise VlmError(f"{spec!r} names no weights: give '{spec.rstrip(':')}:FILE', a folder, or 'organisation/name'")
    path = Path(name).expanduser()
    if path.suffix == ".zip" and path.is_file():
        raise VlmError(f"{spec}: {name!r} is an archive: unpack it and give the weights file inside")
    if path.is_file():
        return path
    if path.is_dir():
        known = next((path / published for published in names if (path / published).is_file()), None)
        if known is not None:
            return known
        kinds = (".pt", ".pth", ".bin", ".tar", ".safetensors", ".ckpt")
        found = sorted(file for file in path.iterdir() if file.suffix in kinds and file.is_file())
        if len(found) == 1:
            return found[0]
        what = f"{len(found)} weights files" if found else f"no weights file (looked for {', '.join(names)})"
        raise VlmError(f"{spec}: the folder {name!r} holds {what}: give the file itself")
    if Path(name).suffix or name.count("/") != 1 or not names:
        raise VlmError(f"{spec}: there is no file {name!r}: give the weights file as its authors publish it")
    folder = find_folder(name, spec, needs=(), weights=names, extra="transformers")
    return next(folder / published for published in names if (folder / published).is_file())


def find_tokenizer_folder(weights: Path, repository: str, spec: str) -> Path:
    """Return the folder with a text tower's vocabulary.

    Looked for beside the weights, in a folder there that is called as the last part of ``repository``, in the local
    cache, then on the hub.

    Args:
        weights: the weights file.
        repository: ``organisation/name`` on the hub that publishes the vocabulary.
        spec: what the user asked for, for messages.

    Raises:
        VlmError: if it is nowhere.
    """
    beside = (weights.parent, weights.parent / repository.rpartition("/")[2])
    for folder in beside:
        if any((folder / name).is_file() for name in TOKENIZER_FILES):
            return folder
    try:
        return find_folder(repository, spec, needs=(TOKENIZER_FILES,), extra="transformers")
    except VlmError as error:
        raise VlmError(
            f"The tokenizer of {error}; or put the vocab.txt of {repository!r} beside {weights.name!r}"
        ) from error


def tokenizer_content(tokenizer: Any) -> str:  # noqa: ANN401 - any tokenizer class of transformers
    """Return what a tokenizer does as text, for a fingerprint; Python-only tokenizers are known by their vocabulary."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        # Padding and truncation are switched per call and say nothing about the tokenizer.
        content = json.loads(backend.to_str()) | {"padding": None, "truncation": None}
        return json.dumps(content, sort_keys=True)
    return json.dumps(tokenizer.get_vocab(), sort_keys=True)
