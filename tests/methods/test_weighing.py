"""The weighed layer against loops written from the formulas on the page of the method."""

import math

import numpy as np
import pytest
import torch
from slow_layer import block_of, layer_of, problem, rows, slow_layer, standard, weights_of

from mammi.errors import InputError
from mammi.methods import weighing
from mammi.methods.weighing import Ground


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_layer_equals_the_formulas(seed, strength):
    activations, films, concepts, _ = problem(seed)
    block = block_of(activations, films, concepts, strength)
    slow = slow_layer(activations, films, concepts, strength)
    assert block.absent.tolist() == [turned for turned, *_ in slow]
    assert block.absent[2]
    assert not block.absent[1]
    for unit, (turned, weights, raw, scores) in enumerate(slow):
        side = standard(activations[:, unit]) * (-1 if turned else 1)
        np.testing.assert_allclose(block.standard[:, unit], side, atol=1e-9)
        # A unit of two values has the same evidence at every temperature, and rounding takes one of them.
        found, slowly = (standard(w) if unit == 3 else w for w in (block.weights[:, unit].numpy(), weights))
        np.testing.assert_allclose(found, slowly, rtol=1e-8)
        np.testing.assert_allclose(block.raw[unit], raw, atol=1e-8)
        np.testing.assert_allclose(block.scores[unit], scores, atol=1e-8)
        again = (raw / abs(raw).max() - block.hub[unit].numpy()) * abs(raw).max() / math.sqrt(len(films))
        np.testing.assert_allclose(again, scores, atol=1e-8)


@pytest.mark.parametrize("values", [1, 17, 35, 80])
def test_the_size_of_a_block_changes_nothing(monkeypatch, values):
    """One unit at a time; one; two; four and two: 17 values a unit. Concepts of the hubs one by one, and in threes."""
    arrays = problem()[:3]
    whole = layer_of(*arrays)
    monkeypatch.setattr(weighing, "VALUES", values)
    assert [tile.stop - tile.start for tile in whole.tiles()] == {80: [4, 2], 35: [2] * 3}.get(values, [1] * 6)
    layer = layer_of(*arrays)
    for name in ("projections", "largest", "heat", "absent", "hubs"):
        torch.testing.assert_close(getattr(layer, name), getattr(whole, name), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(layer.firsts(), whole.firsts())
    block, every = layer.block(slice(2, 5)), whole.block(slice(0, 6))
    assert block.numbers.tolist() == [2, 3, 4]
    for chosen in (slice(2, 5), torch.tensor([4, 2])):
        part = block if isinstance(chosen, slice) else block.only(chosen - 2)
        torch.testing.assert_close(part.standard, every.standard[:, chosen])
        torch.testing.assert_close(part.weights, every.weights[:, chosen])
        for name in ("numbers", "projections", "raw", "hub", "scores", "absent"):
            torch.testing.assert_close(getattr(part, name), getattr(every, name)[chosen])


def test_the_order_of_units_changes_nothing():
    activations, films, concepts, _ = problem()
    plain = block_of(activations, films, concepts)
    order = [4, 0, 5, 2, 1, 3]
    moved = block_of(activations[:, order], films, concepts)
    torch.testing.assert_close(moved.scores, plain.scores[order], atol=1e-12, rtol=0)


def test_the_first_is_what_scores_most():
    block, (first, most) = block_of(*problem()[:3]), layer_of(*problem()[:3]).firsts()
    assert first.tolist() == block.scores.argmax(dim=1).tolist()
    assert most.tolist() == [block.raw[unit, m].item() for unit, m in enumerate(first)]


def test_both_temperatures_are_used():
    """A unit that follows a concept film by film takes the softer one; if only its strongest show it, the sharper."""
    rng = np.random.default_rng(0)
    level = rng.normal(size=200)
    films = rng.normal(size=(200, 6)) + 0.3
    films[:, 2] = 0.1 * np.exp(2 * level)
    films = rows(films)
    concepts = np.eye(6)
    activations = np.column_stack([(films @ concepts.T)[:, 1], level])
    block = block_of(activations, films, concepts)
    for unit, heat in ((0, 0.5), (1, 1.0)):
        np.testing.assert_allclose(block.weights[:, unit], weights_of(activations[:, unit], heat), rtol=1e-9)


def test_similarities_and_relatives():
    _, films, concepts, _ = problem()
    concepts[4] = rows(concepts[1:2] + 0.05)[0]
    ground = Ground.of(*map(torch.from_numpy, (films, concepts)))
    similar = films @ concepts.T
    chosen = torch.tensor([16, 2, 3])
    found = ground.similarities(chosen, torch.tensor([3, 1]))
    for place, m in enumerate((3, 1)):
        np.testing.assert_allclose(found[:, place], standard(similar[:, m])[chosen], atol=1e-10)
    first = torch.tensor([0, 1, 2, 3, 4, 1])
    found = ground.unrelated(first)
    for unit, best in enumerate(first.tolist()):
        for m in range(5):
            assert bool(found[unit, m]) == (np.corrcoef(similar[:, best], similar[:, m])[0, 1] < 0.5)
    assert not found[1, 4]


@pytest.mark.parametrize(("n_films", "n_concepts", "few"), [(17, 5, True), (17, 9, False), (5, 9, True), (9, 3, True)])
def test_what_is_less_to_sum_has_the_same_products(monkeypatch, n_films, n_concepts, few):
    _, films, concepts, _ = problem(n_films=n_films, n_concepts=n_concepts)
    monkeypatch.setattr(weighing, "CHUNK", 4)
    ground = Ground.of(*map(torch.from_numpy, (films, concepts)))
    rows_of_films, rows_of_concepts = ground.single
    assert (rows_of_concepts is None) == few
    products = rows_of_films if few else rows_of_films @ rows_of_concepts.T
    assert products.dtype == torch.float32
    similar = (films - films.mean(axis=0)) @ (concepts * ground.scales.numpy()[:, None]).T
    np.testing.assert_allclose(products, similar, atol=1e-5)


def test_a_constant_unit_is_refused():
    activations, films, concepts, _ = problem()
    activations[:, 3] = 0.1
    with pytest.raises(InputError, match="1 units never vary"):
        layer_of(activations, films, concepts)


def test_films_and_concepts_of_other_widths_are_refused():
    with pytest.raises(InputError, match="embedded in 4 dimensions and concepts in 3"):
        Ground.of(torch.ones(5, 4, dtype=torch.float64), torch.ones(2, 3, dtype=torch.float64))
