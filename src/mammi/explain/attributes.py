"""What is known of each film besides its findings: view, sex, age, scanner, a device; as columns of numbers."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammi.data.files import FolderListing
from mammi.data.matching import match_rows
from mammi.data.table import LabelTable, normalise_label, read_table, strip_suffix
from mammi.errors import InputError, RunError, UnknownNameError
from mammi.store.files import read_json
from mammi.store.run import Run

__all__ = ["LEAST_PATIENTS", "Attribute", "read_attributes"]

#: With fewer patients on either side of a comparison it is left out.
LEAST_PATIENTS = 10
_YES = frozenset({"1", "1.0", "yes", "y", "true", "t", "present", "positive", "+"})
_NO = frozenset({"0", "0.0", "no", "n", "false", "f", "absent", "negative", "none", "-"})


@dataclass(frozen=True)
class Attribute:
    """One column of numbers: a binary attribute, one level of a categorical one, or a numeric one.

    Attributes:
        label: what it is called, ``"view = PA"``, ``"marker"``, ``"age"``.
        name: the column of the table it comes from.
        kind: ``"binary"``, ``"categorical"`` or ``"numeric"``.
        against: what a level is compared with: ``"AP"``, ``"the rest"``; ``""`` for a number and for yes or no.
        step: what a gap is counted in: 1, or of a numeric attribute its standard deviation over the films.
        values: float64, shape ``(n_films,)``: 1 and 0, or the number in standard deviations from its mean; NaN unknown.
    """

    label: str
    name: str
    kind: str
    against: str
    step: float
    values: NDArray[np.float64] = field(repr=False)

    @property
    def between(self) -> str:
        """Between which films a gap lies, in words."""
        if self.kind == "numeric":
            return f"per {self.step:.3g} of {self.name} (one standard deviation)"
        return f"{self.label} against {self.against}" if self.against else f"with {self.label} against without"

    def count(self, patients: NDArray[np.int64]) -> dict[str, Any]:
        """Return how many films and patients it is known of and, of a level, how many have it."""
        known = ~np.isnan(self.values)
        having = self.values == 1 if self.kind != "numeric" else np.zeros(len(known), dtype=bool)
        counted: dict[str, Any] = {"films": int(known.sum()), "patients": len(np.unique(patients[known]))}
        if self.kind != "numeric":
            counted |= {"films_with": int(having.sum()), "patients_with": len(np.unique(patients[having]))}
        return counted


def read_attributes(
    run: Run,
    patients: NDArray[np.int64],
    metadata: str | Path | pd.DataFrame | None = None,
    names: Sequence[str] | None = None,
    *,
    outputs: Sequence[str] = (),
) -> tuple[list[Attribute], list[str]]:
    """Read the attributes of a run's films.

    A column of numbers with more than two values is numeric and counted in standard deviations. Any other is taken level
    by level: with two levels the second in the order of the alphabet against the first (or yes against no, anything against
    none), with more each against the rest. A level of fewer than 10 patients is left out: its films count as unknown.

    Args:
        run: the run.
        patients: one number a film, ``(n_films,)``.
        metadata: a CSV file with a column for the image, see `mammi.data.table.read_table`, matched with the run's films
            by id or by path; or a frame with one row a film of the run, in its order; None for the run's own labels that
            are no outputs of the network. A film without a row is unknown.
        names: the columns; None for all but those that are labels of the run or outputs of the network.
        outputs: names of the network's outputs.

    Returns:
        The attributes, and in words what was left out.

    Raises:
        InputError: if no column is left, or the table cannot be understood.
        UnknownNameError: if there is no such column.
        RunError: if the run's private folder is gone, so that the table cannot be matched.
    """
    columns, notes = _columns(run, metadata)
    if names is None:
        findings = {
            normalise_label(str(name)) for name in (*outputs, *(run.labels.columns if metadata is not None else ()))
        }
        chosen = [name for name in columns if name not in findings]
    else:
        chosen = [normalise_label(name) for name in names]
        for name in chosen:
            if name not in columns:
                raise UnknownNameError.among("Attribute", name, columns, f"Known: {', '.join(list(columns)[:20])}.")
    attributes: list[Attribute] = []
    for name in dict.fromkeys(chosen):
        found, said = _coded(name, columns[name], patients)
        attributes += found
        notes += said
    if not attributes:
        what = "; ".join(notes[:3]) or "the run has no label that is no output of the network: give a table of metadata"
        raise InputError(f"no attribute of the films is left to look at: {what}")
    return attributes, notes


def _columns(run: Run, metadata: str | Path | pd.DataFrame | None) -> tuple[dict[str, pd.Series], list[str]]:
    """Return the columns by normalised name, one row a film of the run, and what does not fit."""
    n_films = len(run.images)
    if metadata is None:
        frame = run.labels
    elif isinstance(metadata, pd.DataFrame):
        frame = metadata.reset_index(drop=True)
        if len(frame) != n_films:
            raise InputError(f"the table of metadata holds {len(frame)} rows for the {n_films} films of the run")
    else:
        table = read_table(Path(metadata))
        rows = _rows(run, table)
        labels = pd.DataFrame(table.labels, columns=list(table.label_names))
        whole = pd.concat([table.metadata, labels], axis=1)
        frame = whole.reindex(rows).reset_index(drop=True)  # no row has the index -1: NaN
        without = int((rows < 0).sum())
        said = [f"{without:,} of {n_films:,} films have no row in the table: unknown"] if without else []
        return {normalise_label(str(name)): frame[name] for name in frame}, said
    return {normalise_label(str(name)): frame[name] for name in frame}, []


def _rows(run: Run, table: LabelTable) -> NDArray[np.int64]:
    """Return the table's row of every film of the run, -1 where it has none."""
    path = run.folder / "private" / "films.json"
    if not path.is_file():
        raise RunError(
            f"{run.folder} has no private/films.json, so the rows of {table.source.name!r} cannot be matched with its "
            "films: put 'private' back beside the manifest"
        )
    sources = read_json(path)
    wanted = [int(row) for row in run.images["row"]]
    ids = {strip_suffix(name): row for row, name in enumerate(table.ids or ())}
    found = np.array([ids.get(strip_suffix(str(sources[row]["id"])), -1) for row in wanted], dtype=np.int64)
    if (found >= 0).any():
        return found
    files = [Path(sources[row]["path"]) for row in wanted]
    root = Path(os.path.commonpath([file.parent for file in files]))
    names = [file.relative_to(root).as_posix() for file in files]
    match = match_rows(table, FolderListing(root, tuple(sorted(names)), ()), skip_missing=True)
    row_of = dict(zip(match.files, match.rows, strict=True))
    return np.array([row_of.get(name, -1) for name in names], dtype=np.int64)


def _coded(name: str, column: pd.Series, patients: NDArray[np.int64]) -> tuple[list[Attribute], list[str]]:
    """Return the columns of numbers that one column of the table becomes, and what was left out."""
    known = column.notna() & (column.astype(str).str.strip() != "")
    numbers = pd.to_numeric(column.where(known), errors="coerce")
    if pd.api.types.is_numeric_dtype(column) and numbers.nunique() > 2:
        return _numeric(name, numbers.to_numpy(dtype=np.float64), patients)
    texts = [_text(value) if there else "" for value, there in zip(column, known, strict=True)]
    of_level: dict[str, set[int]] = {}
    for text, patient in zip(texts, patients.tolist(), strict=True):
        if text:
            of_level.setdefault(text, set()).add(patient)
    films = Counter(texts)
    common = sorted(level for level, who in of_level.items() if len(who) >= LEAST_PATIENTS)
    rare = sorted(set(of_level) - set(common))
    notes = []
    if len(common) < 2:
        return [], [f"{name}: left out, needs two levels of {LEAST_PATIENTS} patients or more, has {len(common)}"]
    if rare:
        count = sum(films[level] for level in rare)
        what = f"{len(rare)} level{'s' if len(rare) > 1 else ''} of fewer than {LEAST_PATIENTS} patients"
        notes = [f"{name}: {what} left out ({count:,} films)"]
    place = {level: number for number, level in enumerate(common)}
    level_of = np.array([place.get(text, -1) for text in texts])
    if len(common) > 2:
        return [
            Attribute(f"{name} = {level}", name, "categorical", "the rest", 1.0, _indicator(level_of, number))
            for level, number in place.items()
        ], notes
    no, yes = sorted(place, key=lambda level: level.lower() not in _NO)  # stable: else by the alphabet
    plain = no.lower() in _NO and yes.lower() in _YES
    label, against = (name, "") if plain else (f"{name} = {yes}", no)
    return [Attribute(label, name, "binary", against, 1.0, _indicator(level_of, place[yes]))], notes


def _text(value: object) -> str:
    """Return a level as text; 1.0, made of 1 by a blank elsewhere in the column, is 1."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _indicator(level_of: NDArray[np.int64], level: int) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.where(level_of < 0, np.nan, (level_of == level).astype(np.float64))
    return values


def _numeric(name: str, numbers: NDArray[np.float64], patients: NDArray[np.int64]) -> tuple[list[Attribute], list[str]]:
    known = np.isfinite(numbers)
    count = len(np.unique(patients[known]))
    if count < LEAST_PATIENTS:
        return [], [f"{name}: left out, needs {LEAST_PATIENTS} patients or more, has {count}"]
    spread = float(np.std(numbers[known]))
    if not spread > 0:
        return [], [f"{name}: left out, it is the same on all films"]
    values = np.where(known, (numbers - numbers[known].mean()) / spread, np.nan)
    return [Attribute(name, name, "numeric", "", spread, values)], []
