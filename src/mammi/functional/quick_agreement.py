"""Units against labels, in one pass over the films: what `agreement` says, for pages that may not wait."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammi.errors import InputError

__all__ = ["KnownConcepts", "area_under_precision_recall", "correlations"]

#: Units that are multiplied together: bounds memory, not results.
TILE = 64
#: Below this share of its sum of squares, what is left of a column once its mean is taken off is rounding.
FLAT = 1e-12


@dataclass(frozen=True)
class KnownConcepts:
    """Concepts of films, made ready once for many units.

    Attributes:
        known: 1 where a concept is known, 0 elsewhere, float64 ``(n_films, n_concepts)``.
        values: the concept, 0 where it is not known, float64 of that shape.
        n_known: films on which each is known, ``(n_concepts,)``.
        total: sum of each, ``(n_concepts,)``.
        spread: sum of squares of each about its mean, ``(n_concepts,)``; NaN for one that does not vary.
    """

    known: Tensor
    values: Tensor
    n_known: Tensor
    total: Tensor
    spread: Tensor

    @classmethod
    def of(cls, concepts: NDArray[np.floating]) -> "KnownConcepts":
        """Make ready: labels or scores of any scale, shape ``(n_films, n_concepts)``; NaN is unknown."""
        if concepts.ndim != 2:
            raise InputError(f"'concepts' must have 2 axes, films first, got shape {concepts.shape}")
        known = torch.from_numpy(~np.isnan(concepts)).double()
        values = torch.from_numpy(np.nan_to_num(concepts.astype(np.float64)))
        n_known, total, squares = known.sum(dim=0), values.sum(dim=0), (values * values).sum(dim=0)
        spread = squares - total * total / n_known
        return cls(known, values, n_known, total, torch.where(spread > FLAT * squares, spread, torch.nan))


def correlations(activations: NDArray[np.floating], concepts: KnownConcepts) -> NDArray[np.float64]:
    r"""Correlate units with concepts over the films where the concept is known; `pearson` from sums.

    :math:`r = (\sum ac - \sum a \sum c / n) / \sqrt{(\sum a^2 - (\sum a)^2 / n)(\sum c^2 - (\sum c)^2 / n)}` over the
    known films, each unit's mean over all films taken off first so that no digits are lost.

    Args:
        activations: shape ``(n_units, n_films)``: rows as they lie on disk.
        concepts: of the same films.

    Returns:
        Shape ``(n_units, n_concepts)``, float64, in [-1, 1]. NaN where the unit or the concept never varies on the known
        films, or the unit is not finite on some film.

    Raises:
        InputError: if the numbers of films differ.
    """
    n_films, n_concepts = concepts.values.shape
    if activations.ndim != 2 or activations.shape[1] != n_films:
        raise InputError(f"'activations' must be of {n_films} films, units first, got shape {activations.shape}")
    parts = [np.empty((0, n_concepts))]
    for start in range(0, len(activations), TILE):
        a = torch.from_numpy(activations[start : start + TILE].astype(np.float64))
        whole = (a * a).mean(dim=1, keepdim=True)
        a = a - a.mean(dim=1, keepdim=True)
        sums, squares, both = a @ concepts.known, (a * a) @ concepts.known, a @ concepts.values
        spread = squares - sums * sums / concepts.n_known
        spread = torch.where(spread > FLAT * concepts.n_known * whole, spread, torch.nan)
        shared = both - sums * concepts.total / concepts.n_known
        parts.append((shared / (spread * concepts.spread).sqrt()).clamp(-1, 1).numpy())
    return np.concatenate(parts)


def area_under_precision_recall(activation: NDArray[np.floating], label: NDArray[np.floating]) -> tuple[float, float]:
    """Return `Agreement.auprc` of one unit and one label at the label's own prevalence, and that prevalence: its chance.

    Args:
        activation: shape ``(n_films,)``.
        label: shape ``(n_films,)``: 1 present, 0 absent, NaN unknown.

    Returns:
        The area, in [0, 1], NaN where the unit or the label never varies on the known films or the unit is not finite on
        one; and the share of the known films that have it, NaN where none is known.
    """
    known = ~np.isnan(label)
    a, present = activation[known], label[known] > 0
    if not len(a):
        return np.nan, np.nan
    n_present = int(present.sum())
    prevalence = n_present / len(a)
    if not 0 < n_present < len(a) or not np.isfinite(a).all() or a.min() == a.max():
        return np.nan, prevalence
    # The strongest films, as many as have the concept, and all that tie with the last of them.
    strongest = a >= np.partition(a, len(a) - n_present)[len(a) - n_present]
    size, both = int(strongest.sum()), int((strongest & present).sum())
    recall = both / size
    return recall * both / n_present + (1 - recall) * size / len(a), prevalence
