"""How far the area under the ROC curve moves when scores change, with the interval over draws of the patients."""

from typing import NamedTuple

import torch
from torch import Tensor

from mammi.errors import InputError
from mammi.functional.patient_sums import interval, patient_draws, patient_numbers

__all__ = ["AreaChange", "auroc_change", "weighted_auroc"]


class AreaChange(NamedTuple):
    """Area before, area after, their difference and its 95 % interval; NaN where there is nothing to take it from."""

    before: float
    after: float
    change: float
    low: float
    high: float


def weighted_auroc(scores: Tensor, labels: Tensor, times: Tensor) -> Tensor:
    """Return the area where each film counts as often as it was drawn, ties half.

    Args:
        scores: shape ``(n_films,)``, finite.
        labels: shape ``(n_films,)``: 1 or 0.
        times: float64, shape ``(n_draws, n_films)``, not negative.

    Returns:
        float64 ``(n_draws,)``, in [0, 1]; NaN for a draw without a film with, or one without.
    """
    values, place = torch.unique(scores, return_inverse=True)  # sorted: films of one value are level
    empty = torch.zeros(len(times), len(values), dtype=torch.float64)
    present = empty.index_add(1, place, times * labels)
    absent = empty.index_add(1, place, times * (1 - labels))
    won = (present * (absent.cumsum(dim=1) - absent / 2)).sum(dim=1)
    pairs = present.sum(dim=1) * absent.sum(dim=1)
    return won / pairs.masked_fill(pairs == 0, torch.nan)


def auroc_change(
    before: Tensor, after: Tensor, labels: Tensor, patients: Tensor, *, seed: int = 0, n_resamples: int = 1000
) -> AreaChange:
    """Compare how well two scores of the same films tell those with a finding from those without.

    Args:
        before: shape ``(n_films,)``, floating, finite.
        after: shape ``(n_films,)``, likewise.
        labels: shape ``(n_films,)``: 1 present, 0 absent, NaN unknown (such films are left out).
        patients: int64, shape ``(n_films,)``; drawn with replacement, each with all its films; both scores see the
            same draws.
        seed: of the draws.
        n_resamples: how many.

    Raises:
        InputError: if the numbers of films differ.
    """
    if not len(before) == len(after) == len(labels) == len(patients):
        raise InputError(
            f"one entry a film: got {len(before)} scores before, {len(after)} after, {len(labels)} labels and "
            f"{len(patients)} patients"
        )
    known = ~labels.isnan()
    y = labels[known].double()
    pair = [scores[known].double() for scores in (before, after)]
    if not 0 < y.sum() < len(y) or not all(torch.isfinite(scores).all() for scores in pair):
        return AreaChange(*[float("nan")] * 5)
    ones = torch.ones(1, len(y), dtype=torch.float64)
    areas = [float(weighted_auroc(scores, y, ones)) for scores in pair]
    number, n_patients = patient_numbers(patients[known])
    low = high = torch.tensor([torch.nan])
    if n_patients > 1:
        drawn = []
        for times in patient_draws(n_patients, n_resamples, seed):
            films = times[:, number]
            drawn.append(weighted_auroc(pair[1], y, films) - weighted_auroc(pair[0], y, films))
        low, high = interval(torch.cat(drawn)[:, None])
    return AreaChange(areas[0], areas[1], areas[1] - areas[0], float(low), float(high))
