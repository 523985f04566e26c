"""The DICOM files of many makers, read once more by slower and independent means."""

import csv
import io
import math

import numpy as np
import pytest
from PIL import Image

from mammi.data import ProbingSet, read_film
from mammi.errors import ImageError

pydicom = pytest.importorskip("pydicom")

#: Why each broken file is refused.
BROKEN = {
    "OT-PAL-8-face.dcm": "no 'DICM' mark",
    "liver_rle.dcm": "no decoder understands its 'RLE Lossless' data",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "it is cut off",
    "MR_truncated.dcm": "8130 vs 8192 bytes",
    "JPEG-lossy.dcm": "no decoder understands its 'JPEG Extended",
    "no_meta.dcm": "no 'DICM' mark",
    "rtplan_truncated.dcm": r"no pixel data \(RTPLAN\)",
    "meta_missing_tsyntax.dcm": "names no Transfer Syntax",
    "J2K_pixelrep_mismatch.dcm": "header says signed values, its JPEG 2000 stream unsigned",
    "test-SR.dcm": r"no pixel data \(SR\)",
    "waveform_ecg.dcm": r"no pixel data \(ECG\)",
    "ExplVR_BigEndNoMeta.dcm": "no 'DICM' mark",
    "cxr_truncated_half.dcm": "it is cut off",
    "cxr_header_only_64bytes.dcm": "no 'DICM' mark",
    "empty.dcm": r"empty \(0 bytes\)",
}
#: Files that hold one picture in several encodings without loss.
SAME = (
    (
        "MR_small.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_bigendian.dcm",
    ),
    ("emri_small_RLE.dcm", "emri_small_jpeg_2k_lossless.dcm", "emri_small_jpeg_ls_lossless.dcm"),
    ("JPEG2000.dcm", "JPEG2000_UNC.dcm"),
)
LOSSY = ("siim_ptx_cxr_monochrome2.dcm", "siim_ptx_cxr_fake_monochrome1.dcm")


@pytest.fixture(scope="module")
def rows(shared_data):
    with (shared_data / "dicom" / "dicom.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def good(rows, shared_data):
    for row in rows:
        if row["dir"] == "good":
            if row["name"].startswith("HTJ2K") and not _has_pylibjpeg():
                continue
            yield row, shared_data / "dicom" / "good" / row["name"]


def _has_pylibjpeg():
    from importlib.util import find_spec

    return find_spec("pylibjpeg") is not None


def frames(row):
    n_frames = int(row["frames"])
    return [None] if n_frames == 1 else [0, n_frames - 1]


def test_every_broken_file_is_refused_with_its_reason(rows, shared_data):
    names = [row["name"] for row in rows if row["dir"] == "broken"]
    assert sorted(names) == sorted(BROKEN)
    for name in names:
        frame = 0 if name == "liver_rle.dcm" else None
        with pytest.raises(ImageError, match=BROKEN[name]) as caught:
            read_film(shared_data / "dicom" / "broken" / name, frame=frame)
        assert "\n" not in str(caught.value)


def test_every_good_file_is_read(rows, shared_data):
    seen = 0
    for row, path in good(rows, shared_data):
        for frame in frames(row):
            got = read_film(path, frame=frame)
            assert got.pixels.shape[:2] == (int(row["rows"]), int(row["cols"])), row["name"]
            assert got.pixels.dtype == np.float32
            assert 0 <= got.pixels.min() < got.pixels.max() <= 1, row["name"]
            assert all("no window" in text or "LINEAR_EXACT" in text for text in got.warnings), row["name"]
            seen += 1
        if int(row["frames"]) > 1:
            with pytest.raises(ImageError, match=f"it holds {row['frames']} frames"):
                read_film(path)
    assert seen >= 36


def test_htj2k_is_read_or_its_decoder_named(shared_data):
    path = shared_data / "dicom" / "good" / "HTJ2KLossless_08_RGB.dcm"
    if _has_pylibjpeg():
        got = read_film(path).pixels
        assert (got.shape, got.min(), got.max()) == ((480, 640, 3), 0, 1)
    else:
        with pytest.raises(ImageError, match="pylibjpeg"):
            read_film(path)


def test_stored_values_are_those_of_the_reference_reading(rows, shared_data):
    for row, path in good(rows, shared_data):
        stored = pydicom.dcmread(path).pixel_array
        low, high = (float(end) for end in row["range"].split(".."))
        # two decoders may differ by a grey level in a lossy stream
        slack = 1 if row["name"] in LOSSY else 0
        assert abs(stored.min() - low) <= slack, row["name"]
        assert abs(stored.max() - high) <= slack, row["name"]


def test_one_picture_in_several_encodings_looks_the_same(shared_data):
    for names in SAME:
        frame = 4 if names[0].startswith("emri") else None
        films = [read_film(shared_data / "dicom" / "good" / name, frame=frame).pixels for name in names]
        for other in films[1:]:
            np.testing.assert_array_equal(other, films[0])


def test_uncompressed_files_agree_with_their_bytes(rows, shared_data):
    checked = 0
    for row, path in good(rows, shared_data):
        ds = pydicom.dcmread(path)
        syntax = ds.file_meta.TransferSyntaxUID
        if syntax.is_encapsulated or ds.PhotometricInterpretation != "MONOCHROME2" or row["bits"] == "/32":
            continue
        order = "<" if syntax.is_little_endian else ">"
        kind = f"{order}{'i' if ds.PixelRepresentation else 'u'}{ds.BitsAllocated // 8}"
        stored = np.frombuffer(ds.PixelData, kind)[: ds.Rows * ds.Columns].reshape(ds.Rows, ds.Columns)
        if ds.PixelRepresentation:  # the sign is the highest of the stored bits, those above may be anything
            sign = 1 << (ds.BitsStored - 1)
            stored = ((stored.astype(np.int64) & (2 * sign - 1)) ^ sign) - sign
        np.testing.assert_allclose(read_film(path).pixels, derive(ds, stored), atol=2e-6, err_msg=row["name"])
        checked += 1
    assert checked >= 8


def test_every_grey_file_agrees_with_the_slow_derivation(rows, shared_data):
    checked = 0
    for row, path in good(rows, shared_data):
        ds = pydicom.dcmread(path)
        if not ds.PhotometricInterpretation.startswith("MONOCHROME") or row["bits"] == "/32":
            continue
        for frame in frames(row):
            stored = ds.pixel_array if frame is None else ds.pixel_array[frame]
            np.testing.assert_allclose(
                read_film(path, frame=frame).pixels, derive(ds, stored), atol=2e-6, err_msg=row["name"]
            )
            checked += 1
    assert checked >= 26


def derive(ds, stored):
    """PS3.3 C.11 once more, in plain Python: one number at a time, each distinct stored value once."""

    def entry(item, value):
        n_entries, first, _ = item.LUTDescriptor
        data = item.LUTData
        if isinstance(data, bytes):
            data = [int.from_bytes(data[i : i + 2], "little") for i in range(0, len(data), 2)]
        return data[min(max(int(value) - first, 0), (n_entries or 65536) - 1)]

    def modality(value):
        if "ModalityLUTSequence" in ds:
            return entry(ds.ModalityLUTSequence[0], value)
        return value * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0))

    numbers = [int(value) for value in np.unique(stored)]
    padding = ds.get("PixelPaddingValue")
    kept = [modality(value) for value in numbers if value != padding]
    low, high = min(kept), max(kept)

    def brightness(value):
        if value == padding:
            return 0.0
        x = modality(value)
        if "VOILUTSequence" in ds:
            item = ds.VOILUTSequence[0]
            y = entry(item, x) / (2 ** item.LUTDescriptor[2] - 1)
        elif "WindowWidth" in ds:
            center, width = ds.WindowCenter, ds.WindowWidth
            c = float(center[0] if isinstance(center, pydicom.multival.MultiValue) else center)
            w = float(width[0] if isinstance(width, pydicom.multival.MultiValue) else width)
            if x <= c - 0.5 - (w - 1) / 2:
                y = 0.0
            elif x > c - 0.5 + (w - 1) / 2:
                y = 1.0
            else:
                y = (x - (c - 0.5)) / (w - 1) + 0.5
        elif ds.BitsStored <= 8:
            y = x / 255
        else:
            y = (x - low) / (high - low)
        return 1 - y if ds.PhotometricInterpretation == "MONOCHROME1" else y

    shown = {value: brightness(value) for value in numbers}
    assert all(math.isfinite(y) for y in shown.values())
    return np.array([shown[int(value)] for value in np.unique(stored)])[
        np.unique(stored, return_inverse=True)[1]
    ].reshape(stored.shape)


def test_the_real_chest_film_of_15_bits_is_turned_over_and_not_squeezed(shared_data):
    got = read_film(shared_data / "dicom" / "good" / "RG1_J2KI.dcm")
    assert got.bits == 15
    assert len(np.unique(got.pixels)) > 5000
    # the detector's direct exposure (air, high stored values in MONOCHROME1 are dark) is the darker part
    stored = pydicom.dcmread(shared_data / "dicom" / "good" / "RG1_J2KI.dcm").pixel_array
    assert got.pixels.flat[stored.argmax()] == got.pixels.min()


@pytest.mark.parametrize("name", ["siim_ptx_cxr_monochrome2.dcm", "SC_rgb_jpeg_dcmtk.dcm"])
def test_jpeg_agrees_with_the_stream_read_as_a_jpeg_file(shared_data, name):
    path = shared_data / "dicom" / "good" / name
    ds = pydicom.dcmread(path)
    stream = pydicom.encaps.get_frame(ds.PixelData, 0, number_of_frames=1)
    with Image.open(io.BytesIO(stream)) as image:
        np.testing.assert_allclose(read_film(path).pixels, np.asarray(image) / 255, atol=3.01 / 255)


@pytest.mark.parametrize("name", ["examples_palette.dcm", "OBXXXX1A_rle_2frame.dcm"])
def test_palettes_agree_with_a_plain_look_up(shared_data, name):
    path = shared_data / "dicom" / "good" / name
    ds = pydicom.dcmread(path)
    stored = ds.pixel_array if ds.get("NumberOfFrames", 1) == 1 else ds.pixel_array[1]
    tables = [
        np.frombuffer(ds[f"{colour}PaletteColorLookupTableData"].value, "<u2") >> 8
        for colour in ("Red", "Green", "Blue")
    ]
    expected = np.stack([table[stored] for table in tables], axis=-1) / 255
    frame = None if ds.get("NumberOfFrames", 1) == 1 else 1
    np.testing.assert_allclose(read_film(path, frame=frame).pixels, expected, atol=1e-6)


def test_the_tree_is_a_probing_set(shared_data):
    films = ProbingSet.open(shared_data / "dicom", frame=0)
    # reports, plans and waveforms hold no picture; what is broken otherwise shows when it is decoded
    assert len(films) + len(films.ignored) == 32 + 15 + 1
    assert {path.name for path in films.ignored} >= {
        "dicom.csv",
        "test-SR.dcm",
        "waveform_ecg.dcm",
        "rtplan_truncated.dcm",
    }
    outcomes = {}
    for row in range(len(films)):
        try:
            outcomes[films.paths[row].name] = films.film(row).bits
        except ImageError as error:
            outcomes[films.paths[row].name] = str(error)
    refused = {name for name, outcome in outcomes.items() if isinstance(outcome, str)}
    assert refused - {"HTJ2KLossless_08_RGB.dcm"} <= set(BROKEN)
    assert "PA" in set(films.metadata["view"])
