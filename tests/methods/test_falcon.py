"""The contrast step against the formulas in plain loops, on a layer wide enough for films to stand out."""

import math

import numpy as np
import pytest

from mammi.arrays import annotate_arrays
from mammi.errors import InputError

DEFAULT = {
    "high_std": 5.0,
    "min_films": 10,
    "contrast_similarity": 0.3,
    "contrast_films": 10,
    "contrast_threshold": 0.1,
    "max_concepts": 8,
}


def problem(seed=0, n_images=150, n_units=60, n_concepts=12, d_embed=8):
    """Three units fire strongly on films of a kind; films of a kind are alike in the rest of the layer."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 4, size=n_images)
    patterns = rng.random(size=(4, n_units))
    activations = patterns[kind] + 0.3 * rng.random(size=(n_images, n_units))
    images = rng.normal(size=(n_images, d_embed))
    images += 2.0 * rng.normal(size=(4, d_embed))[kind]
    for unit in range(3):
        loud = (kind == unit) & (rng.random(n_images) < 0.6)
        activations[:, unit] = np.where(loud, 8 + rng.random(n_images), 0.1 * rng.random(n_images))
        images[loud] += 0.3 * rng.normal(size=d_embed)
    activations[7] = 0.0
    return activations, images, rng.normal(size=(n_concepts, d_embed))


def unit(row):
    return row / math.sqrt(sum(x * x for x in row))


def captions(image, concepts, top=5):
    values = [100 * (unit(image) @ unit(t)) for t in concepts]
    exp = [math.exp(x - max(values)) for x in values]
    share = [x / sum(exp) for x in exp]
    chosen = sorted(range(len(share)), key=lambda m: -share[m])[:top]
    return [share[m] if m in chosen else 0.0 for m in range(len(share))]


def slowly(activations, images, concepts, options):
    n_images, n_units = activations.shape
    r = np.array([row / (math.sqrt(sum(x * x for x in row)) or 1) for row in activations])
    entries = [x for row in r for x in row]
    mean = sum(entries) / len(entries)
    std = math.sqrt(sum((x - mean) ** 2 for x in entries) / (len(entries) - 1))
    answer = []
    for k in range(n_units):
        column = activations[:, k]
        high = [n for n in range(n_images) if r[n, k] >= mean + options["high_std"] * std]
        examples = sorted(high, key=lambda n: (-column[n], n)) or [max(range(n_images), key=lambda n: column[n])]
        scores = np.mean([captions(images[n], concepts) for n in examples], axis=0)
        removed, contrast = [], []
        if high:
            others = [i for i in range(n_units) if i != k]
            typical = [sum(r[n, i] for n in high) / len(high) for i in others]
            alike = {n: sum(r[n, i] * h for i, h in zip(others, typical, strict=True)) for n in range(n_images)}
            contrast = [n for n in range(n_images) if r[n, k] < mean and alike[n] >= options["contrast_similarity"]]
            contrast = sorted(contrast, key=lambda n: (-alike[n], n))[: options["contrast_films"]]
        if contrast:
            there = np.mean([captions(images[n], concepts) for n in contrast], axis=0)
            removed = [m for m in range(len(concepts)) if there[m] >= options["contrast_threshold"]]
        kept = sorted(
            (m for m in range(len(concepts)) if scores[m] > 0 and m not in removed), key=lambda m: (-scores[m], m)
        )
        enough = len(high) > options["min_films"]
        answer.append((examples, scores, kept[: options["max_concepts"]] if enough else [], removed, contrast))
    return answer


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"high_std": 3.0, "min_films": 2, "max_concepts": 2},
        {"contrast_similarity": 0.05, "contrast_films": 4, "contrast_threshold": 0.02},
        {"contrast_films": 0},
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_equals_a_slow_re_derivation(seed, options):
    arrays = problem(seed)
    found = annotate_arrays(*arrays, method="falcon", **options)
    expected = slowly(*arrays, {**DEFAULT, **options})
    for k, (examples, scores, kept, _, _) in enumerate(expected):
        assert list(found.examples[k]) == examples
        np.testing.assert_allclose(found.scores[k], scores, atol=1e-12)
        assert list(found.concepts[k]) == kept


def test_the_problem_exercises_every_step():
    """What the test above compares is there: named and unnamed units, contrast films, concepts removed by them."""
    expected = slowly(*problem(), DEFAULT)
    assert [bool(kept) for _, _, kept, _, _ in expected[:3]] == [True] * 3
    assert any(not kept for _, _, kept, _, _ in expected)
    assert all(len(contrast) == 10 for *_, contrast in expected[:3])
    assert any(set(np.flatnonzero(scores)) & set(removed) for _, scores, kept, removed, _ in expected if kept)


def test_concepts_that_look_alike_films_share_are_removed():
    """Films 0 to 14 show A and B and excite unit 0; films 15 to 29 show B alone and differ in nothing else."""
    rng = np.random.default_rng(0)
    activations = np.tile(rng.random(50), (30, 1)) + 0.01 * rng.random((30, 50))
    activations[:, 0] = np.where(np.arange(30) < 15, 9.0, 0.0)
    images = np.tile([0.0, 1.0, 0.0], (30, 1))
    images[:15, 0] = 1.0
    found = annotate_arrays(activations, images, np.eye(3), method="falcon")
    assert found.concepts[0][0] == 0
    assert 1 not in found.concepts[0]
    line = annotate_arrays(activations, images, np.eye(3), method="falcon", contrast_threshold=1.0)
    assert 1 not in line.concepts[0]  # it scores 1 on the films that show nothing else: on the line is removed
    plain = annotate_arrays(activations, images, np.eye(3), method="falcon", contrast_films=0)
    assert set(plain.concepts[0][:2]) == {0, 1}
    assert len(annotate_arrays(activations, images, np.eye(3), method="falcon", min_films=14).concepts[0])
    assert not len(annotate_arrays(activations, images, np.eye(3), method="falcon", min_films=15).concepts[0])


def test_the_reasons_are_said():
    arrays = problem()
    found = annotate_arrays(*arrays, method="falcon")
    assert found.verdict.reasons[0] == ""
    assert found.verdict.reasons[5] == "it is high on 0 films, and more than 10 are asked for"
    assert len(found.examples[5]) == 1
    bare = annotate_arrays(*arrays, method="falcon", contrast_similarity=-1, contrast_threshold=0)
    assert bare.verdict.reasons[0] == "films that lack it show every one of its concepts"


def test_the_order_of_images_units_and_concepts_changes_nothing():
    activations, images, concepts = problem()
    rng = np.random.default_rng(1)
    films, units, words = rng.permutation(150), rng.permutation(60), rng.permutation(12)
    plain = annotate_arrays(activations, images, concepts, method="falcon")
    moved = annotate_arrays(activations[films][:, units], images[films], concepts[words], method="falcon")
    np.testing.assert_allclose(moved.scores, plain.scores[units][:, words], atol=1e-12)
    assert [list(words[kept]) for kept in moved.concepts] == [list(plain.concepts[unit]) for unit in units]
    assert [list(films[chosen]) for chosen in moved.examples] == [list(plain.examples[unit]) for unit in units]


def test_dead_and_broken_units_are_no_part_of_the_layer():
    activations, images, concepts = problem()
    alone = annotate_arrays(activations, images, concepts, method="falcon")
    mixed = np.insert(activations, [0, 2], 50.0, axis=1)
    mixed[5, 0] = np.nan
    found = annotate_arrays(mixed, images, concepts, method="falcon")
    good = [1, 2, *range(4, 62)]
    np.testing.assert_array_equal(found.scores[good], alone.scores)
    assert [list(found.examples[unit]) for unit in good] == [list(chosen) for chosen in alone.examples]
    assert [list(found.concepts[unit]) for unit in good] == [list(kept) for kept in alone.concepts]
    assert not len(found.concepts[0])
    assert not len(found.concepts[3])


def test_all_units_dead():
    _, images, concepts = problem()
    found = annotate_arrays(np.ones((150, 3)), images, concepts, method="falcon")
    assert [len(chosen) for chosen in found.examples] == [0, 0, 0]


def test_several_templates_keep_their_pairing():
    activations, images, _ = problem()
    several = np.random.default_rng(2).normal(size=(9, 3, 8))
    rows = np.array([unit(np.mean([unit(row) for row in rows], axis=0)) for rows in several])
    found = annotate_arrays(activations, images, several, method="falcon")
    np.testing.assert_allclose(found.scores, annotate_arrays(activations, images, rows, method="falcon").scores)


@pytest.mark.parametrize(
    "option",
    [
        *({"high_std": -1}, {"high_std": "5"}, {"high_std": float("nan")}, {"min_films": -1}, {"min_films": 1.5}),
        *({"contrast_similarity": -2}, {"contrast_films": -1}, {"contrast_threshold": -0.1}, {"max_concepts": 0}),
    ],
)
def test_bad_options_are_named(option):
    with pytest.raises(InputError, match=next(iter(option))):
        annotate_arrays(*problem(), method="falcon", **option)
