"""The annotator's view of a film, kept in a byte a pixel until it is known which films any unit chose.

Decoding costs more than all else that a film needs on its way to a model. The annotator's view of it is made when the
film is decoded for the target, and kept: published models see 8-bit pictures, so that behind resizing and scaling
there are at most 256 levels. Kept is the level; what comes back is the view, bit for bit, or nothing was kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammi.types import Film
from mammi.vlms import Annotator

__all__ = ["ViewTable"]


@dataclass(frozen=True)
class ViewTable:
    """What an annotator makes of each level of grey.

    Attributes:
        levels: float32, shape ``(256, channels)``: the view of a film that is everywhere ``k / 255``.
        size: height and width of a view.
    """

    levels: NDArray[np.float32]
    size: tuple[int, int]

    @classmethod
    def of(cls, vlm: Annotator) -> Self | None:
        """Look at the annotator's view of plain films; None if it is no picture of levels."""
        views = [vlm.view(Film(np.full((8, 8), level / 255, dtype=np.float32))) for level in range(256)]
        if any(view.ndim != 3 or view.shape != views[0].shape for view in views):
            return None
        levels = torch.stack([view[:, 0, 0] for view in views])
        plain = all(bool((view == row[:, None, None]).all()) for view, row in zip(views, levels, strict=True))
        first = levels[:, 0]
        if not plain or not bool((first[1:] > first[:-1]).all()):
            return None
        return cls(levels.numpy(), (int(views[0].shape[1]), int(views[0].shape[2])))

    @property
    def n_bytes(self) -> int:
        """Bytes of one kept view."""
        return self.size[0] * self.size[1]

    def pack(self, view: Tensor) -> NDArray[np.uint8] | None:
        """Return the level of each pixel, uint8 of ``size``; None if the view would not come back as it is."""
        first = self.levels[:, 0]
        if tuple(view.shape) != (self.levels.shape[1], *self.size):
            return None
        guess = (view[0].numpy() - first[0]) * (255 / (first[255] - first[0]))
        with np.errstate(invalid="ignore"):  # NaN is no level, and does not come back
            packed = np.clip(np.rint(guess), 0, 255).astype(np.uint8)
        return packed if np.array_equal(self.unpack(packed).numpy(), view.numpy()) else None

    def unpack(self, packed: NDArray[np.uint8]) -> Tensor:
        """Return the view: float32, shape ``(channels, *size)``."""
        return torch.from_numpy(np.stack([np.take(level, packed) for level in self.levels.T]))

    def stack(self, films: Sequence[tuple[NDArray[np.uint8] | None, bool]]) -> NDArray[np.uint8] | None:
        """Return a block's levels, uint8 ``(n_films, *size)``, zeros for unreadable films; None if one is missing.

        Args:
            films: of each film its levels, and whether it is unreadable.
        """
        if any(packed is None and not unreadable for packed, unreadable in films):
            return None
        nothing = np.zeros(self.size, np.uint8)
        return np.stack([nothing if packed is None else packed for packed, _ in films])
