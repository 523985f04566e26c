"""A written cohort says what the drawn one holds, in every format."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from mammi.data import MaskSet
from mammi.errors import InputError, MissingExtraError
from mammi.phantoms import Cohort, write_cohort, write_report, writing
from mammi.phantoms.catalogue import OUTPUTS

N, SEED = 6, 31


def rows(folder):
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def films():
    return list(Cohort(N, seed=SEED))


def test_labels_reports_boxes_and_masks_are_those_of_the_films(tmp_path, films):
    calls = []
    cohort = write_cohort(tmp_path, N, SEED, masks=True, progress=lambda *call: calls.append(call))
    assert cohort == Cohort(N, SEED)
    assert calls == [("films", done, N) for done in range(1, N + 1)]
    table = rows(tmp_path)
    assert list(table[0]) == ["id", "path", "patient", "view", "age", "sex", *OUTPUTS]
    reports = [json.loads(line) for line in (tmp_path / "reports.jsonl").read_text().splitlines()]
    boxes = json.loads((tmp_path / "boxes.json").read_text())
    assert [row["id"] for row in table] == [report["id"] for report in reports] == list(boxes)
    for film, row, report in zip(films, table, reports, strict=True):
        assert {name: int(row[name]) for name in OUTPUTS} == film.labels
        assert (row["view"], int(row["age"]), row["sex"]) == (
            film.plan.view.projection,
            film.plan.patient.age,
            film.plan.patient.sex,
        )
        written = write_report(film.plan)
        assert (report["findings"], report["impression"]) == (written.findings, written.impression)
        assert report["indication"] == written.indication
        assert {name: tuple(box) for name, box in boxes[row["id"]].items()} == film.boxes
        for name, mask in film.masks.items():
            with Image.open(tmp_path / "masks" / f"{row['id']}_{name.replace(' ', '-')}.png") as picture:
                assert picture.mode == "1"
                assert (np.asarray(picture) == mask).all()
    assert len(list((tmp_path / "masks").iterdir())) == sum(len(film.masks) for film in films)
    places = MaskSet.read(tmp_path / "masks.csv")
    assert len(places) == N  # a film with nothing drawn has a line too
    centres = (np.arange(64) + 0.5) / 64
    for film, row in zip(films, table, strict=True):
        grid = dict(zip(places.concepts, places.grid(row["id"], film.pixels.shape, centres, centres), strict=True))
        assert {name for name, cells in grid.items() if cells.any()} <= set(film.masks)
        for name, mask in film.masks.items():
            cell = len(mask) // 64
            assert (grid[name] == mask[cell // 2 :: cell, cell // 2 :: cell]).all()


@pytest.mark.parametrize(("image_format", "levels", "mode"), [("png", 255, "L"), ("png16", 65535, "I;16")])
def test_png_round_trip(tmp_path, films, image_format, levels, mode):
    write_cohort(tmp_path, N, SEED, image_format)
    for film, row in zip(films, rows(tmp_path), strict=True):
        with Image.open(tmp_path / row["path"]) as picture:
            assert picture.mode == mode
            np.testing.assert_allclose(np.asarray(picture) / levels, film.pixels, atol=0.5 / levels + 1e-6)


@pytest.mark.parametrize("inverted", [False, True])
def test_dicom_round_trip(tmp_path, films, inverted):
    pydicom = pytest.importorskip("pydicom")
    write_cohort(tmp_path, N, SEED, "dicom", inverted=inverted)
    patients = {}
    for film, row in zip(films, rows(tmp_path), strict=True):
        data = pydicom.dcmread(tmp_path / row["path"])
        stored = data.pixel_array / 4095
        assert data.PhotometricInterpretation == ("MONOCHROME1" if inverted else "MONOCHROME2")
        np.testing.assert_allclose(1 - stored if inverted else stored, film.pixels, atol=0.5 / 4095 + 1e-6)
        assert (data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation) == (16, 12, 11, 0)
        assert (data.Modality, data.ViewPosition, data.PatientID) == ("DX", row["view"], row["patient"])
        assert int(data.PatientAge[:-1]) == int(row["age"])
        patients[str(data.SOPInstanceUID)] = row["patient"]
    assert len(patients) == N, "every file has its own identifier"


def test_same_arguments_write_the_same_bytes(tmp_path):
    pytest.importorskip("pydicom")
    for folder in ("one", "two"):
        write_cohort(tmp_path / folder, 3, 2, "dicom", masks=True, size=128)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) >= 6
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes(), path


def test_without_pydicom_the_message_says_what_to_install(tmp_path, monkeypatch):
    def missing(module, extra):
        raise MissingExtraError(f"{module!r} is not installed: pip install 'mammi[{extra}]'")

    monkeypatch.setattr(writing, "import_extra", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'mammi\[dicom\]'"):
        write_cohort(tmp_path, 1, image_format="dicom")


def test_bad_options_are_named(tmp_path):
    with pytest.raises(InputError, match="'image_format' must be one of png, png16, dicom, got 'jpeg'"):
        write_cohort(tmp_path, 1, image_format="jpeg")
    with pytest.raises(InputError, match="'inverted' is for image_format='dicom' only, got 'png'"):
        write_cohort(tmp_path, 1, inverted=True)
