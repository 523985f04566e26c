"""Every measure against a slow re-derivation from its definition, by hand on toys, and by laws."""

import math

import numpy as np
import pytest

from mammi.errors import InputError
from mammi.functional.pointing import (
    SHARES,
    best_iou,
    energy_inside,
    pointing_hit,
    side_agreement,
    strongest,
    strongest_iou,
)


def material(seed, height=9, width=14, n=6, ties=True):
    rng = np.random.default_rng(seed)
    maps = rng.integers(-4, 5, (n, height, width)).astype(np.float32) if ties else rng.normal(size=(n, height, width))
    maps[1, :, :3] = np.nan
    maps[2] = 0
    maps[3] = np.nan
    truth = np.zeros((height, width), bool)
    y, x = rng.integers(0, height - 3), rng.integers(0, width - 4)
    truth[y : y + 3, x : x + rng.integers(1, 5)] = True
    return maps, truth


def slow(a, truth, share, tolerance):
    """All measures of one map, pixel by pixel."""
    height, width = truth.shape
    seen = [(y, x) for y in range(height) for x in range(width) if not math.isnan(a[y, x])]
    inside = [p for p in seen if truth[p]]
    if not inside:
        return [math.nan] * 4
    top = max(a[p] for p in seen)
    y, x = min(p for p in seen if a[p] == top)
    hit = any(math.dist((y, x), p) <= tolerance * max(height, width) for p in inside)
    # On: those with at most floor(share n) pixels at or above them.
    room = math.floor(share * len(seen) + 1e-9)
    on = [p for p in seen if sum(a[q] >= a[p] for q in seen) <= room]
    iou = len(set(on) & set(inside)) / len(set(on) | set(inside))
    mass = {p: max(0.0, float(a[p])) for p in seen}
    total = sum(mass.values())
    energy = sum(mass[p] for p in inside) / total if total else math.nan
    sides = {p[1] + 0.5 < width / 2 for p in inside if p[1] + 0.5 != width / 2}
    if len(sides) != 1:
        return [hit, iou, energy, math.nan]
    left = sum(v for p, v in mass.items() if p[1] + 0.5 < width / 2)
    right = sum(v for p, v in mass.items() if p[1] + 0.5 > width / 2)
    same = 0.5 if left == right else float((left > right) == next(iter(sides)))
    return [hit, iou, energy, same]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("width", [14, 15])
def test_equal_a_slow_rederivation(seed, width):
    maps, truth = material(seed, width=width, ties=seed % 2 == 0)
    share, tolerance = (0.1, 0.03) if seed < 6 else (0.29, 0.2)
    expected = np.array([slow(a, truth, share, tolerance) for a in maps], float)
    found = [
        pointing_hit(maps, truth, tolerance),
        strongest_iou(maps, truth, share),
        energy_inside(maps, truth),
        side_agreement(maps, truth),
    ]
    for values, column in zip(found, expected.T, strict=True):
        assert values.dtype == np.float64
        np.testing.assert_allclose(values, column, rtol=1e-12)
    best = np.max([[slow(a, truth, s, 0)[1] for a in maps] for s in SHARES], axis=0)
    np.testing.assert_allclose(best_iou(maps, truth), best, rtol=1e-12)


def test_by_hand():
    a = np.array([[0.0, 3, 0, 0, 0], [1, 0, 0, 0, -2]])
    truth = np.zeros((2, 5), bool)
    truth[1, 0] = True
    assert pointing_hit(a, truth, 0) == 0
    assert pointing_hit(a, truth, 0.3) == 1  # one pixel down and one to the left: 1.41 of 1.5 pixels
    assert pointing_hit(a, truth, 0.25) == 0
    assert strongest(a, 0.2).tolist() == [[False, True, False, False, False], [True, False, False, False, False]]
    assert strongest_iou(a, truth, 0.2) == 0.5
    assert energy_inside(a, truth) == 0.25
    assert side_agreement(a, truth) == 1
    assert side_agreement(a[:, ::-1].copy(), truth) == 0


def test_ties_go_to_the_lowest_row_then_column():
    a = np.zeros((3, 4))
    a[2, 0] = a[1, 3] = a[1, 2] = 7
    truth = np.zeros((3, 4), bool)
    truth[1, 2] = True
    assert pointing_hit(a, truth, 0) == 1
    truth[1, 2], truth[1, 3] = False, True
    assert pointing_hit(a, truth, 0) == 0


def test_a_flat_map_is_on_nowhere_and_sides_with_nobody():
    truth = np.zeros((6, 8), bool)
    truth[2:4, 0:2] = True
    for level in (0.0, 3.0):
        a = np.full((6, 8), level)
        assert not strongest(a).any()
        assert strongest_iou(a, truth) == 0
        assert side_agreement(a, truth) == 0.5
    assert energy_inside(np.ones((6, 8)), truth) == truth.mean()
    assert np.isnan(energy_inside(np.zeros((6, 8)), truth))
    assert np.isnan(energy_inside(np.full((6, 8), -1.0), truth))


def test_truth_that_was_not_seen_is_left_out():
    a = np.ones((4, 6))
    a[:, :3] = np.nan
    a[1, 4] = 2
    truth = np.zeros((4, 6), bool)
    truth[:, :2] = True
    for measure in (pointing_hit, strongest_iou, best_iou, energy_inside, side_agreement):
        assert np.isnan(measure(a, truth))
    truth[1, 4] = True
    assert pointing_hit(a, truth, 0) == 1
    assert strongest_iou(a, truth) == 1  # the seen part alone
    assert side_agreement(a, truth) == 1
    assert np.isnan(pointing_hit(a, np.zeros((4, 6), bool)))


def test_one_side():
    a = np.array([[4.0, 0, 9, 0, 1], [0, 0, 0, 0, 1]])
    truth = np.zeros((2, 5), bool)
    truth[0, 2] = True
    assert np.isnan(side_agreement(a, truth))  # the middle column is on neither side
    truth[0, 1] = True
    assert side_agreement(a, truth) == 1
    truth[1, 4] = True
    assert np.isnan(side_agreement(a, truth))


def test_laws():
    maps, truth = material(3, ties=False)
    for measure in (pointing_hit, strongest_iou, best_iou, energy_inside, side_agreement):
        values = measure(maps, truth)
        order = np.array([5, 2, 0, 3, 4, 1])
        np.testing.assert_array_equal(measure(maps[order], truth), values[order])  # order of units
        np.testing.assert_array_equal(measure(maps.reshape(2, 3, *truth.shape), truth).ravel(), values)
        np.testing.assert_allclose(measure(maps * 7.5, truth), values, rtol=1e-12)  # scale
        mirrored = measure(maps[..., ::-1].copy(), truth[:, ::-1].copy())
        np.testing.assert_allclose(mirrored, values, rtol=1e-12)
    for measure in (pointing_hit, strongest_iou, best_iou):
        np.testing.assert_array_equal(measure(maps - 100, truth), measure(maps, truth))  # zero of the map
    assert (best_iou(maps, truth)[[0, 4]] >= strongest_iou(maps, truth)[[0, 4]]).all()
    on = strongest(maps, 0.1)
    assert on.sum(axis=(1, 2)).tolist() == [12, 9, 0, 0, 12, 12]  # floor of a tenth of 126, and of 99


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, t: strongest(m, 1.0), r"'share' must be in \(0, 1\), got 1.0"),
        (lambda m, t: strongest_iou(m, t, 0), r"shares must be in \(0, 1\), got 0"),
        (lambda m, t: best_iou(m, t, ()), "at least one share"),
        (lambda m, t: pointing_hit(m, t, -1), "'tolerance' must be 0 or more, got -1"),
        (lambda m, t: pointing_hit(m, t, math.nan), "'tolerance' must be 0 or more, got nan"),
        (lambda m, t: energy_inside(m.astype(int), t), "'maps' must be floating"),
        (lambda m, t: energy_inside(m, t.astype(float)), "'truth' must be bool"),
        (lambda m, t: side_agreement(m, t[:-1]), r"'truth' must be bool, \(9, 14\) as the maps, got bool \(8, 14\)"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    maps, truth = material(0)
    maps[3] = 1
    with pytest.raises(InputError, match=message):
        call(np.nan_to_num(maps), truth)
