"""Associations within strata: by loops, false discoveries under the null, power, and the deals of patients."""

import numpy as np
import pytest
import torch

from mammi.errors import InputError
from mammi.functional.agreement import pearson
from mammi.functional.chance import benjamini_hochberg
from mammi.functional.unit_association import association, association_p_values, stratified_shuffles


def world(seed, n_patients=100, n_units=20, *, kind="patient"):
    """Units and an attribute that belong to the patient and not to each other; a finding that comes and goes."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n_patients), rng.integers(1, 7, n_patients))
    units = rng.normal(size=(n_patients, n_units))
    if kind == "skewed":
        units = rng.exponential(size=(n_patients, n_units)) ** 2
    a = units[patients] + 0.3 * rng.normal(size=(len(patients), n_units))
    m = (rng.random(n_patients) < 0.15).astype(float)[patients]
    finding = (rng.random(len(patients)) < 0.4).astype(int)
    return [torch.from_numpy(array) for array in (a, m, patients, finding)]


def slow_association(a, m, strata):
    x, y = [0.0] * len(m), [0.0] * len(m)
    for s in set(strata):
        rows = [n for n in range(len(m)) if strata[n] == s and not np.isnan(m[n])]
        for n in rows:
            x[n] = a[n] - sum(a[i] for i in rows) / len(rows)
            y[n] = m[n] - sum(m[i] for i in rows) / len(rows)
    return sum(p * q for p, q in zip(x, y, strict=True)) / (sum(p * p for p in x) * sum(q * q for q in y)) ** 0.5


def test_as_by_plain_loops():
    a, m, _, strata = world(1, 15, 4)
    m[[0, 7, 8]] = torch.nan
    slow = [slow_association(column, m.tolist(), strata.tolist()) for column in a.T.tolist()]
    assert association(a, m, strata).tolist() == pytest.approx(slow, abs=1e-12)
    assert torch.allclose(association(a, m), pearson(a, m[:, None])[:, 0], atol=1e-12)


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize(("kind", "n_tables", "n_shuffles"), [("patient", 100, 100), ("skewed", 50, 400)])
def test_false_discoveries_under_the_null(kind, n_tables, n_shuffles, within):
    """Tables in which nothing is to be found: how many claim something."""
    tables = small = 0
    for seed in range(n_tables):
        a, m, patients, finding = world(seed, kind=kind)
        p = association_p_values(a, m, patients, finding if within else None, n_shuffles=n_shuffles, seed=seed)
        tables += bool((benjamini_hochberg(p) < 0.05).any())
        small += int((p < 0.05).sum())
    assert tables <= 0.1 * n_tables
    assert 0.03 < small / (20 * n_tables) < 0.08


def test_films_dealt_singly_would_find_what_is_not_there():
    """The control of the test above: it can fail."""
    tables = 0
    for seed in range(30):
        a, m, patients, _ = world(seed)
        p = association_p_values(a, m, torch.arange(len(patients)), n_shuffles=100, seed=seed)
        tables += bool((benjamini_hochberg(p) < 0.05).any())
    assert tables > 15


def test_a_planted_unit_is_found():
    found = 0
    for seed in range(20):
        a, m, patients, finding = world(seed)
        a[:, 3] += 2.0 * m
        q = benjamini_hochberg(association_p_values(a, m, patients, finding, n_shuffles=100, seed=seed))
        found += bool(q[3] < 0.05)
    assert found >= 18


def test_a_unit_that_sees_the_finding_is_not_blamed_for_what_goes_with_it():
    rng = np.random.default_rng(2)
    patients = torch.arange(600)
    finding = torch.from_numpy((rng.random(600) < 0.4).astype(int))
    tube = torch.from_numpy((rng.random(600) < np.where(finding == 1, 0.5, 0.1)).astype(float))
    unit = (2.0 * finding + torch.from_numpy(rng.normal(size=600)))[:, None]
    assert association_p_values(unit, tube, patients)[0] < 1e-3
    assert association_p_values(unit, tube, patients, finding)[0] > 0.05


def test_deals_keep_patients_and_strata_together():
    patients = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3, 4, 4, 5])
    strata = torch.tensor([0, 1, 0, 0, 1, 1, 1, 1, 1, 0, 0, 2])
    partners = set()
    for rows in stratified_shuffles(patients, strata, 60, seed=0):
        assert torch.equal(strata[rows], strata)
        for patient in range(6):
            (other,) = set(patients[rows][patients == patient].tolist())
            partners.add((patient, other))
    # 0 and 1 have films in strata 0 and 1; 2 and 3 in 1; 4 alone in 0; 5 alone in 2
    assert partners == {(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (2, 3), (3, 2), (3, 3), (4, 4), (5, 5)}


def test_films_are_laid_in_their_order_over_and_over_or_cut_off():
    patients = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1])
    strata = torch.tensor([0, 1, 0, 0, 1, 0, 0, 1])
    traded = [rows.tolist() for rows in stratified_shuffles(patients, strata, 20, seed=0) if rows[0] != 0]
    assert traded
    assert all(rows == [5, 7, 6, 5, 7, 0, 2, 1] for rows in traded)


def test_without_strata_every_patient_trades_with_every_other():
    patients = torch.tensor([4, 4, 1, 9, 9, 9])
    seen = {
        (int(patients[n]), int(patients[row]))
        for rows in stratified_shuffles(patients, torch.zeros(6, dtype=torch.int64), 50, seed=1)
        for n, row in enumerate(rows.tolist())
    }
    assert len(seen) == 9


def test_dead_units_and_constant_attributes_are_not_tested():
    a, m, patients, finding = world(0)
    a[:, 2], a[5, 4] = 3.7, torch.nan
    p = association_p_values(a, m, patients, finding, n_shuffles=40)
    assert p.isnan().nonzero().flatten().tolist() == [2, 4]
    assert association(a, m).isnan().nonzero().flatten().tolist() == [2, 4]
    assert association_p_values(a, torch.ones_like(m), patients).isnan().all()
    assert association(a, torch.full_like(m, torch.nan)).isnan().all()
    assert association_p_values(a, torch.full_like(m, torch.nan), patients).isnan().all()


def test_tiles_and_order_of_units_change_nothing(monkeypatch):
    a, m, patients, finding = world(0, n_units=7)
    whole = association_p_values(a, m, patients, finding, n_shuffles=50)
    assert torch.allclose(association_p_values(a[:, [3, 1]], m, patients, finding, n_shuffles=50), whole[[3, 1]])
    monkeypatch.setattr("mammi.functional.unit_association.CELLS", 2 * len(a))
    monkeypatch.setattr("mammi.functional.unit_association.TILE", 7)
    assert torch.allclose(association_p_values(a, m, patients, finding, n_shuffles=50), whole, atol=1e-12)


def test_numbers_of_films_must_agree():
    a, m, patients, finding = world(0)
    with pytest.raises(InputError, match="one row a film"):
        association(a, m[1:])
    with pytest.raises(InputError, match="one entry a film"):
        next(stratified_shuffles(patients, finding[1:], 1, 0))
    with pytest.raises(InputError, match="at least 20 shuffles"):
        association_p_values(a, m, patients, n_shuffles=5)
