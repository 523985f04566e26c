"""What a row of the table of annotators needs, and how its columns are measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mammi.types import Film
from mammi.vlms import Annotator, create_vlm

#: Texts of unequal length: as a batch they are padded, alone they are not.
TEXTS = (
    "mass",
    "a small left pleural effusion",
    "no focal consolidation in the right lower lobe on this frontal chest radiograph",
)
#: Least difference of two inputs' rows of unit length: a thousand times what rounding does to them.
DEPENDS = 1e-3


@dataclass(frozen=True)
class Published:
    """One annotator as its authors publish it.

    Attributes:
        name: the row's name.
        make: writes a random checkpoint and all that goes with it into a folder, in the published layout and under the
            published names; ``"full"`` at the published size, ``"tiny"`` small enough for every test. Returns the spec.
        images: pictures as 8-bit ``L``, to ``(n, d_embed)``: preprocessing and forward written anew, from the files
            that ``make`` wrote, without `mammi`; any row length, or the scorer's own rows.
        texts: likewise for texts, each alone.
        alone: whether the model's texts depend on padding as published, so that each is embedded alone.
        repository: what a copy of its repository is called, by which its card is found; empty where the loader tells.
        generic: whether it stands for any model of its kind, none of them in particular, and so has no card.
    """

    name: str
    make: Callable[[Path, str], str]
    images: Callable[[Path, Sequence[Image.Image]], Tensor]
    texts: Callable[[Path, Sequence[str]], Tensor]
    alone: bool = False
    repository: str = ""
    generic: bool = False


def pictures() -> list[Image.Image]:
    """Draw grey pictures of unequal sizes, wide and tall, larger and smaller than any model's input."""
    shapes = ((600, 520), (480, 700), (90, 110))
    found = []
    for seed, (height, width) in enumerate(shapes):
        coarse = np.random.default_rng(seed).integers(0, 256, (9, 8), dtype=np.uint8)
        found.append(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return found


def largest(ours: Tensor, theirs: Tensor, unit: bool = True) -> float:
    """Return the largest difference of two tables of rows, put to unit length first where ``unit``."""
    both = [rows.double() for rows in (ours, theirs)]
    if unit:
        both = [torch.nn.functional.normalize(rows, dim=1) for rows in both]
    return float((both[0] - both[1]).abs().max())


def measure(published: Published, folder: Path, size: str) -> dict[str, float | bool | str]:
    """Write, load and compare one annotator; the columns of its row.

    Returns:
        ``images`` and ``texts``: largest difference from the independent forward; ``batch``: largest change of a row by
        its neighbours, of images; ``padding``: likewise of texts through `Annotator.embed_texts`, which embeds them
        alone where the model asks for it; ``alone``: whether it does; ``card``: whether the card is complete.
    """
    folder = folder / published.repository
    folder.mkdir(exist_ok=True)
    annotator = create_vlm(published.make(folder, size))
    films = [Film(np.asarray(picture, dtype=np.float32) / 255) for picture in pictures()]
    views = torch.stack([annotator.view(film) for film in films])
    ours = annotator.embed_images(views)
    texts = annotator.embed_texts(list(TEXTS))
    scores = hasattr(annotator.model, "score")
    for rows in (ours, texts):  # weights that wash the input out would make every comparison pass
        if min(largest(rows[i : i + 1], rows[j : j + 1]) for i, j in ((0, 1), (0, 2), (1, 2))) < DEPENDS:
            raise RuntimeError(
                f"{published.name}: embeddings hardly depend on the input, so comparing them proves nothing"
            )
    return {
        "images": largest(ours, published.images(folder, pictures()), not scores),
        "texts": largest(texts, published.texts(folder, TEXTS), not scores),
        "batch": largest(ours, torch.cat([annotator.embed_images(view[None]) for view in views]), not scores),
        "padding": largest(texts, torch.cat([annotator.embed_texts([text]) for text in TEXTS]), not scores),
        "alone": annotator.text_batch == 1,
        "card": is_complete(annotator),
    }


def is_complete(annotator: Annotator) -> bool:
    """Tell whether a card says all that a user must know."""
    card = annotator.card
    said = (card.title, card.licence, card.modality, card.citation, card.access)
    return all(text and text != "not stated" for text in said) and bool(card.training_corpora)
