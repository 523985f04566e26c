"""How far outputs move when units are held, beside what random units of like spread do."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mammi.explain.account import Account
from mammi.explain.attributes import Attribute
from mammi.explain.gaps import can_compare, film_sets
from mammi.functional.auroc_change import auroc_change, weighted_auroc
from mammi.functional.group_gap import gap_interval, group_gap
from mammi.functional.patient_sums import mean_interval

__all__ = ["LookedAt", "area_change", "gap_changes", "output_changes"]

#: Logits and areas that differ by less are the same: networks count in float32.
ROUNDING = 1e-6


class LookedAt(NamedTuple):
    """The films looked at, and what holds of them."""

    rows: NDArray[np.int64]
    patients: torch.Tensor
    before: NDArray[np.float64]


def output_changes(
    account: Account, output: int, films: LookedAt, after: Sequence[NDArray[np.float64]], seed: int, n_resamples: int
) -> list[tuple[object, ...]]:
    """Return how far an output moves, over all films and over those with and without the finding."""
    before = films.before[:, output]
    moved = [logits[:, output] - before for logits in after]
    odds = _probabilities(films.before, account.link)[:, output]
    both = np.stack([moved[0], _probabilities(after[0], account.link)[:, output] - odds], axis=1)
    found: list[tuple[object, ...]] = []
    for compared in film_sets(account, output, films.rows):
        rows = compared.rows[films.rows]
        if compared.name == "same finding":
            continue
        patients = films.patients[torch.from_numpy(rows)]
        means, low, high = (
            end.tolist()
            for end in mean_interval(torch.from_numpy(both[rows]), patients, seed=seed, n_resamples=n_resamples)
        )
        found.append(
            (
                *(account.outputs[output], compared.name, float(before[rows].mean()), means[0], low[0], high[0]),
                *_rank(means[0], [float(change[rows].mean()) for change in moved[1:]]),
                *(float(odds[rows].mean()), means[1], low[1], high[1]),
                *(int(rows.sum()), len(torch.unique(patients))),
            )
        )
    return found


def area_change(
    account: Account, output: int, films: LookedAt, after: Sequence[NDArray[np.float64]], seed: int, n_resamples: int
) -> list[tuple[object, ...]]:
    """Return how far the area of an output with labels moves; nothing where films with or without are wanting."""
    truth = account.labels.get(account.outputs[output])
    if truth is None:
        return []
    labels = torch.from_numpy(truth[films.rows])
    before, *moved = (torch.from_numpy(logits[:, output]) for logits in (films.before, *after))
    area = auroc_change(before, moved[0], labels, films.patients, seed=seed, n_resamples=n_resamples)
    if np.isnan(area.before):
        return []
    known = ~labels.isnan()
    ones = torch.ones(1, int(known.sum()), dtype=torch.float64)
    random = [float(weighted_auroc(scores[known], labels[known], ones)) - area.before for scores in moved[1:]]
    return [
        (
            *(account.outputs[output], *area, *_rank(area.change, random)),
            *(int((labels == 1).sum()), int((labels == 0).sum())),
        )
    ]


def gap_changes(
    account: Account,
    output: int,
    attribute: Attribute,
    films: LookedAt,
    after: Sequence[NDArray[np.float64]],
    seed: int,
    n_resamples: int,
) -> list[tuple[object, ...]]:
    """Return a class's gap along an attribute before and after, over each set of films."""
    found: list[tuple[object, ...]] = []
    for compared in film_sets(account, output, films.rows):
        rows = compared.rows[films.rows]
        m = attribute.values[films.rows][rows]
        owners = films.patients.numpy()[rows]
        strata = None if compared.strata is None else torch.from_numpy(compared.strata[films.rows][rows])
        if not can_compare(attribute, m, owners, strata):
            continue
        columns = torch.from_numpy(np.stack([films.before, *after], axis=2)[rows, output])
        values = torch.from_numpy(m)
        gaps = group_gap(columns, values, strata).tolist()
        pair = torch.stack([columns[:, 0], columns[:, 1], columns[:, 1] - columns[:, 0]], dim=1)
        low, high = (
            end.tolist()
            for end in gap_interval(pair, values, torch.from_numpy(owners), strata, seed=seed, n_resamples=n_resamples)
        )
        change = gaps[1] - gaps[0]
        found.append(
            (
                *(attribute.label, account.outputs[output], compared.name),
                *(gaps[0], low[0], high[0], gaps[1], low[1], high[1], change, low[2], high[2]),
                *_rank(change, [gap - gaps[0] for gap in gaps[2:]]),
            )
        )
    return found


def _rank(change: float, random: Sequence[float]) -> tuple[float, float, float]:
    """Return of random sets their mean change, the one furthest in the true direction, and how many go as far.

    The share counts the true set among them (Phipson and Smyth 2010), so that it is never 0. A change of nothing but
    rounding goes nowhere, and every set goes as far.
    """
    if np.isnan(change) or not random:
        return (float("nan"),) * 3
    values = np.array(random)
    if abs(change) < ROUNDING:
        return float(values.mean()), float(values[np.abs(values).argmax()]), 1.0
    sign = -1.0 if change < 0 else 1.0
    as_far = int((sign * values >= sign * change - ROUNDING).sum())
    return float(values.mean()), float(sign * (sign * values).max()), (1 + as_far) / (1 + len(values))


def _probabilities(logits: NDArray[np.float64], link: str) -> NDArray[np.float64]:
    """Return what the network makes of its logits; the sigmoid where it leaves that to others."""
    z = torch.from_numpy(logits)
    odds: NDArray[np.float64] = (torch.softmax(z, dim=1) if link == "softmax" else torch.sigmoid(z)).numpy()
    return odds
