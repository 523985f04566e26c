import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammi.data.display import collapse_grey, lookup, scale_range, window
from mammi.errors import InputError


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        # PS3.3 C.11.2.1.2.1 by hand for c = 10, w = 5: y = (x - 9.5) / 4 + 0.5
        ("LINEAR", [0, 0, 0.125, 0.625, 1, 1]),
        # C.11.2.1.3.2: y = (x - 10) / 5 + 0.5
        ("LINEAR_EXACT", [0, 0.1, 0.3, 0.5, 0.7 + 0.2, 1]),
        # C.11.2.1.3.1: y = 1 / (1 + exp(-4 (x - 10) / 5))
        (
            "SIGMOID",
            [1 / (1 + np.exp(8)), 1 / (1 + np.exp(1.6)), 1 / (1 + np.exp(0.8)), 0.5, 1 / (1 + np.exp(-1.6)), 1],
        ),
    ],
)
def test_window_gives_the_values_of_the_standard_worked_by_hand(function, expected):
    got = window(
        np.array([0, 8, 9, 10, 12, 40]) if function != "LINEAR" else np.array([0, 7, 8, 10, 12, 40]), 10, 5, function
    )
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(40, 400), (2048, 4096), (600.5, 1), (100, 2)])
def test_window_agrees_with_pydicom(function, center, width):
    pydicom_pixels = pytest.importorskip("pydicom.pixels")
    from film_crafting import dicom

    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    ds = dicom(values, BitsStored=12, WindowCenter=center, WindowWidth=width, VOILUTFunction=function)
    with np.errstate(over="ignore"):  # theirs overflows far outside a narrow sigmoid
        theirs = pydicom_pixels.apply_windowing(values, ds) / 4095
    np.testing.assert_allclose(window(values, center, width, function), theirs, atol=1e-6)


def test_a_window_of_width_one_is_a_step():
    assert window(np.array([9, 9.5, 10]), 10, 1).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("center", "width", "function", "message"),
    [
        (0, 0.5, "LINEAR", r"at least 1 for LINEAR, got 0\.5"),
        (0, 0, "LINEAR_EXACT", "above 0 for LINEAR_EXACT, got 0"),
        (0, -1, "SIGMOID", "above 0 for SIGMOID, got -1"),
        (0, 5, "CUBIC", "got 'CUBIC'"),
        (np.nan, 5, "LINEAR", "must be finite"),
    ],
)
def test_window_refuses_what_the_standard_forbids(center, width, function, message):
    with pytest.raises(InputError, match=message):
        window(np.zeros(3), center, width, function)


def test_sigmoid_far_outside_does_not_overflow():
    assert window(np.array([-1e9, 1e9]), 0, 1, "SIGMOID").tolist() == pytest.approx([0, 1], abs=1e-12)


def test_scale_range_clips_and_leaves_its_input_alone():
    values = np.array([0, 5, 20], np.float32)
    assert scale_range(values, 5, 15).tolist() == [0, 0, 1]
    assert values.tolist() == [0, 5, 20]
    assert scale_range(values, 3, 3).tolist() == [0, 0, 0]


@given(st.integers(0, 65535))
def test_scale_range_keeps_every_16_bit_number_apart(value):
    got = scale_range(np.array([value], np.uint16), 0, 65535)
    assert round(float(got[0]) * 65535) == value


def test_scale_range_takes_the_full_range_of_int32():
    low, high = -(2**31), 2**31 - 1
    assert scale_range(np.array([low, 0, high], np.int32), low, high).tolist() == pytest.approx([0, 0.5, 1])


def test_lookup_clamps_both_ends_rounds_and_survives_wide_input():
    table = np.array([7, 8, 9], np.uint8)
    assert lookup(np.array([-5, 10, 11, 12, 13, 4000], np.int16), 10, table).tolist() == [7, 7, 8, 9, 9, 9]
    assert lookup(np.array([10.6]), 10, table).tolist() == [8]
    # 4096 entries of 8 bits: an index kept in the entries' own type would wrap at 256
    assert lookup(np.array([4095], np.uint16), 0, (np.arange(4096) // 16).astype(np.uint8)).tolist() == [255]


def test_collapse_grey_needs_all_three_channels_equal():
    grey = np.arange(6.0).reshape(2, 3)
    colour = np.stack([grey] * 3, axis=-1)
    assert collapse_grey(colour).shape == (2, 3)
    colour[1, 2, 2] += 0.1
    assert collapse_grey(colour) is colour
    assert collapse_grey(grey) is grey
