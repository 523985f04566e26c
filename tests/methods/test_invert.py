import numpy as np
import pytest

from mammi.arrays import annotate_arrays
from mammi.errors import InputError
from mammi.methods import create_method


def films(seed=0, n_films=400, n_concepts=9, d_embed=16, rate=0.2):
    """Films of several findings at once, embedded as the sum of their concepts and noise."""
    rng = np.random.default_rng(seed)
    present = rng.uniform(size=(n_films, n_concepts)) < rate
    concepts = np.linalg.qr(rng.normal(size=(d_embed, n_concepts)))[0].T
    images = present @ concepts + 0.02 * rng.normal(size=(n_films, d_embed))
    images += 0.3 * rng.normal(size=d_embed)
    return rng, present, images, concepts


def units_of(rng, *rules):
    return np.column_stack([rule + rng.uniform(0, 0.9, size=len(rule)) for rule in rules])


@pytest.mark.parametrize("seed", range(3))
def test_planted_formulas_by_labels(seed):
    rng, y, images, concepts = films(seed)
    units = units_of(rng, y[:, 4], y[:, 1] | y[:, 6], y[:, 2] & ~y[:, 5], ~(y[:, 3] | y[:, 0]), ~y[:, 8])
    found = annotate_arrays(
        units, images, concepts, labels=y.astype(float), method="invert", source="labels", max_fraction=0.95
    )
    assert found.formulas[0] == ""
    assert list(found.concepts[0]) == [4]
    assert found.formulas[1] in ("{1} OR {6}", "{6} OR {1}")
    assert sorted(found.concepts[1]) == [1, 6]
    assert found.formulas[2] == "{2} AND NOT {5}"
    assert list(found.concepts[2]) == [2]
    assert found.formulas[3] in ("NOT {3} AND NOT {0}", "NOT {0} AND NOT {3}")
    assert sorted(found.concepts[3]) == [0, 3]
    assert found.formulas[4] == "NOT {8}"
    assert list(found.concepts[4]) == [8]
    for kept, effect, scores in zip(found.concepts, found.verdict.effect, found.scores, strict=True):
        assert effect.tolist() == [1.0] * len(kept)  # the formula separates, whatever its concepts do alone
        assert list(kept) == sorted(kept, key=lambda m: -abs(scores[m] - 0.5))
    assert found.scores[4, 8] == 0
    assert found.verdict.reasons == [""] * 5


def test_vision_language_scores_stand_in_for_labels():
    rng, y, images, concepts = films(3, rate=0.1)
    units = units_of(rng, y[:, 4], y[:, 1])
    template = rng.normal(size=16)
    found = annotate_arrays(units, images, concepts, template, method="invert", share=0.1)
    rows = images / np.linalg.norm(images, axis=1, keepdims=True)
    corrected = rows @ (concepts - template / np.linalg.norm(template)).T
    by_hand = corrected >= np.sort(corrected, axis=0)[-40]
    assert (by_hand.sum(axis=0) == 40).all()
    same = annotate_arrays(units, images, concepts, labels=by_hand, method="invert", source="labels")
    np.testing.assert_array_equal(found.scores, same.scores)
    assert found.formulas == same.formulas
    plain = annotate_arrays(units, images, concepts, method="invert", share=0.1)
    assert [kept[0] for kept in plain.concepts] == [4, 1]
    assert not np.array_equal(plain.scores, found.scores)  # the template's cosine differs from film to film


def test_unknown_labels_are_left_out():
    rng, y, images, concepts = films(5)
    labels = y.astype(float)
    labels[rng.uniform(size=labels.shape) < 0.3] = np.nan
    labels[:, 7] = np.nan
    units = units_of(rng, y[:, 2] & ~y[:, 5])
    found = annotate_arrays(units, images, concepts, labels=labels, method="invert", source="labels", length=2)
    assert found.formulas == ["{2} AND NOT {5}"]
    assert np.isnan(found.scores[0, 7])
    known = ~np.isnan(labels[:, 2])
    with_it, without = (units[known & (labels[:, 2] == value), 0] for value in (1, 0))
    assert found.scores[0, 2] == np.mean([[a > b for b in without] for a in with_it])


def test_nothing_between_the_fractions_is_no_concept():
    rng, y, images, concepts = films(6, n_films=40)
    found = annotate_arrays(
        units_of(rng, y[:, 0]), images, concepts, labels=np.ones_like(y), method="invert", source="labels"
    )
    assert [len(kept) for kept in found.concepts] == [0]
    assert found.formulas == [""]
    assert found.verdict.reasons == ["no concept or formula holds on 0 to 0.5 of the films and fails on others"]
    assert np.isnan(found.scores).all()
    single = annotate_arrays([[1.0]], images[:1], concepts, method="invert")
    assert [len(kept) for kept in single.concepts] == [0]


def test_order_of_films_and_batches_change_nothing(monkeypatch):
    rng, _, images, concepts = films(7, n_films=90)
    units = rng.normal(size=(90, 7))
    plain = annotate_arrays(units, images, concepts, method="invert")
    order = rng.permutation(90)
    moved = annotate_arrays(units[order], images[order], concepts, method="invert")
    np.testing.assert_allclose(moved.scores, plain.scores, atol=1e-14)
    assert moved.formulas == plain.formulas
    monkeypatch.setattr("mammi.methods.units.TILE", 2)
    tiled = annotate_arrays(units, images, concepts, method="invert")
    np.testing.assert_array_equal(tiled.scores, plain.scores)
    assert tiled.formulas == plain.formulas
    assert [len(chosen) for chosen in plain.examples] == [10] * 7


def test_labels_are_asked_for():
    _, _, images, concepts = films(8, n_films=20)
    with pytest.raises(InputError, match="method 'invert' needs 'labels'"):
        annotate_arrays(np.arange(20.0)[:, None], images, concepts, method="invert", source="labels")
    assert create_method("invert").needs == "films"


@pytest.mark.parametrize(
    "option",
    [
        *({"source": "text"}, {"length": 0}, {"beam": 1.5}, {"limit_search": 0}, {"limit_search": "all"}),
        *({"min_fraction": -0.1}, {"max_fraction": float("nan")}, {"share": 0.0}, {"share": 1.0}, {"share": None}),
        {"min_fraction": 0.6},
    ],
    ids=str,
)
def test_bad_options_are_named(option):
    with pytest.raises(InputError, match=f"'{next(iter(option))}' must"):
        create_method("invert", **option)
