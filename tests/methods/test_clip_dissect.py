"""Every similarity through the door on arrays, against the formulas in plain loops."""

import math

import numpy as np
import pytest
import torch

from mammi.arrays import annotate_arrays
from mammi.errors import InputError

SIMILARITIES = ["cos_similarity", "cos_similarity_cubed", "rank_reorder", "wpmi", "soft_wpmi"]


def problem(n_images=130, n_units=4, n_concepts=7, d_embed=5, seed=0):
    rng = np.random.default_rng(seed)
    activations = rng.normal(size=(n_images, n_units)).round(1)  # rounded: ties in the ranking
    images = rng.normal(size=(n_images, d_embed)) + 1.5
    return activations, images, rng.normal(size=(n_concepts, d_embed)) + 0.5


def unit(row):
    return row / math.sqrt(sum(x * x for x in row))


def mean_row(templates):
    return unit(np.mean([unit(row) for row in templates], axis=0))


def ranked(column, k):
    return sorted(range(len(column)), key=lambda i: (-column[i], i))[:k]


def softmax(values):
    exp = [math.exp(x - max(values)) for x in values]
    return [x / sum(exp) for x in exp]


def slow_pmi(activations, cosines, top_k, a, lam, schedule):
    likelihoods = []
    for column in activations.T:
        row = [0.0] * cosines.shape[1]
        for r, j in enumerate(ranked(column, top_k)):
            q = softmax([a * p for p in cosines[j]])
            for m in range(len(row)):
                row[m] += math.log(1 + schedule(r) * (q[m] - 1) + 1e-7)
        likelihoods.append(row)
    k = len(likelihoods)
    return [
        [
            row[m] - lam * (math.log(sum(math.exp(other[m]) for other in likelihoods)) - math.log(k))
            for m in range(len(row))
        ]
        for row in likelihoods
    ]


def slow_soft_wpmi(activations, cosines, top_k=100):
    return slow_pmi(activations, cosines, top_k, 10, 1, lambda r: 0.998 - r / top_k * (0.998 - 0.97))


def slow_wpmi(activations, cosines, top_k=28):
    return slow_pmi(activations, cosines, top_k, 2, 0.6, lambda r: 1.0)


def slow_rank_reorder(activations, cosines, top_k=None, seed=0):
    scores = []
    h = top_k or max(2, int(0.05 * len(activations)))
    h = min(h, len(activations))
    for column in activations.T:
        chosen = ranked(column, h)
        t = [column[j] for j in chosen]
        rising = sorted(t)
        generator = torch.Generator().manual_seed(seed)
        orders = [torch.randperm(h, generator=generator).tolist() for _ in range(5)]
        b = np.mean([[abs(rising[i] - rising[order[i]]) ** 3 for i in range(h)] for order in orders])
        row = []
        for m in range(cosines.shape[1]):
            p = [cosines[j, m] for j in chosen]
            rank = [sum(other < p[r] for other in p) for r in range(h)]
            e = np.mean([abs(t[r] - rising[rank[r]]) ** 3 for r in range(h)])
            mean = sum(p) / h
            row.append(-e / b / math.sqrt(mean) if mean > 0 else math.nan)
        scores.append(row)
    return scores


def slow_cos_similarity(activations, cosines):
    return [
        [
            sum(a * p for a, p in zip(column, cosines[:, m], strict=True))
            / math.sqrt(sum(a * a for a in column))
            / math.sqrt(sum(p * p for p in cosines[:, m]))
            for m in range(cosines.shape[1])
        ]
        for column in activations.T
    ]


def slow_cos_similarity_cubed(activations, cosines):
    def cubes(column):
        mean = sum(column) / len(column)
        cubed = [(x - mean) ** 3 for x in column]
        length = max(1e-3, math.sqrt(sum(x * x for x in cubed)))
        return [x / length for x in cubed]

    return [
        [sum(x * y for x, y in zip(cubes(column), cubes(cosines[:, m]), strict=True)) for m in range(cosines.shape[1])]
        for column in activations.T
    ]


SLOW = {name: globals()[f"slow_{name}"] for name in SIMILARITIES}
SHOWN = {"wpmi": 28, "soft_wpmi": 100, "cos_similarity": 10, "cos_similarity_cubed": 10, "rank_reorder": 6}


def best(row):
    known = [(-score, m) for m, score in enumerate(row) if not math.isnan(score)]
    return [min(known)[1]] if known else []


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("seed", range(4))
def test_equals_a_slow_re_derivation(similarity, seed):
    activations, images, concepts = problem(seed=seed)
    cosines = np.array([[unit(e) @ unit(t) for t in concepts] for e in images])
    found = annotate_arrays(activations, images, concepts, method="clip-dissect", similarity=similarity)
    scores = np.array(SLOW[similarity](activations, cosines))
    np.testing.assert_allclose(found.scores, scores, rtol=1e-10, atol=1e-10)
    assert [list(kept) for kept in found.concepts] == [best(row) for row in scores]
    shown = SHOWN[similarity]
    assert [list(chosen) for chosen in found.examples] == [ranked(column, shown) for column in activations.T]


def test_the_default_is_soft_wpmi():
    arrays = problem()
    found = annotate_arrays(*arrays, method="clip-dissect")
    named = annotate_arrays(*arrays, method="clip-dissect", similarity="soft_wpmi")
    np.testing.assert_array_equal(found.scores, named.scores)


@pytest.mark.parametrize("similarity", ["rank_reorder", "wpmi", "soft_wpmi"])
@pytest.mark.parametrize("top_k", [5, 40, 1000])
def test_fewer_or_more_films_than_there_are(similarity, top_k):
    """More than there are means all of them; the schedule of probabilities stays that of the number asked for."""
    activations, images, concepts = problem(n_images=60)
    activations = activations + np.linspace(0, 1e-3, 60)[:, None]
    cosines = np.array([[unit(e) @ unit(t) for t in concepts] for e in images])
    found = annotate_arrays(activations, images, concepts, method="clip-dissect", similarity=similarity, top_k=top_k)
    assert {len(chosen) for chosen in found.examples} == {min(top_k, 60)}
    np.testing.assert_allclose(found.scores, SLOW[similarity](activations, cosines, top_k), rtol=1e-10)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_dead_and_broken_units_are_no_part_of_the_layer(similarity):
    activations, images, concepts = problem()
    alone = annotate_arrays(activations, images, concepts, method="clip-dissect", similarity=similarity)
    mixed = np.insert(activations, [0, 2], 3.0, axis=1)
    mixed[5, 0] = np.nan
    found = annotate_arrays(mixed, images, concepts, method="clip-dissect", similarity=similarity)
    np.testing.assert_array_equal(found.scores[[1, 2, 4, 5]], alone.scores)
    assert np.isnan(found.scores[[0, 3]]).all()
    assert [len(kept) for kept in found.concepts] == [0, 1, 1, 0, 1, 1]


@pytest.mark.parametrize("similarity", ["wpmi", "soft_wpmi"])
def test_the_marginal_is_over_the_layer(similarity):
    activations, images, concepts = problem()
    whole = annotate_arrays(activations, images, concepts, method="clip-dissect", similarity=similarity)
    part = annotate_arrays(activations[:, :2], images, concepts, method="clip-dissect", similarity=similarity)
    assert np.abs(part.scores - whole.scores[:2]).max() > 1e-3


@pytest.mark.parametrize("similarity", ["cos_similarity", "cos_similarity_cubed", "rank_reorder"])
def test_without_a_marginal_a_unit_stands_alone(similarity):
    activations, images, concepts = problem()
    whole = annotate_arrays(activations, images, concepts, method="clip-dissect", similarity=similarity)
    part = annotate_arrays(activations[:, 2:3], images, concepts, method="clip-dissect", similarity=similarity)
    np.testing.assert_allclose(part.scores[0], whole.scores[2], rtol=1e-12)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_the_order_of_images_units_and_concepts_changes_nothing(similarity):
    rng = np.random.default_rng(8)
    _, images, concepts = problem()
    activations = rng.normal(size=(130, 4))
    plain = annotate_arrays(activations, images, concepts, method="clip-dissect", similarity=similarity)
    films, units, words = rng.permutation(130), rng.permutation(4), rng.permutation(7)
    moved = annotate_arrays(
        activations[films][:, units], images[films], concepts[words], method="clip-dissect", similarity=similarity
    )
    np.testing.assert_allclose(moved.scores, plain.scores[units][:, words], rtol=1e-9, atol=1e-12)
    assert [list(films[chosen]) for chosen in moved.examples] == [list(plain.examples[unit]) for unit in units]
    assert [list(words[kept]) for kept in moved.concepts] == [list(plain.concepts[unit]) for unit in units]


def test_several_templates_are_averaged_and_the_bare_one_is_not_used():
    activations, images, _ = problem()
    several = np.random.default_rng(2).normal(size=(4, 3, 5))
    found = annotate_arrays(activations, images, several, np.ones((3, 5)), method="clip-dissect")
    rows = np.array([mean_row(templates) for templates in several])
    np.testing.assert_allclose(found.scores, annotate_arrays(activations, images, rows, method="clip-dissect").scores)


def test_the_seed_scales_the_scores_of_a_unit_and_nothing_else():
    arrays = problem()
    first, again, other = (
        annotate_arrays(*arrays, method="clip-dissect", similarity="rank_reorder", seed=seed) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.scores, again.scores)
    valued = np.isfinite(first.scores).all(axis=0)
    assert valued.sum() > 3
    ratio = (first.scores / other.scores)[:, valued]
    assert abs(ratio[0, 0] - 1) > 1e-3
    np.testing.assert_allclose(ratio, np.repeat(ratio[:, :1], valued.sum(), axis=1))


def test_units_without_a_value_say_so():
    activations, images, concepts = problem()
    activations[:, 1] = np.minimum(activations[:, 1], -3)  # its strongest films do not differ
    activations[0, 1] = -4
    found = annotate_arrays(activations, images, -np.abs(concepts), method="clip-dissect", similarity="rank_reorder")
    assert np.isnan(found.scores[1]).all()
    assert found.verdict.reasons[1] == "rank_reorder has no value"
    assert len(found.concepts[1]) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"similarity": "wpmi2"},
        *({"top_k": 0}, {"top_k": 2.5}, {"top_k": 10**12}),
        {"seed": -1},
        {"top_k": 1, "similarity": "rank_reorder"},
    ],
)
def test_bad_options_are_named(options):
    with pytest.raises(InputError, match=next(iter(options))):
        annotate_arrays(*problem(), method="clip-dissect", **options)
