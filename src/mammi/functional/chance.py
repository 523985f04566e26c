"""What chance alone would give: films dealt to units at random, patient by patient; and false discoveries."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mammi.errors import InputError

__all__ = [
    "ExtremeLaw",
    "adjusted",
    "benjamini_hochberg",
    "extreme_p_values",
    "patient_folds",
    "patient_resamples",
    "patient_shuffles",
]


def patient_shuffles(patients: Tensor, n_shuffles: int, seed: int) -> Iterator[Tensor]:
    """Deal films anew, patients as whole blocks.

    Every patient takes the place of one patient drawn at random, with its films in order: the first ones where it has
    more films than the place, all of them over and over where it has fewer. Both sides of a comparison keep the
    likeness of one patient's films, and lose what joins them (block permutation for exchangeable groups: Winkler et
    al., NeuroImage 2015).

    Args:
        patients: int64, shape ``(n_films,)``.
        n_shuffles: how many.
        seed: of the random order.

    Yields:
        The film that takes the place of each film: int64, shape ``(n_films,)``.

    Notes:
        The paper permutes blocks of equal size only. Laying unequal blocks end to end cuts most of them apart, so that
        a unit that is alike on all films of a patient seems rarer than it is: with 1 to 6 films a patient, 12 to 16 %
        of such units had p-values below 0.05.
    """
    numbers, sizes = torch.unique(patients, return_inverse=True, return_counts=True)[1:]
    order = numbers.argsort(stable=True)
    start = sizes.cumsum(0) - sizes
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order)) - start[numbers[order]]
    generator = np.random.default_rng(seed)
    for _ in range(n_shuffles):
        other = torch.from_numpy(generator.permutation(len(sizes)))[numbers]
        yield order[start[other] + place % sizes[other]]


def patient_resamples(patients: Tensor, n_resamples: int, seed: int) -> Iterator[Tensor]:
    """Draw patients with replacement, each with all its films.

    Args:
        patients: int64, shape ``(n_films,)``.
        n_resamples: how many.
        seed: of the draws.

    Yields:
        How often each film is in the resample: int64, shape ``(n_films,)``.
    """
    numbers = torch.unique(patients, return_inverse=True)[1]
    n_patients = int(numbers.max()) + 1
    generator = np.random.default_rng(seed)
    for _ in range(n_resamples):
        drawn = np.bincount(generator.integers(0, n_patients, n_patients), minlength=n_patients)
        yield torch.from_numpy(drawn)[numbers]


def patient_folds(patients: Tensor, n_folds: int, seed: int) -> Tensor:
    """Deal patients to folds at random: int64 in ``[0, n_folds)``, shape ``(n_films,)``; no patient is in two folds."""
    numbers = torch.unique(patients, return_inverse=True)[1]
    n_patients = int(numbers.max()) + 1
    order = np.random.default_rng(seed).permutation(n_patients)
    return torch.from_numpy(order % n_folds)[numbers]


@dataclass(frozen=True)
class ExtremeLaw:
    r"""The law of the largest score that each unit finds by chance, from a modest number of maxima under the null.

    A Gumbel distribution is fitted to each unit's null maxima by its mean and standard deviation (the law of the
    largest of many scores), so that p-values below one over the number of shuffles have a meaning.

    Attributes:
        place: where each unit's law stands, float64, ``(n_units,)``.
        scale: how wide it is, float64, ``(n_units,)``.
        least: p-values go down to this and no further: a tenth of the resolution of the shuffles pooled over units,
            1 / (10 n_shuffles n_units).
    """

    place: Tensor
    scale: Tensor
    least: float

    @classmethod
    def of(cls, null: Tensor) -> "ExtremeLaw":
        """Fit the laws of all units.

        Args:
            null: float64, shape ``(n_shuffles, n_units)``, at least 20 shuffles.

        Raises:
            InputError: if there are fewer than 20 shuffles.
        """
        if len(null) < 20:
            raise InputError(f"a null needs at least 20 shuffles, got {len(null)}")
        mean = null.mean(dim=0)
        # A null that only varies by rounding (a single patient, all films alike) must not make rounding a discovery.
        scale = torch.maximum(null.std(dim=0) * math.sqrt(6) / math.pi, 1e-4 * mean.abs() + 1e-12)
        return cls(mean - 0.5772156649015329 * scale, scale, 0.1 / null.numel())

    def p_values(self, observed: Tensor, units: Tensor) -> Tensor:
        """Return the chance of a maximum as large as observed, in ``(0, 1]``.

        Args:
            observed: float64, shape ``(n,)``.
            units: int64, shape ``(n,)``: the unit that each is of.
        """
        standard = (observed - self.place[units]) / self.scale[units]
        # 1 - exp(-exp(-x)), exact in the far tail.
        return (-torch.expm1(-torch.exp(-standard))).clamp(min=self.least, max=1.0)


def extreme_p_values(observed: Tensor, null: Tensor) -> Tensor:
    """Return the chance of a maximum as large as observed, unit by unit; see :class:`ExtremeLaw`.

    Args:
        observed: float64, ``(n_units,)`` or ``(n_units, n)``.
        null: float64, shape ``(n_shuffles, n_units)``, at least 20 shuffles.

    Returns:
        In ``(0, 1]``, of the shape of ``observed``.

    Raises:
        InputError: if there are fewer than 20 shuffles.
    """
    units = torch.arange(len(observed)).repeat_interleave(observed[:1].numel())
    return ExtremeLaw.of(null).p_values(observed.flatten(), units).reshape(observed.shape)


def benjamini_hochberg(p_values: Tensor) -> Tensor:
    r"""Return q-values: the false discovery rate at which each test is still a discovery.

    :math:`q_{(i)} = \min_{j \ge i} n p_{(j)} / j` (Benjamini and Hochberg, JRSS B 1995).

    Args:
        p_values: float64, shape ``(n,)``, in ``[0, 1]``.
    """
    return adjusted(p_values, p_values)


def adjusted(p_values: Tensor, family: Tensor) -> Tensor:
    """Return the q-values that ``p_values`` would have among the tests of ``family``, by Benjamini and Hochberg.

    Args:
        p_values: any shape, float64.
        family: the p-values of all tests, shape ``(n,)``, float64.
    """
    if not len(family):
        return torch.ones_like(p_values)
    ordered = family.sort().values
    ranks = torch.arange(1, len(ordered) + 1, dtype=torch.float64)
    q_values = (ordered * len(ordered) / ranks).flip(0).cummin(0).values.flip(0).clamp(max=1.0)
    place = torch.searchsorted(ordered, p_values.contiguous())
    # A p-value above all of the family is no better than the last; between two it takes the next one's.
    beyond = place == len(ordered)
    return torch.where(beyond, torch.maximum(q_values[-1], p_values), q_values[place.clamp(max=len(ordered) - 1)])
