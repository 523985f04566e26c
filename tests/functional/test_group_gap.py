"""Gaps within strata and their intervals: by plain loops on unequal sizes, by hand, and by what must hold."""

import numpy as np
import pytest
import torch

from mammi.errors import InputError
from mammi.functional.group_gap import centred_within, gap_interval, group_gap
from mammi.functional.patient_sums import patient_draws


def films(seed=0, n_patients=23, n_units=5):
    """Unequal patients, an attribute unknown here and there, three strata."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n_patients), rng.integers(1, 6, n_patients))
    n = len(patients)
    m = rng.normal(size=n)
    m[rng.random(n) < 0.2] = np.nan
    strata = rng.choice(3, n, p=[0.7, 0.2, 0.1])
    a = rng.normal(size=(n, n_units)) + 0.5 * np.nan_to_num(m)[:, None] + 10 * strata[:, None]
    return map(torch.from_numpy, (a, m, patients, strata))


def slow_gap(a, m, strata):
    together = variation = 0.0
    for s in set(strata):
        rows = [n for n in range(len(m)) if strata[n] == s and not np.isnan(m[n])]
        if not rows:
            continue
        mean_a, mean_m = sum(a[n] for n in rows) / len(rows), sum(m[n] for n in rows) / len(rows)
        together += sum((a[n] - mean_a) * (m[n] - mean_m) for n in rows)
        variation += sum((m[n] - mean_m) ** 2 for n in rows)
    return together / variation


def test_as_by_plain_loops():
    a, m, _, strata = films()
    for given in (strata, torch.zeros_like(strata)):
        slow = [slow_gap(column, m.tolist(), given.tolist()) for column in a.T.tolist()]
        assert group_gap(a, m, given).tolist() == pytest.approx(slow, abs=1e-12)
    assert torch.equal(group_gap(a, m), group_gap(a, m, torch.zeros_like(strata)))


def test_of_a_binary_attribute_it_is_the_difference_of_means():
    a, m, _, _ = films()
    binary = torch.where(m.isnan(), m, (m > 0.3).double())
    by_hand = a[binary == 1].mean(dim=0) - a[binary == 0].mean(dim=0)
    assert torch.allclose(group_gap(a, binary), by_hand, atol=1e-12)


def test_units_carry_the_gap_of_the_logit_exactly():
    a, m, _, strata = films(n_units=40)
    weights = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logit = a @ weights - 3
    for given in (None, strata):
        carried = weights * group_gap(a, m, given)
        assert abs(float(carried.sum() - group_gap(logit[:, None], m, given)[0])) < 1e-10


def test_a_finding_that_goes_with_the_attribute_is_taken_out_by_strata():
    """The unit sees the disease; the tube goes with the disease, nothing else joins them."""
    rng = np.random.default_rng(4)
    disease = rng.random(4000) < 0.3
    tube = torch.from_numpy((rng.random(4000) < np.where(disease, 0.6, 0.05)).astype(float))
    unit = torch.from_numpy(3.0 * disease + rng.normal(size=4000))[:, None]
    assert float(group_gap(unit, tube)) > 1.5
    assert abs(float(group_gap(unit, tube, torch.from_numpy(disease.astype(int))))) < 0.2


def test_order_of_films_and_units_and_a_second_copy_of_every_film_change_nothing():
    a, m, patients, strata = films()
    gap = group_gap(a, m, strata)
    order = torch.randperm(len(m), generator=torch.Generator().manual_seed(3))
    assert torch.allclose(group_gap(a[order], m[order], strata[order]), gap, atol=1e-12)
    assert torch.allclose(group_gap(a[:, [2, 0, 4]], m, strata), gap[[2, 0, 4]], atol=1e-12)
    twice = torch.arange(len(m)).repeat(2)
    assert torch.allclose(group_gap(a[twice], m[twice], strata[twice]), gap, atol=1e-12)
    ends = gap_interval(a, m, patients, strata, n_resamples=200)
    again = gap_interval(a[twice], m[twice], patients[twice], strata[twice], n_resamples=200)
    moved = gap_interval(a[order], m[order], patients[order], strata[order], n_resamples=200)
    for one, two, three in zip(ends, again, moved, strict=True):
        assert torch.allclose(one, two, atol=1e-9)
        assert torch.allclose(one, three, atol=1e-9)


def test_intervals_as_by_drawing_films_patient_by_patient():
    a, m, patients, strata = films(n_patients=11, n_units=3)
    known = ~m.isnan()
    names = sorted(set(patients[known].tolist()))
    slow = []
    for times in patient_draws(len(names), 70, seed=5):
        for draw in times.tolist():
            rows = [n for k, name in enumerate(names) for n in np.flatnonzero(patients == name).tolist() * int(draw[k])]
            slow.append([slow_gap(a[rows, u].tolist(), m[rows].tolist(), strata[rows].tolist()) for u in range(3)])
    low, high = gap_interval(a, m, patients, strata, seed=5, n_resamples=70)
    assert low.tolist() == pytest.approx(np.quantile(slow, 0.025, axis=0), abs=1e-9)
    assert high.tolist() == pytest.approx(np.quantile(slow, 0.975, axis=0), abs=1e-9)


def test_columns_in_tiles_give_the_same(monkeypatch):
    a, m, patients, strata = films(n_units=7)
    whole = (group_gap(a, m, strata), *gap_interval(a, m, patients, strata, n_resamples=100))
    monkeypatch.setattr("mammi.functional.group_gap.COLUMNS", 3)
    tiled = (group_gap(a, m, strata), *gap_interval(a, m, patients, strata, n_resamples=100))
    for one, two in zip(whole, tiled, strict=True):
        assert torch.allclose(one, two, atol=1e-12)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """An attribute and a unit that belong to the patient, true slope 0.5."""
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        patients = np.repeat(np.arange(60), rng.integers(1, 6, 60))
        m = rng.normal(size=60)[patients]
        a = 0.5 * m + rng.normal(size=60)[patients] + 0.3 * rng.normal(size=len(m))
        low, high = gap_interval(*map(torch.from_numpy, (a[:, None], m, patients)), seed=seed, n_resamples=400)
        held += int(low <= 0.5 <= high)
    assert 86 <= held <= 99


def test_what_does_not_vary_has_no_gap():
    a, m, patients, strata = films()
    constant = torch.where(m.isnan(), m, 7.3)
    assert group_gap(a, constant).isnan().all()
    assert gap_interval(a, constant, patients)[0].isnan().all()
    assert group_gap(a, strata.double(), strata).isnan().all()  # constant within each stratum
    assert group_gap(a, torch.full_like(m, torch.nan)).isnan().all()
    a[3, 1], a[5, 2], a[:, 4] = torch.nan, torch.inf, 2.5
    m[[3, 5]] = 0.4
    gap = group_gap(a, m, strata)
    assert gap.isnan().tolist() == [False, True, True, False, False]
    assert abs(float(gap[4])) < 1e-12
    low, high = gap_interval(a, m, patients, strata, n_resamples=80)
    assert low.isnan().tolist() == high.isnan().tolist() == [False, True, True, False, False]


def test_one_patient_has_no_interval():
    a, m, patients, _ = films()
    low, high = gap_interval(a, m, torch.zeros_like(patients), n_resamples=20)
    assert low.isnan().all()
    assert high.isnan().all()


def test_centred_within_by_hand():
    values = torch.tensor([[1.0], [3.0], [10.0], [20.0]])
    assert centred_within(values, torch.tensor([7, 7, 2, 2])).flatten().tolist() == [-1, 1, -5, 5]


def test_numbers_of_films_must_agree():
    a, m, patients, strata = films()
    with pytest.raises(InputError, match="one row a film"):
        group_gap(a[1:], m)
    with pytest.raises(InputError, match="one row a film"):
        group_gap(a, m, strata[1:])
    with pytest.raises(InputError, match="one entry a film"):
        gap_interval(a, m, patients[1:])
