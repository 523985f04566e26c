"""The word tables: which names mean the same, which words name nothing visible, what the tagger gets wrong.

The three files in ``tables/`` are plain text, our own selection of facts about words, and made to be read and changed.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

from mammi.concepts.concept import CATEGORIES, Category
from mammi.concepts.files import read_table, read_text
from mammi.concepts.words import key, lemma, normalise, word_form
from mammi.errors import ReportError

__all__ = ["DropList", "Row", "Synonyms", "Words", "phrase_key", "read_drop_list", "read_synonyms", "tagger_table"]

#: A phrase as words: one spelling, singular, without articles.
Words = tuple[str, ...]


def phrase_key(name: str) -> Words:
    """Return a name as the words that phrases of reports are compared with.

    >>> phrase_key("Elevation of the hemidiaphragms")
    ('elevation', 'of', 'hemidiaphragm')
    """
    words = word_form(name).split()
    kept = [word for word in words if word not in ("the", "a", "an")] or words
    return tuple("be" if word in ("is", "are") else word for word in kept)


@dataclass(frozen=True)
class Row:
    """One line of a synonym table: the term to show, its other names, and what kind of thing it is."""

    term: str
    synonyms: tuple[str, ...]
    category: Category


@dataclass(frozen=True)
class Synonyms:
    """Synonym tables, ready to look phrases up in.

    Attributes:
        rows: by term, as ``phrase_key``.
        term_of: ``phrase_key`` of each name (terms and synonyms) to the term it means.
    """

    rows: dict[Words, Row]
    term_of: dict[Words, Words]

    @property
    def clauses(self) -> frozenset[Words]:
        """Names that are more than a noun phrase (``heart is enlarged``, ``blunting of the angle``)."""
        return frozenset(name for name in self.term_of if {"be", "of", "in", "and"} & set(name))

    def single_word(self, row: Row) -> str:
        """Return the first one-word name of a row, or ``""``: its term when phrases are not wanted."""
        return next((name for name in (row.term, *row.synonyms) if len(phrase_key(name)) == 1), "")


@dataclass(frozen=True)
class DropList:
    """Words that name nothing visible.

    Attributes:
        words: removed from phrases; a phrase whose head is one is dropped.
        phrases: dropped when they are the whole phrase.
    """

    words: frozenset[str]
    phrases: frozenset[Words]


def read_synonyms(path: str | Path | None = None) -> Synonyms:
    """Read the package's synonym table and lay the user's own over it.

    Args:
        path: CSV with the columns ``canonical``, ``synonyms`` (joined by ``;``) and, if wanted, ``category``. Its names
            win: a name of ours that the table uses otherwise moves to the row the user put it in.

    Raises:
        ReportError: with the line, if the table cannot be understood or puts one name in two rows.
    """
    with as_file(files("mammi.concepts") / "tables" / "synonyms.csv") as ours:
        tables = [_read_rows(ours)]
    if path is not None:
        tables.insert(0, _read_rows(Path(path)))
    rows: dict[Words, Row] = {}
    term_of: dict[Words, Words] = {}
    for table in tables:
        taken = frozenset(term_of)
        for where, row in table:
            # A term that an earlier (the user's) table made a synonym of something else lends its names to that.
            term = term_of.get(phrase_key(row.term), phrase_key(row.term))
            for name in map(phrase_key, (row.term, *row.synonyms)):
                if name not in taken and term_of.setdefault(name, term) != term:
                    other = " ".join(term_of[name])
                    raise ReportError(
                        f"{where}: {' '.join(name)!r} already means {other!r}; remove it from one of them"
                    )
            known = rows.get(term)
            names = [name for name in (row.term, *row.synonyms) if term_of[phrase_key(name)] == term]
            if known is not None:
                names = list(dict.fromkeys((*known.synonyms, *names)))
                row = Row(known.term, (), known.category)
            names = [name for name in names if key(name) != key(row.term)]
            rows[term] = Row(row.term, tuple(names), row.category)
    return Synonyms(rows, term_of)


def read_drop_list(path: str | Path | None = None) -> DropList:
    """Read the words that name nothing visible; ``path`` replaces the package's list.

    Raises:
        ReportError: if the file cannot be read, or a line is neither a word, a ``=phrase`` nor a ``#`` remark.
    """
    if path is None:
        with as_file(files("mammi.concepts") / "tables" / "non_visual.txt") as ours:
            return read_drop_list(ours)
    words: set[str] = set()
    phrases: set[Words] = set()
    for number, line in enumerate(read_text(Path(path)).splitlines(), start=1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        if entry.startswith("="):
            phrases.add(phrase_key(entry[1:]))
        elif len(entry.split()) == 1:
            words.update({normalise(entry), lemma(normalise(entry))})
        else:
            raise ReportError(f"{Path(path).name}, line {number}: {entry!r} is a phrase; write '={entry}' to drop it")
    return DropList(frozenset(words), frozenset(phrases))


@cache
def tagger_table() -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """Return what the tagger gets wrong: word to tag, and suffix to tag (longest suffix first)."""
    with as_file(files("mammi.concepts") / "tables" / "tagger.csv") as path:
        rows = [(row["word"], row["tag"]) for _, row in read_table(path, needs=("word",))]
    suffixes = sorted(((word[1:], tag) for word, tag in rows if word.startswith("-")), key=lambda row: -len(row[0]))
    return {word: tag for word, tag in rows if not word.startswith("-")}, tuple(suffixes)


def _read_rows(path: Path) -> list[tuple[str, Row]]:
    rows = []
    for line, cells in read_table(path, needs=("canonical",)):
        term = " ".join(cells["canonical"].split())
        if not term:
            continue
        where = f"{path.name}, line {line}"
        category = cells.get("category", "").strip().lower() or "other"
        if category not in CATEGORIES:
            raise ReportError(f"{where}: category {category!r} is not one of {', '.join(CATEGORIES)}")
        synonyms = (" ".join(part.split()) for part in cells.get("synonyms", "").split(";"))
        rows.append((where, Row(term, tuple(filter(None, synonyms)), category)))
    return rows
