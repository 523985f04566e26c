"""Whether a map is strong where the truth is: the pointing game, overlap, energy and side, map by map.

Every function takes maps of shape ``(..., height, width)``, floating, on the grid of ``truth``, bool, shape ``(height,
width)``, and returns float64 of shape ``(...)``. Pixels where a map is NaN (what a network never saw) are left out: of the
map and of the truth. The answer is NaN where nothing of the truth was seen, or the whole map is NaN.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mammi.errors import InputError

__all__ = [
    "SHARE",
    "SHARES",
    "TOLERANCE",
    "best_iou",
    "energy_inside",
    "pointing_hit",
    "side_agreement",
    "strongest",
    "strongest_iou",
]

#: The 15 pixels of the pointing game on photographs of 500: distances as a share of the longer side of the film.
TOLERANCE = 0.03
#: A map is taken to be "on" in the strongest tenth of the film, whatever its scale and sign: fixed before any measurement.
SHARE = 0.1
#: Shares among which the oracle of `best_iou` may choose.
SHARES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)

Maps = NDArray[np.floating]
Truth = NDArray[np.bool_]
Floats = NDArray[np.float64]
Places = NDArray[np.int64]


def strongest(maps: Maps, share: float = SHARE) -> NDArray[np.bool_]:
    r"""Return where each map is strongest: at most ``share`` of the pixels that were seen.

    With n pixels seen and :math:`k = \lfloor share \cdot n \rfloor`, a pixel is on if it is strictly above the
    (k + 1)-th largest value. Pixels that are equal are on or off together, so a map that is flat at its top may be on
    nowhere; an area, unlike a share of the maximum, does not depend on the scale or the zero of a map.

    Args:
        maps: shape ``(..., height, width)``, floating.
        share: in (0, 1).

    Returns:
        bool, the shape of ``maps``; False where a map is NaN.

    Raises:
        InputError: if ``maps`` is not floating or has no pixel, or ``share`` is out of range.
    """
    if not 0 < share < 1:
        raise InputError(f"'share' must be in (0, 1), got {share}")
    on = np.zeros((math.prod(maps.shape[:-2]), math.prod(maps.shape[-2:])), dtype=bool)
    for rows, seen, values in _blocks(maps):
        on[np.ix_(rows, seen)] = values > _lines(values, share)
    return on.reshape(maps.shape)


def pointing_hit(maps: Maps, truth: Truth, tolerance: float = TOLERANCE) -> Floats:
    """Play the pointing game (Zhang et al., IJCV 2018, section 4.2): is the map's maximum on the truth?

    Args:
        maps: shape ``(..., height, width)``, floating. Of several maxima the one in the lowest row counts, then in the
            lowest column.
        truth: bool, shape ``(height, width)``.
        tolerance: how far from the nearest pixel of the truth still counts, between pixel centres, as a share of the
            longer side; the paper's 15 pixels by default, 0 for none.

    Returns:
        1 for a hit, 0 for a miss.

    Raises:
        InputError: if the shapes or types do not fit, or ``tolerance`` is negative.
    """
    if not tolerance >= 0:
        raise InputError(f"'tolerance' must be 0 or more, got {tolerance}")
    width = truth.shape[1]
    reach = (tolerance * max(truth.shape)) ** 2

    def hit(values: Floats, inside: Truth, seen: Places) -> Floats:
        row, column = np.divmod(seen[values.argmax(axis=1)], width)
        rows, columns = np.divmod(seen[inside], width)
        away = [((rows - y) ** 2 + (columns - x) ** 2).min() for y, x in zip(row, column, strict=True)]
        hits: Floats = (np.array(away) <= reach + 1e-9).astype(np.float64)
        return hits

    return _each(maps, truth, hit)


def strongest_iou(maps: Maps, truth: Truth, share: float = SHARE) -> Floats:
    """Return intersection over union of the truth and the strongest ``share`` of each map, in [0, 1].

    The share is fixed in advance: a truth that covers a share p of the film cannot score above
    ``min(p, share) / max(p, share)``.

    Raises:
        InputError: if the shapes or types do not fit, or ``share`` is out of range.
    """
    return _overlap(maps, truth, (share,))


def best_iou(maps: Maps, truth: Truth, shares: Sequence[float] = SHARES) -> Floats:
    """Return the intersection over union at the best of some shares: an ORACLE, which has seen the truth.

    Only for telling how much of a low `strongest_iou` is the area that was fixed; no result of a method.

    Raises:
        InputError: if the shapes or types do not fit, no share is given or one is out of range.
    """
    if not shares:
        raise InputError("'shares' must hold at least one share")
    return _overlap(maps, truth, shares)


def energy_inside(maps: Maps, truth: Truth) -> Floats:
    """Return how much of a map's positive mass lies on the truth, in [0, 1] (Wang et al., CVPR Workshops 2020, eq. 4).

    A map that is the same everywhere scores the share of the film that the truth covers.

    Returns:
        NaN also for a map that is positive nowhere.

    Raises:
        InputError: if the shapes or types do not fit.
    """

    def energy(values: Floats, inside: Truth, _seen: Places) -> Floats:
        mass = values.clip(min=0)
        total = mass.sum(axis=1)
        return np.where(total > 0, mass[:, inside].sum(axis=1) / np.where(total > 0, total, 1), np.nan)

    return _each(maps, truth, energy)


def side_agreement(maps: Maps, truth: Truth) -> Floats:
    """Tell whether most of a map's positive mass is on the truth's side of the film's mid-line.

    Args:
        maps: shape ``(..., height, width)``, floating.
        truth: bool, shape ``(height, width)``. The mid-line is that of the film, not of the patient; the
            middle column of an odd width is on neither side.

    Returns:
        1 if it is, 0 if it is on the other side, 0.5 for a map with as much on either (a coin), and NaN where the part
        of the truth that was seen does not lie on one side alone.

    Raises:
        InputError: if the shapes or types do not fit.
    """
    width = truth.shape[1]

    def side(values: Floats, inside: Truth, seen: Places) -> Floats:
        # -1 on the left, 1 on the right, 0 in the middle column.
        sign = np.sign(2 * (seen % width) + 1 - width)
        wanted = set(sign[inside].tolist()) - {0}
        if len(wanted) != 1:
            return np.full(len(values), np.nan)
        mass = values.clip(min=0)
        balance = mass[:, sign > 0].sum(axis=1) - mass[:, sign < 0].sum(axis=1)
        same: Floats = 0.5 + 0.5 * np.sign(balance) * wanted.pop()
        return same

    return _each(maps, truth, side)


def _lines(values: Floats, share: float) -> Floats:
    """Return the value that at most ``share`` of each row are above: ``(n_maps, 1)``."""
    # A share such as 0.29 of 100 must be 29, which in floating point it is not.
    place = values.shape[1] - 1 - int(share * values.shape[1] + 1e-9)
    line: Floats = np.partition(values, place, axis=1)[:, place, None]
    return line


def _overlap(maps: Maps, truth: Truth, shares: Sequence[float]) -> Floats:
    if not all(0 < share < 1 for share in shares):
        raise InputError(f"shares must be in (0, 1), got {', '.join(f'{share:g}' for share in shares)}")

    def best(values: Floats, inside: Truth, _seen: Places) -> Floats:
        found = np.zeros(len(values))
        for share in shares:
            on = values > _lines(values, share)
            both = on[:, inside].sum(axis=1)
            found = np.maximum(found, both / (on.sum(axis=1) + inside.sum() - both))
        return found

    return _each(maps, truth, best)


def _blocks(maps: Maps) -> Iterator[tuple[Places, Places, Floats]]:
    """Yield maps that cover the same pixels together: their numbers, those pixels, and ``(n_maps, n_pixels)`` values."""
    if maps.ndim < 2 or not np.issubdtype(maps.dtype, np.floating) or 0 in maps.shape[-2:]:
        raise InputError(f"'maps' must be floating, (..., height, width), got {maps.dtype} {maps.shape}")
    flat = maps.reshape(-1, maps.shape[-2] * maps.shape[-1])
    unseen = np.isnan(flat)
    some = np.flatnonzero(~unseen.all(axis=1))
    alike = len(some) and bool((unseen[some] == unseen[some[0]]).all())
    for rows in [some] if alike else some[:, None]:
        seen = np.flatnonzero(~unseen[rows[0]])
        yield rows, seen, flat[np.ix_(rows, seen)].astype(np.float64)


def _each(maps: Maps, truth: Truth, measure: Callable[[Floats, Truth, Places], Floats]) -> Floats:
    """Measure maps against the part of the truth that they cover."""
    if truth.dtype != np.bool_ or truth.shape != maps.shape[-2:]:
        raise InputError(f"'truth' must be bool, {maps.shape[-2:]} as the maps, got {truth.dtype} {truth.shape}")
    found = np.full(math.prod(maps.shape[:-2]), np.nan)
    for rows, seen, values in _blocks(maps):
        inside = truth.ravel()[seen]
        if inside.any():
            found[rows] = measure(values, inside, seen)
    return found.reshape(maps.shape[:-2])
