"""A cohort on disk: pictures, a label table, reports, boxes and masks, in formats that every tool reads."""

import csv
import json
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image

from mammi.errors import InputError
from mammi.phantoms.catalogue import OUTPUTS
from mammi.phantoms.cohort import Cohort
from mammi.phantoms.film import SIZE, PhantomFilm
from mammi.phantoms.reports import write_report
from mammi.phantoms.shortcut import ARROW, Shortcut
from mammi.registry import import_extra
from mammi.types import Progress, no_progress

__all__ = ["ImageFormat", "film_id", "write_cohort", "write_dicom"]

ImageFormat = Literal["png", "png16", "dicom"]
_SUFFIX = {"png": ".png", "png16": ".png", "dicom": ".dcm"}
#: Side of the drawn field in millimetres, as of a 35 cm film.
_FIELD_MM = 350.0
_DICOM_BITS = 12


def film_id(index: int) -> str:
    """Return the id of film ``index`` in tables and file names, such as ``"film-00012"``."""
    return f"film-{index:05d}"


def write_dicom(film: PhantomFilm, path: Path, seed: int = 0, inverted: bool = False) -> None:
    """Write one film as a DICOM file: Digital X-Ray Image for Presentation, 12 of 16 bits, explicit little endian.

    Args:
        film: what to write.
        path: file to write.
        seed: the cohort's seed; with the film's number it gives the unique identifiers.
        inverted: ``MONOCHROME1`` (high values are dark) instead of ``MONOCHROME2``; the picture means the same.

    Raises:
        MissingExtraError: if pydicom is not installed.
    """
    uid = import_extra("pydicom.uid", "dicom")
    datasets = import_extra("pydicom.dataset", "dicom")
    plan = film.plan
    top = 2**_DICOM_BITS - 1
    stored = np.round(film.pixels * top).astype("<u2")
    if inverted:
        stored = (top - stored).astype("<u2")
    source = [str(seed), str(plan.patient.id)]
    meta = datasets.FileMetaDataset()
    meta.MediaStorageSOPClassUID = uid.UID("1.2.840.10008.5.1.4.1.1.1.1")
    meta.MediaStorageSOPInstanceUID = uid.generate_uid(entropy_srcs=["mammi film", *source, str(plan.index)])
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data = datasets.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.SpecificCharacterSet = "ISO_IR 100"
    data.StudyInstanceUID = uid.generate_uid(entropy_srcs=["mammi study", *source, str(plan.index)])
    data.SeriesInstanceUID = uid.generate_uid(entropy_srcs=["mammi series", *source, str(plan.index)])
    data.PatientName = f"Phantom^{plan.patient.id:05d}"
    data.PatientID = f"P{plan.patient.id:05d}"
    data.PatientBirthDate = ""
    data.PatientSex, data.PatientAge = plan.patient.sex, f"{plan.patient.age:03d}Y"
    data.StudyDate = data.StudyTime = data.AccessionNumber = data.ReferringPhysicianName = data.StudyID = ""
    data.SeriesNumber = data.InstanceNumber = 1
    data.Modality, data.BodyPartExamined, data.ViewPosition = "DX", "CHEST", plan.view.projection
    data.PatientOrientation = ["L", "F"]
    data.ImageType = ["DERIVED", "PRIMARY"]
    data.PresentationIntentType = "FOR PRESENTATION"
    data.Manufacturer, data.SeriesDescription = "mammi", "Drawn chest film, not a person"
    data.ImageLaterality, data.BurnedInAnnotation, data.LossyImageCompression = "U", "NO", "00"
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    data.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    data.PixelIntensityRelationship, data.PixelIntensityRelationshipSign = "LOG", 1 if inverted else -1
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = "0", "1", "US"
    data.WindowCenter, data.WindowWidth = str((top + 1) // 2), str(top + 1)
    data.Rows, data.Columns = stored.shape
    data.PixelSpacing = data.ImagerPixelSpacing = [f"{_FIELD_MM / stored.shape[0]:.6f}"] * 2
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, _DICOM_BITS, _DICOM_BITS - 1, 0
    data.PixelData = stored.tobytes()
    data.save_as(path, enforce_file_format=True)


def _write_image(film: PhantomFilm, path: Path, image_format: str, seed: int, inverted: bool) -> None:
    """Write one film's picture in the chosen format."""
    if image_format == "dicom":
        write_dicom(film, path, seed, inverted)
    elif image_format == "png16":
        Image.fromarray(np.round(film.pixels * 65535).astype(np.uint16)).save(path)
    else:
        film.to_pil().save(path)


def write_cohort(
    folder: str | Path,
    n_films: int,
    seed: int = 0,
    image_format: ImageFormat = "png",
    masks: bool = False,
    progress: Progress = no_progress,
    *,
    size: int = SIZE,
    inverted: bool = False,
    shortcut: Shortcut | None = None,
) -> Cohort:
    """Write a cohort to a folder; the same arguments write the same bytes.

    - ``images/film-00000.png`` (or ``.dcm``), one a film;
    - ``labels.csv``: ``id, path, patient, view, age, sex``, with a shortcut also ``marker`` (``"arrow"`` or ``"none"``,
      no label), then 1 or 0 for each of ``catalogue.OUTPUTS``;
    - ``reports.jsonl``: ``id, findings, impression, indication``;
    - ``boxes.json``: id to label to ``[left, top, right, bottom]`` in pixels, right and bottom exclusive;
    - ``masks/film-00000_label-name.png``: where a label is drawn, 1 bit a pixel, if ``masks``;
    - ``masks.csv``: ``image, concept, mask``, the table that ``mammi.MaskSet.read`` reads, if ``masks``; a film
      without a label has one row without a concept.

    Args:
        folder: where to write; made if it does not exist, files of the same names are replaced.
        n_films: how many films.
        seed: seed of the cohort.
        image_format: ``"png"`` (8 bits), ``"png16"`` (16 bits) or ``"dicom"`` (12 bits, needs ``mammi[dicom]``).
        masks: write the masks too.
        progress: told after each film.
        size: pixels along a side.
        inverted: write DICOM files as ``MONOCHROME1``.
        shortcut: plant an arrow of lead that goes with a finding; its place is among boxes and masks as ``"arrow"``.

    Returns:
        The cohort that was written.

    Raises:
        InputError: if an argument is out of range.
        MissingExtraError: if DICOM is asked for and pydicom is not installed.
    """
    if image_format not in get_args(ImageFormat):
        raise InputError(f"'image_format' must be one of {', '.join(get_args(ImageFormat))}, got {image_format!r}")
    if inverted and image_format != "dicom":
        raise InputError(f"'inverted' is for image_format='dicom' only, got {image_format!r}")
    cohort = Cohort(n_films, seed, size, shortcut)
    folder = Path(folder)
    for name in ("images", "masks") if masks else ("images",):
        (folder / name).mkdir(parents=True, exist_ok=True)
    boxes: dict[str, dict[str, tuple[int, int, int, int]]] = {}
    places: list[list[str]] = [["image", "concept", "mask"]]
    with (
        (folder / "labels.csv").open("w", newline="", encoding="utf-8") as labels_file,
        (folder / "reports.jsonl").open("w", encoding="utf-8", newline="\n") as reports_file,
    ):
        table = csv.writer(labels_file, lineterminator="\n")
        extra = ["marker"] if shortcut else []
        table.writerow(["id", "path", "patient", "view", "age", "sex", *extra, *OUTPUTS])
        for index, film in enumerate(cohort):
            name, patient = film_id(index), film.plan.patient
            path = f"images/{name}{_SUFFIX[image_format]}"
            _write_image(film, folder / path, image_format, seed, inverted)
            person = [f"P{patient.id:05d}", film.plan.view.projection, patient.age, patient.sex]
            mark = [ARROW if film.plan.arrow else "none"] if shortcut else []
            table.writerow([name, path, *person, *mark, *film.labels.values()])
            report = write_report(film.plan)
            row = {
                "id": name,
                "findings": report.findings,
                "impression": report.impression,
                "indication": report.indication,
            }
            reports_file.write(json.dumps(row) + "\n")
            boxes[name] = film.boxes
            for label, mask in film.masks.items() if masks else ():
                place = f"masks/{name}_{label.replace(' ', '-')}.png"
                Image.fromarray(mask).save(folder / place)
                places.append([name, label, place])
            if not film.masks:
                places.append([name, "", ""])
            progress("films", index + 1, n_films)
    if masks:
        with (folder / "masks.csv").open("w", newline="", encoding="utf-8") as masks_file:
            csv.writer(masks_file, lineterminator="\n").writerows(places)
    (folder / "boxes.json").write_text(json.dumps(boxes, indent=1) + "\n", encoding="utf-8")
    return cohort
