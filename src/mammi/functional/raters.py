"""How far several raters agree who each name every unit, or say nothing of it; what chance would give; how sure that is."""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.resampling import percentile_interval

__all__ = ["alpha", "alpha_interval", "chance_agreement", "pair_agreement", "pair_jaccard"]


def pair_agreement(names: Tensor, said: Tensor) -> Tensor:
    r"""Return the share of pairs of raters that give a unit the same name, among pairs of which both name it.

    .. math:: A_u = \frac{\#\{i < j : \text{both name } u,\ n_{ui} = n_{uj}\}}{\binom{m_u}{2}}

    with :math:`m_u` raters that name the unit.

    Args:
        names: int64 ``(n_units, n_raters)``: the number of the name; of no meaning where nothing was said.
        said: bool, the same shape: whether the rater names the unit.

    Returns:
        float64 ``(n_units,)``, in [0, 1]; NaN where fewer than two name it.

    Raises:
        InputError: if the shapes differ.
    """
    _check(names, said)
    pairs, same = torch.zeros(2, len(names), dtype=torch.float64)
    for i, j in combinations(range(names.shape[1]), 2):
        both = said[:, i] & said[:, j]
        pairs += both
        same += both & (names[:, i] == names[:, j])
    return torch.where(pairs > 0, same / pairs, torch.nan)


def pair_jaccard(kept: Sequence[sparse.csr_array], said: Tensor) -> Tensor:
    r"""Return the mean of :math:`|K_{ui} \cap K_{uj}| / |K_{ui} \cup K_{uj}|` over the pairs of raters that both name a unit.

    Args:
        kept: what each rater keeps: 1 or 0, all of one shape ``(n_units, n_names)``.
        said: bool ``(n_units, n_raters)``: whether the rater keeps anything for the unit.

    Returns:
        float64 ``(n_units,)``, in [0, 1]; NaN where fewer than two name it.
    """
    sizes = [torch.from_numpy(np.asarray(table.sum(axis=1), dtype=np.float64)) for table in kept]
    pairs, shares = torch.zeros(2, len(said), dtype=torch.float64)
    for i, j in combinations(range(len(kept)), 2):
        both = said[:, i] & said[:, j]
        common = torch.from_numpy(np.asarray(kept[i].multiply(kept[j]).sum(axis=1), dtype=np.float64))
        pairs += both
        shares += torch.where(both, common / (sizes[i] + sizes[j] - common), 0.0)
    return torch.where(pairs > 0, shares / pairs, torch.nan)


def alpha(names: Tensor, said: Tensor) -> float:
    r"""Return Krippendorff's alpha for nominal data, with missing ratings.

    .. math:: \alpha = 1 - (n - 1)\,\frac{\sum_u \sum_{c \ne k} n_{uc} n_{uk} / (m_u - 1)}{n^2 - \sum_c n_c^2}

    over the units that at least two raters name: :math:`n_{uc}` of :math:`m_u` raters give unit :math:`u` the name
    :math:`c`, :math:`n_c = \sum_u n_{uc}`, :math:`n = \sum_c n_c` (Krippendorff, *Content Analysis*, 2004, chapter 11).
    1 for full agreement, 0 for that of names dealt anew.

    Args:
        names: as in `pair_agreement`.
        said: likewise.

    Returns:
        At most 1; NaN where no unit has two names, or all names are one.

    Raises:
        InputError: if the shapes differ.
    """
    counts, differing = _coincidences(names, said)
    return _alpha(np.asarray(counts.sum(axis=0)), float(differing.sum()))


def alpha_interval(names: Tensor, said: Tensor, resamples: int = 500, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of `alpha` over units drawn with replacement; NaN where there is none."""
    counts, differing = _coincidences(names, said)
    if not len(differing):
        return math.nan, math.nan
    generator = torch.Generator().manual_seed(seed)
    by_name, found = counts.T.tocsr(), []
    for _ in range(resamples):
        draw = torch.randint(len(differing), (len(differing),), generator=generator)
        times = torch.bincount(draw, minlength=len(differing)).double().numpy()
        found.append(_alpha(by_name @ times, float(times @ differing)))
    return percentile_interval(torch.tensor(found, dtype=torch.float64))


def chance_agreement(
    names: Tensor, said: Tensor, kept: Sequence[sparse.csr_array], shuffles: int = 100, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Deal the units of every rater but the first anew, silence and all, and measure agreement again.

    Each rater still says what it says, as often as it does; only of which unit is left to chance. What agreement is left
    is that of raters who favour the same names.

    Args:
        names: as in `pair_agreement`.
        said: likewise.
        kept: as in `pair_jaccard`.
        shuffles: how often.
        seed: of the deals.

    Returns:
        Means over the units of `pair_agreement` and of `pair_jaccard`, each float64 ``(shuffles,)``; NaN for a deal in
        which no unit has two names.
    """
    _check(names, said)
    generator = torch.Generator().manual_seed(seed)
    found = torch.full((2, shuffles), torch.nan, dtype=torch.float64)
    for shuffle in range(shuffles):
        deal = torch.stack(
            [torch.arange(len(names))]
            + [torch.randperm(len(names), generator=generator) for _ in range(names.shape[1] - 1)],
            dim=1,
        )
        dealt_said = said.gather(0, deal)
        dealt = [table[rows.numpy()] for table, rows in zip(kept, deal.T, strict=True)]
        found[0, shuffle] = pair_agreement(names.gather(0, deal), dealt_said).nanmean()
        found[1, shuffle] = pair_jaccard(dealt, dealt_said).nanmean()
    return found[0], found[1]


def _check(names: Tensor, said: Tensor) -> None:
    if names.ndim != 2 or names.shape != said.shape:
        raise InputError(
            f"'names' and 'said' must be (n_units, n_raters) both, got {tuple(names.shape)} and {tuple(said.shape)}"
        )


def _coincidences(names: Tensor, said: Tensor) -> tuple[sparse.csr_array, NDArray[np.float64]]:
    """Return how many raters give each unit each name, and how many pairs of them differ by raters less one.

    Only units that at least two raters name: ``(n, n_names)`` and ``(n,)``.
    """
    _check(names, said)
    pairable = said.sum(dim=1) >= 2
    names, said = names[pairable], said[pairable]
    units, raters = said.nonzero().T
    codes, columns = np.unique(names[units, raters].numpy(), return_inverse=True)
    counts = sparse.csr_array((np.ones(len(columns)), (units.numpy(), columns)), shape=(len(names), max(1, len(codes))))
    raters_of = np.asarray(counts.sum(axis=1))
    squares = np.asarray(counts.multiply(counts).sum(axis=1))
    return counts, (raters_of**2 - squares) / (raters_of - 1)


def _alpha(counts: NDArray[np.float64], differing: float) -> float:
    n = float(counts.sum())
    expected = n**2 - float((counts**2).sum())
    return 1 - (n - 1) * differing / expected if expected > 0 else math.nan
