"""DICOM files written here, with answers worked by hand."""

import contextlib
import io

import numpy as np
import pytest
from film_crafting import dicom, encode, film, png, save_dicom

from mammi.data import read_film
from mammi.errors import ImageError

pytest.importorskip("pydicom")
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

RAMP = np.array([[0, 1000], [2000, 4000]], np.uint16)


@pytest.fixture
def shown(tmp_path):
    def read(pixels, frame=None, **elements):
        return read_film(save_dicom(dicom(pixels, **elements), tmp_path / "film.dcm"), frame=frame)

    return read


def lut(first, entries, bits, vr="US"):
    from pydicom.dataelem import DataElement

    item = Dataset()
    item.add(DataElement(0x00283002, "SS" if first < 0 else "US", [len(entries) % 65536, first, bits]))
    data = list(map(int, entries)) if vr == "US" else np.asarray(entries, np.uint16).tobytes()
    item.add(DataElement(0x00283006, vr, data))
    return item


def test_eight_bits_equal_their_png(shown):
    picture = film(11, 14)
    got = shown(picture)
    assert (got.bits, got.warnings) == (8, ())
    np.testing.assert_allclose(got.pixels, picture / 255, atol=1e-7)
    np.testing.assert_allclose(
        shown(picture, PhotometricInterpretation="MONOCHROME1").pixels, 1 - picture / 255, atol=1e-6
    )


def test_without_a_window_more_bits_go_from_lowest_to_highest_and_say_so(shown):
    got = shown(RAMP, BitsStored=12)
    assert got.bits == 12
    assert got.pixels.tolist() == [[0, 0.25], [0.5, 1]]
    assert got.warnings == ("no window: shown from its lowest (0) to its highest value (4000)",)


def test_the_first_window_counts_after_rescaling(shown):
    # values 0..4000 -> -1000..3000; LINEAR c=1000.5 w=2001: y = (x - 1000) / 2000 + 0.5
    got = shown(
        RAMP, BitsStored=12, RescaleSlope=1, RescaleIntercept=-1000, WindowCenter=[1000.5, 5], WindowWidth=[2001, 1]
    )
    np.testing.assert_allclose(got.pixels, [[0, 0], [0.5, 1]], atol=1e-6)
    assert got.warnings == ()


@pytest.mark.parametrize(("function", "expected"), [("LINEAR_EXACT", 0.25), ("SIGMOID", 1 / (1 + np.exp(1)))])
def test_the_windows_function_counts(shown, function, expected):
    got = shown(RAMP, BitsStored=12, WindowCenter=2000, WindowWidth=4000, VOILUTFunction=function)
    assert got.pixels[0, 1] == pytest.approx(expected, abs=1e-6)
    assert got.pixels[1, 0] == pytest.approx(0.5)


def test_monochrome1_is_turned_over_after_the_window_and_only_once(shown):
    window = {"BitsStored": 12, "WindowCenter": 2000, "WindowWidth": 4000, "VOILUTFunction": "LINEAR_EXACT"}
    plain = shown(RAMP, **window).pixels
    for elements in (
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    ):
        np.testing.assert_allclose(shown(RAMP, **window, **elements).pixels, 1 - plain, atol=1e-7)
    np.testing.assert_array_equal(shown(RAMP, **window, PresentationLUTShape="IDENTITY").pixels, plain)


def test_signed_values(shown):
    got = shown(np.array([[-500, 0], [500, 1500]], np.int16), WindowCenter=500.5, WindowWidth=2001)
    np.testing.assert_allclose(got.pixels, [[0, 0.25], [0.5, 1]], atol=1e-6)


def test_voi_lut_goes_before_the_window(shown):
    # 12 bits in, 8 bits out, 4096 entries: an index kept in 8 bits would wrap
    table = np.arange(4096) // 16
    got = shown(
        np.array([[0, 255, 256], [257, 4000, 4095]], np.uint16),
        BitsStored=12,
        VOILUTSequence=[lut(0, table, 8)],
        WindowCenter=5,
        WindowWidth=1,
    )
    np.testing.assert_allclose(got.pixels, np.array([[0, 15, 16], [16, 250, 255]]) / 255, atol=1e-6)


@pytest.mark.parametrize("vr", ["US", "OW"])
def test_voi_lut_with_an_offset_clamps_both_ends(shown, vr):
    got = shown(
        np.array([[0, 100], [101, 3000]], np.uint16), BitsStored=12, VOILUTSequence=[lut(100, [0, 2048, 4095], 12, vr)]
    )
    np.testing.assert_allclose(got.pixels, [[0, 0], [2048 / 4095, 1]], atol=1e-6)


def test_modality_lut_then_window(shown):
    # 0, 1, 2, 3 -> 0, 100, 300, 1000; LINEAR_EXACT c=500 w=1000: y = x / 1000
    got = shown(
        np.array([[0, 1], [2, 3]], np.uint16),
        ModalityLUTSequence=[lut(0, [0, 100, 300, 1000], 16)],
        WindowCenter=500,
        WindowWidth=1000,
        VOILUTFunction="LINEAR_EXACT",
    )
    np.testing.assert_allclose(got.pixels, [[0, 0.1], [0.3, 1]], atol=1e-6)


def test_a_short_lut_is_refused(shown):
    item = lut(0, [1, 2, 3], 12)
    item.LUTDescriptor = [9, 0, 12]
    with pytest.raises(ImageError, match="has 3 entries, its descriptor promises 9"):
        shown(RAMP, VOILUTSequence=[item])


def test_rescaled_eight_bits_use_the_whole_range_of_the_bits(shown):
    got = shown(np.array([[0, 51], [102, 204]], np.uint8), RescaleSlope=2, RescaleIntercept=-7)
    np.testing.assert_allclose(got.pixels, [[0, 0.2], [0.4, 0.8]], atol=1e-6)
    assert got.warnings == ()
    turned = shown(np.array([[0, 51], [102, 204]], np.uint8), RescaleSlope=-1, RescaleIntercept=255)
    np.testing.assert_allclose(turned.pixels, 1 - got.pixels, atol=1e-6)


def test_padding_is_black_and_outside_the_range(shown):
    values = np.array([[-2000, -2000], [0, 100], [50, 25]], np.int16)
    got = shown(values, PixelPaddingValue=-2000)
    assert got.pixels.tolist() == [[0, 0], [0, 1], [0.5, 0.25]]
    turned = shown(values, PixelPaddingValue=-2000, PhotometricInterpretation="MONOCHROME1")
    assert turned.pixels.tolist() == [[0, 0], [1, 0], [0.5, 0.75]]
    limited = shown(values, PixelPaddingValue=-2000, PixelPaddingRangeLimit=0)
    assert limited.pixels[:2].tolist() == [[0, 0], [0, 1]]
    with pytest.raises(ImageError, match="all its pixels are padding"):
        shown(np.full((2, 2), -2000, np.int16), PixelPaddingValue=-2000)


@pytest.mark.parametrize(
    ("elements", "warning"),
    [
        ({"WindowCenter": 5, "WindowWidth": 0}, "window width must be at least 1 for LINEAR, got 0"),
        ({"WindowCenter": 5, "WindowWidth": 10, "VOILUTFunction": "ODD"}, "the function of its window is not known"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "slope of 0"),
        ({"WindowCenter": 60000, "WindowWidth": 10}, "leaves one single brightness"),
    ],
)
def test_nonsense_in_the_header_is_named(shown, elements, warning):
    assert any(warning in text for text in shown(RAMP, **elements).warnings)


def test_bits_above_those_stored_are_cut_off(shown):
    got = shown(np.array([[0, 4095], [0x8000, 0x8FFF]], np.uint16), BitsStored=12)
    assert got.pixels.tolist() == [[0, 1], [0, 1]]


def test_frames_must_be_chosen(shown):
    frames = np.stack([np.full((4, 6), 51 * i, np.uint8) for i in range(3)])
    for frame in range(3):
        assert shown(frames, frame, NumberOfFrames=3).pixels == pytest.approx(np.full((4, 6), 0.2 * frame))
    with pytest.raises(ImageError, match="it holds 3 frames: choose one with frame=0 to frame=2"):
        shown(frames, NumberOfFrames=3)
    for frame in (3, -1):
        with pytest.raises(ImageError, match=f"frame {frame} does not exist: it holds 3"):
            shown(frames, frame, NumberOfFrames=3)
    assert shown(frames[0], 0).pixels.shape == (4, 6)


def test_functional_groups_go_before_the_files_own_window(shown):
    def groups(center):
        item, voi = Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth, voi.VOILUTFunction = center, 1000, "LINEAR_EXACT"
        item.FrameVOILUTSequence = [voi]
        return item

    shared, rescale = Dataset(), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 2, 0
    shared.PixelValueTransformationSequence = [rescale]
    frames = np.full((2, 2, 2), 250, np.uint16)  # 500 after rescaling
    elements = {
        "NumberOfFrames": 2,
        "WindowCenter": 9,
        "WindowWidth": 9,
        "SharedFunctionalGroupsSequence": [shared],
        "PerFrameFunctionalGroupsSequence": [groups(500), groups(750)],
    }
    assert shown(frames, 0, **elements).pixels == pytest.approx(np.full((2, 2), 0.5))
    assert shown(frames, 1, **elements).pixels == pytest.approx(np.full((2, 2), 0.25))


def test_colour_and_grey_in_disguise(shown):
    values = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    np.testing.assert_allclose(shown(values, **colour).pixels, values / 255, atol=1e-7)
    wide = values.astype(np.uint16) * 257
    np.testing.assert_allclose(shown(wide, **colour).pixels, values / 255, atol=1e-7)
    values[:] = values[..., :1]
    assert shown(values, **colour).pixels.shape == (4, 5)


def test_ybr_becomes_rgb(shown):
    # PS3.3 C.7.6.3.1.2: red (255, 0, 0) is Y 76.245, CB 84.97, CR 255.5
    values = np.tile(np.array([76, 85, 255], np.uint8), (2, 2, 1))
    got = shown(values, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL", PlanarConfiguration=0)
    np.testing.assert_allclose(got.pixels[0, 0], [1, 0, 0], atol=0.01)


@pytest.mark.parametrize(("shift", "bits"), [(8, 8), (0, 8)])
def test_palette(shown, shift, bits):
    tables = {}
    for name, entries in (("Red", [0, 255, 0]), ("Green", [0, 0, 255]), ("Blue", [0, 51, 102])):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [3, 0, 16]
        tables[f"{name}PaletteColorLookupTableData"] = (np.array(entries, np.uint16) << shift).tobytes()
    got = shown(np.array([[0, 1], [2, 1]], np.uint8), PhotometricInterpretation="PALETTE COLOR", **tables)
    red, green = [1, 0, 0.2], [0, 1, 0.4]
    np.testing.assert_allclose(got.pixels, [[[0, 0, 0], red], [green, red]], atol=1e-6)
    assert got.bits == bits
    assert bool(got.warnings) == (shift == 0)


def test_floating_point(shown):
    got = shown(np.array([[-1, 0], [1, np.nan]], np.float32))
    assert (got.bits, got.pixels.tolist()) == (32, [[0, 0.5], [1, 0]])
    got = shown(np.array([[0, 0.25], [0.5, 1]], np.float32), WindowCenter=0.5, WindowWidth=1)
    assert got.pixels.tolist() == [[0, 0.25], [0.5, 1]]
    assert "taken as LINEAR_EXACT" in got.warnings[0]


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
def test_other_encodings_show_the_same(tmp_path, syntax):
    ds = dicom(RAMP, BitsStored=12, VOILUTSequence=[lut(0, np.arange(4096), 12, "OW")])
    plain = read_film(save_dicom(ds, tmp_path / "plain.dcm"))
    if syntax == RLELossless:
        ds.compress(RLELossless)
    else:
        ds.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = RAMP.astype(">u2").tobytes()
        ds.VOILUTSequence[0].LUTData = np.arange(4096).astype(">u2").tobytes()
    other = read_film(save_dicom(ds, tmp_path / "other"))  # no suffix: told by content
    np.testing.assert_array_equal(other.pixels, plain.pixels)
    np.testing.assert_allclose(other.pixels, RAMP / 4095, atol=1e-6)


def compressed(stream, pixels, syntax, **elements):
    ds = dicom(pixels, **elements)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].is_undefined_length = True
    return ds


PICTURE = film(96, 128)
STREAMS = {
    JPEGBaseline8Bit: encode(PICTURE, "JPEG", quality=90),
    JPEG2000Lossless: encode(PICTURE, "JPEG2000", no_jp2=True),
}


@pytest.mark.parametrize("syntax", STREAMS)
def test_compressed_streams(tmp_path, syntax):
    from PIL import Image

    stream = STREAMS[syntax]
    path = save_dicom(compressed(stream, PICTURE, syntax), tmp_path / "f.dcm")
    with Image.open(io.BytesIO(stream)) as image:
        np.testing.assert_allclose(read_film(path).pixels, np.asarray(image) / 255, atol=1.5 / 255)
    assert read_film(path).warnings == ()
    cut = compressed(stream[: len(stream) // 2] + b"\xff\xd9", PICTURE, syntax)
    with pytest.raises(ImageError, match="ends early"):
        read_film(save_dicom(cut, path))
    ds = compressed(stream, PICTURE, syntax)
    ds.Rows = 97
    with pytest.raises(ImageError, match="its stream is 128 x 96 pixels, its header says 128 x 97"):
        read_film(save_dicom(ds, path))
    with pytest.raises(ImageError, match="cannot be read"):
        read_film(save_dicom(compressed(b"\1\2\3\4" * 30, PICTURE, syntax), path))


def test_a_sign_that_the_stream_contradicts_is_refused(tmp_path):
    ds = compressed(STREAMS[JPEG2000Lossless], PICTURE, JPEG2000Lossless, PixelRepresentation=1)
    with pytest.raises(ImageError, match="its header says signed values, its JPEG 2000 stream unsigned"):
        read_film(save_dicom(ds, tmp_path / "f.dcm"))


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"PixelData": None}, r"it holds no pixel data \(CR\)"),
        ({"Rows": None}, "its header lacks Rows"),
        ({"PhotometricInterpretation": "HSV"}, "'HSV' is not known"),
        ({"Rows": 65535, "Columns": 65535}, "65535 x 65535 pixels, more than the 120,000,000"),
        ({"Rows": 3}, "its pixel data and its header do not agree"),
        ({"BitsStored": 99}, "cannot be read"),
        ({"BitsAllocated": 7}, "cannot be read"),
    ],
)
def test_broken_headers_are_refused_in_one_line(shown, elements, reason):
    with pytest.raises(ImageError, match=reason) as caught:
        shown(RAMP, **elements)
    assert "\n" not in str(caught.value)


def test_a_file_cut_anywhere_is_refused_or_still_whole(tmp_path):
    path = save_dicom(compressed(STREAMS[JPEGBaseline8Bit], PICTURE, JPEGBaseline8Bit), tmp_path / "f.dcm")
    data, whole = path.read_bytes(), read_film(path).pixels
    for keep in range(0, len(data), max(1, len(data) // 40)):
        path.write_bytes(data[:keep])
        with pytest.raises(ImageError, match="cannot be read") as caught:
            read_film(path)
        assert str(tmp_path) not in str(caught.value)
    assert whole.shape == PICTURE.shape


def test_flipped_header_bytes_never_escape_as_another_error(tmp_path):
    path = save_dicom(dicom(RAMP, BitsStored=12), tmp_path / "f.dcm")
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(132, len(data), 150):
        path.write_bytes(data[:at] + bytes([data[at] ^ rng.integers(1, 256)]) + data[at + 1 :])
        with contextlib.suppress(ImageError):
            read_film(path)


def test_deflated_bomb(tmp_path, monkeypatch):
    from mammi.data import dicom as module

    ds = dicom(np.zeros((512, 512), np.uint16))
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save_dicom(ds, tmp_path / "f.dcm")
    assert read_film(path).pixels.shape == (512, 512)
    monkeypatch.setattr(module, "_MAX_INFLATED", 2**18)
    with pytest.raises(ImageError, match="deflated data grows beyond"):
        read_film(path)


def test_a_picture_under_a_dicom_name_is_read_and_anything_else_named(tmp_path):
    (tmp_path / "png.dcm").write_bytes(png(PICTURE, 8, 0))
    assert read_film(tmp_path / "png.dcm").pixels.shape == PICTURE.shape
    (tmp_path / "text.dcm").write_bytes(b"x" * 400)
    with pytest.raises(ImageError, match="no 'DICM' mark at byte 128"):
        read_film(tmp_path / "text.dcm")
