"""How far a unit's activation goes with a concept's presence: every unit against every concept.

Which of these numbers can be believed is a matter of two tests (missing and extra labels; Oikarinen, Yan and Weng,
ICML 2025, arXiv 2506.05774): see docs/metrics.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mammi.errors import InputError

__all__ = ["RARE", "Agreement", "agreement", "auroc", "average_precision", "check_pair", "cosine", "pearson"]

#: Below this share of films the area under the ROC curve hardly sees wrong labels.
RARE = 0.01
#: Units that are ranked together: bounds memory, not results.
TILE = 256


@dataclass(frozen=True)
class Agreement:
    """Units against concepts; all tables float64 ``(n_units, n_concepts)``, NaN where nothing can be said.

    Attributes:
        pearson: correlation of activation and presence, in [-1, 1].
        cosine: the same without taking off the means, in [-1, 1]: it changes when the activation is shifted.
        f1: of the films that have the concept and the unit's strongest films, in [0, 1].
        iou: of the same two sets, in [0, 1]; ``f1 / (2 - f1)``.
        auprc: area under the precision-recall curve when the presence of the concept ranks the films and the
            strongest are to be found, in [0, 1]; the direction of Oikarinen, Yan and Weng. Chance is ``share``.
        average_precision: the same area when the activation ranks the films and those with the concept are to be
            found (their "inverse AUPRC"), in [0, 1]. Chance is ``prevalence``.
        auroc: chance that a film with the concept excites the unit more than one without, in [0, 1]; only to be read
            beside ``prevalence``, and not where ``rare``.
        share: share of the known films asked for as a unit's strongest, one per concept, float64 ``(n_concepts,)``.
        prevalence: share of the known films that have the concept, float64 ``(n_concepts,)``.
        known: films whose label is known, int64 ``(n_concepts,)``.
        rare: whether the prevalence is below 1 %, bool ``(n_concepts,)``.
    """

    pearson: Tensor
    cosine: Tensor
    f1: Tensor
    iou: Tensor
    auprc: Tensor
    average_precision: Tensor
    auroc: Tensor
    share: Tensor
    prevalence: Tensor
    known: Tensor
    rare: Tensor


def pearson(activations: Tensor, concepts: Tensor) -> Tensor:
    r"""Correlate every unit with every concept over the films where the concept is known.

    :math:`r_{km} = \sum_n (A_{nk} - \bar A_k)(c_{nm} - \bar c_m) \, / \, (\lVert A_k - \bar A_k \rVert \,
    \lVert c_m - \bar c_m \rVert)`.

    Args:
        activations: shape ``(n_films, n_units)``, floating.
        concepts: shape ``(n_films, n_concepts)``, floating: labels or scores of any scale; NaN is unknown.

    Returns:
        Shape ``(n_units, n_concepts)``, float64, in [-1, 1]. NaN where the unit or the concept never varies on the
        known films, or the unit is not finite on one of them.

    Raises:
        InputError: if a shape or a type is wrong, or a concept is infinite.

    Example:
        >>> round(pearson(torch.tensor([[0.0], [1.0], [9.0]]), torch.tensor([[2.0], [4.0], [torch.nan]])).item(), 6)
        1.0
    """
    check_pair(activations, concepts)
    return _tables(activations, concepts, lambda a, c: [_cosines(a - a.mean(dim=0), c - c.mean(dim=0))])[0]


def cosine(activations: Tensor, concepts: Tensor) -> Tensor:
    """Return the cosine of every unit with every concept, uncentred; else as `pearson`.

    Args:
        activations: shape ``(n_films, n_units)``, floating.
        concepts: shape ``(n_films, n_concepts)``, floating; NaN is unknown.

    Returns:
        Shape ``(n_units, n_concepts)``, float64, in [-1, 1]; NaN as in `pearson`.

    Raises:
        InputError: as `pearson`.
    """
    check_pair(activations, concepts)
    return _tables(activations, concepts, lambda a, c: [_cosines(a, c)])[0]


def average_precision(activations: Tensor, labels: Tensor) -> Tensor:
    r"""Rank the films by activation and measure how early those with the concept come.

    :math:`\sum_g (R_g - R_{g-1}) P_g` over the groups :math:`g` of films with equal activation, strongest first, with
    precision :math:`P_g` and recall :math:`R_g` after the whole group: no order within ties, no interpolation.

    Args:
        activations: shape ``(n_films, n_units)``, floating.
        labels: shape ``(n_films, n_concepts)``: 1 present, 0 absent, NaN unknown.

    Returns:
        Shape ``(n_units, n_concepts)``, float64, in (0, 1]; NaN as in `pearson`. Chance is the prevalence.

    Raises:
        InputError: as `pearson`, and if a label is not 0, 1 or NaN.
    """
    _check_labels(activations, labels)
    return _tables(activations, labels, lambda a, y: [_average_precision(_ranks(a)[0], y)])[0]


def auroc(activations: Tensor, labels: Tensor) -> Tensor:
    r"""Return :math:`P(A_i > A_j \mid y_i = 1, y_j = 0)`, ties counted half (Mann and Whitney), from exact ranks.

    Read it only beside the prevalence: below 1 % it hardly falls when labels are wrong.

    Args:
        activations: shape ``(n_films, n_units)``, floating.
        labels: shape ``(n_films, n_concepts)``: 1 present, 0 absent, NaN unknown.

    Returns:
        Shape ``(n_units, n_concepts)``, float64, in [0, 1]; NaN as in `pearson`.

    Raises:
        InputError: as `average_precision`.
    """
    _check_labels(activations, labels)
    return _tables(activations, labels, lambda a, y: [_auroc(*_ranks(a), y)])[0]


def agreement(activations: Tensor, labels: Tensor, share: float | None = None) -> Agreement:
    r"""Measure every unit against every concept in all the ways of `Agreement`.

    The strongest films of a unit are :math:`\{n : A_{nk} \ge \text{the } \lceil \alpha N \rceil\text{-th largest}\}`,
    ties included.

    Args:
        activations: shape ``(n_films, n_units)``, floating.
        labels: shape ``(n_films, n_concepts)``: 1 present, 0 absent, NaN unknown.
        share: the share alpha of the known films, in (0, 1); None takes as many films as have the concept. A share
            far from the prevalence makes F1 and IoU blind: to extra labels if it is larger, to missing if smaller.

    Raises:
        InputError: if a shape, a type or a label is wrong, or ``share`` is out of range.
    """
    _check_labels(activations, labels)
    if share is not None and not 0 < share < 1:
        raise InputError(f"'share' must be in (0, 1), or None for each concept's own prevalence; got {share}")
    known = (~labels.isnan()).sum(dim=0)
    prevalence = labels.double().nansum(dim=0) / known

    def measure(a: Tensor, y: Tensor) -> list[Tensor]:
        below, above = _ranks(a)
        centred = _cosines(a - a.mean(dim=0), y - y.mean(dim=0))
        return [
            *(centred, _cosines(a, y), *_overlaps(above, y, share)),
            *(_average_precision(below, y), _auroc(below, above, y)),
        ]

    names = ("pearson", "cosine", "f1", "iou", "auprc", "average_precision", "auroc")
    tables = dict(zip(names, _tables(activations, labels, measure, len(names)), strict=True))
    shares = prevalence if share is None else torch.full_like(prevalence, share)
    return Agreement(**tables, share=shares, prevalence=prevalence, known=known, rare=prevalence < RARE)


def check_pair(activations: Tensor, concepts: Tensor, what_concepts: str = "concepts") -> None:
    """Raise an `InputError` unless both are floating tables over the same films."""
    for what, table in (("activations", activations), (what_concepts, concepts)):
        if table.ndim != 2:
            raise InputError(f"{what!r} must have 2 axes, films first, got shape {tuple(table.shape)}")
        if not table.is_floating_point():
            raise InputError(f"{what!r} must be floating, got {table.dtype}")
    if len(activations) != len(concepts):
        raise InputError(f"'activations' holds {len(activations)} films and {what_concepts!r} {len(concepts)}")
    if bool(concepts.isinf().any()):
        raise InputError(f"{what_concepts!r} holds infinite values: give labels or finite scores, NaN where unknown")


def _check_labels(activations: Tensor, labels: Tensor) -> None:
    check_pair(activations, labels, "labels")
    if not bool(((labels == 0) | (labels == 1) | labels.isnan()).all()):
        raise InputError("'labels' must be 1, 0 or NaN: take a threshold of soft labels first")


def _tables(
    activations: Tensor, concepts: Tensor, measure: Callable[[Tensor, Tensor], list[Tensor]], n_tables: int = 1
) -> list[Tensor]:
    """Fill ``(n_units, n_concepts)`` tables, leaving NaN where a column is constant or not finite.

    Concepts that are known on the same films are measured together, so that ``measure`` never sees a gap.
    """
    n_units, n_concepts = activations.shape[1], concepts.shape[1]
    tables = torch.full((n_tables, n_units, n_concepts), torch.nan, dtype=torch.float64)
    if not tables.numel() or not len(activations):
        return list(tables)
    patterns, pattern_of = torch.unique(~concepts.isnan(), dim=1, return_inverse=True)
    for pattern, films in enumerate(patterns.T):
        if not bool(films.any()):
            continue
        columns = (pattern_of == pattern).nonzero().flatten()
        c = concepts[films][:, columns].double()
        varies = c.amax(dim=0) > c.amin(dim=0)
        c, columns = c[:, varies], columns[varies]
        for units in torch.split(torch.arange(n_units), TILE):
            a = activations[films][:, units].double()
            live = torch.isfinite(a).all(dim=0) & (a.amax(dim=0) > a.amin(dim=0))
            if len(columns) and bool(live.any()):
                found = torch.stack(measure(a[:, live], c))
                tables[:, units[live][:, None], columns] = found
    return list(tables)


def _cosines(a: Tensor, c: Tensor) -> Tensor:
    lengths = torch.linalg.vector_norm(a, dim=0)[:, None] * torch.linalg.vector_norm(c, dim=0)
    cosines: Tensor = (a.T @ c / lengths).clamp(-1, 1)
    return cosines


def _ranks(a: Tensor) -> tuple[Tensor, Tensor]:
    """Count, for every film and unit, the films that are strictly weaker and those that are strictly stronger."""
    columns = a.T.contiguous()
    ordered = columns.sort(dim=1).values
    below = torch.searchsorted(ordered, columns)
    above = len(a) - torch.searchsorted(ordered, columns, right=True)
    return below.T, above.T


def _average_precision(below: Tensor, labels: Tensor) -> Tensor:
    rows = []
    for label in labels.T:
        # Precision after a film's tie group: films with the concept that are at least as strong, over all that are.
        as_strong = (len(below) - below[label > 0]).T.contiguous().sort(dim=1).values
        with_concept = torch.searchsorted(as_strong, as_strong, right=True)
        rows.append((with_concept.double() / as_strong).mean(dim=1))
    return torch.stack(rows, dim=1)


def _auroc(below: Tensor, above: Tensor, labels: Tensor) -> Tensor:
    mid_ranks = (below + len(below) - above + 1).double() / 2
    present = labels.sum(dim=0)
    return (mid_ranks.T @ labels - present * (present + 1) / 2) / (present * (len(labels) - present))


def _overlaps(above: Tensor, labels: Tensor, share: float | None) -> tuple[Tensor, ...]:
    """Return F1, IoU and the area under the precision-recall curve of strongest films against presence."""
    rows = []
    n_films = len(labels)
    for label in labels.T:
        present = int(label.sum())
        # A share times a count may land a rounding error above a whole number.
        wanted = present if share is None else max(1, math.ceil(share * n_films - 1e-9))
        strongest = above < wanted
        size = strongest.sum(dim=0).double()
        both = strongest[label > 0].sum(dim=0).double()
        f1 = 2 * both / (size + present)
        iou = both / (size + present - both)
        recall = both / size
        # Presence has two values, so the curve has two points: the films with the concept, then all of them.
        area = recall * both / present + (1 - recall) * size / n_films
        rows.append(torch.stack([f1, iou, area]))
    return tuple(torch.stack(rows, dim=2))
