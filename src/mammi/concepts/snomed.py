"""The user's own SNOMED CT: the snapshot files of Release Format 2, terms and is-a relationships.

Columns by name, as the SNOMED CT Release File Specification documents them (doc.ihtsdotools.org, section 4.2): tab
separated, with a heading line. Nothing of SNOMED CT is in this package; it needs a licence of the user's country.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mammi.concepts.concept import Category
from mammi.concepts.ontology_layout import Name, columns, titles
from mammi.errors import ReportError
from mammi.types import Progress, no_progress

__all__ = ["SnomedFiles"]

_COLUMNS = {
    "Concept": titles("id effectiveTime active moduleId definitionStatusId"),
    "Description": titles("id effectiveTime active moduleId conceptId languageCode typeId term caseSignificanceId"),
    "Relationship": titles(
        "id effectiveTime active moduleId sourceId destinationId relationshipGroup typeId characteristicTypeId "
        "modifierId"
    ),
}
_IS_A = "116680003"
_FULL_NAME = "900000000000003001"
_SYNONYM = "900000000000013009"
_TAG = re.compile(r"(?P<name>.+\S)\s*\((?P<tag>[^()]+)\)")
#: The tag in brackets that ends a fully specified name says what kind of thing it is.
_CATEGORY: dict[str, Category] = {
    **dict.fromkeys(("disorder", "finding", "morphologic abnormality"), "finding"),
    **dict.fromkeys(("body structure", "cell structure"), "anatomy"),
    **dict.fromkeys(("physical object", "product"), "device"),
}
_STEP = 1 << 16


class SnomedFiles:
    """Reads the snapshot files row by row; a ``Layout``. Only what is active counts.

    The preferred name is the fully specified one without its tag; which synonym a dialect prefers stands in reference
    sets that are not read.

    Args:
        folder: holds ``sct2_Concept_Snapshot_*.txt``, ``sct2_Description_Snapshot-*.txt`` and
            ``sct2_Relationship_Snapshot_*.txt``, at any depth; those of an extension may lie beside them.
        languages: as the column languageCode has them, ``en`` for example.
        progress: told of the bytes read.

    Raises:
        ReportError: if a file is missing.
    """

    source = "SNOMED CT, your own copy"
    licence = "SNOMED CT Affiliate License Agreement of SNOMED International"

    def __init__(self, folder: Path, languages: Sequence[str], progress: Progress = no_progress) -> None:
        self._files = {kind: sorted(folder.rglob(f"sct2_{kind}_Snapshot[-_]*.txt")) for kind in _COLUMNS}
        for kind, found in self._files.items():
            if not found:
                raise ReportError(
                    f"{folder} holds no sct2_{kind}_Snapshot file: give the Snapshot folder of an RF2 release"
                )
        self._languages = {name.lower() for name in languages}
        self._progress = progress
        self._active: set[int] | None = None

    def names(self) -> Iterator[Name]:
        """Yield fully specified names, without their tag, and synonyms of active concepts."""
        active = self._concepts()
        for where, cells in self._rows("Description"):
            if cells[5].lower() not in self._languages or cells[6] not in (_FULL_NAME, _SYNONYM):
                continue
            place = _number(cells[4], where, 5, "conceptId")
            text = " ".join(cells[7].split())
            if place not in active or not text:
                continue
            tagged = _TAG.fullmatch(text) if cells[6] == _FULL_NAME else None
            yield Name(place, tagged["name"] if tagged else text, int(cells[6] == _FULL_NAME))

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield the source and destination of every active is-a between active concepts."""
        active = self._concepts()
        for where, cells in self._rows("Relationship"):
            if cells[7] == _IS_A:
                pair = _number(cells[4], where, 5, "sourceId"), _number(cells[5], where, 6, "destinationId")
                if active.issuperset(pair):
                    yield pair

    def categories(self) -> Iterator[tuple[int, Category]]:
        """Yield the category of each tag that has one."""
        for where, cells in self._rows("Description"):
            tagged = _TAG.fullmatch(cells[7].strip()) if cells[6] == _FULL_NAME else None
            if tagged and tagged["tag"] in _CATEGORY:
                yield _number(cells[4], where, 5, "conceptId"), _CATEGORY[tagged["tag"]]

    def label(self, place: int) -> str:
        """Return the SNOMED CT identifier."""
        return str(place)

    def place(self, label: str) -> int | None:
        """Return the number of a SNOMED CT identifier."""
        return int(label) if re.fullmatch(r"\d{6,18}", label, re.ASCII) else None

    def _concepts(self) -> set[int]:
        if self._active is None:
            self._active = {_number(cells[0], where, 1, "id") for where, cells in self._rows("Concept")}
        return self._active

    def _rows(self, kind: str) -> Iterator[tuple[str, list[str]]]:
        """Yield the active rows of every file of a kind, each with where it stands."""
        expected = _COLUMNS[kind]
        for path in self._files[kind]:
            size, done, line = path.stat().st_size, 0, 0
            try:
                with path.open(encoding="utf-8-sig", newline="\n") as file:
                    for line, row in enumerate(file, start=1):
                        done += len(row)
                        where = f"{path.name}, line {line}"
                        cells = columns(row.rstrip("\r\n"), "\t", expected, where)
                        if line == 1:
                            if tuple(cells) != expected:
                                raise ReportError(
                                    f"{where}: columns {', '.join(cells)}; expected {', '.join(expected)}"
                                )
                        elif cells[2] == "1":
                            yield where, cells
                        elif cells[2] != "0":
                            raise ReportError(f"{where}, column 3 (active): got {cells[2]!r}, expected 0 or 1")
                        if line % _STEP == 0:
                            self._progress(f"reading {kind.lower()}s", min(done, size), size)
            except UnicodeDecodeError as error:
                raise ReportError(f"{path.name}, after line {line}: not UTF-8; RF2 files are") from error
            self._progress(f"reading {kind.lower()}s", size, size)


def _number(cell: str, where: str, column: int, title: str) -> int:
    if not re.fullmatch(r"\d{6,18}", cell, re.ASCII):
        raise ReportError(f"{where}, column {column} ({title}): got {cell!r}, expected 6 to 18 digits")
    return int(cell)
