"""Chance, held-out effects and stability against loops written from the formulas on the page of the method."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from slow_layer import block_of, directions_of, evidence_of, problem, slow_layer, standard, weights_of

from mammi.functional import film_sums
from mammi.functional.chance import patient_folds, patient_resamples, patient_shuffles
from mammi.methods import confidence
from mammi.methods.confidence import (
    effective_patients,
    held_out_effects,
    shuffled_maxima,
    stability,
    untrained_effects,
)
from mammi.methods.weighing import Ground


def ground_of(films, concepts):
    return Ground.of(torch.from_numpy(films), torch.from_numpy(concepts))


@pytest.mark.parametrize("n_concepts", [5, 9])
@pytest.mark.parametrize("tile", [1, 50, 2**20])
def test_the_null_equals_dealing_films_by_hand(monkeypatch, n_concepts, tile):
    monkeypatch.setattr(confidence, "SCORES", tile)
    monkeypatch.setattr(film_sums, "CHUNK", 5 if tile == 1 else 4096)
    activations, films, concepts, patients = problem(n_concepts=n_concepts)
    directions, _ = directions_of(films, concepts)
    deals = list(patient_shuffles(torch.from_numpy(patients), 4, 0))
    null = shuffled_maxima(torch.from_numpy(activations), ground_of(films, concepts), deals)
    assert null.dtype == torch.float64
    assert null.shape == (4, 6)
    for order, found in zip(deals, null, strict=True):
        for unit, column in enumerate(activations.T):
            tried = [
                evidence_of(weights_of(sign * column, heat), films[order.numpy()], directions).max()
                for sign in (1, -1)
                for heat in (0.5, 1.0)
            ]
            assert found[unit].item() == pytest.approx(max(tried), abs=1e-4)
    # Films dealt to themselves: the best that a unit finds of itself.
    same = shuffled_maxima(torch.from_numpy(activations), ground_of(films, concepts), [torch.arange(17)])
    assert (same >= block_of(activations, films, concepts).raw.amax(dim=1) - 1e-4).all()


def test_untrained_effects_are_those_of_both_sides():
    activations, films, concepts, _ = problem()
    most, typical = untrained_effects(torch.from_numpy(activations), ground_of(films, concepts))
    for m, similar in enumerate((films @ concepts.T).T):
        shown = [
            np.average(standard(similar), weights=weights_of(sign * column, 1.0))
            for column in activations.T
            for sign in (1, -1)
        ]
        assert most[m].item() == pytest.approx(max(shown), abs=1e-9)
        assert typical[m].item() == pytest.approx(math.sqrt(sum(x * x for x in shown) / 12), abs=1e-9)


def test_effects_equal_the_formula():
    activations, films, concepts, patients = problem()
    block = block_of(activations, films, concepts)
    similar = films @ concepts.T
    leans = held_out_effects(block, patient_folds(torch.from_numpy(patients), 5, 7))[1]
    found = block.ground.effects(leans)
    for unit, column in enumerate(activations.T):
        weights = weights_of(column * (-1 if block.absent[unit] else 1), 1.0)
        for m in range(5):
            slow = np.average(standard(similar[:, m]), weights=weights)
            assert found[unit, m].item() == pytest.approx(slow, abs=1e-9)
    still = replace(block.ground, spread=torch.tensor([1.0, 0, 1, 1, 1], dtype=torch.float64))
    assert still.effects(leans).isnan().any(dim=0).tolist() == [False, True, False, False, False]


@pytest.mark.parametrize("seed", range(3))
def test_held_out_effects_equal_the_formula(seed):
    activations, films, concepts, patients = problem(seed)
    block = block_of(activations, films, concepts)
    directions, _ = directions_of(films, concepts)
    similar = np.column_stack([standard(column) for column in (films @ concepts.T).T])
    folds = patient_folds(torch.from_numpy(patients), 5, 7)
    found, _ = held_out_effects(block, folds)
    for unit, (turned, weights, raw, scores) in enumerate(slow_layer(activations, films, concepts, 0.5)):
        share = (raw - scores * math.sqrt(17)) / abs(raw).max()
        effect_weights = weights_of(activations[:, unit] * (-1 if turned else 1), 1.0)
        total = 0.0
        for fold in range(5):
            held = folds.numpy() == fold
            trained = evidence_of(weights[~held], films[~held], directions)
            chosen = int(np.argmax(trained - max(abs(trained).max(), 1e-30) * share))
            total += held.sum() * np.average(similar[held, chosen], weights=effect_weights[held])
        assert found[unit].item() == pytest.approx(total / 17, abs=1e-8)


@pytest.mark.parametrize("film", [4, 9, 14])
def test_a_unit_that_fires_in_one_part_only_has_nothing_to_choose_by(film):
    """On the other parts its weights are one number: the concept that is the least of a hub is as good as any."""
    activations, films, concepts, _ = problem(n_concepts=12)
    activations[:, 0] = np.arange(17) == film
    block = block_of(activations, films, concepts)
    folds = torch.arange(17) % 5
    found, _ = held_out_effects(block, folds)
    turned, weights, _, _ = slow_layer(activations, films, concepts, 0.5)[0]
    directions, _ = directions_of(films, concepts)
    effect_weights = weights_of(activations[:, 0] * (-1 if turned else 1), 1.0)
    total = 0.0
    for fold in range(5):
        held = folds.numpy() == fold
        trained = evidence_of(weights[~held], films[~held], directions)
        assert trained.any() == (fold != 4)
        chosen = int(np.argmax(trained - max(abs(trained).max(), 1e-30) * block.hub[0].numpy()))
        total += held.sum() * np.average(standard((films @ concepts.T)[:, chosen])[held], weights=effect_weights[held])
    assert found[0].item() == pytest.approx(total / 17, abs=1e-8)


def test_few_patients_are_held_out_one_by_one_and_one_patient_not_at_all():
    block = block_of(*problem()[:3])
    found, leans = held_out_effects(block, patient_folds(torch.arange(17) % 2, 5, 0))
    assert found.isfinite().all()
    alone, same = held_out_effects(block, patient_folds(torch.zeros(17, dtype=torch.int64), 5, 0))
    assert not alone.any()
    torch.testing.assert_close(same, leans)


@pytest.mark.parametrize(("n_films", "n_concepts"), [(40, 5), (40, 4), (41, 9)])
def test_stability_equals_counting_resamples(n_films, n_concepts):
    activations, films, concepts, patients = problem(n_films=n_films, n_concepts=n_concepts)
    block = block_of(activations, films, concepts)
    directions, _ = directions_of(films, concepts)
    numbers = torch.from_numpy(patients)
    others = torch.ones_like(block.raw, dtype=torch.bool).scatter(1, block.scores.argmax(dim=1)[:, None], value=False)
    second = block.scores.masked_fill(~others, -torch.inf).argmax(dim=1)
    every = torch.cartesian_prod(torch.arange(6), torch.arange(n_concepts)).T
    found, found_next = stability(block, patient_resamples(numbers, 20, 3), (every[0], every[1]), others, second, 0.9)
    near, next_near = np.zeros((6, n_concepts)), np.zeros(6)
    for drawn in patient_resamples(numbers, 20, 3):
        films_drawn = np.repeat(np.arange(n_films), drawn.numpy())
        for unit in range(6):
            raw = evidence_of(block.weights[:, unit].numpy()[films_drawn], films[films_drawn], directions)
            relative = raw / abs(raw).max() - block.hub[unit].numpy()
            near[unit] += relative >= 0.9 * relative.max()
            if others[unit].any():
                relative[~others[unit].numpy()] = -np.inf
                next_near[unit] += others[unit, second[unit]] and relative[second[unit]] >= 0.9 * relative.max()
    np.testing.assert_allclose(found.reshape(6, n_concepts), near / 20, atol=1e-12)
    np.testing.assert_allclose(found_next, next_near / 20, atol=1e-12)
    assert 0 < near.max() <= 20
    assert next_near.any()
    some = torch.tensor([3, 1, 1]), torch.tensor([0, 3, 2])
    asked, _ = stability(block, patient_resamples(numbers, 20, 3), some, others, second, 0.9)
    np.testing.assert_allclose(asked, near[some] / 20, atol=1e-12)
    no_others = torch.zeros_like(others)
    assert not stability(block, patient_resamples(numbers, 20, 3), some, no_others, second, 0.9)[1].any()


def test_patients_that_a_unit_rests_on():
    activations, films, concepts, patients = problem()
    block = block_of(activations, films, concepts)
    found = effective_patients(block, torch.from_numpy(patients) * 3 + 1)
    for unit in range(6):
        above = np.maximum(block.weights[:, unit].numpy() - block.weights[:, unit].numpy().mean(), 0)
        share = np.array([above[patients == name].sum() for name in sorted(set(patients))]) / above.sum()
        assert found[unit].item() == pytest.approx(1 / (share**2).sum(), rel=1e-9)
    fires = torch.ones(17, 2, dtype=torch.float64)
    fires[[2, 3, 9], 0], fires[[2, 9, 11, 12], 1] = 5.0, 5.0
    films_of = torch.tensor([0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
    assert effective_patients(replace(block, weights=fires), films_of).tolist() == pytest.approx([9 / 5, 4])
