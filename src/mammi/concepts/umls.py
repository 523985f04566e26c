"""The user's own UMLS: ``MRCONSO.RRF``, ``MRREL.RRF`` and ``MRSTY.RRF`` in the Rich Release Format.

Columns by position as the UMLS Reference Manual documents them (NCBI Bookshelf NBK9685, tables of MRCONSO, MRREL and
MRSTY): fields separated and ended by ``|``. Nothing of the UMLS is in this package; it needs NLM's licence.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mammi.concepts.concept import Category
from mammi.concepts.ontology_layout import Name, columns, titles
from mammi.errors import InputError, ReportError
from mammi.types import Progress, no_progress

__all__ = ["UmlsFiles"]

_CONSO = titles("CUI LAT TS LUI STT SUI ISPREF AUI SAUI SCUI SDUI SAB TTY CODE STR SRL SUPPRESS CVF")
_REL = titles("CUI1 AUI1 STYPE1 REL CUI2 AUI2 STYPE2 RELA RUI SRUI SAB SL RG DIR SUPPRESS CVF")
_STY = titles("CUI TUI STN STY ATUI CVF")
#: Two letters to the three of the column LAT.
_LANGUAGES = {"en": "ENG", "es": "SPA", "fr": "FRE", "de": "GER", "it": "ITA", "pt": "POR", "nl": "DUT", "ja": "JPN"}
#: Semantic types by their unique identifiers (TUI): what is seen, where, and what was put in.
_CATEGORY: dict[str, Category] = {
    **dict.fromkeys(("T019", "T020", "T033", "T037", "T046", "T047", "T184", "T190", "T191"), "finding"),
    **dict.fromkeys(("T017", "T022", "T023", "T024", "T029", "T030"), "anatomy"),
    **dict.fromkeys(("T074", "T075", "T203"), "device"),
}
_CUI = re.compile(rb"C\d{7}")
_STEP = 1 << 18


class UmlsFiles:
    """Reads the three files row by row; a ``Layout``.

    Args:
        folder: holds ``MRCONSO.RRF`` and ``MRREL.RRF``, and ``MRSTY.RRF`` if categories are wanted.
        languages: ``en`` and so on, or the three letters of the column LAT.
        sources: abbreviations of the source vocabularies (SAB) whose names and is-a are wanted; all if empty.
        progress: told of the rows read, as a share of the bytes.

    Raises:
        ReportError: if a file is missing.
        InputError: for a language that is not written like one.
    """

    source = "UMLS Metathesaurus, your own copy"
    licence = "UMLS Metathesaurus License Agreement, with the terms of each source vocabulary"

    def __init__(
        self, folder: Path, languages: Sequence[str], sources: Sequence[str] = (), progress: Progress = no_progress
    ) -> None:
        for name in ("MRCONSO.RRF", "MRREL.RRF"):
            if not (folder / name).is_file():
                raise ReportError(f"{folder} has no {name}: unpack the Metathesaurus, the files lie in its META folder")
        self._folder, self._progress = folder, progress
        self._languages = {language(name) for name in languages}
        self._sources = {name.upper().encode() for name in sources}

    def names(self) -> Iterator[Name]:
        """Yield names in the wanted languages and sources that are not suppressed (column SUPPRESS is N)."""
        for number, cells in self._rows("MRCONSO.RRF", _CONSO):
            if (
                cells[1] not in self._languages
                or cells[16] != b"N"
                or (self._sources and cells[11] not in self._sources)
            ):
                continue
            text = " ".join(_text(cells[14], "MRCONSO.RRF", number, 15, "STR").split())
            if text:
                rank = 4 * (cells[2] == b"P") + 2 * (cells[4] == b"PF") + (cells[6] == b"Y")
                yield Name(_cui(cells[0], "MRCONSO.RRF", number, 1, "CUI"), text, rank)

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield child and parent of every row that is not suppressed and has REL = CHD.

        REL says what the second concept is to the first. Every relationship stands in the file both ways: the rows with
        PAR say the same again.
        """
        for number, cells in self._rows("MRREL.RRF", _REL):
            if cells[3] != b"CHD" or cells[14] != b"N" or not cells[0] or not cells[4]:
                continue  # rows without a concept tie a concept to the head of a vocabulary
            if self._sources and cells[10] not in self._sources:
                continue
            first = _cui(cells[0], "MRREL.RRF", number, 1, "CUI1")
            second = _cui(cells[4], "MRREL.RRF", number, 5, "CUI2")
            if first != second:
                yield second, first

    def categories(self) -> Iterator[tuple[int, Category]]:
        """Yield the category of each semantic type that has one; none without ``MRSTY.RRF``."""
        if not (self._folder / "MRSTY.RRF").is_file():
            return
        for number, cells in self._rows("MRSTY.RRF", _STY):
            kind = _CATEGORY.get(cells[1].decode("ascii", "replace"))
            if kind:
                yield _cui(cells[0], "MRSTY.RRF", number, 1, "CUI"), kind

    def label(self, place: int) -> str:
        """Return the concept unique identifier."""
        return f"C{place:07d}"

    def place(self, label: str) -> int | None:
        """Return the number of a concept unique identifier."""
        return int(label[1:]) if _CUI.fullmatch(label.upper().encode()) else None

    def _rows(self, name: str, expected: tuple[str, ...]) -> Iterator[tuple[int, list[bytes]]]:
        path = self._folder / name
        size, done = path.stat().st_size, 0
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                done += len(line)
                cells = line.rstrip(b"\r\n").split(b"|")
                if len(cells) != len(expected) + 1 or cells[-1]:
                    row = line.decode("utf-8", "replace").rstrip("\r\n").removesuffix("|")
                    columns(row, "|", expected, f"{name}, line {number}")
                    raise ReportError(f"{name}, line {number}: the row does not end with '|'; is the file cut off?")
                yield number, cells
                if number % _STEP == 0:
                    self._progress(f"reading {name}", done, size)
        self._progress(f"reading {name}", size, size)


def language(name: str) -> bytes:
    """Return a language as the column LAT has it: ``en`` is ``ENG``.

    Raises:
        InputError: if it is neither known nor three letters.
    """
    found = _LANGUAGES.get(name.lower(), name.upper())
    if not re.fullmatch("[A-Z]{3}", found):
        raise InputError(f"language {name!r} must be one of {', '.join(_LANGUAGES)} or the three letters of LAT")
    return found.encode()


def _cui(cell: bytes, name: str, line: int, column: int, title: str) -> int:
    if not _CUI.fullmatch(cell):
        got = cell.decode("utf-8", "replace")
        raise ReportError(f"{name}, line {line}, column {column} ({title}): got {got!r}, expected C and 7 digits")
    return int(cell[1:])


def _text(cell: bytes, name: str, line: int, column: int, title: str) -> str:
    try:
        return cell.decode()
    except UnicodeDecodeError as error:
        raise ReportError(f"{name}, line {line}, column {column} ({title}): not UTF-8, byte {error.start}") from error
