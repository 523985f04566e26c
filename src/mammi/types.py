"""The nouns of the package, as frozen dataclasses, and the Protocols that rooms meet behind."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

__all__ = [
    "Annotation",
    "ConceptScore",
    "Example",
    "Film",
    "ImageSource",
    "PatchVlm",
    "Progress",
    "Scorer",
    "UnitId",
    "Vlm",
    "VlmCard",
    "no_progress",
]


@dataclass(frozen=True, order=True)
class UnitId:
    """One scalar response per image: a pooled conv channel, a neuron of a linear layer, a token feature."""

    layer: str
    index: int

    def __str__(self) -> str:
        """Return ``layer:index``, the form used in tables and on the command line."""
        return f"{self.layer}:{self.index}"


@dataclass(frozen=True)
class Example:
    """One probing image chosen to represent a unit.

    Attributes:
        image: row of the image in the probing set.
        activation: the unit's pooled activation on it.
    """

    image: int
    activation: float


@dataclass(frozen=True)
class ConceptScore:
    """A concept and its score for one unit (method-specific scale; higher is better)."""

    concept: str
    score: float


@dataclass(frozen=True)
class Annotation:
    """What one unit responds to.

    Attributes:
        unit: which one.
        concepts: those kept, best first.
        examples: the films that say so.
        method: who said it.
        reason: why there is no concept; ``""`` where there is one.
        formula: how the concepts combine, in words, as in ``"NOT effusion"``; ``""`` where the first one says all.
    """

    unit: UnitId
    concepts: tuple[ConceptScore, ...]
    examples: tuple[Example, ...]
    method: str
    reason: str = ""
    formula: str = ""

    @property
    def name(self) -> str:
        """The formula or else the best concept, or ``"no concept"``."""
        return self.formula or (self.concepts[0].concept if self.concepts else "no concept")


@dataclass(frozen=True)
class Film:
    """One decoded image, before any model's own preprocessing.

    Attributes:
        pixels: float32 in [0, 1], shape ``(height, width)`` for grey or ``(height, width, 3)`` for colour; higher is
            brighter (bone and fluid white, air black).
        bits: bits stored per sample in the source (8, 12, 16; 32 for floating point).
        warnings: what was odd about the file though it could be decoded, in words; empty if nothing was.
        levels: uint8, the shape of ``pixels``, where the source is such that ``pixels`` is exactly ``levels / 255``;
            None where that is not so, or not known.
    """

    pixels: NDArray[np.float32]
    bits: int = 8
    warnings: tuple[str, ...] = ()
    levels: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)

    def to_pil(self) -> "Image.Image":
        """Return an 8-bit ``L`` or ``RGB`` picture, for models whose own preprocessing takes one."""
        from PIL import Image

        levels = self.levels if self.levels is not None else np.round(self.pixels * 255).astype(np.uint8)
        return Image.fromarray(levels)


@runtime_checkable
class ImageSource(Protocol):
    """A sequence of films with stable order."""

    def __len__(self) -> int:
        """Return the number of films."""
        ...

    def film(self, index: int) -> Film:
        """Decode film ``index``; raises ``ImageError`` with the reason when that fails."""
        ...


@runtime_checkable
class Vlm(Protocol):
    """What a vision-language model must offer: one space for images and texts.

    Rows need not have unit length; the caller normalises.
    """

    def preprocess(self, image: "Image.Image") -> "Tensor":
        """Turn an 8-bit ``L`` or ``RGB`` picture of any size into one input tensor without a batch axis."""
        ...

    def encode_images(self, images: "Tensor") -> "Tensor":
        """Embed a stacked batch of preprocessed images: ``(n, ...) -> (n, d_embed)``."""
        ...

    def encode_texts(self, texts: list[str]) -> "Tensor":
        """Embed texts: ``n`` strings ``-> (n, d_embed)``. A text's row must not depend on its batch."""
        ...


@runtime_checkable
class PatchVlm(Vlm, Protocol):
    """A vision-language model that also places single patches of a film in the space of the texts.

    Attributes:
        patch_offset: how far down and to the right patches look away from the middles of their shares, in pixels of the
            input: ``(0, 0)`` for patches cut out side by side, about minus half a patch for padded convolutions.
    """

    patch_offset: tuple[float, float]

    def encode_patches(self, images: "Tensor") -> "Tensor":
        """Embed every patch: ``(n, ...) -> (n, d_embed, rows, columns)``; the patches share the input evenly."""
        ...

    def placement(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Tell where a film of ``height`` by ``width`` pixels lies on the model's input.

        Returns:
            Height and width of the whole film there, and its top row and left column, negative where it is cut off; in
            pixels of the input.
        """
        ...


@runtime_checkable
class Scorer(Vlm, Protocol):
    """A vision-language model whose score of a film and a text is not the cosine of their rows.

    For example one that compares "effusion" with "no effusion", averages several models, or asks a decoder. Its rows are
    kept as they are, of any length, and those of images and texts may differ in width.
    """

    def score(self, images: "Tensor", texts: "Tensor") -> "Tensor":
        """Score every image with every text, higher for more alike.

        Args:
            images: float32 ``(n_images, d_image)``, rows that ``encode_images`` gave.
            texts: float32 ``(n_texts, d_text)``, rows that ``encode_texts`` gave.

        Returns:
            ``(n_images, n_texts)``, finite; a pair's score depends on nothing but that pair.
        """
        ...


@dataclass(frozen=True)
class VlmCard:
    """What a user must know before trusting or shipping a vision-language model.

    Attributes:
        name: the spec that loads it.
        title: its published name.
        licence: licence of the weights, or ``"not stated"``.
        training_corpora: data sets it was trained on, as far as known.
        modality: what kind of images it was made for.
        image_size: pixels along one side of its input (the shorter one), 0 if unknown.
        citation: where it is described.
        notes: what else to know, in words.
        access: how its weights are come by: ``"open"``, ``"gated"`` (terms to accept) or ``"file"`` (from the authors).
    """

    name: str
    title: str = ""
    licence: str = "not stated"
    training_corpora: tuple[str, ...] = ()
    modality: str = "not stated"
    image_size: int = 0
    citation: str = ""
    notes: tuple[str, ...] = field(default=())
    access: str = "not stated"


class Progress(Protocol):
    """Called as ``progress(step, done, total)`` while a long step runs; must return quickly."""

    def __call__(self, step: str, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` items of ``step`` are finished."""
        ...


def no_progress(step: str, done: int, total: int) -> None:
    """Report nothing: the default for library calls."""
