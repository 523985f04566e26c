"""Random sets of units as large and as lively as a given one: what taking out any such set would do."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mammi.errors import InputError

__all__ = ["matched_sets"]

#: A unit may be replaced by one of this many whose spread is nearest, itself among them.
NEAREST = 20


def matched_sets(
    units: Sequence[int], spread: NDArray[np.float64], n_sets: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Draw sets of units of the same size and of like spread.

    In random order every unit of the set is replaced by one drawn among the 20 units nearest to it in the order of
    spread that are not in the new set yet. Units of the given set may be drawn: it is itself one of the sets that
    could have been, so that its rank among them is a fair test.

    Args:
        units: the set, each once.
        spread: each unit's standard deviation over the films, shape ``(n_units,)``. A unit that never varies cannot
            change anything and is not drawn, unless too few others are left.
        n_sets: how many sets.
        seed: of the draws.

    Yields:
        Units, rising, int64, shape ``(len(units),)``.

    Raises:
        InputError: if a unit is named twice or does not exist.
    """
    chosen = list(units)
    if len(set(chosen)) < len(chosen) or any(not 0 <= unit < len(spread) for unit in chosen):
        raise InputError(f"units must be of 0 to {len(spread) - 1}, each once, got {chosen[:10]}")
    lively = np.nan_to_num(np.asarray(spread, dtype=np.float64), nan=0.0)
    varying = np.flatnonzero(lively > 0)
    pool = varying if len(varying) >= len(chosen) else np.arange(len(lively))
    order = pool[np.argsort(lively[pool], kind="stable")]
    wanted = np.searchsorted(lively[order], lively[chosen])
    generator = np.random.default_rng(seed)
    for _ in range(n_sets):
        free = np.ones(len(order), dtype=bool)
        for place in generator.permutation(wanted):
            left = np.flatnonzero(free)
            near = left[np.argsort(np.abs(left - place), kind="stable")[:NEAREST]]
            free[generator.choice(near)] = False
        yield np.sort(order[~free]).astype(np.int64)
