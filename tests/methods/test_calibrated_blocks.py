"""A layer in blocks of units: whatever the size of a block, the same is said as by dense algebra of the whole layer."""

import numpy as np
import pytest
import torch
from test_calibrated import a_layer, assert_same, calibrated, everything, named, slow_verdict

from mammi.functional import film_sums
from mammi.methods import Evidence, confidence, create_method, select_units, weighing


@pytest.fixture(params=[1, 750, 1050, 3600])
def small_blocks(request, monkeypatch):
    """One unit of 24 at a time, five and four at last, seven and three, all; concepts and films in small parts too."""
    monkeypatch.setattr(weighing, "VALUES", request.param)
    monkeypatch.setattr(confidence, "SCORES", 100)
    monkeypatch.setattr(weighing, "CHUNK", 64)
    monkeypatch.setattr(film_sums, "CHUNK", 64)
    return {1: 24, 750: 5, 1050: 4, 3600: 1}[request.param]


def test_blocks_say_what_dense_algebra_says(small_blocks):
    rng, activations, films, concepts, patients = a_layer(1)
    control = films @ rng.normal(size=(24, 3)) + rng.normal(size=(150, 3))
    found = calibrated(activations, films, concepts, patients, control=control)
    assert 4 <= named(found).sum() <= 22
    for unit, (kept, formula, effect, q_value, stability, sense, purity) in enumerate(
        slow_verdict(activations, films, concepts, patients, control)
    ):
        verdict = found.verdict
        assert found.concepts[unit].tolist() == kept
        assert found.formulas[unit] == formula
        assert verdict.effect[unit].tolist() == pytest.approx(effect, abs=1e-9)
        assert verdict.q_value[unit].tolist() == pytest.approx(q_value, rel=1e-5)
        assert verdict.stability[unit].tolist() == pytest.approx(stability)
        assert verdict.sense[unit].tolist() == sense
        assert verdict.purity[unit].tolist() == pytest.approx(purity)


def test_order_dead_units_and_reasons_are_the_same_in_blocks(small_blocks):
    rng, activations, films, concepts, patients = a_layer()
    few = {"shuffles": 20, "resamples": 10}
    with pytest.MonkeyPatch.context() as whole:
        whole.setattr(weighing, "VALUES", 2**24)
        plain = calibrated(activations, films, concepts, patients, **few)
    order = rng.permutation(24)
    mixed = np.insert(activations[:, order], [0, 9, 24], [2.5, np.nan, 0.1], axis=1)
    mixed[3:, 10] = 1.0
    found = calibrated(mixed, films, concepts, patients, **few)
    live = np.delete(np.arange(27), [0, 10, 26])
    assert_same(found, plain, live[np.argsort(order)])
    np.testing.assert_allclose(found.scores[live], plain.scores[order], atol=1e-12)
    assert np.isnan(found.scores[[0, 10, 26]]).all()
    assert not any(len(found.concepts[unit]) for unit in (0, 10, 26))


def test_one_patient_and_open_thresholds_in_blocks(small_blocks):
    _, activations, films, concepts, patients = a_layer()
    one = np.zeros(150)
    open_to_all = {"min_patients": 1, "min_effect": 0, "false_discovery_rate": 1.0, "concept_threshold": 0.0}
    open_to_all |= {"shuffles": 20, "resamples": 10}
    wide, alone = (calibrated(activations, films, concepts, who, **open_to_all) for who in (patients, one))
    with pytest.MonkeyPatch.context() as whole:
        whole.setattr(weighing, "VALUES", 2**24)
        assert_same(wide, calibrated(activations, films, concepts, patients, **open_to_all))
        assert_same(alone, calibrated(activations, films, concepts, one, **open_to_all))
    assert max(map(len, wide.concepts)) > 3
    assert not named(alone).any()


def test_a_layer_is_read_in_blocks_and_nothing_is_kept_of_it(small_blocks):
    """Three times over; blocks come in order, with the scores of their own units; what was read is left as it was."""
    _, activations, films, concepts, patients = a_layer()
    table, reads = torch.from_numpy(activations), []

    def columns(units):
        reads.append(units)
        return table[:, units]

    rest = torch.from_numpy(films), torch.from_numpy(concepts), None, torch.from_numpy(patients)
    recipe = create_method("calibrated", shuffles=20, resamples=10)
    selection = select_units(recipe, lambda units: table[:, units], 24)
    evidence = Evidence(torch.empty(0, 0), *rest)
    blocks = list(recipe.match_layer(evidence, selection, columns))
    assert len(blocks) == small_blocks
    assert [units.start for units in reads[:small_blocks]] * 3 == [units.start for units in reads]
    match = recipe.match(Evidence(table, *rest), selection)
    torch.testing.assert_close(torch.cat([block.scores for block in blocks]), match.scores)
    assert [kept.tolist() for block in blocks for kept in block.concepts] == [kept.tolist() for kept in match.concepts]
    np.testing.assert_array_equal(table, a_layer()[1])
    plain = calibrated(activations, films, concepts, patients, shuffles=20, resamples=10)
    assert [row[0] for row in everything(plain)] == [kept.tolist() for kept in match.concepts]
