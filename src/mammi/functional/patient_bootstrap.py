"""How far a correlation would move with other patients: a bootstrap that draws patients, never single films."""

import torch
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.agreement import check_pair

__all__ = ["pearson_interval"]

#: Resamples that are drawn together: bounds memory; fixed, since the draws depend on it.
TILE = 64


def pearson_interval(
    activations: Tensor,
    concepts: Tensor,
    patients: Tensor,
    *,
    seed: int,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> tuple[Tensor, Tensor]:
    """Bound the correlation of units with concepts, pair by pair, over resamples of the patients.

    As many patients as there are are drawn with replacement, each with all its films (cluster bootstrap; Davison and
    Hinkley 1997, section 3.8), and the correlation is taken again; the interval lies between the percentiles.

    Args:
        activations: shape ``(n_films, n_pairs)``, floating.
        concepts: shape ``(n_films, n_pairs)``, or ``(n_films, 1)`` for one concept against all units, floating; NaN is
            unknown.
        patients: int64, shape ``(n_films,)``: films with the same number are of one patient.
        seed: of the resamples; every pair sees the same ones.
        n_resamples: how many, at least 1.
        level: share of the resamples inside, in (0, 1).

    Returns:
        Lower and upper bound, each ``(n_pairs,)``, float64, in [-1, 1]. Resamples in which a column does not vary are
        left out; NaN where `pearson` has NaN, and with a single patient.

    Raises:
        InputError: if a shape, a type or an option is wrong.
    """
    check_pair(activations, concepts)
    n_films, n_pairs = activations.shape
    if concepts.shape[1] not in (1, n_pairs):
        raise InputError(f"'concepts' must have 1 column or {n_pairs}, one a unit, got {concepts.shape[1]}")
    if patients.shape != (n_films,) or patients.dtype != torch.int64:
        raise InputError(f"'patients' must be int64 ({n_films},), got {patients.dtype} {tuple(patients.shape)}")
    if n_resamples < 1 or not 0 < level < 1:
        raise InputError(f"need 1 resample or more and a level in (0, 1), got {n_resamples} and {level}")
    nothing = torch.full((n_pairs,), torch.nan, dtype=torch.float64)
    number = torch.unique(patients, return_inverse=True)[1]
    n_patients = int(number.max()) + 1 if n_films else 0
    if n_patients < 2 or n_pairs == 0:
        return nothing, nothing.clone()

    sums, floors = _patient_sums(activations.double(), concepts.double(), number, n_patients)
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for start in range(0, n_resamples, TILE):
        size = min(TILE, n_resamples - start)
        choice = torch.randint(n_patients, (size, n_patients), generator=generator)
        times = torch.zeros(size, n_patients, dtype=torch.float64).scatter_add_(
            1, choice, torch.ones(1, dtype=torch.float64).expand_as(choice)
        )
        films, a, c, aa, cc, ac = (times @ table for table in sums)
        spread_a, spread_c = aa - a * a / films, cc - c * c / films
        # What is left of a constant column is rounding: nothing to divide by.
        flat = (spread_a <= floors[0]) | (spread_c <= floors[1])
        r = ((ac - a * c / films) / (spread_a * spread_c).sqrt()).clamp(-1, 1)
        drawn.append(r.masked_fill(flat, torch.nan))
    correlations = torch.cat(drawn)
    low, high = (_quantile(correlations, q) for q in ((1 - level) / 2, (1 + level) / 2))
    return low, high


def _patient_sums(a: Tensor, c: Tensor, number: Tensor, n_patients: int) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
    """Return each patient's films and sums of a, c, aa, cc and ac over known films; and what counts as no spread."""
    known = ~c.isnan()
    usable = known.expand_as(a)
    sound = torch.isfinite(a.masked_fill(~usable, 0.0)).all(dim=0)
    a = torch.where(usable & sound, a, 0.0)
    c = c.masked_fill(~known, 0.0)
    # Taken from the means first, or the sums of squares would eat the digits of a small spread.
    a = torch.where(usable & sound, a - a.sum(dim=0) / usable.sum(dim=0), 0.0)
    c = torch.where(known, c - c.sum(dim=0) / known.sum(dim=0), 0.0).expand_as(a)
    tables = [
        a.new_zeros(n_patients, a.shape[1]).index_add_(0, number, table)
        for table in (usable.double(), a, c, a * a, c * c, a * c)
    ]
    return tables, (1e-12 * (a * a).sum(dim=0), 1e-12 * (c * c).sum(dim=0))


def _quantile(values: Tensor, q: float) -> Tensor:
    """Return the quantile down the columns, linear between neighbours, NaN left out."""
    ordered = values.sort(dim=0).values  # NaN last
    count = (~values.isnan()).sum(dim=0)
    place = (q * (count - 1).double()).clamp(min=0)
    below = place.floor().long()
    above = torch.minimum(below + 1, (count - 1).clamp(min=0))
    low, high = (ordered.gather(0, index[None])[0] for index in (below, above))
    return low + (place - below) * (high - low)
