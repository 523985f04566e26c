"""Quick numbers are the slow ones: against `agreement`, with gaps, ties, dead and broken units."""

import numpy as np
import pytest
import torch

from mammi.errors import InputError
from mammi.functional.agreement import agreement, pearson
from mammi.functional.quick_agreement import KnownConcepts, area_under_precision_recall, correlations


@pytest.fixture(scope="module")
def films():
    rng = np.random.default_rng(0)
    units = rng.gamma(1.0, size=(7, 150)).round(1).astype(np.float32)  # rounded: ties
    units[3] = 2.0
    units[4] += 1e4  # a small spread far from zero
    labels = (rng.random((150, 4)) < [0.5, 0.1, 0.03, 0.0]).astype(np.float32)
    labels[rng.random((150, 4)) < 0.2] = np.nan
    return units, labels


def test_correlations_are_pearson(films):
    units, labels = films
    found = correlations(units, KnownConcepts.of(labels))
    expected = pearson(torch.from_numpy(units).T, torch.from_numpy(labels)).numpy()
    assert np.isnan(expected[3]).all()
    assert np.isnan(expected[:, 3]).all()
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_correlations_of_scores_of_any_scale(films):
    units, _ = films
    scores = np.random.default_rng(1).standard_normal((150, 2)) * 1e3 + 5e4
    expected = [[np.corrcoef(units[unit], scores[:, column])[0, 1] for column in range(2)] for unit in (0, 4)]
    np.testing.assert_allclose(correlations(units[[0, 4]], KnownConcepts.of(scores)), expected, atol=1e-9)


def test_a_broken_unit_has_no_correlation_and_spoils_no_other(films):
    units, labels = films
    broken = units.copy()
    broken[0, 7] = np.inf
    broken[1, 7] = np.nan
    found = correlations(broken, KnownConcepts.of(labels))
    assert np.isnan(found[:2]).all()
    np.testing.assert_array_equal(found[2:], correlations(units, KnownConcepts.of(labels))[2:])


def test_tiles_change_nothing(films, monkeypatch):
    units, labels = films
    whole = correlations(units, KnownConcepts.of(labels))
    monkeypatch.setattr("mammi.functional.quick_agreement.TILE", 2)
    np.testing.assert_allclose(correlations(units, KnownConcepts.of(labels)), whole, atol=1e-14)
    assert correlations(units[:0], KnownConcepts.of(labels)).shape == (0, 4)


def test_areas_are_those_of_agreement(films):
    units, labels = films
    expected = agreement(torch.from_numpy(units).T, torch.from_numpy(labels))
    for unit in range(len(units)):
        for label in range(labels.shape[1]):
            area, prevalence = area_under_precision_recall(units[unit], labels[:, label])
            assert area == pytest.approx(expected.auprc[unit, label].item(), abs=1e-12, nan_ok=True)
            assert prevalence == pytest.approx(expected.prevalence[label].item())


def test_edges():
    assert np.isnan(area_under_precision_recall(np.ones(3), np.full(3, np.nan))).all()
    assert area_under_precision_recall(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 1.0]))[0] == 1.0
    assert np.isnan(area_under_precision_recall(np.array([1.0, np.nan]), np.array([0.0, 1.0]))[0])
    with pytest.raises(InputError, match="of 3 films, units first"):
        correlations(np.ones((1, 2)), KnownConcepts.of(np.ones((3, 1))))
    with pytest.raises(InputError, match="films first"):
        KnownConcepts.of(np.ones(3))
