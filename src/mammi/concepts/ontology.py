"""`Ontology`: concepts with synonyms and an is-a hierarchy, and how one name stands to another in it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, get_args

from mammi.concepts.concept import Category, Concept, keep_first
from mammi.concepts.concept_set import ConceptSet
from mammi.concepts.words import key, word_form
from mammi.errors import InputError, ReportError, UnknownNameError
from mammi.functional.hierarchy import path_length, steps_up, wu_palmer

__all__ = ["RELATIONS", "Entry", "Ontology", "Relation", "relation"]

#: How a name stands to a truth, the closest first; see ``relation``.
Relation = Literal["same", "synonym", "broader", "narrower", "related", "other"]
RELATIONS: tuple[Relation, ...] = get_args(Relation)


class Entry(NamedTuple):
    """One concept of an ontology: its preferred name, other names, the ids of its parents, and its category."""

    name: str
    synonyms: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    category: Category = "other"


@dataclass(frozen=True, eq=False)
class Ontology:
    """Concepts by id, each with names and parents. Cycles and several parents are allowed.

    Attributes:
        entries: by id; every parent is an id too.
        source: where it comes from, with its version if known.
        licence: terms of that source.
        notes: what was left out on the way, in words.

    Raises:
        ReportError: if there is no entry, or a parent is no entry.
    """

    entries: dict[str, Entry]
    source: str = ""
    licence: str = ""
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if not self.entries:
            raise ReportError(f"The ontology {self.source!r} is empty; it needs at least one concept")
        for place, entry in self.entries.items():
            for parent in entry.parents:
                if parent not in self.entries:
                    raise ReportError(f"Parent {parent!r} of {place!r} ({entry.name}) is no concept of the ontology")

    @classmethod
    def from_concepts(cls, concepts: Iterable[Concept], source: str = "", licence: str = "") -> "Ontology":
        """Build one from concepts with ``parents``; a parent that is no concept becomes one, without synonyms.

        Names are resolved as ``find`` does it: a parent may be given by a synonym.
        """
        rows = list(concepts)
        plain = {key(row.term): Entry(row.term, row.synonyms, (), row.category) for row in rows}
        for row in rows:
            for parent in row.parents:
                if key(parent) not in plain and not cls(plain).find(parent):
                    plain[key(parent)] = Entry(parent)
        names = cls(plain)
        above: dict[str, list[str]] = {place: [] for place in plain}
        for row in rows:
            above[key(row.term)] += [place for parent in row.parents for place in names.find(parent)]
        entries = {
            place: entry._replace(parents=tuple(dict.fromkeys(p for p in above[place] if p != place)))
            for place, entry in plain.items()
        }
        return cls(entries, source, licence)

    @cached_property
    def children(self) -> dict[str, tuple[str, ...]]:
        """The direct children of every concept that has some."""
        below: dict[str, list[str]] = {}
        for place, entry in self.entries.items():
            for parent in entry.parents:
                below.setdefault(parent, []).append(place)
        return {place: tuple(found) for place, found in below.items()}

    @cached_property
    def _preferred(self) -> dict[str, tuple[str, ...]]:
        return _index((entry.name, place) for place, entry in self.entries.items())

    @cached_property
    def _others(self) -> dict[str, tuple[str, ...]]:
        return _index((name, place) for place, entry in self.entries.items() for name in entry.synonyms)

    def find(self, name: str) -> tuple[str, ...]:
        """Return the ids of the concepts called ``name``: by preferred name, else by synonym; none if unknown.

        Case, underscores, plurals and British spelling do not matter. A homonym has several ids.
        """
        if name in self.entries:
            return (name,)
        form = word_form(name)
        return self._preferred.get(form) or self._others.get(form, ())

    def parents(self, place: str) -> tuple[str, ...]:
        """Return the ids of the direct parents of a concept."""
        return self.entries[place].parents

    def descendants(self, place: str) -> dict[str, int]:
        """Return every concept below one, itself included, with the fewest steps down to it, nearest first."""
        return steps_up(place, lambda above: self.children.get(above, ()))

    def relate(self, truth: str, name: str) -> Relation:
        """Say how ``name`` stands to ``truth``; see ``relation``."""
        return relation(truth, name, self)

    def names(self, truth: str, name: str) -> bool:
        """Tell whether ``name`` is the same concept as ``truth``, as written or by a synonym."""
        return relation(truth, name, self) in ("same", "synonym")

    def similarity(self, truth: str, name: str) -> float:
        """Return Wu and Palmer's similarity, in [0, 1]: 1 for one concept, 0 for names that share no ancestor."""
        if word_form(truth) == word_form(name):
            return 1.0
        pairs = ((a, b) for a in self.find(truth) for b in self.find(name))
        return max((wu_palmer(a, b, self.parents) for a, b in pairs), default=0.0)

    def distance(self, truth: str, name: str) -> int | None:
        """Return the fewest is-a steps between two names by a shared ancestor; None if they share none."""
        if word_form(truth) == word_form(name):
            return 0
        pairs = ((a, b) for a in self.find(truth) for b in self.find(name))
        found = [path_length(a, b, self.parents) for a, b in pairs]
        return min((steps for steps in found if steps is not None), default=None)

    def subtree(self, root: str) -> ConceptSet:
        """Return a concept and everything below it as a concept set, nearest first, with synonyms and parents.

        Args:
            root: an id or a name.

        Raises:
            UnknownNameError: if nothing is called so.
            InputError: if several concepts are; the message has their ids.
        """
        places = self.descendants(self.one(root))
        concepts = [self._concept(place, places) for place in places]
        kept, notes = keep_first(concepts, lambda concept: concept.term, "name", "names")
        return ConceptSet(tuple(kept), mode="ontology", notes=(*self.notes, *notes))

    def add_to(self, concepts: ConceptSet) -> ConceptSet:
        """Return the set with the synonyms and parents that the ontology knows for its terms; the terms stay.

        A concept is looked up by term alone: its synonyms may be loose. Homonyms are left alone, and noted; a synonym
        that is a name of another concept of the set is not added.
        """
        taken = {word_form(name) for concept in concepts for name in (concept.term, *concept.synonyms)}
        rows: list[Concept] = []
        many: list[str] = []
        found = 0
        for concept in concepts:
            places = self.find(concept.term)
            many += [concept.term] * (len(places) > 1)
            if len(places) != 1:
                rows.append(concept)
                continue
            found += 1
            entry = self.entries[places[0]]
            new = {word_form(n): n for n in (entry.name, *entry.synonyms) if _plain(n) and word_form(n) not in taken}
            above = [self.entries[parent].name for parent in entry.parents]
            rows.append(
                Concept(
                    concept.term,
                    (*concept.synonyms, *new.values()),
                    concept.category if concept.category != "other" else entry.category,
                    *(concept.affirmed, concept.negated, concept.uncertain, concept.source, concept.licence),
                    tuple(dict.fromkeys((*concept.parents, *filter(_plain, above)))),
                )
            )
        notes = [f"{found} of {len(concepts)} concepts found in {self.source or 'the ontology'}"]
        if many:
            notes.append(f"{len(many)} left as they are, several concepts are called so: {', '.join(many[:5])}")
        return ConceptSet(tuple(rows), concepts.mode, concepts.n_reports, (*concepts.notes, *notes))

    def one(self, name: str) -> str:
        """Return the id of the one concept called ``name``.

        Raises:
            UnknownNameError: if nothing is called so.
            InputError: if several concepts are; the message has their ids.
        """
        places = self.find(name)
        if not places:
            known = [entry.name for entry in self.entries.values()][:100_000]
            raise UnknownNameError.among("Concept", name, known, f"{self.source} holds {len(self.entries)} concepts.")
        if len(places) > 1:
            several = ", ".join(f"{place} ({self.entries[place].name})" for place in places[:8])
            raise InputError(f"{name!r} names {len(places)} concepts, give the id of one: {several}")
        return places[0]

    def _concept(self, place: str, among: dict[str, int]) -> Concept:
        entry = self.entries[place]
        names = {word_form(n): n for n in reversed(entry.synonyms) if _plain(n)}
        names.pop(word_form(entry.name), None)
        above = (self.entries[parent].name for parent in entry.parents if parent in among)
        synonyms = tuple(reversed(names.values()))
        parents = tuple(filter(_plain, above))
        return Concept(entry.name, synonyms, entry.category, 0, 0, 0, self.source, self.licence, parents)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)


def relation(truth: str, name: str, ontology: Ontology) -> Relation:
    """Say how ``name`` stands to ``truth``.

    ``same``: one name, whether or not the ontology has it (case, plurals and spelling apart). ``synonym``: two names of
    one concept. ``broader``: ``name`` is an ancestor of ``truth``, however far; ``narrower``: a descendant.
    ``related``: they share a parent. ``other``: none of these, a name that the ontology lacks among them.

    A homonym counts by the sense that is closest; but a name that is preferred somewhere is never taken in a sense that
    it has as a synonym. Within a cycle each is above the other: then the shorter way counts, up before down.

    >>> lung = Ontology.from_concepts([Concept("effusion", ("fluid",), parents=("pleural finding",))])
    >>> [relation("effusion", name, lung) for name in ("Effusions", "fluid", "pleural finding", "mass")]
    ['same', 'synonym', 'broader', 'other']
    """
    if word_form(truth) == word_form(name):
        return "same"
    best: tuple[int, int] = (RELATIONS.index("other"), 0)
    for one in ontology.find(truth):
        above = steps_up(one, ontology.parents)
        for other in ontology.find(name):
            best = min(best, _between(one, other, above, ontology))
    return RELATIONS[best[0]]


def _between(one: str, other: str, above: dict[str, int], ontology: Ontology) -> tuple[int, int]:
    """Return the rank of the relation of ``other`` to ``one``, whose ancestors are given, and the steps between."""
    if one == other:
        return RELATIONS.index("synonym"), 0
    below = steps_up(other, ontology.parents)
    up, down = above.get(other), below.get(one)
    if up is not None and (down is None or up <= down):
        return RELATIONS.index("broader"), up
    if down is not None:
        return RELATIONS.index("narrower"), down
    if set(ontology.parents(one)) & set(ontology.parents(other)):
        return RELATIONS.index("related"), 2
    return RELATIONS.index("other"), 0


def _index(names: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name, place in names:
        places = found.setdefault(word_form(name), [])
        if place not in places:
            places.append(place)
    return {form: tuple(places) for form, places in found.items()}


def _plain(name: str) -> bool:
    """Tell whether a name can stand in a table, where ';' separates names."""
    return bool(word_form(name)) and ";" not in name and len(name.splitlines()) == 1
