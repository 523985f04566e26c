"""Films made to harm are refused in words, at once, and without the memory they ask for; bytes decode as files do."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from film_crafting import dicom, encode, film

from hostile_films import HOSTILE
from mammi.data import read_film, read_film_bytes
from mammi.errors import ImageError

pytest.importorskip("pydicom")

LIMIT = 30_000_000
#: What is odd about these leaves a picture that can be shown: 8 x 8 pixels of which too much was sent.
HARMLESS = {
    "png that inflates to 1 GiB",
    "png of a million empty chunks",
    "tiff in a circle",
    "dicom with RLE that unpacks to 128 MiB",
    "dicom with JPEG 2000 without data",
}
MEASURE = """
import json, sys, time
import pydicom.encaps, pydicom.pixels
from hostile_films import HOSTILE
from mammi.data import read_film_bytes
from mammi.errors import ImageError

def kib(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))

read_film_bytes(HOSTILE["tiff in a circle"]())  # what is imported on the way is not the film's memory
for name, make in HOSTILE.items():
    data = make()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before, began = kib("VmRSS"), time.monotonic()
    try:
        said = list(read_film_bytes(data, max_pixels=int(sys.argv[1])).pixels.shape)
    except ImageError as error:
        said = str(error)
    print(json.dumps([name, said, (kib("VmHWM") - before) / 1024, time.monotonic() - began]), flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
def test_hostile_films_are_refused_without_the_memory_they_ask_for():
    path = [str(Path(__file__).parents[1]), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{MEASURE}", str(LIMIT)],
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [name for name, *_ in rows] == list(HOSTILE)
    for name, said, grown, seconds in rows:
        if name in HARMLESS:
            assert isinstance(said, list), (name, said)
        else:
            assert isinstance(said, str), (name, said)
            assert said.startswith("The film cannot be read: "), (name, said)
            assert len(said) < 700, name
            assert "\n" not in said, name
        assert grown < 200, f"{name}: {grown:.0f} MB"
        assert seconds < 10, f"{name}: {seconds:.1f} s"


def test_bytes_decode_as_files_do(tmp_path, shared_data):
    paths = sorted((shared_data / "nih" / "images").glob("*.png"))[:2]
    paths += [shared_data / "dicom" / "good" / name for name in ("MR_small.dcm", "RG1_J2KI.dcm", "MR_small_RLE.dcm")]
    for path in paths:
        np.testing.assert_array_equal(read_film_bytes(path.read_bytes()).pixels, read_film(path).pixels)


def test_the_limit_holds_for_every_format_and_only_above_it():
    picture = film(20, 30)
    for data in (encode(picture, "PNG"), encode(picture, "JPEG"), encode(picture, "TIFF")):
        assert read_film_bytes(data, max_pixels=600).pixels.shape == (20, 30)
        with pytest.raises(ImageError, match="30 x 20 pixels, more than the 599"):
            read_film_bytes(data, max_pixels=599)


def test_later_pages_are_held_to_the_limit_too(tmp_path):
    from PIL import Image

    path = tmp_path / "pages.tif"
    Image.fromarray(film(8, 8)).save(path, save_all=True, append_images=[Image.fromarray(film(80, 80))])
    assert read_film_bytes(path.read_bytes(), frame=0, max_pixels=64).pixels.shape == (8, 8)
    with pytest.raises(ImageError, match="80 x 80 pixels"):
        read_film_bytes(path.read_bytes(), frame=1, max_pixels=64)


def saved(ds):
    import io

    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore")
def test_neither_message_nor_warning_quotes_the_header():
    good = saved(dicom(film(8, 8), PatientName="DOE^JANE" * 12, PatientID="A-4711", PatientBirthDate="19990101"))
    bad_date = good.replace(b"19990101", b"DOE^JANE")
    window = {"WindowCenter": 4, "WindowWidth": 9}
    odd = saved(dicom(film(8, 8), **window, VOILUTFunction="DOE^JANE"))
    bare = saved(dicom(film(8, 8), Modality="DOE JANE"))
    bare = bare[: bare.index(b"\xe0\x7f\x10\x00")]
    for data in (good, bad_date, bad_date[:-20], bad_date.replace(b"MONOCHROME2", b"MONOCHROME3"), odd, bare):
        try:
            said = " ".join(read_film_bytes(data).warnings)
        except ImageError as error:
            said = str(error)
        assert "DOE" not in said
        assert "4711" not in said


def test_warnings_of_the_library_are_counted_not_quoted(monkeypatch):
    import warnings

    from mammi.data import reading

    real = reading.decode_raster

    def warns(data, **options):
        warnings.warn("Invalid value for VR PN: 'DOE^JANE'", UserWarning, stacklevel=1)
        return real(data, **options)

    monkeypatch.setattr(reading, "decode_raster", warns)
    assert read_film_bytes(encode(film(8, 8), "PNG")).warnings == ("its decoder warned of it (1 times)",)
