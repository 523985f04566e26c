"""Random sets of units: size, likeness, seed, and what is not drawn."""

import numpy as np
import pytest

from mammi.errors import InputError
from mammi.functional.unit_sets import NEAREST, matched_sets


def test_sets_are_of_the_same_size_and_of_like_spread():
    spread = np.random.default_rng(0).permutation(np.arange(1.0, 201.0))
    units = [int(np.flatnonzero(spread == s)[0]) for s in (30, 31, 32, 170)]
    seen = set()
    for drawn in matched_sets(units, spread, 300, seed=1):
        assert len(set(drawn.tolist())) == 4
        assert drawn.tolist() == sorted(drawn.tolist())
        near = np.sort(spread[drawn])
        assert np.abs(near - [30, 31, 32, 170]).max() <= NEAREST
        seen |= set(drawn.tolist())
    assert len(seen) > 30
    assert set(units) & seen  # the true set is one of those that could have been drawn


def test_units_that_never_vary_are_drawn_last():
    spread = np.array([0.0, 1.0, 2.0, 3.0, np.nan, 0.0])
    for drawn in matched_sets([1, 0], spread, 20, seed=0):
        assert set(drawn.tolist()) <= {1, 2, 3}
    for drawn in matched_sets([0, 1, 2, 3], spread, 5, seed=0):
        assert len(set(drawn.tolist())) == 4


def test_the_same_seed_draws_the_same_sets_whatever_the_order():
    spread = np.arange(50.0)
    first, again, other = (
        [drawn.tolist() for drawn in matched_sets([4, 40], spread, 9, seed=seed)] for seed in (3, 3, 4)
    )
    assert first == again != other


@pytest.mark.parametrize("units", [[0, 0], [3], [-1]])
def test_units_must_exist_once(units):
    with pytest.raises(InputError, match="of 0 to 2, each once"):
        next(matched_sets(units, np.ones(3), 1, 0))
