"""The weighed layer against loops written from the formulas on the page of the method."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mammi.errors import InputError
from mammi.functional.chance import patient_folds, patient_resamples, patient_shuffles
from mammi.methods.weighing import WeighedLayer


def rows(table):
    return table / np.linalg.norm(table, axis=1, keepdims=True)


def problem(seed=0, n_films=17, n_units=6, n_concepts=5, d_embed=4):
    """Units that are noise, one for a concept, one against it, one with ties, one tiny; concepts of unequal spread."""
    rng = np.random.default_rng(seed)
    films = rows(rng.normal(size=(n_films, d_embed)) * [1, 0.6, 0.3, 0.1] + [0.5, 0, 0, 1])
    concepts = rows(abs(rng.normal(size=(n_concepts, d_embed))))
    similar = films @ concepts.T
    activations = rng.normal(size=(n_films, n_units))
    activations[:, 1] = similar[:, 2] * 1e6
    activations[:, 2] = -similar[:, 2]
    activations[:, 3] = activations[:, 3] > 0.7
    activations[:, 4] = 1e-9 * np.exp(activations[:, 4])
    return activations, films, concepts, np.sort(rng.integers(0, 8, size=n_films))


def layer_of(activations, films, concepts, hub_strength=0.5):
    return WeighedLayer.of(*map(torch.from_numpy, (activations, films, concepts)), hub_strength)


def standard(column):
    return (column - column.mean()) / column.std()


def weights_of(column, heat):
    return np.array([math.exp(heat * min(z, 5)) for z in standard(column)])


def evidence_of(weights, films, directions):
    centred = weights - weights.mean()
    if weights.max() == weights.min():
        return np.zeros(len(directions))
    centred = centred / math.sqrt((centred**2).sum())
    return np.array([sum(w * float(film @ d) for w, film in zip(centred, films, strict=True)) for d in directions])


def directions_of(films, concepts):
    spread = np.array([np.std([film @ concept for film in films]) for concept in concepts])
    return concepts / (spread + 0.25 * np.sort(spread)[(len(spread) - 1) // 2])[:, None], spread


def slow_layer(activations, films, concepts, strength):
    """Side, weights, evidence and scores of every unit, one at a time."""
    directions, _ = directions_of(films, concepts)
    sides = {}
    for name, sign in (("present", 1), ("absent", -1)):
        found = []
        for column in activations.T:
            tried = [(weights_of(sign * column, heat), heat) for heat in (0.5, 1.0)]
            scored = [(evidence_of(w, films, directions), w) for w, _ in tried]
            found.append(scored[int(scored[1][0].max() > scored[0][0].max())])
        sides[name] = found
    scores, layer = {}, []
    for name, found in sides.items():
        relative = np.array([raw / abs(raw).max() for raw, _ in found])
        half = math.ceil(len(found) / 2)
        hub = np.array([np.sort(column)[::-1][:half].mean() for column in relative.T])
        scores[name] = [abs(raw).max() * (r - strength * hub) for (raw, _), r in zip(found, relative, strict=True)]
    for unit in range(activations.shape[1]):
        turned = sides["absent"][unit][0].max() > 2 * sides["present"][unit][0].max()
        name = "absent" if turned else "present"
        raw, weights = sides[name][unit]
        layer.append((turned, weights, raw, scores[name][unit] / math.sqrt(len(films))))
    return layer


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_layer_equals_the_formulas(seed, strength):
    activations, films, concepts, _ = problem(seed)
    layer = layer_of(activations, films, concepts, strength)
    slow = slow_layer(activations, films, concepts, strength)
    assert layer.absent.tolist() == [turned for turned, *_ in slow]
    assert layer.absent[2]
    assert not layer.absent[1]
    for unit, (turned, weights, raw, scores) in enumerate(slow):
        side = standard(activations[:, unit]) * (-1 if turned else 1)
        np.testing.assert_allclose(layer.standard[:, unit], side, atol=1e-9)
        # A unit of two values has the same evidence at every temperature, and rounding takes one of them.
        found, slowly = (standard(w) if unit == 3 else w for w in (layer.weights[:, unit].numpy(), weights))
        np.testing.assert_allclose(found, slowly, rtol=1e-8)
        np.testing.assert_allclose(layer.raw[unit], raw, atol=1e-8)
        np.testing.assert_allclose(layer.scores[unit], scores, atol=1e-8)
        again = (raw / abs(raw).max() - layer.hub[unit].numpy()) * abs(raw).max() / math.sqrt(len(films))
        np.testing.assert_allclose(again, scores, atol=1e-8)


def test_both_temperatures_are_used():
    """A unit that follows a concept film by film takes the softer one; if only its strongest show it, the sharper."""
    rng = np.random.default_rng(0)
    level = rng.normal(size=200)
    films = rng.normal(size=(200, 6)) + 0.3
    films[:, 2] = 0.1 * np.exp(2 * level)
    films = rows(films)
    concepts = np.eye(6)
    similar = films @ concepts.T
    activations = np.column_stack([similar[:, 1], level])
    layer = layer_of(activations, films, concepts)
    for unit, heat in ((0, 0.5), (1, 1.0)):
        np.testing.assert_allclose(layer.weights[:, unit], weights_of(activations[:, unit], heat), rtol=1e-9)


def test_similarities_and_relatives():
    activations, films, concepts, _ = problem()
    concepts[4] = rows(concepts[1:2] + 0.05)[0]
    layer = layer_of(activations, films, concepts)
    similar = films @ concepts.T
    found = layer.similarities(torch.tensor([3, 1]))
    for place, m in enumerate((3, 1)):
        np.testing.assert_allclose(found[:, place], standard(similar[:, m]), atol=1e-10)
    first = torch.tensor([0, 1, 2, 3, 4, 1])
    found = layer.unrelated(first)
    for unit, best in enumerate(first.tolist()):
        for m in range(5):
            assert bool(found[unit, m]) == (np.corrcoef(similar[:, best], similar[:, m])[0, 1] < 0.5)
    assert not found[1, 4]


def test_the_null_equals_dealing_films_by_hand():
    activations, films, concepts, patients = problem()
    layer = layer_of(activations, films, concepts)
    directions, _ = directions_of(films, concepts)
    dealt = list(patient_shuffles(torch.from_numpy(patients), 4, 0))
    for order, found in zip(dealt, layer.shuffled_maxima(dealt), strict=True):
        assert found.dtype == torch.float64
        for unit, column in enumerate(activations.T):
            tried = [
                evidence_of(weights_of(sign * column, heat), films[order.numpy()], directions).max()
                for sign in (1, -1)
                for heat in (0.5, 1.0)
            ]
            assert found[unit].item() == pytest.approx(max(tried), abs=1e-4)
    # Films dealt to themselves: the best that a unit finds of itself.
    (same,) = layer.shuffled_maxima([torch.arange(17)])
    assert (same >= layer.raw.amax(dim=1) - 1e-4).all()


@pytest.mark.parametrize("turned", [False, True])
def test_effects_equal_the_formula(turned):
    activations, films, concepts, _ = problem()
    layer = layer_of(activations, films, concepts)
    similar = films @ concepts.T
    found = layer.effects(turned=turned)
    for unit, column in enumerate(activations.T):
        sign = -1 if turned != bool(layer.absent[unit]) else 1
        weights = weights_of(sign * column, 1.0)
        for m in range(5):
            slow = np.average(standard(similar[:, m]), weights=weights)
            assert found[unit, m].item() == pytest.approx(slow, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_held_out_effects_equal_the_formula(seed):
    activations, films, concepts, patients = problem(seed)
    layer = layer_of(activations, films, concepts)
    directions, _ = directions_of(films, concepts)
    similar = np.column_stack([standard(column) for column in (films @ concepts.T).T])
    folds = patient_folds(torch.from_numpy(patients), 5, 7).numpy()
    found = layer.held_out_effects(torch.from_numpy(patients), 7)
    for unit, (turned, weights, raw, scores) in enumerate(slow_layer(activations, films, concepts, 0.5)):
        share = (raw - scores * math.sqrt(17)) / abs(raw).max()
        effect_weights = weights_of(activations[:, unit] * (-1 if turned else 1), 1.0)
        total = 0.0
        for fold in range(5):
            held = folds == fold
            trained = evidence_of(weights[~held], films[~held], directions)
            chosen = int(np.argmax(trained - max(abs(trained).max(), 1e-30) * share))
            total += held.sum() * np.average(similar[held, chosen], weights=effect_weights[held])
        assert found[unit].item() == pytest.approx(total / 17, abs=1e-8)


def test_few_patients_are_held_out_one_by_one_and_one_patient_not_at_all():
    activations, films, concepts, _ = problem()
    layer = layer_of(activations, films, concepts)
    two = torch.arange(17) % 2
    assert layer.held_out_effects(two, 0).isfinite().all()
    assert not layer.held_out_effects(torch.zeros(17, dtype=torch.int64), 0).any()


def test_stability_equals_counting_resamples():
    activations, films, concepts, patients = problem(n_films=40)
    layer = layer_of(activations, films, concepts)
    directions, _ = directions_of(films, concepts)
    others = layer.unrelated(layer.scores.argmax(dim=1))
    found, found_next = layer.stability(torch.from_numpy(patients), others, 0.9, 20, 3)
    near, next_near = np.zeros((6, 5)), np.zeros((6, 5))
    for drawn in patient_resamples(torch.from_numpy(patients), 20, 3):
        films_drawn = np.repeat(np.arange(40), drawn.numpy())
        for unit in range(6):
            raw = evidence_of(layer.weights[:, unit].numpy()[films_drawn], films[films_drawn], directions)
            relative = raw / abs(raw).max() - layer.hub[unit].numpy()
            near[unit] += relative >= 0.9 * relative.max()
            relative[~others[unit].numpy()] = -np.inf
            next_near[unit] += others[unit].numpy() & (relative >= 0.9 * relative.max())
    np.testing.assert_allclose(found, near / 20, atol=1e-12)
    np.testing.assert_allclose(found_next, next_near / 20, atol=1e-12)
    assert 0 < near.max() <= 20
    assert min(near[1, 2], near[2, 2]) >= 15
    alone = layer.stability(torch.from_numpy(patients), torch.zeros_like(others), 0.9, 20, 3)[1]
    assert not alone.any()


def test_patients_that_a_unit_rests_on():
    activations, films, concepts, patients = problem()
    layer = layer_of(activations, films, concepts)
    found = layer.effective_patients(torch.from_numpy(patients) * 3 + 1)
    for unit in range(6):
        above = np.maximum(layer.weights[:, unit].numpy() - layer.weights[:, unit].numpy().mean(), 0)
        share = np.array([above[patients == name].sum() for name in sorted(set(patients))]) / above.sum()
        assert found[unit].item() == pytest.approx(1 / (share**2).sum(), rel=1e-9)
    fires = torch.ones(17, 2, dtype=torch.float64)
    fires[[2, 3, 9], 0], fires[[2, 9, 11, 12], 1] = 5.0, 5.0
    films_of = torch.tensor([0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
    counts = replace(layer, weights=fires).effective_patients(films_of)
    assert counts.tolist() == pytest.approx([9 / 5, 4])


def test_a_constant_unit_is_refused():
    activations, films, concepts, _ = problem()
    activations[:, 3] = 0.1
    with pytest.raises(InputError, match="1 units never vary"):
        layer_of(activations, films, concepts)
