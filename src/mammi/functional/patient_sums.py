"""Draws of patients over sums taken patient by patient: what a statistic made of sums would be with other patients."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mammi.errors import InputError

__all__ = ["interval", "mean_interval", "patient_draws", "patient_numbers", "sums_by"]

#: Resamples drawn together: bounds memory; fixed, since the draws depend on it.
TILE = 64


def patient_numbers(patients: Tensor) -> tuple[Tensor, int]:
    """Number patients from 0, whatever they are called: int64 ``(n_films,)``, and how many there are."""
    number = torch.unique(patients, return_inverse=True)[1]
    return number, int(number.max()) + 1 if len(number) else 0


def sums_by(groups: Tensor, n_groups: int, values: Tensor) -> Tensor:
    """Sum the rows of each group: ``(n_films, ...)`` to ``(n_groups, ...)``."""
    return values.new_zeros(n_groups, *values.shape[1:]).index_add_(0, groups, values)


def patient_draws(n_patients: int, n_resamples: int, seed: int) -> Iterator[Tensor]:
    """Draw as many patients as there are, with replacement (cluster bootstrap; Davison and Hinkley 1997, 3.8).

    Args:
        n_patients: how many there are.
        n_resamples: how many draws in all.
        seed: of the draws.

    Yields:
        How often each patient is in each draw: float64, shape ``(up to 64, n_patients)``.
    """
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, n_resamples, TILE):
        choice = torch.randint(n_patients, (min(TILE, n_resamples - start), n_patients), generator=generator)
        times = torch.zeros(len(choice), n_patients, dtype=torch.float64)
        yield times.scatter_add_(1, choice, torch.ones_like(times))


def interval(samples: Tensor, level: float = 0.95) -> tuple[Tensor, Tensor]:
    """Return the middle share ``level`` down the columns of ``(n_resamples, n)``, NaN left out: two of ``(n,)``."""
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.nanquantile(samples, tails, dim=0)
    return low, high


def mean_interval(
    values: Tensor, patients: Tensor, *, seed: int = 0, n_resamples: int = 1000
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean over films of each column, and its 95 % interval over draws of the patients.

    Args:
        values: shape ``(n_films, n_columns)``, floating.
        patients: int64, shape ``(n_films,)``.
        seed: of the draws.
        n_resamples: how many.

    Returns:
        Mean, lower and upper end, each float64 ``(n_columns,)``; the ends are NaN with fewer than two patients.

    Raises:
        InputError: if there is no film, or the numbers of films differ.
    """
    if not len(values) or len(values) != len(patients):
        raise InputError(
            f"need a patient a film and a film at least, got {len(values)} films, {len(patients)} patients"
        )
    values = values.double()
    number, n_patients = patient_numbers(patients)
    if n_patients < 2:
        nothing = torch.full((values.shape[1],), torch.nan, dtype=torch.float64)
        return values.mean(dim=0), nothing, nothing.clone()
    sums = sums_by(number, n_patients, values)
    films = torch.bincount(number, minlength=n_patients).double()
    drawn = torch.cat(
        [(times @ sums) / (times @ films)[:, None] for times in patient_draws(n_patients, n_resamples, seed)]
    )
    return values.mean(dim=0), *interval(drawn)
