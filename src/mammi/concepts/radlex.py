"""The user's own RadLex: the CSV that BioPortal writes, or the OWL file in RDF/XML.

The CSV's columns are those of every BioPortal export: ``Class ID``, ``Preferred Label``, ``Synonyms``, ``Obsolete``,
``Parents``, lists joined by ``|``. In the OWL file an ``owl:Class`` has ``Preferred_name``, ``Synonym`` and
``rdfs:subClassOf``. RSNA gives RadLex out under a licence of its own (radlex.org); nothing of it is in this package.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

from mammi.concepts.concept import Category
from mammi.concepts.ontology_layout import Name
from mammi.errors import ReportError
from mammi.types import Progress, no_progress

__all__ = ["RadlexFile"]

_OWL = "http://www.w3.org/2002/07/owl#"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_RDFS = "http://www.w3.org/2000/01/rdf-schema#"
_LANGUAGE = "http://www.w3.org/XML/1998/namespace lang"
_LONGEST, _DEEPEST = 1_000_000, 100
_NEEDS = ("class id", "preferred label", "parents")
_CHUNK = 1 << 18


class RadlexFile:
    """Reads one file into rows of names; a ``Layout``. RadLex has some 46,000 concepts, so they are all held.

    Args:
        path: ``.csv``, or ``.owl``, ``.rdf`` or ``.xml`` in RDF/XML.
        progress: told of the bytes read.

    Raises:
        ReportError: with the line, if the file is neither, or holds no concept.
    """

    source = "RadLex, your own copy"
    licence = "RadLex License of the RSNA"

    def __init__(self, path: Path, progress: Progress = no_progress) -> None:
        self._labels: list[str] = []
        self._places: dict[str, int] = {}
        self._names: list[Name] = []
        self._pairs: list[tuple[int, int]] = []
        if path.suffix.lower() == ".csv":
            self._read_csv(path)
        else:
            _OwlReader(self, path, progress)
        if not self._names:
            raise ReportError(f"{path.name} holds no concept with a name: is it RadLex as CSV, or OWL in RDF/XML?")

    def names(self) -> Iterator[Name]:
        """Yield preferred names and synonyms of concepts that are not obsolete."""
        yield from self._names

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield every class and what it is a subclass of."""
        yield from self._pairs

    def categories(self) -> Iterator[tuple[int, Category]]:
        """Yield nothing: RadLex says what a thing is by its place in the hierarchy."""
        yield from ()

    def label(self, place: int) -> str:
        """Return the last part of the class's address, ``RID1234``."""
        return self._labels[place]

    def place(self, label: str) -> int | None:
        """Return the number of a class."""
        return self._places.get(_last(label))

    def add(self, address: str, preferred: list[str], synonyms: list[str], parents: list[str]) -> None:
        """Add one class; without a preferred name it is left out."""
        texts = [" ".join(text.split()) for text in (*preferred, *synonyms)]
        if not address or not any(texts[: len(preferred)]):
            return
        here = self._number(address)
        self._names += [Name(here, text, int(i < len(preferred))) for i, text in enumerate(texts) if text]
        self._pairs += [(here, self._number(parent)) for parent in parents if _last(parent) != _last(address)]

    def _number(self, address: str) -> int:
        label = _last(address)
        if label not in self._places:
            self._places[label] = len(self._labels)
            self._labels.append(label)
        return self._places[label]

    def _read_csv(self, path: Path) -> None:
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST))
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, strict=True)
                heading = [name.strip().lower() for name in next(reader, [])]
                missing = [name for name in _NEEDS if name not in heading]
                if missing:
                    found = ", ".join(map(repr, heading[:12])) or "none"
                    raise ReportError(
                        f"{path.name}, line 1: no column {missing[0]!r}; columns found: {found}. "
                        "Expected the CSV that BioPortal writes"
                    )
                # RadLex's own preferred name, where the general one is empty or only repeats the id.
                own = next((name for name in heading if re.search(r"/preferred_name$", name)), "preferred label")
                line = 2
                for cells in reader:
                    if cells and len(cells) != len(heading):
                        raise ReportError(f"{path.name}, line {line}: {len(cells)} columns, expected {len(heading)}")
                    row = dict(zip(heading, cells, strict=False))
                    line = reader.line_num + 1
                    if not cells or row.get("obsolete", "").strip().lower() == "true":
                        continue
                    label = row["preferred label"].strip()
                    if not label or _last(label) == _last(row["class id"]):
                        label = row[own]
                    self.add(row["class id"], [label], _parts(row.get("synonyms", "")), _parts(row["parents"]))
        except UnicodeDecodeError as error:
            raise ReportError(f"{path.name} is not UTF-8 (byte {error.start})") from error
        except csv.Error as error:
            raise ReportError(f"{path.name}, line {reader.line_num}: {error}; check its double quotes") from error


class _OwlReader:
    """Collects the classes of an RDF/XML file; holds one class at a time, and stops at a document type."""

    def __init__(self, to: RadlexFile, path: Path, progress: Progress) -> None:
        self._to, self._name = to, path.name
        self._open: list[str] = []
        self._text: list[str] | None = None
        self._length = 0
        self._class = 0
        self._address = ""
        self._found: dict[str, list[str]] = {}
        self._parser = parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        size, done = path.stat().st_size, 0
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    parser.Parse(chunk, False)
                    done += len(chunk)
                    progress(f"reading {path.name}", done, size)
                parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise ReportError(f"{self._where()}: not well-formed XML: {expat.ErrorString(error.code)}") from error

    def _where(self) -> str:
        return f"{self._name}, line {self._parser.CurrentLineNumber}, column {self._parser.CurrentColumnNumber + 1}"

    def _doctype(self, *_: object) -> None:
        raise ReportError(
            f"{self._where()}: a document type (<!DOCTYPE) is refused, since entities can swell without end; "
            "save the ontology as RDF/XML without entities, or take the CSV"
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._open and tag != f"{_RDF} RDF":
            got = tag.rpartition(" ")[2]
            raise ReportError(f"{self._where()}: the first element is <{got}>, expected <rdf:RDF>: save it as RDF/XML")
        if len(self._open) >= _DEEPEST:
            raise ReportError(f"{self._where()}: elements nested more than {_DEEPEST} deep, expected a flat list")
        self._open.append(tag)
        depth = len(self._open)
        if tag == f"{_OWL} Class" and not self._class:
            self._class, self._found = depth, {}
            self._address = attributes.get(f"{_RDF} about", "")
        elif self._class and depth == self._class + 1:
            kind = _last(tag.rpartition(" ")[2])
            if tag == f"{_RDFS} subClassOf" and f"{_RDF} resource" in attributes:
                self._found.setdefault("parents", []).append(attributes[f"{_RDF} resource"])
            elif kind in ("Preferred_name", "Synonym", "deprecated", "Obsolete") or tag == f"{_RDFS} label":
                english = attributes.get(_LANGUAGE, "en").lower().startswith("en")
                self._text, self._length = ([] if english else None), 0

    def _characters(self, text: str) -> None:
        if self._text is not None:
            self._length += len(text)
            if self._length > _LONGEST:
                raise ReportError(f"{self._where()}: a name of more than {_LONGEST:,} characters")
            self._text.append(text)

    def _end(self, tag: str) -> None:
        depth = len(self._open)
        self._open.pop()
        if self._class and depth == self._class + 1 and self._text is not None:
            self._found.setdefault(_last(tag.rpartition(" ")[2]), []).append("".join(self._text))
            self._text = None
        elif depth == self._class:
            found, self._class = self._found, 0
            gone = [*found.get("deprecated", []), *found.get("Obsolete", [])]
            if not any(word.strip().lower() == "true" for word in gone):
                own, label = found.get("Preferred_name", []), found.get("label", [])
                preferred = own or label
                self._to.add(self._address, preferred, [*found.get("Synonym", []), *label], found.get("parents", []))


def _last(address: str) -> str:
    """Return the last part of an address: ``RID1234``."""
    return re.split(r"[/#]", address.strip())[-1]


def _parts(cell: str) -> list[str]:
    return [part.strip() for part in cell.split("|") if part.strip()]
