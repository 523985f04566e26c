"""What the headers of a DICOM tree say of each film: patient, view, sex, age, modality. No pixel is decoded."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mammi.data.capture_warnings import caught_warnings
from mammi.data.dicom import read_tags
from mammi.data.files import FolderListing
from mammi.data.reading import is_dicom
from mammi.errors import ImageError, MissingExtraError
from mammi.types import Progress, no_progress

__all__ = ["Headers", "age_in_years", "read_headers"]

_TAGS = ("PatientID", "ViewPosition", "PatientSex", "PatientAge", "Modality", "Rows", "SOPClassUID")
#: Years in one unit of a DICOM age string, PS3.5 6.2 (AS).
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


@dataclass(frozen=True)
class Headers:
    """The images of a DICOM tree.

    Attributes:
        images: relative paths, in the order of the listing.
        patients: Patient ID of each, ``""`` where there is none.
        metadata: ``view``, ``sex`` and ``modality`` (``""`` where blank) and ``age`` in years (NaN where blank).
        pictureless: relative paths of objects without a picture: reports, plans, waveforms.
    """

    images: tuple[str, ...]
    patients: list[str]
    metadata: pd.DataFrame
    pictureless: tuple[str, ...]


def read_headers(listing: FolderListing, progress: Progress = no_progress) -> Headers:
    """Read the headers of a DICOM tree; a file whose header is damaged stays, with blanks, until it is decoded.

    Raises:
        ImageError: if no file holds a picture.
        MissingExtraError: if pydicom is not installed.
    """
    images: list[str] = []
    pictureless: list[str] = []
    tags: list[dict[str, str]] = []
    for done, name in enumerate(listing.images, start=1):
        found = _header(listing.root / name)
        if found.get("SOPClassUID") and not found.get("Rows"):
            pictureless.append(name)
        else:
            images.append(name)
            tags.append(found)
        progress("read headers", done, len(listing.images))
    if not images:
        raise ImageError(
            f"Folder {str(listing.root)!r} holds {len(pictureless)} DICOM objects (reports, plans, waveforms) and no "
            "image among them: give the folder of the images"
        )
    columns = {"view": "ViewPosition", "sex": "PatientSex", "modality": "Modality"}
    metadata = pd.DataFrame({column: [found.get(tag, "") for found in tags] for column, tag in columns.items()})
    metadata["age"] = [age_in_years(found.get("PatientAge", "")) for found in tags]
    return Headers(tuple(images), [found.get("PatientID", "") for found in tags], metadata, tuple(pictureless))


def age_in_years(age: str) -> float:
    """Return a DICOM age string in years; NaN if it is blank or damaged.

    Example:
        >>> age_in_years("058Y"), age_in_years("006M")
        (58.0, 0.5)
    """
    if len(age) == 4 and age[:3].isdigit() and age[3] in _YEARS:
        return int(age[:3]) * _YEARS[age[3]]
    return float("nan")


def _header(path: Path) -> dict[str, str]:
    """Return the tags of one file, or nothing if its header cannot be read."""
    try:
        with caught_warnings(), path.open("rb") as file:
            if not is_dicom(file.read(132)):
                return {}
            file.seek(0)
            return read_tags(file, _TAGS)
    except MissingExtraError:
        raise
    except Exception:  # noqa: BLE001 - a damaged header raises anything; decoding will say which film and why
        return {}
