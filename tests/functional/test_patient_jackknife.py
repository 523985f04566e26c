"""The interval of one pass: against the bootstrap over patients, by laws, and by how often it holds the truth."""

import numpy as np
import pytest
import torch

from mammi.errors import InputError
from mammi.functional.patient_bootstrap import pearson_interval
from mammi.functional.patient_jackknife import pearson_margins


def draw(n_patients: int, films: int, seed: int, shared: float = 0.7, rho: float = 0.4):
    """Films of a patient alike: the activation and the concept each have a part that the patient's films share."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n_patients), films)

    def part(size):
        first, second = rng.standard_normal(size), rng.standard_normal(size)
        return first, rho * first + np.sqrt(1 - rho**2) * second

    (pa, pc), (fa, fc) = part(n_patients), part(n_patients * films)
    weight = np.sqrt(shared), np.sqrt(1 - shared)
    return weight[0] * pa[patients] + weight[1] * fa, weight[0] * pc[patients] + weight[1] * fc, patients


def test_agrees_with_the_bootstrap():
    activation, concept, patients = draw(300, 3, seed=0)
    concepts = np.stack([concept, (concept > 1).astype(float), -(concept**3)], axis=1)
    concepts[::7, 1] = np.nan
    r, low, high = pearson_margins(activation, concepts, patients)
    numbers = torch.from_numpy(patients)
    for column in range(3):
        pair = torch.from_numpy(activation)[:, None], torch.from_numpy(concepts[:, column])[:, None]
        expected = [bound.item() for bound in pearson_interval(*pair, numbers, seed=1, n_resamples=4000)]
        width = expected[1] - expected[0]
        assert abs(low[column] - expected[0]) < 0.12 * width
        assert abs(high[column] - expected[1]) < 0.12 * width
        assert low[column] < r[column] < high[column]


def test_is_the_formula():
    activation, concept, patients = draw(9, 2, seed=3)
    r, low, high = pearson_margins(activation, concept[:, None], patients)
    z = (activation - activation.mean()) / activation.std()
    w = (concept - concept.mean()) / concept.std()
    assert r[0] == pytest.approx(np.corrcoef(activation, concept)[0, 1])
    moved = [sum(z[n] * w[n] - r[0] / 2 * (z[n] ** 2 + w[n] ** 2) for n in (2 * g, 2 * g + 1)) for g in range(9)]
    error = np.sqrt(9 / 8 * sum(u**2 for u in moved)) / 18
    half = 2.306004 * error / (1 - r[0] ** 2)  # Student's t with 8 degrees of freedom
    assert np.arctanh(low[0]) == pytest.approx(np.arctanh(r[0]) - half, abs=1e-6)
    assert np.arctanh(high[0]) == pytest.approx(np.arctanh(r[0]) + half, abs=1e-6)


def test_holds_the_truth_as_often_as_it_says_and_would_not_with_films_for_patients():
    inside, with_films = [], []
    for seed in range(300):
        activation, concept, patients = draw(40, 4, seed)
        for who, found in ((patients, inside), (np.arange(len(patients)), with_films)):
            _, low, high = pearson_margins(activation, concept[:, None], who)
            found.append(low[0] < 0.4 < high[0])
    assert 0.91 < np.mean(inside) < 0.98
    assert np.mean(with_films) < 0.86


def test_order_of_films_scale_and_numbering_change_nothing():
    activation, concept, patients = draw(12, 3, seed=5)
    found = np.array(pearson_margins(activation, concept[:, None], patients))
    order = np.random.default_rng(0).permutation(len(patients))
    moved = pearson_margins(3 * activation[order] - 7, concept[order, None], (patients * 5 + 2)[order])
    np.testing.assert_allclose(np.array(moved), found, atol=1e-12)


def test_edges():
    one = pearson_margins(np.array([0.0, 1.0, 3.0]), np.array([[1.0], [2.0], [2.0]]), np.zeros(3, dtype=np.int64))
    assert np.isfinite(one[0]).all()
    assert np.isnan(one[1:]).all()
    dead = pearson_margins(np.ones(3), np.array([[1.0], [0.0], [1.0]]), np.arange(3))
    assert np.isnan(np.array(dead)).all()
    broken = pearson_margins(
        np.array([1.0, np.nan, 2.0]), np.array([[1.0, 1.0], [0.0, np.nan], [1.0, 0.0]]), np.arange(3)
    )
    assert np.isnan(broken[0]).tolist() == [True, False]  # the film that breaks it is not known of the second
    unknown = pearson_margins(np.array([1.0, 2.0]), np.full((2, 1), np.nan), np.arange(2))
    assert np.isnan(np.array(unknown)).all()
    with pytest.raises(InputError, match="as many activations"):
        pearson_margins(np.ones(3), np.ones((2, 1)), np.arange(3))
    with pytest.raises(InputError, match="'level'"):
        pearson_margins(np.ones(3), np.ones((3, 1)), np.arange(3), level=1.0)
