import math

import numpy as np
import pytest

from mammi.arrays import annotate_arrays
from mammi.errors import InputError


def unit(row):
    return row / math.sqrt(sum(x * x for x in row))


def problem(n_images, seed):
    rng = np.random.default_rng(seed)
    activations = rng.normal(size=(n_images, 4)).round(1)
    activations[:, 2] = 1.0
    return activations, rng.normal(size=(n_images, 6)), rng.normal(size=(8, 6)), rng.normal(size=6)


@pytest.mark.parametrize(("n_images", "options"), [(90, {}), (17, {}), (90, {"top_k": 3, "concept_threshold": 0.5})])
@pytest.mark.parametrize("seed", range(4))
def test_equals_a_slow_re_derivation(n_images, options, seed):
    activations, images, concepts, template = problem(n_images, seed)
    found = annotate_arrays(activations, images, concepts, template, method="www", **options)
    for k, column in enumerate(activations.T):
        if k == 2:  # never varies
            assert np.isnan(found.scores[k]).all()
            assert not len(found.examples[k])
            assert not len(found.concepts[k])
            continue
        chosen = sorted(range(n_images), key=lambda i: (-column[i], i))[: options.get("top_k", 40)]
        row = [
            np.mean([unit(images[i]) @ unit(t) - unit(images[i]) @ unit(template) for i in chosen]) for t in concepts
        ]
        line = options.get("concept_threshold", 0.95) * max(row)
        assert list(found.examples[k]) == chosen
        np.testing.assert_allclose(found.scores[k], row, atol=1e-13)
        assert list(found.concepts[k]) == sorted((m for m in range(8) if row[m] > line), key=lambda m: -row[m])


def test_is_mammi_with_a_fixed_number_of_examples():
    arrays = problem(90, 1)
    found = annotate_arrays(*arrays, method="www")
    other = annotate_arrays(*arrays, method="mammi", selection="top-k", top_k=40)
    np.testing.assert_array_equal(found.scores, other.scores)


@pytest.mark.parametrize(
    "option", [{"top_k": 0}, {"top_k": "40"}, {"concept_threshold": 1}, {"concept_threshold": -0.1}]
)
def test_bad_options_are_named(option):
    with pytest.raises(InputError, match=next(iter(option))):
        annotate_arrays(*problem(20, 0), method="www", **option)
