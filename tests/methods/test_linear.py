import re

import numpy as np
import pytest
import torch

from mammi.arrays import annotate_arrays
from mammi.errors import InputError
from mammi.functional.patient_split import split_patients
from mammi.methods import create_method


def films(seed=0, n_films=300, n_concepts=12, d_embed=20):
    rng = np.random.default_rng(seed)
    concepts = np.linalg.qr(rng.normal(size=(d_embed, n_concepts)))[0].T
    images = rng.normal(size=(n_films, d_embed)) + 0.5
    cosines = images @ concepts.T / np.linalg.norm(images, axis=1, keepdims=True)
    return rng, cosines, images, concepts


def read(text):
    """Return the weights and concepts of a formula."""
    assert re.fullmatch(r"-?\d+\.\d\d \{\d+\}( [+-] \d+\.\d\d \{\d+\})*", text), text
    terms = re.findall(r"(^-?|[+-] )(\d+\.\d\d) \{(\d+)\}", text)
    return [(-1 if "-" in sign else 1) * float(weight) for sign, weight, _ in terms], [int(m) for *_, m in terms]


@pytest.mark.parametrize("seed", range(3))
def test_a_planted_sum_of_cosines_is_found(seed):
    rng, cosines, images, concepts = films(seed)
    noise = 0.02 * rng.normal(size=(300, 4))
    units = noise + np.column_stack(
        [
            0.9 * cosines[:, 3] + 0.6 * cosines[:, 7] - 0.4 * cosines[:, 9],
            cosines[:, 5],
            -cosines[:, 2],
            50 * noise[:, 0],
        ]
    )
    found = annotate_arrays(units, images, concepts, method="linear")
    weights, named = read(found.formulas[0])
    assert named == list(found.concepts[0])
    assert named[:3] == [3, 7, 9]
    assert (weights[0] > 0, weights[1] > 0, weights[2] < 0) == (True, True, True)
    assert list(found.concepts[1])[:1] == [5]
    assert list(found.concepts[2])[:1] == [2]
    assert found.formulas[2].startswith("-")
    assert found.scores[2, 2] < -0.9
    for unit in range(3):
        assert len(set(found.verdict.effect[unit].tolist())) == 1
        assert found.verdict.effect[unit][0] > 0.95
        assert found.verdict.reasons[unit] == ""
    assert found.verdict.effect[3].tolist() == [] or found.verdict.effect[3][0] < 0.5


def by_hand(table, unit, split, chosen):
    """Weights in standard deviations and the test correlation of a sum of given concepts, from numpy's own tools."""
    train, _, test = split
    design = np.column_stack([table[:, chosen], np.ones(len(table))])
    solved = np.linalg.lstsq(design[train], unit[train], rcond=None)[0]
    weights = solved[:-1] * table[train][:, chosen].std(axis=0) / unit[train].std()
    return weights, np.corrcoef(design[test] @ solved, unit[test])[0, 1]


@pytest.mark.parametrize("options", [{}, {"cosines": "raw", "a": 58.0, "b": -0.13}, {"a": 3.0, "b": 0.5, "seed": 4}])
def test_numbers_equal_those_made_by_hand(options):
    rng, cosines, images, concepts = films(4, n_films=240)
    patients = rng.integers(0, 90, size=240)
    bare = rng.normal(size=20)
    units = cosines @ rng.normal(size=(12, 5)) + 0.2 * rng.normal(size=(240, 5))
    found = annotate_arrays(units, images, concepts, bare, patients=patients, method="linear", **options)
    split = [part.numpy() for part in split_patients(torch.from_numpy(patients), seed=options.get("seed", 0))]
    similar = cosines
    if options.get("cosines") != "raw":
        similar = similar - (images @ bare / np.linalg.norm(images, axis=1) / np.linalg.norm(bare))[:, None]
        similar = (similar - similar[split[0]].mean(axis=0)) / similar[split[0]].std(axis=0)
    table = 1 / (1 + np.exp(-options.get("a", 1.0) * (similar + options.get("b", 0.0))))
    for unit in range(5):
        kept = list(found.concepts[unit])
        assert kept
        weights, simulation = by_hand(table, units[:, unit], split, kept)
        assert kept == [kept[place] for place in np.argsort(-abs(weights), kind="stable")]
        if len(kept) > 1 or weights[0] < 0:
            assert read(found.formulas[unit]) == (pytest.approx(weights, abs=0.00501), kept)
        np.testing.assert_allclose(found.verdict.effect[unit].numpy(), simulation, atol=1e-7)
        scores = [np.corrcoef(column[split[1]], units[split[1], unit])[0, 1] for column in table.T]
        np.testing.assert_allclose(found.scores[unit], scores, atol=1e-10)


def test_labels_with_gaps_stand_in_for_scores():
    rng, _, images, concepts = films(5, n_films=500)
    labels = (rng.uniform(size=(500, 12)) < 0.3).astype(float)
    units = np.column_stack([labels[:, 1] - 0.7 * labels[:, 4], labels[:, 6]]) + 0.1 * rng.normal(size=(500, 2))
    labels[rng.uniform(size=labels.shape) < 0.1] = np.nan
    labels[:, 8], labels[:, 9], labels[:, 10] = np.nan, 1.0, 0.0
    found = annotate_arrays(units, images, concepts, labels=labels, method="linear", source="labels")
    assert list(found.concepts[0])[:2] == [1, 4]
    assert read(found.formulas[0])[0][1] < 0
    assert list(found.concepts[1]) == [6]
    assert found.formulas[1] == ""
    assert np.isnan(found.scores[:, 8:11]).all()
    assert np.isfinite(np.delete(found.scores, [8, 9, 10], axis=1)).all()
    assert found.verdict.effect[1][0] > 0.85
    train, validation, _ = (part.numpy() for part in split_patients(torch.arange(500)))
    filled = np.where(np.isnan(labels[:, 6]), np.nanmean(labels[train, 6]), labels[:, 6])
    slow = np.corrcoef(filled[validation], units[validation, 1])[0, 1]
    assert found.scores[1, 6] == pytest.approx(slow, abs=1e-6)


def test_a_unit_that_only_varies_on_films_held_back_has_no_concept():
    rng, cosines, images, concepts = films(6)
    _, validation, test = (part.numpy() for part in split_patients(torch.arange(300)))
    units = np.zeros((300, 3))
    units[test, 0], units[validation, 1], units[:, 2] = (
        rng.normal(size=len(test)),
        1.0 * (validation % 2),
        cosines[:, 4],
    )
    found = annotate_arrays(units, images, concepts, method="linear")
    assert [list(kept) for kept in found.concepts] == [[], [], [4]]
    assert found.verdict.reasons == ["no concept predicts the unit on films held back"] * 2 + [""]
    assert found.formulas == ["", "", ""]
    assert np.isnan(found.scores[:2]).all()


def test_noise_predicts_little_on_the_test_films():
    rng, _, images, concepts = films(7, n_films=1000)
    found = annotate_arrays(rng.normal(size=(1000, 40)), images, concepts, method="linear")
    effects = [effect[0].item() for effect in found.verdict.effect if len(effect)]
    assert len(effects) < 30
    assert abs(np.mean(effects)) < 0.1


def test_order_of_films_and_batches_change_nothing(monkeypatch):
    rng, cosines, images, concepts = films(8, n_films=120)
    units = cosines @ rng.normal(size=(12, 7)) + 0.2 * rng.normal(size=(120, 7))
    names = np.array([f"p{n}" for n in rng.integers(0, 60, size=120)])
    plain = annotate_arrays(units, images, concepts, patients=names, method="linear")
    order = rng.permutation(120)
    moved = annotate_arrays(units[order], images[order], concepts, patients=names[order], method="linear")
    monkeypatch.setattr("mammi.methods.units.TILE", 3)
    tiled = annotate_arrays(units, images, concepts, patients=names, method="linear")
    for other in (moved, tiled):
        np.testing.assert_allclose(other.scores, plain.scores, atol=1e-12)
        assert other.formulas == plain.formulas
        assert [list(kept) for kept in other.concepts] == [list(kept) for kept in plain.concepts]
    other = annotate_arrays(units, images, concepts, patients=names, method="linear", seed=1)
    assert not np.allclose(other.scores, plain.scores)


def test_too_few_patients_and_missing_labels_are_named():
    _, _, images, concepts = films(9, n_films=20)
    units = np.arange(20.0)[:, None]
    with pytest.raises(InputError, match="20 films of 2 patients are too few to split by patient"):
        annotate_arrays(units, images, concepts, patients=[0, 1] * 10, method="linear")
    with pytest.raises(InputError, match="method 'linear' needs 'labels'"):
        annotate_arrays(units, images, concepts, method="linear", source="labels")
    assert create_method("linear").needs == "films"


@pytest.mark.parametrize(
    "option",
    [
        *({"source": "text"}, {"cosines": "none"}, {"a": 0.0}, {"a": float("inf")}, {"b": "0"}, {"max_terms": 0}),
        *({"min_gain": 1.0}, {"min_gain": None}, {"seed": -1}, {"seed": 0.5}),
    ],
    ids=str,
)
def test_bad_options_are_named(option):
    with pytest.raises(InputError, match=f"'{next(iter(option))}' must"):
        create_method("linear", **option)
