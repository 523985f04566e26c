"""Maps on a grid, thresholds and overlaps, against the formulas in plain loops."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from mammi.errors import InputError
from mammi.functional import dissection
from mammi.functional.dissection import (
    Areas,
    iou,
    overlap,
    strongest_pixels,
    tail_size,
    tail_threshold,
    upsample,
)


def slow_upsample(plane, size):
    """Bilinear between half-pixel centres, a neighbour outside counting as 0, one pixel at a time."""
    n_rows, n_columns = plane.shape
    out = np.zeros(size)
    for i in range(size[0]):
        for j in range(size[1]):
            y = (i + 0.5) * n_rows / size[0] - 0.5
            x = (j + 0.5) * n_columns / size[1] - 0.5
            for p in (math.floor(y), math.floor(y) + 1):
                for q in (math.floor(x), math.floor(x) + 1):
                    if 0 <= p < n_rows and 0 <= q < n_columns:
                        out[i, j] += (1 - abs(y - p)) * (1 - abs(x - q)) * plane[p, q]
    return out


def slow_areas(maps, masks, quantile):
    """Everything from the definitions; returns thresholds and counts."""
    size = masks.shape[2:]
    n_films, n_units, n_concepts = len(maps), maps.shape[1], masks.shape[1]
    thresholds, both = [], np.zeros((n_units, n_concepts), int)
    units = np.zeros(n_units, int)
    for unit in range(n_units):
        planes = [slow_upsample(maps[film, unit], size) for film in range(n_films)]
        values = sorted(value for plane in planes for value in plane.ravel())
        place = quantile * (len(values) - 1)
        low, high = values[int(place)], values[min(int(place) + 1, len(values) - 1)]
        thresholds.append(low + (place - int(place)) * (high - low))
        for film, plane in enumerate(planes):
            for i in range(size[0]):
                for j in range(size[1]):
                    if plane[i, j] > thresholds[-1]:
                        units[unit] += 1
                        for concept in range(n_concepts):
                            both[unit, concept] += masks[film, concept, i, j]
    return thresholds, both, units, masks.sum(axis=(0, 2, 3))


def problem(n_films=5, n_units=4, n_concepts=3, native=(3, 4), size=(9, 8), seed=0):
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(n_films, n_units, *native))
    masks = rng.random((n_films, n_concepts, *size)) < np.array([0.3, 0.05, 0.6])[:n_concepts, None, None]
    return maps, masks


def fast(maps, masks, quantile=0.9, batch=2):
    size = masks.shape[2:]
    n_pixels = len(maps) * math.prod(size)
    tail = None
    for start in range(0, len(maps), batch):
        part = torch.from_numpy(maps[start : start + batch])
        tail = strongest_pixels(part, size, tail_size(n_pixels, quantile), tail)
    thresholds = tail_threshold(tail, n_pixels, quantile)
    counts = [
        overlap(torch.from_numpy(maps[i : i + batch]), torch.from_numpy(masks[i : i + batch]), thresholds)
        for i in range(0, len(maps), batch)
    ]
    areas = counts[0]
    for count in counts[1:]:
        areas = areas + count
    return thresholds, areas


def assert_areas(found, expected):
    for name in ("both", "units", "concepts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize(("native", "size"), [((3, 4), (9, 8)), ((7, 7), (56, 56)), ((5, 2), (5, 7)), ((9, 8), (4, 3))])
def test_upsampling_equals_a_slow_loop(native, size):
    plane = np.random.default_rng(0).normal(size=native)
    np.testing.assert_allclose(upsample(torch.from_numpy(plane), size), slow_upsample(plane, size), atol=1e-13)


def test_upsampling_equals_interpolate_inside_and_fades_at_the_border():
    maps = torch.rand(2, 3, 7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1
    found = upsample(maps, (56, 40))
    expected = interpolate(maps, (56, 40), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found[..., 4:-4, 4:-4], expected[..., 4:-4, 4:-4])
    # The outermost centre lies 7/16 of a cell outside the last cell's centre, in both directions at a corner.
    torch.testing.assert_close(found[..., 0, 8:-8], expected[..., 0, 8:-8] * (1 - 7 / 16))
    torch.testing.assert_close(found[..., 0, 0], maps[..., 0, 0] * (1 - 7 / 16) ** 2)


def test_maps_of_the_size_of_the_grid_stay_as_they_are():
    maps = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    assert torch.equal(upsample(maps, (6, 5)), maps)


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.9, 0.97])
@pytest.mark.parametrize("seed", range(3))
def test_thresholds_and_counts_equal_a_slow_re_derivation(seed, quantile):
    maps, masks = problem(seed=seed)
    maps[:, 1] = np.maximum(maps[:, 1] - 1, 0)  # mostly exactly 0: ties at the threshold
    maps[:, 2] = 0.0  # a dead unit
    masks[:, 1] = False  # a concept without a mask
    thresholds, areas = fast(maps, masks, quantile)
    slow_thresholds, both, units, concepts = slow_areas(maps, masks, quantile)
    np.testing.assert_allclose(thresholds, slow_thresholds, atol=1e-13)
    assert_areas(areas, Areas(both, units, concepts))
    scores = iou(areas)
    for unit in range(4):
        for concept in range(3):
            union = units[unit] + concepts[concept] - both[unit, concept]
            expected = both[unit, concept] / union if concepts[concept] else np.nan
            np.testing.assert_allclose(scores[unit, concept], expected, atol=1e-15)
    assert scores[2, 0] == 0
    assert scores[:, 1].isnan().all()


def test_batches_and_tiles_change_nothing(monkeypatch):
    maps, masks = problem(n_films=7, n_units=6)
    thresholds, areas = fast(maps, masks, batch=7)
    monkeypatch.setattr(dissection, "_VALUES", 200)  # tiles of one or two units
    for batch in (1, 2, 3):
        other_thresholds, other = fast(maps, masks, batch=batch)
        np.testing.assert_array_equal(other_thresholds, thresholds)
        assert_areas(other, areas)


def test_order_of_films_units_and_concepts_changes_nothing_else():
    maps, masks = problem()
    _, areas = fast(maps, masks)
    films, units, concepts = (np.random.default_rng(1).permutation(n) for n in (5, 4, 3))
    _, moved = fast(maps[films], masks[films])
    assert_areas(moved, areas)
    _, moved = fast(maps[:, units], masks[:, concepts])
    assert_areas(moved, Areas(areas.both[units][:, concepts], areas.units[units], areas.concepts[concepts]))


def test_one_per_cent_of_the_pixels_is_on():
    maps, masks = problem(n_films=20, native=(7, 7), size=(56, 56))
    _, areas = fast(maps, masks, quantile=0.99)
    n_pixels = 20 * 56 * 56
    assert areas.units.tolist() == [n_pixels - 1 - int(0.99 * (n_pixels - 1))] * 4


def test_the_tail_is_all_that_is_kept():
    maps, masks = problem(n_films=6)
    assert tail_size(432, 0.99) == 6
    tail = strongest_pixels(torch.from_numpy(maps), masks.shape[2:], 6)
    assert tail.shape == (4, 6)
    assert [tail_size(n, 0.9) for n in range(1, 40)] == sorted(tail_size(n, 0.9) for n in range(1, 40))


@pytest.mark.parametrize("quantile", [0.5, 0.9])  # with fewer and with more pixels kept than one map has
def test_a_broken_map_costs_no_other_unit(quantile):
    maps, masks = problem()
    thresholds, areas = fast(maps, masks, quantile)
    for value in (np.nan, np.inf, -np.inf):
        broken = np.insert(maps, 1, maps[:, 0], axis=1)
        broken[3, 1, 2, 1] = value
        found_thresholds, found = fast(broken, masks, quantile)
        good = [0, 2, 3, 4]
        np.testing.assert_array_equal(found_thresholds[good], thresholds)
        assert_areas(Areas(found.both[good], found.units[good], found.concepts), areas)
        assert found_thresholds[1].isnan()
        assert found.units[1] == 0
        assert iou(found)[1].tolist() == [0, 0, 0]


def test_no_unit_and_no_concept_are_counted_as_none():
    maps, masks = problem()
    _, areas = fast(maps[:, :0], masks)
    assert areas.both.shape == (0, 3)
    _, areas = fast(maps, masks[:, :0])
    assert areas.both.shape == (4, 0)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: upsample(torch.zeros(2, 2, dtype=torch.int64), (4, 4)), "'maps' must be floating"),
        (lambda: upsample(torch.zeros(2, 0), (4, 4)), r"'maps' must be floating, \(\.\.\., height, width\)"),
        (lambda: strongest_pixels(torch.zeros(2, 2, 2), (4, 4), 3), r"\(n_films, n_units, height, width\)"),
        (lambda: tail_size(10, 1.0), r"'quantile' must be in \[0, 1\), got 1.0"),
        (lambda: tail_size(0), "at least one pixel, got 0"),
        (lambda: tail_threshold(torch.zeros(2, 3), 1000), r"'tail' must be \(n_units, 11 or more\) for 1000"),
        (
            lambda: overlap(torch.zeros(2, 3, 2, 2), torch.zeros(2, 1, 4, 4), torch.zeros(3)),
            r"'masks' must be bool, \(2 films",
        ),
        (
            lambda: overlap(torch.zeros(2, 3, 2, 2), torch.zeros(1, 1, 4, 4, dtype=torch.bool), torch.zeros(3)),
            r"got torch.bool \(1, 1, 4, 4\)",
        ),
        (
            lambda: overlap(torch.zeros(2, 3, 2, 2), torch.zeros(2, 1, 4, 4, dtype=torch.bool), torch.zeros(2)),
            r"'thresholds' must be \(3,\)",
        ),
        (
            lambda: (
                Areas(torch.zeros(2, 3), torch.zeros(2), torch.zeros(3))
                + Areas(torch.zeros(2, 2), torch.zeros(2), torch.zeros(2))
            ),
            r"areas of \(2, 3\) and \(2, 2\)",
        ),
    ],
)
def test_wrong_arrays_are_named(call, match):
    with pytest.raises(InputError, match=match):
        call()
