"""Where a concept stands among all concepts that a unit could be named with."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mammi.functional.tiles import unit_tiles

__all__ = ["Standing", "merged", "standing"]


@dataclass(frozen=True)
class Standing:
    """The standing of one concept a row.

    Attributes:
        rank: int64, 1 for the best; concepts with the same score share the best rank.
        z: float64: its score less the mean of all concepts', in their standard deviations; NaN where all are alike.
        place: float64, in [0, 1]: share of the other concepts that score less, those that score the same counted half:
            the area under the ROC curve of the score for telling this concept from the others. 0.5 by chance.
        known: bool: whether it has a score at all; where not, the other numbers mean nothing.
    """

    rank: Tensor
    z: Tensor
    place: Tensor
    known: Tensor


def standing(scores: Tensor, units: Tensor, concepts: Tensor) -> Standing:
    """Look concepts up in the scores of their units.

    Args:
        scores: float64 ``(n_units, n_concepts)``; NaN for what has no score, which counts for nothing.
        units: int64 ``(n,)``.
        concepts: int64 ``(n,)``.

    Returns:
        One row for each of the ``n`` pairs.
    """
    n = len(units)
    rank, known = torch.ones(n, dtype=torch.int64), torch.zeros(n, dtype=torch.bool)
    z, place = torch.full((2, n), torch.nan, dtype=torch.float64)
    for tile in unit_tiles(n, scores.shape[1]):
        rows = scores[units[tile]]
        own = rows.gather(1, concepts[tile, None])
        others = (~rows.isnan()).sum(dim=1) - 1
        above, level = (rows > own).sum(dim=1), (rows == own).sum(dim=1) - 1
        below = others - above - level
        mean = rows.nanmean(dim=1)
        spread = (rows - mean[:, None]).square().nanmean(dim=1).sqrt()
        known[tile] = ~own[:, 0].isnan()
        rank[tile] = 1 + above
        z[tile] = torch.where(spread > 0, (own[:, 0] - mean) / spread, torch.nan)
        place[tile] = torch.where(known[tile] & (others > 0), (below + level / 2) / others, torch.nan)
    return Standing(rank, z, place, known)


def merged(scores: Tensor, groups: Tensor) -> Tensor:
    """Return the best score of each group of concepts.

    Args:
        scores: float64 ``(n_units, n_concepts)``.
        groups: int64 ``(n_concepts,)``: the group of each concept, from 0, none left out.

    Returns:
        float64 ``(n_units, n_groups)``; NaN where no concept of a group has a score. The table itself where every
        concept is a group of its own, in order.
    """
    n_groups = int(groups.max()) + 1
    if n_groups == scores.shape[1]:
        return scores
    best = torch.full((len(scores), n_groups), -torch.inf, dtype=scores.dtype)
    filled = scores.where(~scores.isnan(), -torch.inf)
    best.scatter_reduce_(1, groups.expand(len(scores), -1), filled, "amax")
    return best.where(best > -torch.inf, torch.nan)
