import numpy as np
import pytest
import torch

from mammi.functional.elastic_net import elastic_net
from mammi.functional.greedy_linear import Moments, correlations, explain_linearly, fit_correlation, standardise


def problem(seed, n_films=90, n_concepts=25, n_units=4, noise=0.7):
    """Concepts, units made of a few of them, and three parts of unequal size."""
    rng = np.random.default_rng(seed)
    mix = np.eye(n_concepts) + 0.2 * rng.normal(size=(n_concepts, n_concepts))
    concepts = rng.normal(size=(n_films, n_concepts)) @ mix * 3 + 5
    weights = rng.normal(size=(n_concepts, n_units)) * (rng.uniform(size=(n_concepts, n_units)) < 0.25)
    units = concepts @ weights + noise * rng.normal(size=(n_films, n_units)) - 2
    parts = np.split(rng.permutation(n_films), [int(0.6 * n_films), int(0.75 * n_films)])
    return concepts, units, [torch.from_numpy(np.sort(part)) for part in parts]


def measured(concepts, units, parts):
    x, y = (standardise(torch.from_numpy(z), parts[0]) for z in (concepts, units))
    return [Moments.of(x[films], y[films]) for films in parts]


def pearson(a, b):
    return np.corrcoef(a, b)[0, 1] if np.ptp(a) > 1e-12 and np.ptp(b) > 1e-12 else np.nan


def slow_greedy(order, concepts, unit, parts, max_terms=10, min_gain=0.02, width=10):
    """Greedy search over the films themselves, one unit, one candidate at a time, with numpy's least squares."""
    train, held = parts[0].numpy(), parts[1].numpy()
    chosen, failed, reached, weights = [], set(), 0.0, []
    while len(chosen) < max_terms:
        results = []
        for m in [m for m in order if m not in chosen and m not in failed][:width]:
            design = np.column_stack([concepts[:, [*chosen, m]], np.ones(len(concepts))])
            solved = np.linalg.lstsq(design[train], unit[train], rcond=None)[0]
            results.append((np.nan_to_num(pearson(design[held] @ solved, unit[held])), m, solved[:-1]))
        if chosen:
            failed |= {m for r, m, _ in results if r - reached < min_gain}
        if not results or max(results, key=lambda x: x[0])[0] - reached < min_gain:
            break
        reached, m, weights = max(results, key=lambda x: x[0])
        chosen.append(m)
    return chosen, weights, reached


@pytest.mark.parametrize(
    "options", [{}, {"max_terms": 2}, {"min_gain": 0.2}, {"min_gain": 0.001, "width": 3}, {"width": 100}], ids=str
)
@pytest.mark.parametrize("seed", range(4))
def test_greedy_search_equals_the_search_over_films(seed, options):
    concepts, units, parts = problem(seed)
    train, held, test = measured(concepts, units, parts)
    fits = explain_linearly(train, held, **options)
    sparse = elastic_net(train.gram, train.cross).numpy()
    lengths = []
    for unit, fit in enumerate(fits):
        order = [m for m in sorted(range(25), key=lambda m: -abs(sparse[unit, m])) if sparse[unit, m]]
        chosen, weights, reached = slow_greedy(order, concepts, units[:, unit], parts, **options)
        assert fit.concepts.tolist() == chosen
        assert fit.validation == pytest.approx(reached, abs=1e-7)
        scale = concepts[parts[0].numpy()][:, chosen].std(axis=0) / units[parts[0].numpy(), unit].std()
        np.testing.assert_allclose(fit.weights.numpy(), np.array(weights) * scale, atol=1e-6)
        held_back = parts[2].numpy()
        simulated = concepts[held_back][:, chosen] @ np.array(weights)
        assert fit_correlation(fit, test, unit) == pytest.approx(pearson(simulated, units[held_back, unit]), abs=1e-7)
        lengths.append(len(chosen))
    assert len(set(lengths)) > 1 or options.get("max_terms") or options.get("min_gain") == 0.2


@pytest.mark.parametrize("seed", range(3))
def test_the_only_order_that_matters_is_the_elastic_nets(seed):
    """With every concept in the window, the first is the best single one, and the second the best beside it."""
    concepts, units, parts = problem(seed)
    train, held, _ = measured(concepts, units, parts)
    fits = explain_linearly(train, held, max_terms=1, width=100)
    sparse = elastic_net(train.gram, train.cross)
    single = (correlations(held) * correlations(train).sign()).masked_fill(sparse == 0, -torch.inf)
    assert [fit.concepts.tolist() for fit in fits] == [[m] for m in single.argmax(dim=1).tolist()]


def test_planted_sums_are_found():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        concepts = rng.normal(size=(400, 30))
        unit = 0.9 * concepts[:, 3] + 0.6 * concepts[:, 17] - 0.5 * concepts[:, 8] + 0.1 * rng.normal(size=400)
        parts = [torch.arange(0, 280), torch.arange(280, 320), torch.arange(320, 400)]
        train, held, test = measured(concepts, unit[:, None], parts)
        (fit,) = explain_linearly(train, held)
        assert set(fit.concepts.tolist()) == {3, 8, 17}
        assert fit.concepts[0] == 3
        assert dict(zip(fit.concepts.tolist(), fit.weights.sign().tolist(), strict=True)) == {3: 1, 17: 1, 8: -1}
        assert fit_correlation(fit, test, 0) > 0.98


def test_the_first_concept_must_predict_too():
    rng = np.random.default_rng(0)
    concepts, unit = rng.normal(size=(300, 8)), rng.normal(size=(300, 1))
    parts = [torch.arange(0, 200), torch.arange(200, 240), torch.arange(240, 300)]
    train, held, test = measured(concepts, unit, parts)
    (fit,) = explain_linearly(train, held, min_gain=0.5)
    assert (len(fit.concepts), fit.validation) == (0, 0.0)
    assert np.isnan(fit_correlation(fit, test, 0))


def test_a_concept_twice_and_a_constant_one_do_no_harm():
    concepts, units, parts = problem(1)
    twice = np.column_stack([concepts, concepts[:, 0], np.full(len(concepts), 0.3), concepts[:, 1] * 0 + 1e6])
    units[:, 0] = concepts[:, 0]
    units[:, 1] = 7.0
    train, held, test = measured(twice, units, parts)
    fits = explain_linearly(train, held)
    assert fits[0].concepts.tolist() == [0]
    assert fits[0].weights.item() == pytest.approx(1)
    assert fit_correlation(fits[0], test, 0) == pytest.approx(1)
    assert not len(fits[1].concepts)
    assert not {26, 27} & {m for fit in fits for m in fit.concepts.tolist()}
    scores = correlations(held)
    assert scores[1].isnan().all()
    assert scores[:, 26:].isnan().all()
    assert scores[0, 25] == scores[0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_correlations_equal_numpys(seed):
    concepts, units, parts = problem(seed)
    for films, moments in zip(parts, measured(concepts, units, parts), strict=True):
        slow = [[pearson(x[films], y[films]) for x in concepts.T] for y in units.T]
        np.testing.assert_allclose(correlations(moments).numpy(), slow, atol=1e-12)


def test_order_of_units_and_concepts_changes_nothing():
    concepts, units, parts = problem(5, n_units=6)
    plain = explain_linearly(*measured(concepts, units, parts)[:2])
    order, mixed = np.random.default_rng(1).permutation(25), np.random.default_rng(2).permutation(6)
    moved = explain_linearly(*measured(concepts[:, order], units[:, mixed], parts)[:2])
    for unit, fit in zip(mixed, moved, strict=True):
        assert [int(order[m]) for m in fit.concepts] == plain[unit].concepts.tolist()
        torch.testing.assert_close(fit.weights, plain[unit].weights, atol=1e-8, rtol=0)
    alone = explain_linearly(*measured(concepts, units[:, [4]], parts)[:2])
    assert alone[0].concepts.tolist() == plain[4].concepts.tolist()


def test_scale_of_units_and_concepts_changes_nothing():
    concepts, units, parts = problem(6)
    plain = explain_linearly(*measured(concepts, units, parts)[:2])
    scaled = explain_linearly(*measured(concepts * 1e-7 + 1e-6, units * 1e9 - 1e10, parts)[:2])
    for a, b in zip(plain, scaled, strict=True):
        assert a.concepts.tolist() == b.concepts.tolist()
        torch.testing.assert_close(a.weights, b.weights, atol=1e-6, rtol=0)


def test_standardise_by_hand():
    columns = torch.tensor([[1.0, 5.0], [3.0, 5.0], [9.0, 6.0]])
    assert standardise(columns, torch.tensor([0, 1])).tolist() == [[-1, 0], [1, 0], [7, 0]]
