"""`ConceptSet`: the words a unit may be named with, in a fixed order, each once."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Literal, TypeVar, overload

from mammi.concepts.words import key, word_form
from mammi.errors import InputError, ReportError, UnknownNameError

__all__ = ["CATEGORIES", "Category", "Concept", "ConceptSet", "keep_first"]

Category = Literal["finding", "anatomy", "device", "acquisition", "other"]
CATEGORIES: tuple[Category, ...] = ("finding", "anatomy", "device", "acquisition", "other")
T = TypeVar("T")


@dataclass(frozen=True)
class Concept:
    """One thing a unit may respond to.

    Attributes:
        term: what a reader sees and what a vision-language model is asked with; one line of text.
        synonyms: other names of the same thing, without ``;`` (the separator in a table).
        category: one of ``CATEGORIES``.
        affirmed: reports that say it is there (see ``build_concepts`` for how a report is counted).
        negated: reports that only say it is not there.
        uncertain: reports that say it may be there, and never that it is.
        source: where the word comes from.
        licence: terms of that source.

    Raises:
        ReportError: if a field cannot be what it says.
    """

    term: str
    synonyms: tuple[str, ...] = ()
    category: Category = "other"
    affirmed: int = 0
    negated: int = 0
    uncertain: int = 0
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        for name in (self.term, *self.synonyms):
            if not key(name) or name != name.strip() or len(name.splitlines()) > 1:
                raise ReportError(f"A concept needs names of one line without blanks around them, got {name!r}")
        if any(";" in synonym for synonym in self.synonyms):
            raise ReportError(f"Synonyms of {self.term!r} hold a ';', which separates synonyms: {self.synonyms}")
        if self.category not in CATEGORIES:
            raise ReportError(f"Category of {self.term!r} is {self.category!r}, not one of {', '.join(CATEGORIES)}")
        for count in ("affirmed", "negated", "uncertain"):
            if getattr(self, count) < 0:
                raise ReportError(f"{count} of {self.term!r} is {getattr(self, count)}, must be 0 or more")

    @property
    def reports(self) -> int:
        """Reports that mention it in any way; each report is counted once."""
        return self.affirmed + self.negated + self.uncertain


@dataclass(frozen=True)
class ConceptSet:
    """Concepts in a fixed order, each term once (case and underscores do not make two terms).

    Attributes:
        concepts: at least one.
        mode: how they were found: ``phrases``, ``nouns``, ``file`` or ``terms``.
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
        """Read a set from a table (``.csv``) or from plain text with one concept a line (anything else).

        A table has a heading line with at least ``term``; the other columns that ``write_csv`` writes are optional and
        further ones are ignored. Comma, semicolon and tab are understood as separators, UTF-8 with or without a byte
        order mark. Blank lines and repeats (the first one stays) are dropped and counted in ``notes``.

        Raises:
            ReportError: if the file cannot be read or understood, or holds no concept.
        """
        from mammi.concepts import files  # not at the top: the file formats build concepts, so they import this file

        return files.read_concepts(Path(path))

    def write_csv(self, path: str | Path) -> None:
        """Write the table that ``read`` reads and a spreadsheet opens; a reader never sees half a file.

        A cell that a spreadsheet would run as a formula gets an apostrophe in front, which ``read`` takes away.

        Raises:
            ReportError: if the file cannot be written.
        """
        from mammi.concepts import files  # see ``read``

        files.write_concepts(self.concepts, Path(path))

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


def keep_first(entries: Iterable[T], name: Callable[[T], str], one: str, many: str) -> tuple[list[T], tuple[str, ...]]:
    """Drop entries with a blank name or a name seen before; return the rest and notes that say what was dropped.

    Args:
        entries: anything that has a name.
        name: how to get it.
        one: what an entry is called in the notes.
        many: and several of them.
    """
    kept: dict[str, T] = {}
    blank = 0
    repeated: list[str] = []
    for entry in entries:
        if not key(name(entry)):
            blank += 1
        elif kept.setdefault(key(name(entry)), entry) is not entry:
            repeated.append(name(entry))
    notes = []
    if blank:
        notes.append(f"{blank} blank {one if blank == 1 else many} dropped")
    if repeated:
        some = ", ".join(map(repr, repeated[:5])) + (", ..." if len(repeated) > 5 else "")
        notes.append(f"{len(repeated)} repeated {one if len(repeated) == 1 else many} dropped: {some}")
    return list(kept.values()), tuple(notes)
