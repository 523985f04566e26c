"""Where the truth stands in a unit's ranking of the concepts, and what a confidence is worth."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from mammi.errors import InputError

__all__ = ["risk_coverage", "skewness", "truth_ranks"]


def truth_ranks(scores: Tensor, truths: Sequence[Collection[int]]) -> Tensor:
    """Return the rank of the best placed truth of each unit, counted from 1.

    Args:
        scores: shape ``(n_units, n_concepts)``, floating, higher is better; NaN for what has no score.
        truths: per unit, the indices of the concepts that would all be right, at least one.

    Returns:
        Shape ``(n_units,)``, float64: 1 where a truth scores best, ties by lower index; infinite where no truth has a
        score.

    Raises:
        InputError: if the lengths differ, a unit has no truth, or an index is no concept.

    Example:
        >>> truth_ranks(torch.tensor([[0.1, 0.9, 0.9], [0.5, 0.2, 0.1]]), [{2}, {1, 2}]).tolist()
        [2.0, 2.0]
    """
    if scores.ndim != 2:
        raise InputError(f"'scores' must be (n_units, n_concepts), got {tuple(scores.shape)}")
    if len(truths) != len(scores):
        raise InputError(f"'scores' holds {len(scores)} units and 'truths' {len(truths)}")
    n_concepts = scores.shape[1]
    for unit, truth in enumerate(truths):
        if not truth:
            raise InputError(f"unit {unit} has no truth: judge units that mean nothing by Abstention")
        if not 0 <= min(truth) <= max(truth) < n_concepts:
            raise InputError(f"a truth of unit {unit} is outside the {n_concepts} concepts: {sorted(truth)}")
    values = scores.double().nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    # Stable, so that equal scores stay in order of index.
    order = values.argsort(dim=1, descending=True, stable=True)
    places = order.argsort(dim=1).double() + 1
    places[scores.isnan()] = torch.inf
    best = [places[unit, torch.tensor(sorted(truth))].min() for unit, truth in enumerate(truths)]
    return torch.stack(best) if best else places.new_zeros(0)


def risk_coverage(confidence: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the share of wrong names among the :math:`i` surest units, for every :math:`i`.

    The area under this curve, the mean of the risks, is AURC (Geifman, Uziel and El-Yaniv, ICLR 2019); 0 is perfect,
    and a confidence that says nothing gives the error rate.

    Args:
        confidence: shape ``(n_units,)``, floating, higher is surer; NaN for a unit that was given no name: it comes
            last.
        right: bool, shape ``(n_units,)``.

    Returns:
        Coverage ``i / n_units`` and risk, each float64 ``(n_units,)``. Units of equal confidence share their errors
        evenly: the mean over all orders.

    Raises:
        InputError: if the shapes differ or are not 1-D.

    Example:
        >>> coverage, risk = risk_coverage(torch.tensor([0.9, 0.1, 0.5]), torch.tensor([True, False, True]))
        >>> [round(value, 3) for value in risk.tolist()]
        [0.0, 0.0, 0.333]
    """
    if confidence.ndim != 1 or confidence.shape != right.shape:
        raise InputError(
            f"'confidence' and 'right' must be (n_units,), got {tuple(confidence.shape)} and {tuple(right.shape)}"
        )
    surest = confidence.double().nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    _, group, sizes = torch.unique(-surest, return_inverse=True, return_counts=True)
    errors = torch.zeros(len(sizes), dtype=torch.float64).index_add_(0, group, (~right.bool()).double())
    done = torch.arange(1, len(confidence) + 1, dtype=torch.float64)
    risk = (errors / sizes).repeat_interleave(sizes).cumsum(0) / done
    return done / len(confidence), risk


def skewness(counts: Tensor) -> float:
    r"""Return :math:`E[(N - \mu)^3] / \sigma^3` over the population; NaN where all are equal.

    Of the counts of how many units have concept k among their first names, this is the hubness of Radovanovic,
    Nanopoulos and Ivanovic (JMLR 11, 2010): about 0 without hubs, large when few concepts take most units.

    Args:
        counts: shape ``(n_concepts,)``.
    """
    values = counts.double()
    if not len(values) or bool((values == values[0]).all()):
        return float("nan")
    centred = values - values.mean()
    return float((centred**3).mean() / (centred**2).mean() ** 1.5)
