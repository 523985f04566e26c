"""What an annotator is fitted on: films with a report each, or with labels."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mammi.concepts.reports import described
from mammi.data import ProbingSet
from mammi.data.files import list_images
from mammi.data.matching import match_rows
from mammi.data.table import LabelTable, strip_suffix
from mammi.errors import InputError

__all__ = ["Pairs", "read_pairs"]

#: Columns that hold a report, in whole or in parts.
_PARTS = ("findings", "impression")
_WHOLE = ("report", "text")


@dataclass(frozen=True)
class Pairs:
    """Films and what is said of each.

    Attributes:
        films: with patients, and with labels where ``reports`` is None.
        reports: a text a film; None where labels say what is on it.
        notes: what was left out, in words.
    """

    films: ProbingSet
    reports: list[str] | None = None
    notes: tuple[str, ...] = ()


def read_pairs(images: str | Path, table: str | Path) -> Pairs:
    """Read films and a table about them.

    Args:
        images: a folder of films.
        table: a CSV with ``image``, ``patient`` and either a report (``report`` or ``text``, or ``findings`` and
            ``impression``) or labels, as `mammi.data.table.read_table` finds them; or ``.jsonl`` with an object a line
            of the same names. Films of the folder that the table does not name are left out.

    Raises:
        InputError: if there are neither reports nor labels, or the table cannot be understood.
        ImageError: if a row has no film.
    """
    path = Path(table)
    films = _from_lines(Path(images), path) if path.suffix.lower() in (".jsonl", ".ndjson") else None
    films = films or ProbingSet.from_table(path, images)
    reports = _reports(films.metadata)
    if reports is None:
        if not films.label_names:
            raise InputError(
                f"Table {path.name!r} has neither a report (a column report, text, findings or impression) nor labels "
                "(columns of 1, 0 and blanks): add one"
            )
        return Pairs(films)
    told = [row for row, text in enumerate(reports) if text]
    if not told:
        raise InputError(f"Table {path.name!r} holds no report with text in it")
    notes = []
    if len(told) < len(films):
        notes.append(f"{len(films) - len(told)} of {len(films)} films left out: their report is empty")
    if films.label_names:
        notes.append("the table has labels too: the reports were used")
    return Pairs(films.subset(told), [reports[row] for row in told], tuple(notes))


def _reports(table: pd.DataFrame) -> list[str] | None:
    """Return findings and impression of each row; None without such columns."""
    whole = next((name for name in _WHOLE if name in table), None)
    parts = [name for name in _PARTS if name in table]
    if parts:
        rows = zip(*(table[name].fillna("").astype(str) for name in parts), strict=True)
        return ["\n".join(part.strip() for part in row if part.strip()) for row in rows]
    return None if whole is None else [described(text).strip() for text in table[whole].fillna("").astype(str)]


def _from_lines(folder: Path, path: Path) -> ProbingSet:
    """Read a table of one JSON object a line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Table {str(path)!r} cannot be read: {error}") from error
    rows: list[dict[str, Any]] = []
    lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"Table {path.name!r}, line {number}: not JSON ({error.msg})") from error
        row = {str(key).lower(): value for key, value in row.items()} if isinstance(row, dict) else {}
        if not isinstance(row.get("image"), str):
            raise InputError(f"Table {path.name!r}, line {number}: expected an object with 'image', a file's name")
        rows.append(row)
        lines.append(number)
    if not rows:
        raise InputError(f"Table {path.name!r} holds no rows: expected a JSON object a line")
    frame = pd.DataFrame([{k: v for k, v in row.items() if k not in ("image", "patient")} for row in rows])
    patients = ["" if row.get("patient") is None else str(row["patient"]) for row in rows]
    ids = [strip_suffix(row["image"]) for row in rows]
    twice = next((name for name in ids if ids.count(name) > 1), None) if len(set(ids)) < len(ids) else None
    if twice is not None:
        raise InputError(f"Table {path.name!r} names image {twice!r} twice: keep one line an image")
    table = LabelTable(path, ids, None, patients, (), np.empty((len(rows), 0), np.float32), frame, lines)
    listing = list_images(folder)
    match = match_rows(table, listing)
    keep = list(match.rows)
    return ProbingSet(
        [listing.root / file for file in match.files],
        ids=[ids[row] for row in keep],
        patients=[patients[row] for row in keep] if any(patients) else None,
        metadata=frame.iloc[keep].reset_index(drop=True),
    )
