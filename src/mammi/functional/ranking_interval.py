"""How far an AUROC or an average precision would move with other patients: a bootstrap that draws patients."""

import torch
from torch import Tensor

from mammi.errors import InputError

__all__ = ["RankingDraws", "draw_ranking", "percentiles"]

#: Resamples that are drawn together: bounds memory; fixed, since the draws depend on it.
TILE = 64

#: AUROC and average precision of every resample, each ``(n_resamples, n_concepts)``, float64, NaN where a resample
#: holds only films with the concept, or none.
RankingDraws = tuple[Tensor, Tensor]


def draw_ranking(
    scores: Tensor, labels: Tensor, patients: Tensor, *, seed: int, n_resamples: int = 1000
) -> RankingDraws:
    """Take AUROC and average precision again over resamples of the patients.

    As many patients as there are are drawn with replacement, each with all its films (cluster bootstrap; Davison and
    Hinkley 1997, section 3.8). A film drawn twice counts twice; both measures are those of `auroc` and
    `average_precision` with films so weighted.

    Args:
        scores: shape ``(n_films, n_concepts)``, floating, finite: one score a film and concept.
        labels: the same shape: 1 present, 0 absent, NaN unknown.
        patients: int64, shape ``(n_films,)``: films with the same number are of one patient.
        seed: of the resamples; every concept sees the same ones.
        n_resamples: how many, at least 1.

    Returns:
        AUROC and average precision of every resample.

    Raises:
        InputError: if a shape or a number is wrong.
    """
    if scores.shape != labels.shape or scores.ndim != 2:
        raise InputError(
            f"'scores' and 'labels' must both be (n_films, n_concepts), got {tuple(scores.shape)} and "
            f"{tuple(labels.shape)}"
        )
    if patients.shape != (len(scores),) or n_resamples < 1:
        raise InputError(
            f"need one patient a film and at least 1 resample, got {tuple(patients.shape)} for {len(scores)} films and "
            f"{n_resamples}"
        )
    number = torch.unique(patients, return_inverse=True)[1]
    n_patients = int(number.max()) + 1 if len(number) else 0
    ordered = [_Ordered(scores[:, column], labels[:, column]) for column in range(scores.shape[1])]
    generator = torch.Generator().manual_seed(seed)
    areas, precisions = [], []
    for start in range(0, n_resamples, TILE):
        size = min(TILE, n_resamples - start)
        if n_patients == 0:
            weights = torch.zeros(size, 0, dtype=torch.float64)
        else:
            choice = torch.randint(n_patients, (size, n_patients), generator=generator)
            times = torch.zeros(size, n_patients, dtype=torch.float64)
            weights = times.scatter_add_(1, choice, torch.ones_like(choice, dtype=torch.float64))[:, number]
        pairs = [column.measure(weights) for column in ordered]
        areas.append(torch.stack([area for area, _ in pairs], dim=1) if pairs else weights.new_zeros(size, 0))
        precisions.append(torch.stack([ap for _, ap in pairs], dim=1) if pairs else weights.new_zeros(size, 0))
    return torch.cat(areas), torch.cat(precisions)


def percentiles(draws: Tensor, level: float = 0.95) -> tuple[Tensor, Tensor]:
    """Return the bounds between which the middle share of the draws lies, NaN draws left out.

    Args:
        draws: shape ``(n_resamples, n_concepts)``.
        level: share inside, in (0, 1).

    Returns:
        Lower and upper bound, each ``(n_concepts,)``; NaN where every draw is NaN.
    """
    if not 0 < level < 1:
        raise InputError(f"'level' must be in (0, 1), got {level}")
    low, high = ((1 - level) / 2, (1 + level) / 2)
    return draws.nanquantile(low, dim=0), draws.nanquantile(high, dim=0)


class _Ordered:
    """One concept's known films from the lowest score to the highest, cut into groups of equal score."""

    def __init__(self, scores: Tensor, labels: Tensor) -> None:
        known = (~labels.isnan()).nonzero().flatten()
        self.films = known[scores[known].argsort(stable=True)]
        value = scores[self.films]
        self.present = labels[self.films].double()
        group = torch.zeros(len(value), dtype=torch.int64)
        if len(value):
            group[1:] = (value[1:] != value[:-1]).cumsum(0)
        self.group, self.n_groups = group, int(group[-1]) + 1 if len(group) else 0

    def measure(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return AUROC and average precision for each row of film weights ``(n_resamples, n_films)``."""
        mine = weights[:, self.films]
        shape = (len(weights), self.n_groups)
        hits = mine.new_zeros(shape).index_add_(1, self.group, mine * self.present)
        misses = mine.new_zeros(shape).index_add_(1, self.group, mine * (1 - self.present))
        below = misses.cumsum(1) - misses
        positives, negatives = hits.sum(1), misses.sum(1)
        area = (hits * (below + misses / 2)).sum(1) / (positives * negatives)
        above_hits, above = hits.flip(1).cumsum(1), (hits + misses).flip(1).cumsum(1)
        step = torch.where(above > 0, hits.flip(1) * above_hits / above.clamp(min=1), 0.0)
        # Without a film of one kind there is nothing to rank; both say so.
        ranked = (positives > 0) & (negatives > 0)
        return area.masked_fill(~ranked, torch.nan), (step.sum(1) / positives).masked_fill(~ranked, torch.nan)
