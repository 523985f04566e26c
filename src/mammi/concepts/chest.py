"""The built-in ontology of chest films: the package's synonyms, and a small hierarchy over the built-in finding lists.

Our own work, so that names can be compared without anybody's licence. It is small, it says what radiologists' words
usually mean on chest films, and no body has reviewed it: for anything to be published with weight, use RadLex, SNOMED CT
or UMLS. It holds no single root, so that no word is broader than everything.
"""

from functools import cache
from importlib.resources import as_file, files

from mammi.concepts.concept import Category, Concept
from mammi.concepts.files import read_table
from mammi.concepts.ontology import Ontology
from mammi.concepts.vocabulary import read_synonyms
from mammi.concepts.words import key, word_form

__all__ = ["chest_ontology"]


@cache
def chest_ontology() -> Ontology:
    """Return the built-in ontology.

    A name that the hierarchy tells apart (``hiatal hernia`` under ``hernia``) is no synonym here, though building
    concepts from reports merges it: counting words wants few names, judging them wants exact ones.
    """
    with as_file(files("mammi.concepts") / "tables" / "chest_hierarchy.csv") as path:
        rows = [row for _, row in read_table(path, needs=("term",))]
    category: dict[str, Category] = {}
    synonyms: dict[str, list[str]] = {}
    parents: dict[str, list[str]] = {}
    for row in rows:
        synonyms.setdefault(row["term"], []).extend(_split(row["synonyms"]))
        for name in _split(row["narrower"]):
            synonyms.setdefault(name, [])
            parents.setdefault(name, []).append(row["term"])
    own = {word_form(name) for term, others in synonyms.items() for name in (term, *others)}
    terms = {word_form(term): term for term in synonyms}
    for known in read_synonyms().rows.values():
        term = terms.get(word_form(known.term), known.term)
        if word_form(term) in own and word_form(term) not in terms:
            continue  # the hierarchy has it as another name of something
        category[term] = known.category
        synonyms.setdefault(term, []).extend(name for name in known.synonyms if word_form(name) not in own)
    concepts = [
        Concept(
            term,
            tuple(dict.fromkeys(name for name in others if key(name) != key(term))),
            category.get(term, "finding"),
            parents=tuple(dict.fromkeys(parents.get(term, []))),
        )
        for term, others in synonyms.items()
    ]
    return Ontology.from_concepts(concepts, "mammi's own chest hierarchy", "that of the package")


def _split(cell: str) -> list[str]:
    return [name.strip() for name in cell.split(";") if name.strip()]
