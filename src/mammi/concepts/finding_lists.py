"""The label names of public chest-film data sets, as concept sets: ``ConceptSet.read("nih-14")``.

Names only, as their papers and label tables spell them (underscores as blanks); which films have them, how often and
under what terms is the data sets' own. Synonyms are those of the package's table.
"""

from functools import cache
from importlib.resources import as_file, files
from types import MappingProxyType

from mammi.concepts.concept import CATEGORIES, Concept
from mammi.concepts.files import read_table
from mammi.concepts.vocabulary import Row, phrase_key, read_synonyms
from mammi.concepts.words import word_form
from mammi.errors import ReportError, UnknownNameError

__all__ = ["FINDING_LISTS", "finding_list"]

_LICENCE = "names of labels: facts, free to use; the films and labels have their own terms"

#: Each built-in list and where its names are published.
FINDING_LISTS = MappingProxyType(
    {
        "nih-14": "NIH ChestX-ray14: Wang et al., ChestX-ray8, CVPR 2017, arXiv 1705.02315",
        "chexpert-14": "CheXpert: Irvin et al., AAAI 2019, arXiv 1901.07031, table 1",
        "vindr-cxr": "VinDr-CXR: Nguyen et al., Scientific Data 9:429 (2022), 22 findings and 6 diagnoses",
        "padchest": "PadChest: Bustos et al., Medical Image Analysis 66:101797 (2020), 174 findings and 19 diagnoses",
    }
)


def finding_list(name: str) -> tuple[Concept, ...]:
    """Return the concepts of a built-in list, in the order of its paper (PadChest: of the alphabet).

    A synonym that is a label of the same list stays a label.

    Args:
        name: one of ``FINDING_LISTS``; case does not matter.

    Raises:
        UnknownNameError: if there is no list of that name.
    """
    if name.lower() not in FINDING_LISTS:
        raise UnknownNameError.among("Finding list", name, FINDING_LISTS, f"There are: {', '.join(FINDING_LISTS)}.")
    return _read()[name.lower()]


@cache
def _read() -> dict[str, tuple[Concept, ...]]:
    with as_file(files("mammi.concepts") / "tables" / "finding_lists.csv") as path:
        rows = [row for _, row in read_table(path, needs=("list",))]
    words = read_synonyms()
    lists = {}
    for name, source in FINDING_LISTS.items():
        labels = [row for row in rows if row["list"] == name]
        taken = {word_form(row["term"]) for row in labels}
        concepts = []
        for row in labels:
            known = words.rows.get(words.term_of.get(phrase_key(row["term"]), ()), Row("", (), "other"))
            synonyms = (s for s in (known.term, *known.synonyms) if s and word_form(s) not in taken)
            concepts.append(_concept(row, tuple(synonyms), source))
        lists[name] = tuple(concepts)
    return lists


def _concept(row: dict[str, str], synonyms: tuple[str, ...], source: str) -> Concept:
    category = row["category"]
    if category not in CATEGORIES:
        raise ReportError(f"finding_lists.csv: category of {row['term']!r} is {category!r}")
    return Concept(row["term"], synonyms, category, source=source, licence=_LICENCE)
