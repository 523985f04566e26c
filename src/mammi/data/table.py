"""The table beside the films: a CSV file with an id or path, a patient, labels and anything else, a row a film."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammi.data.reading import IMAGE_SUFFIXES
from mammi.errors import InputError

__all__ = ["LabelTable", "normalise_label", "read_csv", "read_table", "strip_suffix"]

_NAMES = {
    "id": ("id", "image", "image index", "image_id", "filename"),
    "path": ("path", "file"),
    "patient": ("patient", "patient id", "patient_id", "patientid"),
    "labels": ("labels", "finding labels"),
}
_METADATA = {
    "view": ("view", "view position", "view_position", "viewposition", "ap/pa"),
    "sex": ("sex", "gender", "patient gender", "patient sex"),
    "age": ("age", "patient age"),
}
#: Columns that are no labels even where all their values happen to be 0 and 1.
_RESERVED_NAMES = """
    followup follow-up fold split train test valid study study_id series series_id visit width height rows columns cols
    orig_w orig_h frame frames index row weight weights seed year count laterality frontal/lateral modality source
"""
_RESERVED = frozenset(_RESERVED_NAMES.split()) | {name for names in _METADATA.values() for name in names}
_VALUES = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "": np.nan, "-1": np.nan, "-1.0": np.nan, "nan": np.nan}
_NO_FINDING = "no finding"


@dataclass(frozen=True)
class LabelTable:
    """What a table says, a row a film, before its rows are matched with files.

    Attributes:
        source: the CSV file.
        ids: unique names, without an image suffix; ``None`` if the table has no such column.
        paths: paths as written; ``None`` if the table has no such column.
        patients: as written, ``""`` where blank; ``None`` if the table has no such column.
        label_names: normalised, unique.
        labels: float32 ``(n_rows, n_labels)``: 1 present, 0 absent, NaN unknown.
        metadata: the other columns; ``view``, ``sex`` and ``age`` under these names. Numbers where all are numbers.
        lines: the line of the file each row ends on, for messages.
    """

    source: Path
    ids: list[str] | None
    paths: list[str] | None
    patients: list[str] | None
    label_names: tuple[str, ...]
    labels: NDArray[np.float32]
    metadata: pd.DataFrame
    lines: list[int]


def normalise_label(name: str) -> str:
    """Return a label in lower case, underscores as blanks.

    Example:
        >>> normalise_label(" Pleural_Thickening ")
        'pleural thickening'
    """
    return " ".join(name.replace("_", " ").split()).lower()


def read_table(source: Path, *, label_columns: Sequence[str] | None = None) -> LabelTable:
    """Read and check a table of films.

    Column names are matched without regard to case: id from ``id``, ``image``, ``image index`` or ``filename``; path
    from ``path`` or ``file``; patient from ``patient``, ``patient id``. One of id and path is needed.

    Labels are either one column ``labels`` or ``finding labels``, names joined by ``|``: all names seen become labels,
    sorted, 1 where named and 0 elsewhere; "No Finding" and a blank name none. Or a column a label: those named by
    ``label_columns``, else every column that holds nothing but 1, 0, -1 (unknown) and blanks (unknown) and is not
    a well-known other thing such as view, fold or width, in the order of the file; "No Finding" is none of them unless
    asked for.

    Args:
        source: a CSV file in UTF-8, separated by comma, semicolon or tab, with a header.
        label_columns: the columns that are labels; ``[]`` for none.

    Raises:
        InputError: if the file cannot be read or understood; the message says where and what to do.
    """
    source = Path(source)
    header, columns, lines = read_csv(source)
    known = {name.lower(): name for name in columns}
    taken: dict[str, str] = {}
    for role, names in _NAMES.items():
        found = [name for name in names if name in known]
        if found:  # "id" beside "image index": the first of the list wins, the other stays metadata
            taken[role] = known[found[0]]
    if "id" not in taken and "path" not in taken:
        raise InputError(
            f"Table {source.name!r} has no column for the image: got {', '.join(header[:12])}; "
            f"expected one of {', '.join(_NAMES['id'] + _NAMES['path'])}: rename one"
        )
    ids = [strip_suffix(value) for value in columns[taken["id"]]] if "id" in taken else None
    if ids is not None:
        _check_ids(source, ids, lines)
    label_names, labels, used = _labels(source, columns, taken, lines, label_columns)
    rest = {n: v for n, v in columns.items() if n not in used and n not in taken.values() and n.strip()}
    return LabelTable(
        source=source,
        ids=ids,
        paths=columns[taken["path"]] if "path" in taken else None,
        patients=columns[taken["patient"]] if "patient" in taken else None,
        label_names=label_names,
        labels=labels,
        metadata=_metadata(rest, len(lines)),
        lines=lines,
    )


def read_csv(source: Path) -> tuple[list[str], dict[str, list[str]], list[int]]:
    """Return the header, stripped columns by name, and each row's line.

    Raises:
        InputError: if the file is no CSV in UTF-8 with a header and at least one row, or a column stands twice.
    """
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=first.count)
            reader = csv.reader(file, delimiter=delimiter)
            header = [name.strip() for name in next(reader, [])]
            for row in reader:
                if not any(row):
                    continue
                if len(row) != len(header):
                    raise InputError(
                        f"Table {source.name!r}, line {reader.line_num}: got {len(row)} fields, the header has "
                        f"{len(header)}: quote values that hold {delimiter!r}"
                    )
                rows.append(row)
                lines.append(reader.line_num)
    except FileNotFoundError as error:
        raise InputError(f"Table {str(source)!r} does not exist: check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"Table {source.name!r} is not text in UTF-8 (byte {error.start}): save it as UTF-8"
        ) from error
    except (OSError, csv.Error) as error:
        raise InputError(f"Table {source.name!r} cannot be read as CSV: {error}") from error
    if not header or not rows:
        raise InputError(f"Table {source.name!r} holds no rows: expected a header and a line a film")
    doubled = [name for name, count in Counter(name.lower() for name in header if name).items() if count > 1]
    if doubled:
        raise InputError(f"Table {source.name!r} has column {doubled[0]!r} twice: rename one")
    # a blank name is the index that spreadsheet exports put first, or what a closing comma makes: no data
    columns = {
        name: [value.strip() for value in values] for name, values in zip(header, zip(*rows, strict=True), strict=True)
    }
    columns.pop("", None)
    return header, columns, lines


def strip_suffix(name: str) -> str:
    """Return a film's name without the suffix of an image file."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and "." + suffix.lower() in IMAGE_SUFFIXES else name


def _check_ids(source: Path, ids: list[str], lines: list[int]) -> None:
    blank = [line for name, line in zip(ids, lines, strict=True) if not name]
    if blank:
        raise InputError(f"Table {source.name!r}, line {blank[0]}: the image id is blank ({len(blank)} such lines)")
    if len(set(ids)) == len(ids):
        return
    doubled = [name for name, count in Counter(ids).items() if count > 1]
    where = [line for name, line in zip(ids, lines, strict=True) if name == doubled[0]]
    raise InputError(
        f"Table {source.name!r}: {len(doubled)} image ids occur more than once, first {doubled[0]!r} in lines "
        f"{', '.join(map(str, where[:5]))}: keep one line an image"
    )


def _labels(
    source: Path,
    columns: dict[str, list[str]],
    taken: dict[str, str],
    lines: list[int],
    label_columns: Sequence[str] | None,
) -> tuple[tuple[str, ...], NDArray[np.float32], set[str]]:
    """Return label names, the label matrix, and the columns used up."""
    if label_columns is None and "labels" in taken:
        names, matrix = _joined_labels(columns[taken["labels"]])
        return names, matrix, {taken["labels"]}
    if label_columns is not None:
        by_name = {name.lower(): name for name in columns}
        unknown = [name for name in label_columns if name.lower() not in by_name]
        if unknown:
            raise InputError(
                f"Table {source.name!r} has no column {unknown[0]!r} to take as a label: got {', '.join(list(columns)[:12])}"
            )
        chosen = [by_name[name.lower()] for name in label_columns]
    else:
        chosen = [
            name
            for name, values in columns.items()
            if name not in taken.values()
            and name.lower() not in _RESERVED
            and normalise_label(name) != _NO_FINDING
            and _looks_like_labels(set(values), values)
        ]
    names = tuple(normalise_label(name) for name in chosen)
    if len(set(names)) < len(names):
        doubled = next(name for name, count in Counter(names).items() if count > 1)
        raise InputError(f"Table {source.name!r} has label {doubled!r} in two columns: drop or rename one")
    matrix = np.empty((len(lines), len(chosen)), np.float32)
    for column, name in enumerate(chosen):
        try:
            matrix[:, column] = [_VALUES[value.lower()] for value in columns[name]]
        except KeyError as error:
            value = error.args[0]
            row = next(i for i, v in enumerate(columns[name]) if v.lower() == value)
            raise InputError(
                f"Table {source.name!r}, line {lines[row]}: label {name!r} is {columns[name][row]!r}, expected 1, 0, "
                "-1 (unknown) or blank: correct it, or name the label columns with label_columns="
            ) from error
    return names, matrix, set(chosen)


def _looks_like_labels(distinct: set[str], values: list[str]) -> bool:
    """Return whether a column is a label: nothing but label values, or all but a few, which are mistakes to report."""
    filled = {value.lower() for value in distinct} - {"", "nan"}
    wrong = filled - set(_VALUES)
    if not filled or filled == wrong:
        return False
    if not wrong:
        return True
    # counts and measurements are numbers and no labels; a word among ones and zeros is a mistake in a label
    if all(re.fullmatch(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?", value) for value in wrong):
        return False
    return sum(value.lower() in wrong for value in values) <= 0.1 * len(values)


def _joined_labels(values: list[str]) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Return sorted names and the 0/1 matrix of labels joined by ``|``; each distinct text is taken apart once."""
    parts = {value: {normalise_label(part) for part in value.split("|")} - {"", _NO_FINDING} for value in set(values)}
    names = tuple(sorted(set().union(*parts.values())))
    rows = {value: np.array([name in found for name in names], np.float32) for value, found in parts.items()}
    return names, np.stack([rows[value] for value in values]).reshape(len(values), len(names))


def _metadata(columns: dict[str, list[str]], n_rows: int) -> pd.DataFrame:
    """Return the other columns, well-known ones under their short names, numbers where every filled cell is one."""
    short = {name: role for role, names in _METADATA.items() for name in names}
    frame: dict[str, object] = {}
    for name, values in columns.items():
        label = short.get(name.lower(), name.lower())
        if label in frame:
            label = name.lower()
        numbers = pd.to_numeric(pd.Series([value or None for value in values], dtype=object), errors="coerce")
        filled = np.array([bool(value) for value in values])
        # "007" is a name, not the number 7
        padded = any(len(value) > 1 and value[0] == "0" and value.isdigit() for value in values)
        is_number = filled.any() and not padded and bool(numbers[filled].notna().all())
        frame[label] = numbers.to_numpy() if is_number else np.array(values, dtype=object)
    return pd.DataFrame(frame, index=pd.RangeIndex(n_rows))
