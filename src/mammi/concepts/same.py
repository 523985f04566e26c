"""Which concepts of a set are one thing under two names."""

from mammi.concepts.concept_set import ConceptSet
from mammi.concepts.words import key, word_form

__all__ = ["same_concepts"]


def same_concepts(concepts: ConceptSet) -> list[int]:
    """Return for each concept the first one of the set that is the same thing.

    Two are the same if they share a name, term or synonym, in any case, number or spelling; so are two that are each
    the same as a third.

    >>> from mammi.concepts import Concept
    >>> same_concepts(ConceptSet((Concept("effusion", ("pleural fluid",)), Concept("mass"), Concept("pleural fluid"))))
    [0, 1, 0]
    """
    first = list(range(len(concepts)))

    def root(row: int) -> int:
        while first[row] != row:
            row = first[row]
        return row

    owner: dict[str, int] = {}
    for row, concept in enumerate(concepts):
        for name in (concept.term, *concept.synonyms):
            for form in {key(name), word_form(name)}:
                a, b = root(owner.setdefault(form, row)), root(row)
                first[max(a, b)] = min(a, b)
    return [root(row) for row in range(len(concepts))]
