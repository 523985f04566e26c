"""`Concept`: one thing a unit may respond to."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

from mammi.concepts.words import key
from mammi.errors import ReportError

__all__ = ["CATEGORIES", "Category", "Concept", "keep_first"]

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
        parents: terms of what it is a kind of, without ``;``; they need not be in the set.

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
    parents: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.term, *self.synonyms, *self.parents):
            if not key(name) or name != name.strip() or len(name.splitlines()) > 1:
                raise ReportError(f"A concept needs names of one line without blanks around them, got {name!r}")
        if any(";" in synonym for synonym in self.synonyms):
            raise ReportError(f"Synonyms of {self.term!r} hold a ';', which separates synonyms: {self.synonyms}")
        if any(";" in parent for parent in self.parents):
            raise ReportError(f"Parents of {self.term!r} hold a ';', which separates parents: {self.parents}")
        if self.category not in CATEGORIES:
            raise ReportError(f"Category of {self.term!r} is {self.category!r}, not one of {', '.join(CATEGORIES)}")
        for count in ("affirmed", "negated", "uncertain"):
            if getattr(self, count) < 0:
                raise ReportError(f"{count} of {self.term!r} is {getattr(self, count)}, must be 0 or more")

    @property
    def reports(self) -> int:
        """Reports that mention it in any way; each report is counted once."""
        return self.affirmed + self.negated + self.uncertain


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
