"""Reading reports: text, a folder of texts, CSV or JSON lines, cut to what describes the films."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from mammi.concepts.files import read_table, read_text
from mammi.concepts.words import word_set
from mammi.errors import ReportError

__all__ = ["Report", "Reports", "described", "read_reports"]

# What radiologists see stands in these sections; the others hold questions, plans and other films.
_KEPT = ("findings", "impression")
_LEFT_OUT = word_set(
    "addendum clinical_data clinical_history clinical_information comparison comparisons exam examination history "
    "indication indications notification procedure reason reason_for_exam reason_for_examination recommendation "
    "recommendations technique views wet_read"
)
_SAME = {"finding": "findings", "impressions": "impression", "conclusion": "impression", "conclusions": "impression"}
_WHOLE = ("text", "report")
_NAMES = sorted((*_KEPT, *_SAME, *_LEFT_OUT), key=len, reverse=True)
_HEADING = re.compile(
    r"(?:^|(?<=[\n.;]))[ \t]*(" + "|".join(name.replace("_", "[ _]") for name in _NAMES) + r")[ \t]*:", re.IGNORECASE
)


@dataclass(frozen=True)
class Report:
    """One report: an id of the source, and its findings and impression as text."""

    id: str
    text: str


@dataclass(frozen=True)
class Reports:
    """Reports in the order of their source.

    Attributes:
        reports: those that describe something; the empty ones are dropped.
        notes: what was dropped, in words.
        source: where they come from, if the file says so.
        licence: their terms, if the file says so.
    """

    reports: tuple[Report, ...]
    notes: tuple[str, ...] = ()
    source: str = ""
    licence: str = ""

    def __len__(self) -> int:
        return len(self.reports)

    def __iter__(self) -> Iterator[Report]:
        return iter(self.reports)

    @overload
    def __getitem__(self, row: int) -> Report: ...
    @overload
    def __getitem__(self, row: slice) -> tuple[Report, ...]: ...
    def __getitem__(self, row: int | slice) -> Report | tuple[Report, ...]:
        return self.reports[row]


def read_reports(path: str | Path) -> Reports:
    r"""Read reports from a file or folder.

    ========  ==========================================================================================
    folder    every ``*.txt`` in it (not in folders below) is one report; its id is the file's stem
    ``.csv``  a line is a report: columns ``findings`` and/or ``impression``, else ``text`` or ``report``
    ``.jsonl``  a line is a report: an object with the same names (any case)
    other     plain text, one report a **line**
    ========  ==========================================================================================

    Findings and impression are kept; history, indication, comparison, technique and the like are left out. A text
    without headings is kept whole. An ``id`` column or entry is used if it is there, else the line number.

    Raises:
        ReportError: with the line, if something cannot be understood; or if there is no report.
    """
    path = Path(path)
    if path.is_dir():
        rows = [(file.stem, {"text": read_text(file)}) for file in sorted(path.glob("*.txt")) if file.is_file()]
        if not rows:
            raise ReportError(f"Folder {path} holds no .txt file; put one report in each")
    elif path.suffix.lower() == ".csv":
        rows = [(str(line), row) for line, row in read_table(path, needs=(*_WHOLE, *_KEPT))]
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        rows = [(str(line), row) for line, row in _json_lines(path)]
    else:
        rows = [(str(line), {"text": text}) for line, text in _plain_lines(path)]
    reports = [Report(row.get("id", "").strip() or name, _sections(row)) for name, row in rows]
    kept = tuple(report for report in reports if report.text)
    if not kept:
        raise ReportError(f"{path} holds no report with text in its findings or impression ({len(reports)} lines read)")
    dropped = len(reports) - len(kept)
    notes = (f"{dropped} of {len(reports)} reports dropped: no text in findings or impression",) if dropped else ()
    return Reports(kept, notes, _only({row.get("source", "") for _, row in rows}), _licence(rows))


def described(text: str) -> str:
    r"""Return the findings and impression of a report written as one text with headings, or all of it without any.

    Text before the first heading is kept only if no heading says findings or impression.

    >>> described("HISTORY: cough. FINDINGS: Clear lungs. IMPRESSION: Normal.")
    'Clear lungs.\nNormal.'
    """
    parts = _HEADING.split(text)
    sections: dict[str, list[str]] = {}
    for heading, body in zip(["", *parts[1::2]], parts[::2], strict=True):
        name = re.sub(r"\s+", "_", heading.strip().lower())
        sections.setdefault(_SAME.get(name, name), []).append(body.strip())
    names = _KEPT if any(sections.get(name) for name in _KEPT) else ("",)
    return "\n".join(body for name in names for body in sections.get(name, []) if body)


def _sections(row: Mapping[str, str]) -> str:
    if any(row.get(name, "").strip() for name in _KEPT):
        return "\n".join(row[name].strip() for name in _KEPT if row.get(name, "").strip())
    return described(next((row[name] for name in _WHOLE if row.get(name)), ""))


def _plain_lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip() and not _HEADING.sub("", line).strip():
            raise ReportError(
                f"{path.name}, line {number}: {line.strip()!r} is a heading alone, but a text file holds one report a "
                "line; put reports of several lines into a folder, one .txt file each"
            )
        yield number, line


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        try:
            value: Any = json.loads(line)
        except json.JSONDecodeError as error:
            raise ReportError(f"{where}: not JSON ({error.msg} at column {error.colno})") from error
        if not isinstance(value, dict):
            raise ReportError(f"{where}: expected an object such as {{'findings': ...}}, got {type(value).__name__}")
        row = {str(name).strip().lower(): entry for name, entry in value.items()}
        if not {*_KEPT, *_WHOLE} & set(row):
            raise ReportError(
                f"{where}: none of findings, impression, text, report; found: {', '.join(row) or 'nothing'}"
            )
        for name in (*_KEPT, *_WHOLE):
            if not isinstance(row.get(name, ""), str | None):
                raise ReportError(f"{where}: {name!r} must be a string, got {type(row[name]).__name__}")
        yield number, {name: str(entry) for name, entry in row.items() if isinstance(entry, str | int)}


def _only(values: set[str]) -> str:
    """Return the one value, or nothing if rows differ."""
    return values.pop().strip() if len(values) == 1 else ""


def _licence(rows: list[tuple[str, dict[str, str]]]) -> str:
    return _only({row.get("licence") or row.get("license") or "" for _, row in rows})
