import math
from itertools import permutations

import pytest
import torch

from mammi.errors import InputError
from mammi.functional.unit_matching import (
    chance_correlations,
    correlations,
    match_units,
    paired_correlations,
    resampled_correlations,
)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pearson(x, y):
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    top = sum((p - mean_x) * (q - mean_y) for p, q in zip(x, y, strict=True))
    below = sum((p - mean_x) ** 2 for p in x) * sum((q - mean_y) ** 2 for q in y)
    return top / math.sqrt(below) if below else math.nan


def layers():
    """Two layers of unequal width: ties, a dead unit in each, one that is NaN, one that is infinite."""
    a, b = noise(11, 5), noise(11, 7, seed=1)
    a[:, 1] = torch.tensor([0.0, 1.0, 1.0, 0.0, 2.0, 2.0, 2.0, 0.0, 1.0, 1.0, 0.0])
    a[:, 3] = 0.1
    b[:, 0] = 1e8 + 3 * a[:, 2] + 0.5 * b[:, 0]
    b[4, 2], b[5, 6], b[:, 5] = math.nan, math.inf, -7.3
    return a, b


def test_correlations_equal_the_formula_in_loops():
    a, b = layers()
    r = correlations(a, b)
    assert r.shape == (5, 7)
    for i in range(5):
        for j in range(7):
            if i == 3 or j in (2, 5, 6):
                assert math.isnan(r[i, j])
            else:
                # 1e-7: a column of 1e8 leaves so much of float64
                assert r[i, j].item() == pytest.approx(pearson(a[:, i].tolist(), b[:, j].tolist()), abs=1e-7)
    torch.testing.assert_close(paired_correlations(a, b[:, :5]), r[:, :5].diagonal(), equal_nan=True)
    torch.testing.assert_close(correlations(a.float(), a.float()).diagonal()[[0, 1, 2, 4]], torch.ones(4).double())


@pytest.mark.parametrize(("n_a", "n_b"), [(4, 6), (6, 4), (5, 5)])
def test_the_pairing_is_the_best_of_all(n_a, n_b):
    r = correlations(noise(9, n_a), noise(9, n_b, seed=1))
    pairs = match_units(r)
    assert pairs[:, 0].tolist() == sorted(set(pairs[:, 0].tolist()))
    assert len(set(pairs[:, 1].tolist())) == len(pairs) == min(n_a, n_b)
    few, many = (r, n_b) if n_a <= n_b else (r.T, n_a)
    best = max(
        sum(max(0, few[i, j].item()) for i, j in enumerate(order)) for order in permutations(range(many), len(few))
    )
    assert r[pairs[:, 0], pairs[:, 1]].clamp(min=0).sum().item() == pytest.approx(best)


def test_units_without_a_correlation_are_not_paired():
    pairs = match_units(correlations(*layers()))
    assert pairs[:, 0].tolist() == [0, 1, 2, 4]
    assert not {2, 5, 6} & set(pairs[:, 1].tolist())
    assert [2, 0] in pairs.tolist()
    assert match_units(torch.full((2, 3), math.nan, dtype=torch.float64)).shape == (0, 2)


def test_permuted_units_are_matched_back():
    a = noise(30, 40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    pairs = match_units(correlations(a, 3 * a[:, order] + 0.3 * noise(30, 40, seed=5)))
    assert torch.equal(order[pairs[:, 1]], torch.arange(40))
    assert torch.equal(match_units(correlations(a, -a))[:, 0], torch.arange(40))  # negative ones count as none


def test_a_pair_that_disagrees_costs_no_other_its_partner():
    r = torch.tensor([[0.6, 0.5], [-0.3, -0.9]]).double()
    assert match_units(r).tolist() == [[0, 0], [1, 1]]


def test_the_order_of_films_changes_nothing():
    a, b = noise(20, 6), noise(20, 6, seed=1)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(correlations(a[order], b[order]), correlations(a, b))
    patients = torch.arange(20) // 3
    again = resampled_correlations(a[order], b[order], patients[order], 7)
    torch.testing.assert_close(again, resampled_correlations(a, b, patients, 7))


def test_resampled_correlations_equal_films_taken_again():
    a, b = noise(12, 3), noise(12, 3, seed=1)
    a[:, 1] = 1e6
    a[3, 1] = 1e6 + 1  # varies on one film of one patient: still in many resamples
    b[0, 2] = math.nan
    patients = torch.tensor([5, 5, 5, 9, 2, 2, 7, 7, 7, 7, 5, 2])  # four of unequal size, in no order
    resampled = resampled_correlations(a, b, patients, resamples=40, seed=4)
    draws = torch.randint(4, (40, 4), generator=torch.Generator().manual_seed(4)).tolist()
    seen_still = 0
    for row, draw in enumerate(draws):
        films = [film for patient in draw for film in range(12) if patients[film] == [2, 5, 7, 9][patient]]
        for unit in (0, 1):
            slow = pearson(a[films, unit].tolist(), b[films, unit].tolist())
            seen_still += math.isnan(slow)
            assert resampled[row, unit].item() == pytest.approx(slow, abs=1e-9, nan_ok=True)
        assert math.isnan(resampled[row, 2])
    assert 0 < seen_still < 40


def test_tiles_change_nothing(monkeypatch):
    a, b, patients = noise(15, 9), noise(15, 9, seed=1), torch.arange(15) // 2
    whole = resampled_correlations(a, b, patients, 5)
    monkeypatch.setattr("mammi.functional.unit_matching.TILE", 2)
    torch.testing.assert_close(resampled_correlations(a, b, patients, 5), whole)


def test_chance_is_what_shuffled_films_give_and_forgets_the_truth():
    a = noise(400, 6)
    chance = chance_correlations(a, a, torch.arange(400), shuffles=3)
    assert chance.shape == (3, 6)
    assert chance.max() < 0.25  # a film's own partner would give 1
    dead = a.clone()
    dead[:, 2] = 0
    assert torch.isnan(chance_correlations(dead, a, torch.arange(400))[:, 2]).all()
    assert not torch.isnan(chance_correlations(a, dead, torch.arange(400))).any()


def test_chance_keeps_patients_of_unequal_numbers_of_films_whole():
    """A unit that is alike on all films of a patient is as alike after the shuffle: end to end, blocks were cut apart."""
    counts = torch.tensor([1, 6, 2, 5, 3, 4] * 10)
    patients = torch.arange(60).repeat_interleave(counts)
    a, b = noise(60, 20)[patients], noise(60, 20, seed=1)[patients]
    whole = chance_correlations(a, b, patients, shuffles=20).square().mean()
    equal = chance_correlations(noise(60, 20), noise(60, 20, seed=1), torch.arange(60), shuffles=20).square().mean()
    assert whole > equal  # 60 patients of unequal weight are worth fewer than 60 films


def test_chance_counts_that_films_of_a_patient_are_alike():
    # 10 patients of 40 films each, all alike: no more than 10 independent films.
    patients = torch.arange(400) // 40
    a, b = noise(10, 8)[patients] + 1e-3 * noise(400, 8), noise(10, 8, seed=1)[patients] + 1e-3 * noise(400, 8, seed=2)
    assert chance_correlations(a, b, patients).mean() > 0.35
    assert chance_correlations(a, b, torch.arange(400)).mean() < 0.15


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: correlations(noise(3, 2, 2), noise(3, 2)), r"\(n_films, n_units\), got torch.float64 \(3, 2, 2\)"),
        (lambda: correlations(noise(3, 2), torch.ones(3, 2, dtype=torch.int64)), "'b' must be floating"),
        (lambda: correlations(noise(3, 2), noise(4, 2)), "the same films, at least two, got 3 and 4"),
        (lambda: correlations(noise(1, 2), noise(1, 2)), "at least two, got 1 and 1"),
        (lambda: paired_correlations(noise(3, 2), noise(3, 4)), "as many units each, got 2 and 4"),
        (lambda: resampled_correlations(noise(3, 2), noise(3, 2), torch.arange(2)), r"one number a film, got \(2,\)"),
        (lambda: chance_correlations(noise(3, 2), noise(3, 2), torch.zeros(3)), "one patient only"),
    ],
)
def test_wrong_arrays_are_refused(call, match):
    with pytest.raises(InputError, match=match):
        call()
