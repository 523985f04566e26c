"""`ConceptSet`: the words a unit may be named with, in a fixed order, each once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import overload

from mammi.concepts.concept import Concept, keep_first
from mammi.concepts.files import read_concepts, write_concepts
from mammi.concepts.finding_lists import FINDING_LISTS, finding_list
from mammi.concepts.words import key, word_form
from mammi.errors import InputError, ReportError, UnknownNameError

__all__ = ["ConceptSet"]


@dataclass(frozen=True)
class ConceptSet:
    """Concepts in a fixed order, each term once (case and underscores do not make two terms).

    Attributes:
        concepts: at least one.
        mode: how they were found: ``phrases``, ``nouns``, ``file``, ``list``, ``ontology`` or ``terms``.
        n_reports: reports they were counted in; 0 if unknown.
        notes: what was dropped or merged on the way, in words.

    Raises:
        ReportError: if there is no concept, or a term stands twice.
    """

    concepts: tuple[Concept, ...]
    mode: str = "terms"
    n_reports: int = 0
    notes: tuple[str, ...] = ()
    _rows: dict[str, int] = field(init=False, repr=False, compare=False)
    _names: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.concepts:
            raise ReportError("The concept set is empty; give at least one concept")
        rows: dict[str, int] = {}
        for row, concept in enumerate(self.concepts):
            first = rows.setdefault(key(concept.term), row)
            if first != row:
                raise ReportError(f"Concept {concept.term!r} stands twice, in rows {first} and {row}; remove one")
        # Names as written come before names in another number or spelling, terms before synonyms.
        names = dict(rows)
        synonyms = [(synonym, row) for row, concept in enumerate(self.concepts) for synonym in concept.synonyms]
        forms = [(word_form(concept.term), row) for row, concept in enumerate(self.concepts)]
        forms += [(word_form(synonym), row) for synonym, row in synonyms]
        for name, row in [*((key(synonym), row) for synonym, row in synonyms), *forms]:
            names.setdefault(name, row)
        object.__setattr__(self, "_rows", rows)
        object.__setattr__(self, "_names", names)

    @classmethod
    def from_terms(cls, terms: Iterable[str], *, source: str = "", licence: str = "") -> "ConceptSet":
        """Build a set from plain words; blanks and repeats are dropped and counted in ``notes``.

        Raises:
            ReportError: if nothing is left.

        >>> ConceptSet.from_terms(["effusion", "", "Effusion", "mass"]).notes
        ('1 blank entry dropped', "1 repeated entry dropped: 'Effusion'")
        """
        if isinstance(terms, str):
            raise InputError(f"terms must be a list of strings, got the single string {terms!r}; write [{terms!r}]")
        kept, notes = keep_first([[" ".join(term.split())] for term in terms], itemgetter(0), "entry", "entries")
        concepts = tuple(Concept(term, source=source, licence=licence) for (term,) in kept)
        return cls(concepts, mode="terms", notes=notes)

    @classmethod
    def read(cls, path: str | Path) -> "ConceptSet":
        """Read a set from a table (``.csv``), from plain text with one concept a line, or by a built-in list's name.

        A file comes before a built-in list of that name (``nih-14``, ``chexpert-14``, ``vindr-cxr``, ``padchest``).

        A table has a heading line with at least ``term``; the other columns that ``write_csv`` writes are optional and
        further ones are ignored. Comma, semicolon and tab are understood as separators, UTF-8 with or without a byte
        order mark. Blank lines and repeats (the first one stays) are dropped and counted in ``notes``.

        Raises:
            ReportError: if the file cannot be read or understood, or holds no concept.
        """
        if not Path(path).exists() and str(path).lower() in FINDING_LISTS:
            return cls(finding_list(str(path)), mode="list")
        if not Path(path).exists() and not Path(path).suffix:
            lists = ", ".join(FINDING_LISTS)
            raise ReportError(f"Cannot read {path}: there is no such file, and it is no built-in list ({lists})")
        concepts, notes = read_concepts(Path(path))
        return cls(concepts, mode="file", notes=notes)

    def write_csv(self, path: str | Path) -> None:
        """Write the table that ``read`` reads and a spreadsheet opens; a reader never sees half a file.

        A cell that a spreadsheet would run as a formula gets an apostrophe in front, which ``read`` takes away.

        Raises:
            ReportError: if the file cannot be written.
        """
        write_concepts(self.concepts, Path(path))

    @property
    def terms(self) -> list[str]:
        """Every term, in order."""
        return [concept.term for concept in self.concepts]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the terms in their order, 64 hex digits: what embeddings of this set are stored under."""
        from mammi.functional.fingerprint import fingerprint_value  # brings torch; reading a table needs none

        return fingerprint_value(self.terms)

    def find(self, name: str) -> Concept | None:
        """Return the concept called ``name``, by term, else by synonym (the first that has it), else None.

        Case, underscores and extra blanks do not matter, nor do plurals and British spelling: ``Pleural_Effusions``
        finds ``pleural effusion``.
        """
        row = self._names.get(key(name), self._names.get(word_form(name)))
        return None if row is None else self.concepts[row]

    def index(self, term: str) -> int:
        """Return the row of ``term``.

        Raises:
            UnknownNameError: if no concept has that term; the message suggests the nearest.
        """
        row = self._rows.get(key(term))
        if row is None:
            also = self.find(term)
            hint = f"It is a synonym of {also.term!r}." if also else f"The set holds {len(self)} concepts."
            raise UnknownNameError.among("Concept", term, self.terms, hint)
        return row

    def __len__(self) -> int:
        return len(self.concepts)

    def __iter__(self) -> Iterator[Concept]:
        return iter(self.concepts)

    @overload
    def __getitem__(self, row: int) -> Concept: ...
    @overload
    def __getitem__(self, row: slice) -> tuple[Concept, ...]: ...
    def __getitem__(self, row: int | slice) -> Concept | tuple[Concept, ...]:
        return self.concepts[row]

    def __contains__(self, term: object) -> bool:
        return isinstance(term, str) and key(term) in self._rows
