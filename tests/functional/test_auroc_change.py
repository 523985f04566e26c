"""Areas that change: against all pairs by hand, and drawn patient by patient."""

import math

import numpy as np
import pytest
import torch

from mammi.errors import InputError
from mammi.functional.auroc import auroc
from mammi.functional.auroc_change import auroc_change, weighted_auroc
from mammi.functional.patient_sums import patient_draws


def films(seed=0):
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(14), rng.integers(1, 5, 14))
    labels = (rng.random(len(patients)) < 0.4).astype(float)
    before = rng.integers(0, 6, len(patients)) + 2.0 * labels  # ties
    after = rng.integers(0, 6, len(patients)) + 0.5 * labels
    labels[[2, 9]] = np.nan
    return [torch.from_numpy(array) for array in (before, after, labels, patients)]


def pairs(scores, labels, times):
    won = all_pairs = 0.0
    for i, j in [(i, j) for i in range(len(scores)) for j in range(len(scores)) if labels[i] == 1 and labels[j] == 0]:
        weight = times[i] * times[j]
        won += weight * (1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0)
        all_pairs += weight
    return won / all_pairs


def test_weighted_area_as_by_all_pairs():
    before, _, labels, _ = films()
    known = ~labels.isnan()
    times = torch.from_numpy(np.random.default_rng(1).integers(0, 4, (5, int(known.sum()))).astype(float))
    slow = [pairs(before[known].tolist(), labels[known].tolist(), row) for row in times.tolist()]
    assert weighted_auroc(before[known], labels[known], times).tolist() == pytest.approx(slow, abs=1e-12)


def test_areas_are_those_of_auroc_and_the_interval_that_of_drawn_patients():
    before, after, labels, patients = films()
    found = auroc_change(before, after, labels, patients, seed=3, n_resamples=70)
    for scores, area in ((before, found.before), (after, found.after)):
        assert area == pytest.approx(auroc(scores[:, None], labels[:, None]).item(), abs=1e-12)
    assert found.change == pytest.approx(found.after - found.before)
    known = (~labels.isnan()).nonzero().flatten().tolist()
    names = sorted({int(patients[n]) for n in known})
    slow = []
    for times in patient_draws(len(names), 70, seed=3):
        for draw in times.tolist():
            weight = [draw[names.index(int(patients[n]))] for n in known]
            y = labels[known].tolist()
            slow.append(pairs(after[known].tolist(), y, weight) - pairs(before[known].tolist(), y, weight))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=1e-9)


def test_the_same_scores_do_not_change():
    before, _, labels, patients = films()
    found = auroc_change(before, before, labels, patients, n_resamples=30)
    assert (found.change, found.low, found.high) == (0, 0, 0)


def test_nothing_to_take_it_from():
    before, after, labels, patients = films()
    assert math.isnan(auroc_change(before, after, torch.ones_like(labels), patients).before)
    assert math.isnan(auroc_change(before, after, torch.full_like(labels, torch.nan), patients).before)
    before[0] = torch.nan
    labels[0] = 1
    assert math.isnan(auroc_change(before, after, labels, patients).change)
    one = auroc_change(after, after, labels, torch.zeros_like(patients))
    assert math.isnan(one.low)
    assert not math.isnan(one.before)
    with pytest.raises(InputError, match="one entry a film"):
        auroc_change(before[1:], after, labels, patients)
