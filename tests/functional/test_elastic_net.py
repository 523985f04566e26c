import warnings

import numpy as np
import pytest
import torch

from mammi.errors import InputError
from mammi.functional.elastic_net import elastic_net


def problem(seed, n_films=40, n_concepts=9, n_units=4):
    """Concepts that lean on each other, one of them constant, and units made of a few of them; all z-scored."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_films, n_concepts)) @ (np.eye(n_concepts) + 0.4 * rng.normal(size=(n_concepts, n_concepts)))
    x[:, 5] = 2.0
    y = x @ (rng.normal(size=(n_concepts, n_units)) * (rng.uniform(size=(n_concepts, n_units)) < 0.3))
    y += rng.normal(size=y.shape)
    x, y = ((z - z.mean(axis=0)) / np.where(z.std(axis=0) > 0, z.std(axis=0), 1) for z in (x, y))
    return x, y


def moments(x, y):
    return torch.from_numpy(x.T @ x / len(x)), torch.from_numpy(y.T @ x / len(x))


@pytest.mark.parametrize(("penalty", "share"), [(0.05, 0.99), (0.3, 0.5), (0.01, 1.0), (0.2, 0.0)])
@pytest.mark.parametrize("seed", range(4))
def test_weights_fulfil_the_conditions_of_the_minimum(seed, penalty, share):
    """The gradient is balanced by the penalty's slope at each weight, and within it at 0: the optimum and no other."""
    x, y = problem(seed)
    found = elastic_net(*moments(x, y), penalty, share, sweeps=20_000, tolerance=1e-9).numpy()
    for unit, weights in enumerate(found):
        for concept, weight in enumerate(weights):
            slope = sum(
                x[film, concept] * (y[film, unit] - sum(x[film, m] * weights[m] for m in range(len(weights))))
                for film in range(len(x))
            ) / len(x)
            slope -= penalty * (1 - share) * weight
            if weight:
                assert slope == pytest.approx(penalty * share * np.sign(weight), abs=1e-6)
            else:
                assert abs(slope) <= penalty * share + 1e-6
    assert (found[:, 5] == 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_weights_equal_scikit_learns(seed):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = problem(seed, n_films=30, n_concepts=50)  # more concepts than films
    found = elastic_net(*moments(x, y), sweeps=20_000, tolerance=1e-9)
    for unit in range(y.shape[1]):
        model = linear_model.ElasticNet(alpha=0.05, l1_ratio=0.99, fit_intercept=False, tol=1e-10, max_iter=200_000)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.fit(x, y[:, unit])
        np.testing.assert_allclose(found[unit].numpy(), model.coef_, atol=1e-5)
    assert (found != 0).any(dim=1).all()
    assert (found == 0).any(dim=1).all()


def test_a_unit_does_not_depend_on_its_company():
    gram, cross = moments(*problem(7, n_units=6))
    whole = elastic_net(gram, cross)
    for unit in range(6):
        assert torch.equal(elastic_net(gram, cross[[unit]]), whole[[unit]])


def test_what_does_not_vary_has_no_weight():
    gram, cross = moments(*problem(2))
    assert not elastic_net(gram, torch.zeros_like(cross)).any()
    assert elastic_net(gram, cross[:0]).shape == (0, 9)


def test_bad_input_is_named():
    gram, cross = moments(*problem(2))
    with pytest.raises(InputError, match=r"'gram' must be \(9, 9\) to fit 'cross', got \(8, 8\)"):
        elastic_net(gram[:8, :8], cross)
    with pytest.raises(InputError, match="'penalty' must be above 0"):
        elastic_net(gram, cross, penalty=0.0)
