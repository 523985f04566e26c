"""The method on arrays: what is kept, in which order, and what is said where nothing is."""

import numpy as np
import pytest
import torch

from mammi.arrays import annotate_arrays
from mammi.errors import InputError
from mammi.functional.dissection import Areas
from mammi.methods import create_method

BOTH = [[10, 0, 30, 0], [4, 0, 1, 0], [20, 0, 20, 0], [0, 0, 0, 0]]


def areas():
    return Areas(torch.tensor(BOTH), torch.tensor([100, 100, 100, 0]), torch.tensor([60, 0, 60, 80]))


def call(**changes):
    rng = np.random.default_rng(0)
    arguments = {"areas": areas(), "method": "dissection"} | changes
    return annotate_arrays(rng.normal(size=(30, 4)), rng.normal(size=(30, 2)), rng.normal(size=(4, 2)), **arguments)


def test_all_above_the_threshold_are_kept_best_first():
    found = call()
    expected = [[10 / 150, np.nan, 30 / 130, 0], [4 / 156, np.nan, 1 / 159, 0], [1 / 7, np.nan, 1 / 7, 0]]
    np.testing.assert_allclose(found.scores, [*expected, [0, np.nan, 0, 0]])
    assert [list(kept) for kept in found.concepts] == [[2, 0], [], [0, 2], []]  # a tie: the lower index first
    assert found.verdict.reasons == [
        "",
        "its best overlap with a mask is 0.026, not above 0.04",
        "",
        "its map exceeds its own threshold nowhere on the films with masks",
    ]
    np.testing.assert_allclose(found.verdict.effect[0], [30 / 130, 10 / 150])
    assert found.verdict.q_value[0].isnan().all()
    assert [len(chosen) for chosen in found.examples] == [10] * 4


def test_the_threshold_is_strict_and_an_option():
    assert [list(kept) for kept in call(threshold=1 / 7).concepts] == [[2], [], [], []]
    assert [list(kept) for kept in call(threshold=0.02).concepts] == [[2, 0], [0], [0, 2], []]
    assert [list(kept) for kept in call(threshold=0).concepts] == [[2, 0], [0, 2], [0, 2], []]


def test_without_any_mask_it_says_so():
    none = Areas(torch.zeros(4, 4, dtype=torch.int64), torch.full((4,), 9), torch.zeros(4, dtype=torch.int64))
    found = call(areas=none)
    assert np.isnan(found.scores).all()
    assert found.verdict.reasons == ["no concept has a mask"] * 4


@pytest.mark.parametrize("threshold", [1.0, -0.1, "0.04", None, float("nan")])
def test_a_wrong_threshold_is_refused(threshold):
    with pytest.raises(InputError, match=r"'threshold' must be a number in \[0, 1\)"):
        create_method("dissection", threshold=threshold)


def test_missing_or_foreign_areas_are_refused():
    with pytest.raises(InputError, match="method 'dissection' needs 'areas'"):
        call(areas=None)
    with pytest.raises(InputError, match=r"'areas' must be of \(n_units, n_concepts\) = \(4, 4\), got \(3, 4\)"):
        call(areas=Areas(torch.zeros(3, 4), torch.zeros(3), torch.zeros(4)))
