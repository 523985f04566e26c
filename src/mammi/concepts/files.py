"""The concept table on disk: safe to open in a spreadsheet, editable there, and readable again."""

import csv
import os
import re
from collections.abc import Sequence
from io import StringIO
from operator import attrgetter
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple, cast

from mammi.concepts.concept import Category, Concept, keep_first
from mammi.errors import ReportError

__all__ = ["COLUMNS", "read_concepts", "read_table", "read_text", "write_concepts"]

COLUMNS = ("term", "synonyms", "category", "affirmed", "negated", "uncertain", "source", "licence", "parents")
# What a spreadsheet takes for the start of a formula. Cells that begin like an escaped one are escaped too, so that
# reading undoes writing for every text.
_FORMULA = re.compile(r"'*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")


def read_concepts(path: Path) -> tuple[tuple[Concept, ...], tuple[str, ...]]:
    """Read a concept table (``.csv``) or one concept a line, and what was dropped; see ``ConceptSet.read``."""
    if path.suffix.lower() == ".csv":
        entries = [_concept(row, f"{path.name}, line {line}") for line, row in read_table(path, needs=("term",))]
    else:
        entries = [_Entry(" ".join(line.split()), None) for line in read_text(path).splitlines()]
    kept, notes = keep_first(entries, attrgetter("term"), "line", "lines")
    if not kept:
        raise ReportError(f"{path.name} holds no concept; write one concept a line")
    return tuple(entry.concept or Concept(entry.term) for entry in kept), notes


class _Entry(NamedTuple):
    """A line of a file before blanks and repeats are dropped; without a concept if it holds only a term."""

    term: str
    concept: Concept | None


def write_concepts(concepts: Sequence[Concept], path: Path) -> None:
    """Write a concept table: UTF-8 with a byte order mark (spreadsheets need it), renamed into place when complete."""
    text = StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for concept in concepts:
        values = (getattr(concept, column) for column in COLUMNS)
        writer.writerow([_escape(";".join(v) if isinstance(v, tuple) else str(v)) for v in values])
    try:
        with NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            aside = Path(file.name)
            try:
                file.write(text.getvalue().encode("utf-8-sig"))
                file.flush()
                os.fsync(file.fileno())
                aside.chmod(0o644)  # a temporary file is private; the table is as open as any other file
                aside.replace(path)
            except BaseException:
                aside.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ReportError(f"Cannot write the concept table {path}: {error.strerror}") from error


def read_table(path: Path, needs: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read a CSV with a heading line as ``(line number, {column: cell})``; comma, semicolon or tab separated.

    Rows without any text become rows of empty cells. Column names are stripped and lower-cased.

    Args:
        path: the file.
        needs: columns of which at least one must be there; the first is the one asked for in messages.

    Raises:
        ReportError: if the file is not UTF-8, has no heading with one of ``needs``, or a row has too many cells.
    """
    text = read_text(path)
    heading = text.splitlines()[0] if text.strip() else ""
    columns: list[str] = []
    delimiter = ","
    for candidate in (",", ";", "\t"):
        names = [name.strip().lower() for name in next(csv.reader([heading], delimiter=candidate), [])]
        if not columns or set(needs) & set(names):
            columns, delimiter = names, candidate
        if set(needs) & set(columns):
            break
    if not set(needs) & set(columns):
        wanted = " or ".join(repr(name) for name in needs)
        found = ", ".join(repr(name) for name in columns) or "none"
        raise ReportError(f"{path.name} has no column {wanted}; columns found: {found}. Its first line must name them")
    rows = []
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for number, cells in enumerate(reader):
            start, line = line, reader.line_num + 1
            if number == 0:
                continue
            if any(cell.strip() for cell in cells[len(columns) :]):
                raise ReportError(
                    f"{path.name}, line {start}: {len(cells)} cells, but {len(columns)} columns are named; "
                    "put cells that hold the separator in double quotes"
                )
            padded = [*cells, *[""] * (len(columns) - len(cells))]
            rows.append((start, {name: _unescape(cell) for name, cell in zip(columns, padded, strict=False)}))
    except csv.Error as error:
        raise ReportError(f"{path.name}, line {reader.line_num}: {error}; check its double quotes") from error
    return rows


def read_text(path: Path) -> str:
    """Read a UTF-8 text file, with or without a byte order mark.

    Raises:
        ReportError: if it cannot be opened or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise ReportError(f"Cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ReportError(
            f"{path.name} is not UTF-8 (byte {error.start}); save it as UTF-8 ('CSV UTF-8' in a spreadsheet)"
        ) from error


def _concept(row: dict[str, str], where: str) -> _Entry:
    term = " ".join(row["term"].split())
    if not term:
        return _Entry("", None)
    try:
        concept = Concept(
            term=term,
            synonyms=_names(row.get("synonyms", "")),
            category=cast("Category", row.get("category", "").strip().lower() or "other"),  # Concept checks it
            affirmed=_count(row, "affirmed"),
            negated=_count(row, "negated"),
            uncertain=_count(row, "uncertain"),
            source=row.get("source", "").strip(),
            licence=row.get("licence", "").strip(),
            parents=_names(row.get("parents", "")),
        )
    except ReportError as error:
        raise ReportError(f"{where}: {error}") from error
    return _Entry(term, concept)


def _names(cell: str) -> tuple[str, ...]:
    names = (" ".join(part.split()) for part in cell.split(";"))
    return tuple(dict.fromkeys(name for name in names if name))


def _count(row: dict[str, str], column: str) -> int:
    text = row.get(column, "").strip()
    if text and not re.fullmatch(r"\d{1,15}", text, re.ASCII):
        raise ReportError(f"column {column!r} holds {text!r}, expected a whole number of reports or nothing")
    return int(text or 0)


def _escape(cell: str) -> str:
    return f"'{cell}" if _FORMULA.match(cell) else cell


def _unescape(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
