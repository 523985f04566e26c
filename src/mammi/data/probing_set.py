"""The films shown to the target, with what is known of each: id, patient, labels and anything else of a table."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammi.data.files import FolderListing, list_images, stem_ids
from mammi.data.headers import read_headers
from mammi.data.matching import match_rows
from mammi.data.reading import read_film
from mammi.data.table import read_table
from mammi.errors import ImageError, InputError
from mammi.functional.fingerprint import fingerprint_file
from mammi.types import Film, Progress, no_progress

__all__ = ["ProbingSet"]


class ProbingSet:
    """Films in a stable order, with ids, patients and labels. Nothing is decoded before ``film`` asks for it.

    Made by ``open`` or, by the kind of source, ``from_folder``, ``from_table`` and ``from_dicom``; the constructor
    takes the parts themselves. Ids and patients stay in memory and appear in no text this class makes.

    Args:
        paths: one file a film.
        ids: unique names; the files' stems by default.
        patients: one a film, ``""`` where unknown; ``None`` if no one knows.
        label_names: unique names of the labels.
        labels: ``(n_images, n_labels)``: 1 present, 0 absent, NaN unknown.
        metadata: other columns, a row a film, for example ``view``, ``sex``, ``age``.
        frame: which picture of a file that holds several, from 0.
        without_row: files of the folder that the table does not name; they are left out.
        ignored: files of the folder that are no images.
        n_missing: rows of the table that were left out because their file is missing.

    Attributes:
        paths: list of ``n_images`` paths.
        ids: list of ``n_images`` unique strings.
        patients: ``(n_images,)`` of ``str``; where unknown, the film's id, as if each film had its own patient.
        patients_known: whether the patient of every film is known.
        label_names: tuple of ``n_labels`` names.
        labels: float32 ``(n_images, n_labels)`` of 1, 0 and NaN.
        metadata: data frame of ``n_images`` rows, possibly without columns.

    Raises:
        InputError: if the parts do not fit each other, ids repeat, or a label is none of 1, 0 and NaN.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        ids: Sequence[str] | None = None,
        patients: Sequence[str] | None = None,
        label_names: Sequence[str] = (),
        labels: NDArray[np.floating[Any]] | None = None,
        metadata: pd.DataFrame | None = None,
        frame: int | None = None,
        without_row: Sequence[Path] = (),
        ignored: Sequence[Path] = (),
        n_missing: int = 0,
    ) -> None:
        n_images, n_labels = len(paths), len(label_names)
        self.paths = [path if isinstance(path, Path) else Path(path) for path in paths]
        self.ids = list(ids) if ids is not None else stem_ids(tuple(path.as_posix() for path in self.paths))
        self.label_names = tuple(label_names)
        self.labels = np.empty((n_images, 0), np.float32) if labels is None else np.asarray(labels, np.float32)
        self.metadata = pd.DataFrame(index=pd.RangeIndex(n_images)) if metadata is None else metadata
        if frame is not None and frame < 0:
            raise InputError(f"'frame' counts from 0, got {frame}")
        self.frame = frame
        self.without_row = tuple(without_row)
        self.ignored = tuple(ignored)
        self.n_missing = n_missing
        for name, length in (("ids", len(self.ids)), ("metadata", len(self.metadata))):
            if length != n_images:
                raise InputError(f"'{name}' must have one entry a film, got {length} for {n_images} films")
        if self.labels.shape != (n_images, n_labels):
            raise InputError(f"'labels' must be (n_images, n_labels) = {(n_images, n_labels)}, got {self.labels.shape}")
        if not (np.isin(self.labels, (0, 1)) | np.isnan(self.labels)).all():
            raise InputError("'labels' must be 1, 0 or NaN: take a threshold of soft labels first")
        if len(set(self.label_names)) < n_labels:
            raise InputError("'label_names' must be unique: drop or rename one of each pair")
        _check_unique(self.ids)
        if patients is not None and len(patients) != n_images:
            raise InputError(f"'patients' must have one entry a film, got {len(patients)} for {n_images} films")
        given = [str(patient) for patient in patients] if patients is not None else [""] * n_images
        self.patients_known = all(given) and n_images > 0
        self.patients: NDArray[np.str_] = np.array(
            [patient or name for patient, name in zip(given, self.ids, strict=True)], dtype=np.str_
        )
        self._fingerprints: list[str] | None = None

    @classmethod
    def open(cls, images: str | Path, labels: str | Path | None = None, *, frame: int | None = None) -> "ProbingSet":
        """Open films by what is given: a folder with a table, a table alone, a DICOM tree, or a folder of images.

        Args:
            images: a folder; or a CSV file whose paths count from its own folder.
            labels: a CSV file about the films of ``images``; see ``mammi.data.table.read_table`` for its columns.
            frame: which picture of a file that holds several.

        Raises:
            ImageError: if the folder holds no images, or rows of the table have none.
            InputError: if the table cannot be understood or ids repeat.
        """
        images = Path(images)
        if labels is not None:
            return cls.from_table(labels, images, frame=frame)
        if images.is_file() and images.suffix.lower() in (".csv", ".tsv"):
            return cls.from_table(images, images.parent, frame=frame)
        listing = list_images(images)
        return cls._from_dicom(listing, frame, no_progress) if listing.dicom_only else cls._from_listing(listing, frame)

    @classmethod
    def from_folder(cls, folder: str | Path, *, frame: int | None = None) -> "ProbingSet":
        """Take every image below a folder, sorted by relative path, named by its stem (or path if stems repeat)."""
        return cls._from_listing(list_images(Path(folder)), frame)

    @classmethod
    def from_table(
        cls,
        table: str | Path,
        folder: str | Path,
        *,
        label_columns: Sequence[str] | None = None,
        skip_missing: bool = False,
        frame: int | None = None,
    ) -> "ProbingSet":
        """Take the films of a table, in its order, from a folder.

        Args:
            table: a CSV file; see ``mammi.data.table.read_table``.
            folder: where its images are, at any depth; see ``mammi.data.matching.match_rows``.
            label_columns: which columns are labels, if that is not to be told from their values.
            skip_missing: leave out rows whose file is missing (counted in ``n_missing``) instead of raising.
            frame: which picture of a file that holds several.
        """
        rows = read_table(Path(table), label_columns=label_columns)
        listing = list_images(Path(folder))
        match = match_rows(rows, listing, skip_missing=skip_missing)
        keep = list(match.rows)
        source = Path(table).absolute()
        return cls(
            [listing.root / file for file in match.files],
            ids=[rows.ids[row] for row in keep] if rows.ids is not None else stem_ids(match.files),
            patients=[rows.patients[row] for row in keep] if rows.patients is not None else None,
            label_names=rows.label_names,
            labels=rows.labels[keep],
            metadata=rows.metadata.iloc[keep].reset_index(drop=True),
            frame=frame,
            without_row=[listing.root / name for name in match.without_row],
            ignored=[listing.root / name for name in listing.ignored if (listing.root / name).absolute() != source],
            n_missing=match.without_file,
        )

    @classmethod
    def from_dicom(
        cls, folder: str | Path, *, frame: int | None = None, progress: Progress = no_progress
    ) -> "ProbingSet":
        """Take the DICOM images below a folder; patient, view, sex, age and modality come from their headers.

        Objects without a picture (reports, plans, waveforms) are among ``ignored``. A file whose header cannot be
        read is kept, with blanks: the reason comes when it is decoded.

        Raises:
            ImageError: if the folder holds no image.
            MissingExtraError: if pydicom is not installed.
        """
        return cls._from_dicom(list_images(Path(folder)), frame, progress)

    @classmethod
    def _from_listing(cls, listing: FolderListing, frame: int | None) -> "ProbingSet":
        return cls(
            [listing.root / name for name in listing.images],
            ids=stem_ids(listing.images),
            frame=frame,
            ignored=[listing.root / name for name in listing.ignored],
        )

    @classmethod
    def _from_dicom(cls, listing: FolderListing, frame: int | None, progress: Progress) -> "ProbingSet":
        headers = read_headers(listing, progress)
        return cls(
            [listing.root / name for name in headers.images],
            ids=stem_ids(headers.images),
            patients=headers.patients,
            metadata=headers.metadata,
            frame=frame,
            ignored=[listing.root / name for name in sorted((*listing.ignored, *headers.pictureless))],
        )

    def __len__(self) -> int:
        """Return the number of films."""
        return len(self.paths)

    def film(self, index: int) -> Film:
        """Decode film ``index``, 0 to ``n_images - 1``.

        Raises:
            ImageError: with the reason, if it cannot be decoded.
            InputError: if there is no such film.
        """
        if not 0 <= index < len(self):
            raise InputError(f"film {index} does not exist: there are {len(self)}, counted from 0")
        return read_film(self.paths[index], frame=self.frame)

    def fingerprints(self, progress: Progress = no_progress) -> list[str]:
        """Return the SHA-256 of each file's bytes, 64 hex digits, read once and remembered.

        Raises:
            ImageError: if a file cannot be read any more.
        """
        if self._fingerprints is None:
            result: list[str] = []
            # hashing and reading both let other threads run; more than a few only make a disk seek
            with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
                for done, digest in enumerate(pool.map(_fingerprint, self.paths), start=1):
                    result.append(digest)
                    progress("fingerprint films", done, len(self))
            self._fingerprints = result
        return list(self._fingerprints)

    def subset(self, rows: Sequence[int] | NDArray[Any]) -> "ProbingSet":
        """Return the films ``rows``, in that order, with everything known of them.

        Args:
            rows: row numbers, each at most once; or a boolean mask ``(n_images,)``.

        Raises:
            InputError: if rows are out of range, repeated or of another kind.
        """
        chosen = np.asarray(rows)
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise InputError(f"'rows' as a mask must be ({len(self)},), got {chosen.shape}")
            chosen = np.flatnonzero(chosen)
        if chosen.size == 0:
            raise InputError("'rows' chooses no film: give at least one row")
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
            raise InputError(f"'rows' must be one axis of row numbers or a mask, got {chosen.dtype} {chosen.shape}")
        if chosen.min() < 0 or chosen.max() >= len(self):
            raise InputError(f"'rows' must lie in 0 to {len(self) - 1}, got {chosen.min()} to {chosen.max()}")
        part = ProbingSet(
            [self.paths[row] for row in chosen],
            ids=[self.ids[row] for row in chosen],
            patients=[str(self.patients[row]) for row in chosen]
            if self.patients_known
            else self._patients_or_blank(chosen),
            label_names=self.label_names,
            labels=self.labels[chosen],
            metadata=self.metadata.iloc[chosen].reset_index(drop=True),
            frame=self.frame,
        )
        if self._fingerprints is not None:
            part._fingerprints = [self._fingerprints[row] for row in chosen]
        return part

    def _patients_or_blank(self, rows: NDArray[Any]) -> list[str]:
        """Return patients with ``""`` where the id stands in for one that is unknown."""
        return ["" if self.patients[row] == self.ids[row] else str(self.patients[row]) for row in rows]

    def __repr__(self) -> str:
        """Return counts of films, patients, labels and views; no id, path or patient."""
        patients = f"of {len(np.unique(self.patients))} patients" if self.patients_known else "of unknown patients"
        lines = [f"ProbingSet: {len(self)} films {patients}"]
        if self.label_names:
            counts = (self.labels == 1).sum(axis=0)
            found = ", ".join(f"{name} {count}" for name, count in zip(self.label_names, counts, strict=True))
            lines.append(f"  {len(self.label_names)} labels (positives): {found}")
        if "view" in self.metadata:
            views = self.metadata["view"].astype(str).replace("", "unknown").value_counts(sort=False).sort_index()
            lines.append(f"  views: {', '.join(f'{view} {count}' for view, count in views.items())}")
        left = (
            (len(self.without_row), "files without a row"),
            (self.n_missing, "rows without a file"),
            (len(self.ignored), "other files"),
        )
        if any(count for count, _ in left):
            lines.append(f"  left out: {', '.join(f'{count} {what}' for count, what in left if count)}")
        return "\n".join(lines)


def _check_unique(ids: list[str]) -> None:
    if len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    doubled = list(dict.fromkeys(name for name in ids if name in seen or seen.add(name)))  # type: ignore[func-returns-value]
    raise InputError(
        f"{len(doubled)} image ids occur more than once: {', '.join(map(repr, doubled[:5]))}"
        f"{', ...' if len(doubled) > 5 else ''}; rename files that differ in their suffix only, or give ids of your own"
    )


def _fingerprint(path: Path) -> str:
    try:
        return fingerprint_file(path)
    except OSError as error:
        raise ImageError(f"Film {path.name!r} cannot be read: {error.strerror}: was it moved or deleted?") from error
