import math

import numpy as np
import pytest

from mammi.arrays import annotate_arrays
from mammi.errors import InputError


def problem(seed=0, n_images=30):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n_images, 5)) + 1
    return 100 + rng.normal(size=(n_images, 4)), images, rng.normal(size=(6, 5))


def slow_correlation(x, y):
    mx, my = sum(x) / len(x), sum(y) / len(y)
    top = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    return top / math.sqrt(sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y))


@pytest.mark.parametrize("seed", range(4))
def test_equals_a_slow_re_derivation(seed):
    activations, images, concepts = problem(seed)
    found = annotate_arrays(activations, images, concepts, np.ones(5), method="correlation")
    for k, column in enumerate(activations.T):
        cosines = [[e @ t / np.linalg.norm(e) / np.linalg.norm(t) for e in images] for t in concepts]
        row = [slow_correlation(column, column_of_concept) for column_of_concept in cosines]
        np.testing.assert_allclose(found.scores[k], row, atol=1e-12)
        assert list(found.concepts[k]) == [int(np.argmax(row))]
        assert list(found.examples[k]) == sorted(range(30), key=lambda i: -column[i])[:10]


def test_a_positive_affine_map_of_a_unit_changes_nothing_and_a_negative_one_the_sign():
    activations, images, concepts = problem()
    plain = annotate_arrays(activations, images, concepts, method="correlation")
    for scale in (3.0, 1e30, -2.0, -1e200):
        moved = annotate_arrays(scale * (activations - 100), images, concepts, method="correlation")
        np.testing.assert_allclose(moved.scores, np.sign(scale) * plain.scores, atol=1e-12)


def test_concepts_that_never_vary_have_no_score_and_cost_no_other():
    activations, images, concepts = problem()
    flat = np.column_stack([images / np.linalg.norm(images, axis=1, keepdims=True), np.full(30, 0.3)])
    words = np.column_stack([concepts, np.zeros(6)])
    words[2] = [0, 0, 0, 0, 0, 1]
    found = annotate_arrays(activations, flat, words, method="correlation")
    assert np.isnan(found.scores[:, 2]).all()
    assert np.isfinite(np.delete(found.scores, 2, axis=1)).all()
    assert all(len(kept) == 1 and kept[0] != 2 for kept in found.concepts)
    alike = annotate_arrays(activations, np.tile(images[:1], (30, 1)), concepts, method="correlation")
    assert np.isnan(alike.scores).all()
    assert alike.verdict.reasons == ["no concept's cosine rises with its activation"] * 4


def test_a_best_correlation_below_zero_names_nothing():
    activations, images, concepts = problem()
    activations[:, 1] = -(images / np.linalg.norm(images, axis=1, keepdims=True)) @ concepts[0]
    found = annotate_arrays(activations, images, concepts[:1], method="correlation")
    assert found.scores[1, 0] == pytest.approx(-1)
    assert len(found.concepts[1]) == 0


def test_bad_options_are_named():
    with pytest.raises(InputError, match="top_k"):
        annotate_arrays(*problem(), method="correlation", top_k=0)
