import itertools
import math

import pytest
import torch

from mammi.errors import InputError
from mammi.functional import tilt as tilt_module
from mammi.functional.film_sums import film_covariance
from mammi.functional.tilt import (
    concept_directions,
    concept_scales,
    evidence,
    hub_corrected,
    standardised,
    tilt,
    unit_columns,
    upper_half_mean,
)


def rows(n, d, seed):
    table = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.4
    return table / table.norm(dim=1, keepdim=True)


def problem(n_films=7, n_units=4, n_concepts=5, d_embed=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    activations = torch.randn(n_films, n_units, generator=generator, dtype=torch.float64).exp()
    activations[:, 1] = activations[:, 1].round()  # ties
    activations[0, 1] = 9
    return activations, rows(n_films, d_embed, seed + 1), rows(n_concepts, d_embed, seed + 2)


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def mean(values):
    return sum(values) / len(values)


def spread_of(values):
    return math.sqrt(mean([(v - mean(values)) ** 2 for v in values]))


def test_standardised_equals_the_formula_and_knows_no_scale():
    activations = problem()[0]
    found = standardised(activations)
    for unit, column in enumerate(activations.T.tolist()):
        slow = [(value - mean(column)) / spread_of(column) for value in column]
        assert found[:, unit].tolist() == pytest.approx(slow, abs=1e-12)
    for scale in (1e-320, 1e-200, 1e-12, 3.0, 1e200, 1e307):
        torch.testing.assert_close(
            standardised(activations * scale), found, atol=1e-3 if scale < 1e-300 else 1e-12, rtol=0
        )
    torch.testing.assert_close(standardised(activations * 0.5 + 70), found, atol=1e-12, rtol=0)
    torch.testing.assert_close(standardised(-activations), -found)
    assert standardised(activations.float()).dtype == torch.float64
    both = torch.tensor([[1.7e308], [-1.7e308], [1.7e308], [-1.7e308]], dtype=torch.float64)
    assert standardised(both)[:, 0].tolist() == [1, -1, 1, -1]


@pytest.mark.parametrize("constant", [0.0, 0.1, -0.3, 1e-310, 1.7e308])
def test_units_that_never_vary_are_counted(constant):
    activations = torch.full((11, 3), constant, dtype=torch.float64)
    activations[:, 1] = torch.arange(11)
    with pytest.raises(InputError, match="2 units never vary: leave them out"):
        standardised(activations)


def test_tilt_equals_the_formula_and_caps():
    standard = torch.tensor([[-7.0, 0.5], [4.9, 5.0], [5.1, 300.0]], dtype=torch.float64)
    for heat in (0.5, 1.0, 2.0):
        found = tilt(standard, heat)
        for n, k in itertools.product(range(3), range(2)):
            assert found[n, k].item() == pytest.approx(math.exp(heat * min(standard[n, k].item(), 5)), rel=1e-14)
    assert tilt(standard.float(), 1.0).dtype == torch.float32


@pytest.mark.parametrize("fudge", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("n_concepts", [1, 4, 5])
def test_directions_equal_the_formula(n_concepts, fudge):
    _, films, concepts = problem(n_concepts=n_concepts)
    directions, spread = concept_directions(films, concepts, fudge)
    slow = [spread_of([dot(film, concept) for film in films.tolist()]) for concept in concepts.tolist()]
    middle = sorted(slow)[(n_concepts - 1) // 2]  # the lower one of two
    assert spread.tolist() == pytest.approx(slow, abs=1e-12)
    for m, concept in enumerate(concepts.tolist()):
        expected = [value / (slow[m] + fudge * middle) for value in concept]
        assert directions[m].tolist() == pytest.approx(expected, abs=1e-10)


def test_the_share_of_the_median_is_a_quarter():
    _, films, concepts = problem()
    torch.testing.assert_close(concept_directions(films, concepts), concept_directions(films, concepts, 0.25))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_concept_that_never_varies_has_no_direction(dtype):
    """Films on a circle around an axis: the axis is as like to each; turned, it is so up to rounding only."""
    angle = torch.arange(40, dtype=torch.float64)
    films = torch.stack([angle.cos(), angle.sin(), torch.full_like(angle, 0.8)], dim=1) / math.sqrt(1.64)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64))[0]
    films = (films @ turn).to(dtype).double()
    concepts = turn[[2, 0, 2]]
    directions, spread = concept_directions(films, concepts)
    assert spread.tolist()[::2] == [0, 0]
    assert not directions[[0, 2]].any()
    assert spread[1] > 0.5
    # Where most concepts never vary, the median is 0 and the others keep their own spread.
    torch.testing.assert_close(directions[1], concepts[1] / spread[1])
    same = films[:1].expand(9, 3)
    assert not torch.cat([x.flatten() for x in concept_directions(same, concepts)]).any()


def test_widths_must_agree():
    with pytest.raises(InputError, match="images are embedded in 3 dimensions and concepts in 4"):
        concept_directions(rows(5, 3, 0), rows(2, 4, 0))


def slow_evidence(weights, films, directions):
    table = []
    for column in weights.T.tolist():
        centred = [w - mean(column) for w in column]
        length = math.sqrt(dot(centred, centred))
        similar = [[dot(film, d) for film in films.tolist()] for d in directions.tolist()]
        table.append([dot(centred, s) / length if max(column) > min(column) else 0.0 for s in similar])
    return torch.tensor(table, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(3))
def test_evidence_equals_the_formula(seed):
    activations, films, concepts = problem(seed=seed)
    directions, _ = concept_directions(films, concepts)
    weights = tilt(standardised(activations), 0.5)
    weights[:, 2] = 3.7
    found = evidence(weights, films, directions)
    torch.testing.assert_close(found, slow_evidence(weights, films, directions), atol=1e-12, rtol=0)
    assert not found[2].any()


@pytest.mark.parametrize("n_films", [5, 6])
def test_without_fudge_chance_has_mean_0_and_variance_n_over_n_less_1(n_films):
    activations, films, concepts = problem(n_films, n_units=2, n_concepts=3)
    directions, _ = concept_directions(films, concepts, 0.0)
    weights = tilt(standardised(activations), 1.0)
    every = torch.stack(
        [evidence(weights, films[list(order)], directions) for order in itertools.permutations(range(n_films))]
    )
    assert every.mean(dim=0).abs().max() < 1e-12
    expected = torch.full((2, 3), n_films / (n_films - 1), dtype=torch.float64)
    torch.testing.assert_close(every.square().mean(dim=0), expected, atol=1e-10, rtol=0)


def test_a_set_of_examples_is_the_case_of_weights_1_and_0():
    """Mean similarity of n_k examples less that of all films, over its standard error among the films."""
    _, films, concepts = problem(n_films=9)
    directions, spread = concept_directions(films, concepts, 0.0)
    examples = [1, 4, 5]
    weights = torch.zeros(9, 1, dtype=torch.float64)
    weights[examples] = 1
    found = evidence(weights, films, directions)[0]
    for m, concept in enumerate(concepts.tolist()):
        similar = [dot(film, concept) for film in films.tolist()]
        lead = mean([similar[n] for n in examples]) - mean(similar)
        assert found[m].item() == pytest.approx(math.sqrt(3 * 9 / 6) * lead / spread[m].item(), abs=1e-12)


def test_weak_tilt_is_the_correlation():
    activations, films, concepts = problem(n_films=30)
    directions, spread = concept_directions(films, concepts, 0.0)
    standard = standardised(activations)
    found = evidence(tilt(standard, 1e-7), films, directions) / math.sqrt(30)
    similar = (films - films.mean(dim=0)) @ concepts.T / spread
    torch.testing.assert_close(found, standard.T @ similar / 30, atol=1e-5, rtol=0)


def test_hubs_by_hand():
    scores = torch.tensor([[4.0, 2.0, -8.0], [1.0, 0.5, 0.0], [0.0, 3.0, 3.0]], dtype=torch.float64)
    # On each unit's own scale: (.5, .25, -1), (1, .5, 0), (0, 1, 1). The half of three units is two.
    hub = [(1 + 0.5) / 2, (1 + 0.5) / 2, (1 + 0) / 2]
    relative = [[0.5, 0.25, -1], [1, 0.5, 0], [0, 1, 1]]
    largest = [8, 1, 3]
    for strength in (0.0, 0.5, 1.0):
        slow = [
            [size * (r - strength * h) for r, h in zip(row, hub, strict=True)]
            for size, row in zip(largest, relative, strict=True)
        ]
        torch.testing.assert_close(hub_corrected(scores, strength), torch.tensor(slow, dtype=torch.float64))
    torch.testing.assert_close(hub_corrected(scores), hub_corrected(scores, 0.5))
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(hub_corrected(scores[order]), hub_corrected(scores)[order])
    torch.testing.assert_close(hub_corrected(scores[:, order]), hub_corrected(scores)[:, order])
    scale = torch.tensor([[1e-9], [7.0], [1e9]], dtype=torch.float64)
    torch.testing.assert_close(hub_corrected(scores * scale), hub_corrected(scores) * scale)
    assert not hub_corrected(torch.zeros(3, 2, dtype=torch.float64)).any()
    # A lone unit is its own half layer.
    torch.testing.assert_close(hub_corrected(scores[:1]), 0.5 * scores[:1])


def test_unit_columns_by_hand():
    weights = torch.tensor([[1.0, 0.1, 3.0], [2.0, 0.1, 3.0], [6.0, 0.1, 9.0]], dtype=torch.float64)
    kept = weights.clone()
    found = unit_columns(weights)
    lengths = [math.sqrt(4 + 1 + 9), 1, math.sqrt(4 + 4 + 16)]
    expected = [
        [-2 / lengths[0], 0, -2 / lengths[2]],
        [-1 / lengths[0], 0, -2 / lengths[2]],
        [3 / lengths[0], 0, 4 / lengths[2]],
    ]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    assert torch.equal(weights, kept)


@pytest.mark.parametrize(
    ("values", "mean"), [([5.0], 5), ([1.0, 4.0], 4), ([1.0, 4.0, 2.0], 3), ([0.0, 9.0, 1.0, 7.0], 8)]
)
def test_the_larger_half_by_hand(values, mean):
    table = torch.tensor([values, values[::-1]])
    assert upper_half_mean(table, dim=1).tolist() == upper_half_mean(table.T, dim=0).tolist() == [mean, mean]


def test_one_temperature_a_unit():
    standard = standardised(problem()[0])
    heats = torch.tensor([0.5, 1.0, 0.5, 2.0], dtype=torch.float64)
    found = tilt(standard, heats)
    for unit, heat in enumerate(heats.tolist()):
        torch.testing.assert_close(found[:, unit], tilt(standard[:, unit : unit + 1], heat)[:, 0])


def test_scales_are_those_of_the_directions(monkeypatch):
    _, films, concepts = problem()
    directions, spread = concept_directions(films, concepts)
    monkeypatch.setattr(tilt_module, "CONCEPTS", 2)
    scales, same = concept_scales(film_covariance(films), concepts)
    torch.testing.assert_close(concepts * scales[:, None], directions)
    torch.testing.assert_close(same, spread)
