"""Where on a film a text is, as a vision-language model with patches sees it: on the film's own geometry, and drawn."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammi.errors import VlmError
from mammi.explain.overlay import overlay
from mammi.explain.where import lay_on_film
from mammi.targets.preprocessing import Placement
from mammi.types import Film, PatchVlm
from mammi.vlms import Annotator

__all__ = ["TextMap", "draw_text_map", "text_map"]


@dataclass(frozen=True)
class TextMap:
    """The cosines of a film and its patches with a text.

    Attributes:
        text: what was looked for.
        cosine: of the whole film, in [-1, 1].
        cosines: float32, of the patches as they are, ``(rows, columns)``.
        on_film: float32, the film's height and width: the patches' cosines, linear between the points they look at; NaN
            where the model never saw the film.
    """

    text: str
    cosine: float
    cosines: NDArray[np.float32]
    on_film: NDArray[np.float32]


@dataclass(frozen=True)
class _Seen:
    """Where films lie on the input of a `PatchVlm`."""

    model: PatchVlm
    size: tuple[int, int]

    def placement(self, height: int, width: int) -> Placement:
        return Placement(*self.model.placement(height, width))


def text_map(vlm: Annotator, film: Film, text: str) -> TextMap:
    """Look for a text on a film, patch by patch (`Annotator.similarity_maps`).

    Raises:
        InputError: if the text is blank.
        VlmError: if the model embeds no patches, or fails.
    """
    view = vlm.view(film)[None]
    cells = vlm.similarity_maps(view, [text])[0, 0]
    model = vlm.model
    if not isinstance(model, PatchVlm):
        raise VlmError(f"{vlm.name} does not tell where films lie on its input")
    height, width = film.pixels.shape[:2]
    seen = _Seen(model, (view.shape[-2], view.shape[-1]))
    on_film = lay_on_film(cells, seen, (height, width), offset=model.patch_offset)
    cosine = float(vlm.embed_images(view)[0] @ vlm.embed_texts([text])[0])
    return TextMap(text, cosine, cells.numpy(), on_film)


def draw_text_map(film: Film, found: TextMap) -> bytes:
    """Draw where a film is more like a text than in its median patch, orange, and the strongest tenth within a line.

    The median is taken off because cosines of one model have no zero that means anything: they lie about some value of the
    model's own, for every text. There is always a strongest tenth, also of a text that is nowhere on the film.

    Returns:
        PNG, a picture of a patient, as `overlay` makes it.
    """
    median = float(np.median(found.cosines))
    above = np.maximum(found.on_film - median, 0)
    return overlay(
        film,
        above,
        name=found.text,
        value=found.cosine,
        meaning="cosine of the whole film",
        key=f"orange: cosine above the median patch's {median:+.3g}",
    )
