"""Golden embeddings: what an annotator makes of films that we draw and of fixed texts, kept and compared later."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mammi.errors import VlmError
from mammi.functional.fingerprint import fingerprint_tensors
from mammi.types import Film
from mammi.vlms import Annotator

__all__ = [
    "Golden",
    "compare_golden",
    "draw_golden",
    "golden_films",
    "largest_difference",
    "read_golden",
    "write_golden",
]

#: Texts of unequal length; a batch of them is padded.
TEXTS = (
    "effusion",
    "no finding",
    "a small left pleural effusion",
    "a chest x-ray image of a mass",
    "no focal consolidation in the right lower lobe on this frontal radiograph",
)
#: Height and width of the drawn films, larger and smaller than a model's input, wide and tall.
SHAPES = ((600, 520), (480, 700), (90, 110), (256, 256))
#: Largest difference of two unit embeddings that other versions of a library or another processor may make.
ROUNDING = 1e-4


@dataclass(frozen=True, eq=False)
class Golden:
    """What an annotator makes of the drawn films and the fixed texts.

    Attributes:
        films: float32 ``(n_films, d_embed)``, as `Annotator.embed_images` gives them.
        texts: float32 ``(n_texts, d_embed)``, as `Annotator.embed_texts` gives them.
        preprocessing: SHA-256 of its views of the drawn films.
        fingerprint: the annotator's own.
    """

    films: Tensor
    texts: Tensor
    preprocessing: str
    fingerprint: str


def golden_films() -> list[Film]:
    """Draw the films: a bright body with two dark fields and stripes, in whole numbers, the same on every machine."""
    films = []
    for place, (height, width) in enumerate(SHAPES):
        y, x = np.mgrid[0:height, 0:width].astype(np.int64)
        v, u = (2 * y - height) * 1000 // height, (2 * x - width) * 1000 // width  # -1000 to 1000
        level = np.full((height, width), 20, dtype=np.int64)
        level[u * u * 3 + v * v * 2 < 2_400_000] = 170
        for side in (-400, 400):
            lung = (u - side) ** 2 * 9 + (v + 60 * place) ** 2 * 2 < 900_000
            level[lung] = 60 + 25 * place
        level += (v // 90) % 2 * 14 + (u // (70 + 20 * place)) % 3 * 5
        grey = level.clip(0, 255).astype(np.uint8)
        films.append(Film(grey.astype(np.float32) / np.float32(255), levels=grey))
    return films


def draw_golden(annotator: Annotator) -> Golden:
    """Show an annotator the drawn films and the fixed texts, each alone."""
    views = [annotator.view(film) for film in golden_films()]
    return Golden(
        torch.cat([annotator.embed_images(view[None]) for view in views]),
        torch.cat([annotator.embed_texts([text]) for text in TEXTS]),
        fingerprint_tensors({str(place): view for place, view in enumerate(views)}),
        annotator.fingerprint,
    )


def write_golden(golden: Golden, path: Path) -> None:
    """Write golden embeddings as safetensors."""
    told = {"preprocessing": golden.preprocessing, "fingerprint": golden.fingerprint}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save({"films": golden.films, "texts": golden.texts}, told))


def read_golden(path: Path) -> Golden:
    """Read golden embeddings.

    Raises:
        VlmError: if the file is not one that `write_golden` wrote.
    """
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            films, texts = file.get_tensor("films"), file.get_tensor("texts")
        return Golden(films, texts, told["preprocessing"], told["fingerprint"])
    except (SafetensorError, KeyError, OSError) as error:
        raise VlmError(
            f"{str(path)!r} holds no golden embeddings ({error}): remove it, and the next check writes it anew"
        ) from error


def largest_difference(now: Tensor, before: Tensor) -> float:
    """Return the largest difference of two tables of rows, by the longest row: for unit rows, as it is."""
    longest = float(torch.linalg.vector_norm(before, dim=1).max())
    return float((now - before).abs().max()) / longest


def compare_golden(now: Golden, before: Golden) -> tuple[str, float]:
    """Say whether an annotator is the one it was.

    Returns:
        ``"equal"``, ``"equal up to rounding"`` (no number of an embedding differs by more than 1e-4), ``"another
        preprocessing"`` (its views of the drawn films differ, perhaps its weights too) or ``"another model"``; and the
        largest difference, infinite where the embeddings have another length.
    """
    if now.films.shape != before.films.shape or now.texts.shape != before.texts.shape:
        return "another model", float("inf")
    largest = max(largest_difference(now.films, before.films), largest_difference(now.texts, before.texts))
    if largest == 0:
        return "equal", 0.0
    if largest <= ROUNDING:
        return "equal up to rounding", largest
    same = now.preprocessing == before.preprocessing
    return "another model" if same else "another preprocessing", largest
