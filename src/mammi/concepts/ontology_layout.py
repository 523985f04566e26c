"""From rows of names and is-a pairs to an `Ontology`, without holding what nobody asked for.

The files of UMLS have tens of millions of rows. A layout yields its rows one by one with whole numbers for ids, 8 bytes
each; with a root, only the pairs of ids are held (16 bytes a pair), the part below the root is found, and the names are
read again for that part alone.
"""

from array import array
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mammi.concepts.concept import Category
from mammi.concepts.ontology import Entry, Ontology
from mammi.concepts.words import key
from mammi.errors import InputError, ReportError, UnknownNameError

__all__ = ["Layout", "Name", "build_ontology", "columns", "titles"]


class Name(NamedTuple):
    """One name of one concept; the highest ``rank`` of a concept is its preferred name, the first of equals."""

    place: int
    text: str
    rank: int


class Layout(Protocol):
    """A vocabulary on disk: what the rows are, not how they are put together."""

    source: str
    licence: str

    def names(self) -> Iterator[Name]:
        """Yield every wanted name; may be asked more than once."""
        ...

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield ``(child, parent)`` for every wanted is-a."""
        ...

    def categories(self) -> Iterator[tuple[int, Category]]:
        """Yield what kind of thing a concept is, where the vocabulary says so."""
        ...

    def label(self, place: int) -> str:
        """Return an id as the vocabulary writes it."""
        ...

    def place(self, label: str) -> int | None:
        """Return the whole number of an id as the vocabulary writes it; None if it is not written like one."""
        ...


def build_ontology(layout: Layout, root: str | None = None) -> Ontology:
    """Read a vocabulary, or the part of it that is a root and what lies below.

    Args:
        layout: the files.
        root: an id, or a name as the files spell it (case does not matter); None reads everything.

    Returns:
        The ontology, in the order of the names' rows; the root first.

    Raises:
        UnknownNameError: if there is no such root.
        InputError: if several concepts are called so; the message has their ids.
        ReportError: as the layout raises.
    """
    child, parent = array("q"), array("q")
    for low, high in layout.pairs():
        child.append(low)
        parent.append(high)
    below, above = np.frombuffer(child, np.int64), np.frombuffer(parent, np.int64)
    top = None if root is None else _root(layout, root)
    wanted = None if top is None else _below(top, below, above)
    names: dict[int, dict[str, int]] = {}
    for place, text, rank in layout.names():
        if wanted is None or place in wanted:
            known = names.setdefault(place, {})
            known[text] = max(rank, known.get(text, rank))
    kinds = {place: kind for place, kind in layout.categories() if place in names}
    parents: dict[int, list[int]] = {}
    unnamed: set[int] = set()
    if wanted is not None:
        part = np.fromiter(wanted, np.int64, len(wanted))
        both = np.isin(below, part) & np.isin(above, part)
        below, above = below[both], above[both]
    for low, high in zip(below.tolist(), above.tolist(), strict=True):
        if low in names and high in names:
            known_parents = parents.setdefault(low, [])
            if high not in known_parents and high != low:
                known_parents.append(high)
        else:
            unnamed.update({low, high} - names.keys())
    notes = (f"{len(unnamed)} concepts without a wanted name left out of the hierarchy",) if unnamed else ()
    entries: dict[str, Entry] = {}
    while names:  # each concept's work is thrown away as its entry is made
        place, known = names.popitem()
        first = max(known, key=known.__getitem__)
        entries[layout.label(place)] = Entry(
            first,
            tuple(text for text in known if text != first),
            tuple(layout.label(high) for high in parents.pop(place, ())),
            kinds.get(place, "other"),
        )
    ordered = dict(reversed(entries.items()))
    if top is not None:
        ordered = {layout.label(top): ordered[layout.label(top)], **ordered}
    return Ontology(ordered, layout.source, layout.licence, notes=notes)


def titles(text: str) -> tuple[str, ...]:
    """Return the titles of columns from one line, as the specifications list them."""
    return tuple(text.split())


def columns(line: str, separator: str, names: tuple[str, ...], where: str) -> list[str]:
    """Split a row and check that it has as many columns as the layout documents.

    Raises:
        ReportError: with the file, line, number of columns and what was expected.
    """
    cells = line.split(separator)
    if len(cells) != len(names):
        expected = f"{len(names)} separated by {separator!r}: {', '.join(names)}"
        raise ReportError(f"{where}: {len(cells)} columns, expected {expected}")
    return cells


def _root(layout: Layout, root: str) -> int:
    """Return the id of a root, by id, else by preferred name, else by any name."""
    by_id = layout.place(root.strip())
    best: dict[int, int] = {}
    found: dict[int, int] = {}
    wanted = key(root)
    for place, text, rank in layout.names():
        if place == by_id:
            return place
        if key(text) == wanted:
            found[place] = max(rank, found.get(place, rank))
    if found:  # a second pass over the few: is the name the preferred one of a concept?
        for place, _, rank in layout.names():
            if place in found:
                best[place] = max(rank, best.get(place, rank))
    preferred = [place for place, rank in found.items() if rank == best[place]]
    chosen = preferred or list(found)
    if not chosen:
        raise UnknownNameError(
            f"No concept of {layout.source} is called {root!r} in the wanted languages and sources; "
            "give its id or a name as the files spell it"
        )
    if len(chosen) > 1:
        several = ", ".join(layout.label(place) for place in chosen[:8])
        raise InputError(f"{root!r} names {len(chosen)} concepts, give the id of one: {several}")
    return chosen[0]


def _below(root: int, child: NDArray[np.int64], parent: NDArray[np.int64]) -> set[int]:
    """Return a root and every concept below it."""
    order = np.argsort(parent, kind="stable")
    ordered = parent[order]
    found = {root}
    front = [root]
    while front:
        place = front.pop()
        first, last = np.searchsorted(ordered, place, "left"), np.searchsorted(ordered, place, "right")
        for low in child[order[first:last]].tolist():
            if low not in found:
                found.add(low)
                front.append(low)
    return found
