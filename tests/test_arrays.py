import numpy as np
import pytest
import torch

from mammi.arrays import annotate_arrays
from mammi.errors import InputError, UnknownNameError
from mammi.functional.dissection import Areas
from mammi.methods import METHODS


def problem(n_images=13, n_units=5, n_concepts=8, d_embed=6, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n_images, n_units)),
        rng.normal(size=(n_images, d_embed)) * rng.uniform(0.1, 9, size=(n_images, 1)),
        rng.normal(size=(n_concepts, d_embed)) * 3,
        rng.normal(size=d_embed),
    )


def slowly(activations, images, concepts, template, a=0.93, beta=0.95):
    """MAMMI from the formulas, one unit, one film, one concept at a time."""

    def cos(u, v):
        return float(u @ v / np.sqrt(u @ u) / np.sqrt(v @ v))

    examples, scores, kept = [], [], []
    for column in activations.T:
        cut = column.min() + a * (column.max() - column.min())
        chosen = sorted((i for i, x in enumerate(column) if x > cut), key=lambda i: (-column[i], i))
        row = [
            np.mean([cos(images[i], t) - (0 if template is None else cos(images[i], template)) for i in chosen])
            if chosen
            else np.nan
            for t in concepts
        ]
        best = max(row)
        examples.append(chosen)
        scores.append(row)
        kept.append(sorted((m for m, s in enumerate(row) if s > beta * best), key=lambda m: (-row[m], m)))
    return examples, np.array(scores), kept


@pytest.mark.parametrize("with_template", [True, False])
@pytest.mark.parametrize(("a", "beta"), [(0.93, 0.95), (0.5, 0.6)])
@pytest.mark.parametrize("seed", range(5))
def test_mammi_equals_a_slow_re_derivation(seed, a, beta, with_template):
    activations, images, concepts, template = problem(seed=seed)
    activations[:, 2] = 4.0  # a dead unit in the middle
    template = template if with_template else None
    found = annotate_arrays(activations, images, concepts, template, example_threshold=a, concept_threshold=beta)
    examples, scores, kept = slowly(activations, images, concepts, template, a, beta)
    assert [list(chosen) for chosen in found.examples] == examples
    np.testing.assert_allclose(found.scores, scores, atol=1e-13)
    assert [list(row) for row in found.concepts] == kept
    assert np.isnan(found.scores[2]).all()
    assert len(found.concepts[2]) == 0


def test_lists_arrays_and_tensors_of_any_precision_are_welcome():
    activations, images, concepts, template = problem()
    expected = annotate_arrays(activations, images, concepts, template)
    for convert in (np.ndarray.tolist, torch.from_numpy, np.asfortranarray):
        found = annotate_arrays(*(convert(x) for x in (activations, images, concepts)), convert(template))
        np.testing.assert_array_equal(found.scores, expected.scores)
    half = annotate_arrays(*(torch.from_numpy(x).half() for x in (activations, images, concepts)))
    assert np.isfinite(half.scores).all()
    column = annotate_arrays(activations, images, concepts, template[None])
    np.testing.assert_array_equal(column.scores, expected.scores)
    for kind in (">f4", ">f8", np.longdouble):
        swapped = annotate_arrays(*(x.astype(kind) for x in (activations, images, concepts, template)))
        np.testing.assert_allclose(swapped.scores, expected.scores, atol=1e-6)
    strided = annotate_arrays(np.repeat(activations, 2, axis=0)[::2], images[::-1][::-1], concepts, template)
    np.testing.assert_array_equal(strided.scores, expected.scores)
    whole = annotate_arrays((activations * 10).astype(int), images, concepts)
    assert len(whole.examples) == 5


@pytest.mark.parametrize("method", METHODS.names())
def test_a_broken_or_dead_unit_costs_no_other(method):
    """With units that are NaN, infinite or constant in between, the others get what they get without them."""
    activations, images, concepts, template = problem(n_images=90)
    extra = {"labels": np.random.default_rng(5).integers(0, 2, size=(90, 8))}
    units, both = torch.arange(100, 105), torch.randint(50, (5, 8), generator=torch.Generator().manual_seed(0))
    areas = Areas(both, units, torch.full((8,), 60))
    alone = annotate_arrays(activations, images, concepts, template, method=method, areas=areas, **extra)
    mixed = np.insert(activations, [0, 3, 5], np.nan, axis=1)
    mixed[4:, 0] = 1.0
    mixed[7, 4] = np.inf
    mixed[:, 7] = 2.5
    good = [1, 2, 3, 5, 6]
    places = torch.tensor([0, 0, 1, 2, 3, 3, 4, 4])  # the broken ones have the counts of a neighbour
    areas = Areas(both[places], units[places], areas.concepts)
    found = annotate_arrays(mixed, images, concepts, template, method=method, areas=areas, **extra)
    np.testing.assert_array_equal(found.scores[good], alone.scores)
    assert [list(found.concepts[unit]) for unit in good] == [list(kept) for kept in alone.concepts]
    for unit in (0, 4, 7):
        assert np.isnan(found.scores[unit]).all()
        assert not len(found.examples[unit])
        assert not len(found.concepts[unit])


def test_several_templates_keep_their_pairing():
    activations, images, _, _ = problem()
    rng = np.random.default_rng(3)
    concepts, bare = rng.normal(size=(4, 3, 6)), rng.normal(size=(3, 6))

    def mean_row(rows):
        mean = np.mean([row / np.linalg.norm(row) for row in rows], axis=0)
        return mean / np.linalg.norm(mean)

    found = annotate_arrays(activations, images, concepts, bare)
    slow = annotate_arrays(activations, images, np.array([mean_row(rows) for rows in concepts]), mean_row(bare))
    np.testing.assert_allclose(found.scores, slow.scores, atol=1e-13)
    swapped = annotate_arrays(activations, images, concepts[:, ::-1], bare[::-1])
    np.testing.assert_allclose(found.scores, swapped.scores, atol=1e-13)


def test_inputs_are_left_alone():
    arrays = problem()
    before = [array.copy() for array in arrays]
    annotate_arrays(*arrays)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_units_and_concepts_do_not_depend_on_their_company():
    activations, images, concepts, template = problem(n_images=40, n_units=6, n_concepts=9)
    whole = annotate_arrays(activations, images, concepts, template)
    part = annotate_arrays(activations[:, 3:4], images, concepts, template)
    np.testing.assert_allclose(part.scores[0], whole.scores[3], atol=1e-15)
    few = annotate_arrays(activations, images, concepts[4:6], template)
    np.testing.assert_allclose(few.scores, whole.scores[:, 4:6], atol=1e-15)


def test_order_of_images_changes_nothing():
    activations, images, concepts, template = problem(n_images=40)
    order = np.random.default_rng(1).permutation(40)
    plain = annotate_arrays(activations, images, concepts, template, example_threshold=0.4)
    moved = annotate_arrays(activations[order], images[order], concepts, template, example_threshold=0.4)
    assert [list(order[chosen]) for chosen in moved.examples] == [list(chosen) for chosen in plain.examples]
    np.testing.assert_allclose(moved.scores, plain.scores, atol=1e-14)


def test_bounds_on_the_number_of_examples():
    activations, images, concepts, _ = problem(n_images=30)
    found = annotate_arrays(activations, images, concepts, min_examples=4, max_examples=5)
    assert {len(chosen) for chosen in found.examples} <= {4, 5}
    top = annotate_arrays(activations, images, concepts, selection="top-k", top_k=100)
    assert [len(chosen) for chosen in top.examples] == [30] * 5  # fewer images than k
    some = annotate_arrays(activations, images, concepts, selection="quantile", quantile=0.8)
    assert [len(chosen) for chosen in some.examples] == [6] * 5


@pytest.mark.parametrize("method", METHODS.names())
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"activations": np.zeros((13, 2, 2))}, "'activations' must have 2 axes"),
        ({"activations": np.zeros((12, 2))}, "'activations' holds 12 images and 'image_embeddings' 13"),
        ({"activations": np.zeros((0, 2)), "image_embeddings": np.zeros((0, 6))}, "'activations' holds no image"),
        ({"image_embeddings": np.zeros((13, 6))}, "'image_embeddings' has 13 rows without a direction"),
        ({"concept_embeddings": np.ones((2, 7))}, "embedded in 6 dimensions and concepts in 7"),
        ({"concept_embeddings": np.ones((0, 6))}, "holds no concept"),
        ({"concept_embeddings": np.array([["a"]])}, "'concept_embeddings' must be numbers"),
        ({"template_embedding": np.ones(5)}, "'template_embedding' must be"),
        ({"activations": [[1.0], [2.0, 3.0]]}, "'activations' is no array of numbers"),
        ({"activations": np.ma.masked_less(np.ones((13, 2)), 0)}, "'activations' is a masked array"),
    ],
)
def test_bad_arrays_are_named(method, change, match):
    activations, images, concepts, template = problem()
    arguments = {
        "activations": activations,
        "image_embeddings": images,
        "concept_embeddings": concepts,
        "template_embedding": template,
    }
    with pytest.raises(InputError, match=match):
        annotate_arrays(**{**arguments, **change}, method=method)


def test_unknown_methods_and_options_get_a_suggestion():
    arrays = problem()
    with pytest.raises(UnknownNameError, match=r"'mami' is not known\. Did you mean 'mammi'"):
        annotate_arrays(*arrays, method="mami")
    with pytest.raises(InputError, match=r"no option 'example_treshold'\. Did you mean 'example_threshold'"):
        annotate_arrays(*arrays, example_treshold=0.9)
    for option in (
        *({"example_threshold": 1.0}, {"example_threshold": "0.9"}, {"concept_threshold": None}),
        *({"selection": "best"}, {"top_k": 0}, {"top_k": 2.5}, {"min_examples": -1}, {"min_examples": 2.5}),
        *({"max_examples": 10**20}, {"max_examples": "5"}, {"quantile": float("nan")}),
    ):
        with pytest.raises(InputError, match=next(iter(option))):
            annotate_arrays(*arrays, **option)
