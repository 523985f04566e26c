"""A unit as a short weighted sum of concepts (Linear Explanations): sparse ordering, then greedy least squares."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mammi.functional.elastic_net import elastic_net

__all__ = ["LinearFit", "Moments", "correlations", "explain_linearly", "fit_correlation", "standardise"]

#: A column whose spread is below this share of its largest value is constant but for rounding.
CONSTANT = 1e-10
#: Added to the diagonal of each least-squares problem, so that two concepts with one column have an answer.
RIDGE = 1e-9


@dataclass(frozen=True)
class Moments:
    """Second moments of concepts and units on one part of the films: all that fitting and judging need.

    Attributes:
        gram: float64, shape ``(n_concepts, n_concepts)``: means of products of two concepts.
        cross: float64, shape ``(n_units, n_concepts)``: means of products of a unit and a concept.
        power: float64, shape ``(n_units,)``: mean square of each unit.
    """

    gram: Tensor
    cross: Tensor
    power: Tensor

    @staticmethod
    def of(concepts: Tensor, units: Tensor) -> "Moments":
        """Measure films, ``(n_films, n_concepts)`` and ``(n_films, n_units)``, each column about its own mean."""
        x, y = (_centred(columns) for columns in (concepts, units))
        return Moments(x.T @ x / len(x), y.T @ x / len(x), (y**2).mean(dim=0))


@dataclass(frozen=True)
class LinearFit:
    """One unit as a weighted sum of concepts.

    Attributes:
        concepts: int64, shape ``(n_terms,)``, in the order they were chosen.
        weights: float64, shape ``(n_terms,)``: standard deviations of the unit per standard deviation of the concept
            on the training films.
        validation: Pearson correlation of the sum with the unit on the validation films; 0 without a term.
    """

    concepts: Tensor
    weights: Tensor
    validation: float


def standardise(columns: Tensor, films: Tensor) -> Tensor:
    """Scale columns to mean 0 and standard deviation 1 over some of the films.

    Args:
        columns: shape ``(n_films, n_columns)``, floating, finite.
        films: int64: the films that set mean and deviation (the population's).

    Returns:
        Shape ``(n_films, n_columns)``, float64; 0 everywhere for a column that is constant over ``films``.
    """
    values = columns.double()
    shown = values[films]
    spread = shown.std(dim=0, correction=0)
    varies = spread > CONSTANT * shown.abs().amax(dim=0)
    return (values - shown.mean(dim=0)) * (varies / torch.where(varies, spread, 1.0))


def correlations(moments: Moments) -> Tensor:
    """Return the Pearson correlation of every unit with every concept, ``(n_units, n_concepts)``; NaN if constant."""
    return _pearson(moments.cross, moments.gram.diagonal()[None], moments.power[:, None])


def fit_correlation(fit: LinearFit, moments: Moments, unit: int) -> float:
    """Return the Pearson correlation of a fit with its unit on other films; NaN without a term or if constant."""
    chosen = fit.concepts
    own = moments.gram[chosen][:, chosen]
    along, power = fit.weights @ moments.cross[unit, chosen], fit.weights @ own @ fit.weights
    return float(_pearson(along, power, moments.power[unit]))


def explain_linearly(
    train: Moments, validation: Moments, max_terms: int = 10, min_gain: float = 0.02, width: int = 10
) -> list[LinearFit]:
    """Choose each unit's concepts greedily (Oikarinen and Weng, Linear Explanations, ICML 2024, section 3).

    An elastic net (lambda 0.05, alpha 0.99) on the training films orders the concepts by the size of their weights.
    Then, again and again, each of the next ``width`` concepts is tried: least squares with those chosen so far, judged
    by the Pearson correlation on the validation films. The best is added if that rises by ``min_gain``.

    Args:
        train: moments of the training films, where each column has mean 0 and deviation 1 (or is 0).
        validation: moments of the validation films, on the same scale.
        max_terms: most concepts, at least 1.
        min_gain: how much the correlation must rise; the first concept starts from 0.
        width: how many concepts are tried at a time.

    Returns:
        One fit per unit; without terms where no concept predicts the unit.

    Notes:
        Least squares is solved, where the official code takes 100 steps of Adam. As there, a concept that once failed
        to raise the correlation beside others is not tried again. The official code orders by signed weight, so that
        a concept with a negative weight is hardly ever tried; adds a first concept however poor; and tries those that
        the elastic net left at 0.
    """
    sparse = elastic_net(train.gram, train.cross)
    ranking = sparse.abs().argsort(dim=1, descending=True, stable=True)
    untried = sparse.gather(1, ranking) != 0
    n_units = len(sparse)
    chosen = [torch.empty(0, dtype=torch.int64)] * n_units
    weights = [torch.empty(0, dtype=torch.float64)] * n_units
    reached = torch.zeros(n_units, dtype=torch.float64)
    growing = torch.arange(n_units)
    for round_ in range(max_terms):
        growing = growing[untried[growing].any(dim=1)]
        if not len(growing):
            break
        window = untried[growing] & (untried[growing].cumsum(dim=1) <= width)
        places = (~window).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
        real = window.gather(1, places)
        tried = ranking[growing].gather(1, places)
        so_far = torch.stack([chosen[unit] for unit in growing.tolist()])
        sets = torch.cat([so_far[:, None].expand(-1, tried.shape[1], -1), tried[:, :, None]], dim=2)
        fitted, judged = _fit_sets(train, validation, growing, sets)
        gains = torch.where(real, judged.nan_to_num(0.0) - reached[growing, None], -torch.inf)
        if round_:
            failed = torch.zeros_like(window).scatter_(1, places, real & (gains < min_gain))
            untried[growing] &= ~failed
        best = gains.max(dim=1)
        for row in (best.values >= min_gain).nonzero().flatten().tolist():
            unit, place = int(growing[row]), int(best.indices[row])
            chosen[unit], weights[unit] = sets[row, place], fitted[row, place]
            reached[unit] = judged[row, place]
            untried[unit, places[row, place]] = False
        growing = growing[best.values >= min_gain]
    return [LinearFit(*fit) for fit in zip(chosen, weights, reached.tolist(), strict=True)]


def _fit_sets(train: Moments, validation: Moments, units: Tensor, sets: Tensor) -> tuple[Tensor, Tensor]:
    """Fit and judge sets of concepts, ``(n_units, n_sets, n_terms)``: weights of that shape, correlations."""
    owners = units[:, None, None]
    pairs = sets[..., :, None], sets[..., None, :]
    ridge = RIDGE * torch.eye(sets.shape[2], dtype=torch.float64)
    weights: Tensor = torch.linalg.solve(train.gram[pairs] + ridge, train.cross[owners, sets])
    along = (weights * validation.cross[owners, sets]).sum(dim=2)
    power = torch.einsum("ust,ustv,usv->us", weights, validation.gram[pairs], weights)
    return weights, _pearson(along, power, validation.power[units, None])


def _pearson(along: Tensor, power: Tensor, unit_power: Tensor) -> Tensor:
    """Correlate from moments; NaN where either side is constant but for rounding."""
    varies = (power > CONSTANT**2) & (unit_power > CONSTANT**2)
    scale = (power * unit_power).clamp(min=0).sqrt()
    return torch.where(varies, along / torch.where(varies, scale, 1.0), torch.nan).clamp(-1, 1)


def _centred(columns: Tensor) -> Tensor:
    values = columns.double()
    return values - values.mean(dim=0)
