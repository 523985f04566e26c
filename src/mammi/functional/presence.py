"""From similarities to "the film shows the concept", for methods that were made for labels."""

import torch
from torch import Tensor

from mammi.errors import InputError

__all__ = ["present_by_share"]


def present_by_share(scores: Tensor, share: float) -> Tensor:
    """Call a concept present on the share of films where it scores highest.

    Args:
        scores: shape ``(n_films, n_concepts)``, float64: similarities of films and concepts.
        share: share of the films, in ``(0, 1)``; rounded to whole films, at least one.

    Returns:
        Shape ``(n_films, n_concepts)``, float64, 1 or 0. Films tied with the last one count too, so that the order of
        the films decides nothing; a concept with one score on all films is present on all.

    Raises:
        InputError: if there is no film, or ``share`` is out of range.
    """
    if not len(scores):
        raise InputError("'scores' holds no film")
    if not 0 < share < 1:
        raise InputError(f"'share' must be in (0, 1), got {share}")
    count = max(1, round(share * len(scores)))
    line = scores.sort(dim=0, descending=True).values[count - 1]
    return (scores >= line).to(torch.float64)
