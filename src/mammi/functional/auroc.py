"""How well a unit's activation tells the films with a concept from those without, from exact ranks."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mammi.errors import InputError

__all__ = ["auroc", "mann_whitney", "midranks", "tie_bounds"]


def tie_bounds(values: Tensor) -> tuple[Tensor, Tensor]:
    """Count, for each value, how many of its column are below it, and how many are not above it.

    Args:
        values: shape ``(n, n_columns)``, without NaN.

    Returns:
        Two int64 tensors ``(n, n_columns)``. The second is at least one larger: a value is not above itself.
    """
    rows = values.T.contiguous()
    ordered = rows.sort(dim=1).values
    return torch.searchsorted(ordered, rows).T, torch.searchsorted(ordered, rows, right=True).T


def midranks(values: Tensor) -> Tensor:
    """Rank each column from 1, ties by their average rank.

    Args:
        values: shape ``(n, n_columns)``, without NaN.

    Returns:
        Shape ``(n, n_columns)``, float64; whole and half numbers, so that their sums are exact.
    """
    below, upto = tie_bounds(values)
    return (below + upto + 1).double() / 2


def auroc(activations: Tensor, labels: Tensor) -> Tensor:
    r"""Probability that a film with the concept excites the unit more than a film without it, ties counted half.

    :math:`AUC_{km} = P(A_{ik} > A_{jk} \mid Y_{im} = 1, Y_{jm} = 0)` (Bykov et al., INVERT, NeurIPS 2023), from rank
    sums: with one set of known films, all units and concepts are one matrix product.

    Args:
        activations: shape ``(n_films, n_units)``, floating, finite.
        labels: shape ``(n_films, n_concepts)``, floating: 1 present, 0 absent, NaN unknown. Films where a concept is
            unknown are left out of its pairs.

    Returns:
        Shape ``(n_units, n_concepts)``, float64, in [0, 1]; NaN where no film shows the concept, or all known do.

    Raises:
        InputError: if the numbers of films differ.

    Example:
        >>> auroc(torch.tensor([[0.0], [1.0], [1.0], [2.0]]), torch.tensor([[0.0], [0.0], [1.0], [1.0]])).item()
        0.875
    """
    scores = torch.full((activations.shape[1], labels.shape[1]), torch.nan, dtype=torch.float64)
    for columns, wins, pairs, _, _ in _rank_sums(activations, labels):
        scores[:, columns] = wins / pairs
    return scores


def mann_whitney(activations: Tensor, labels: Tensor) -> Tensor:
    """One-sided p-value of the Mann-Whitney test that films with a concept excite a unit more than those without.

    The normal approximation with corrections for ties and continuity. It holds for a concept named beforehand: the
    best of many concepts or formulas has a small p-value by the choice alone.

    Args:
        activations: shape ``(n_films, n_units)``, floating, finite.
        labels: shape ``(n_films, n_concepts)``: 1 present, 0 absent, NaN unknown (such films are left out).

    Returns:
        Shape ``(n_units, n_concepts)``, float64, in [0, 1]; NaN where the AUC is, and for a unit that never varies.

    Raises:
        InputError: if the numbers of films differ.
    """
    values = torch.full((activations.shape[1], labels.shape[1]), torch.nan, dtype=torch.float64)
    for columns, wins, pairs, n_films, ties in _rank_sums(activations, labels):
        if n_films < 2:
            continue
        spread = (pairs / 12 * (n_films + 1 - ties[:, None] / (n_films * (n_films - 1)))).clamp(min=0).sqrt()
        values[:, columns] = torch.where(
            spread > 0, torch.special.erfc((wins - pairs / 2 - 0.5) / spread / 2**0.5) / 2, torch.nan
        )
    return values


def _rank_sums(activations: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, int, Tensor]]:
    """Yield concepts known on the same films: columns, pairs won, pairs, number of films, tie term of each unit."""
    if len(activations) != len(labels):
        raise InputError(f"'activations' holds {len(activations)} films and 'labels' {len(labels)}")
    # Ranks depend on which films count, so concepts that are known on the same films share them.
    patterns, pattern_of = torch.unique(~labels.isnan(), dim=1, return_inverse=True)
    for place in range(patterns.shape[1]):
        columns = (pattern_of == place).nonzero().flatten()
        films = patterns[:, place]
        n_films = int(films.sum())
        if not n_films:
            continue
        below, upto = tie_bounds(activations[films])
        present = labels[films][:, columns].double()
        n_present = present.sum(dim=0)
        wins = (below + upto + 1).double().T @ present / 2 - n_present * (n_present + 1) / 2
        ties = ((upto - below).double() ** 2 - 1).sum(dim=0)  # the sum of t^3 - t over groups of t equal values
        yield columns, wins, n_present * (n_films - n_present), n_films, ties
