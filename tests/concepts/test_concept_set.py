"""A concept set is ordered, unique and hashed, and nothing is dropped in silence."""

import subprocess
import sys

import pytest

from mammi.concepts import Concept, ConceptSet
from mammi.errors import InputError, ReportError, UnknownNameError


def test_order_and_access() -> None:
    concepts = ConceptSet.from_terms(["mass", "Pleural effusion", "hernia"])
    assert len(concepts) == 3
    assert concepts.terms == ["mass", "Pleural effusion", "hernia"]
    assert [concept.term for concept in concepts] == concepts.terms
    assert concepts[1].term == "Pleural effusion"
    assert concepts[1:] == (Concept("Pleural effusion"), Concept("hernia"))
    assert concepts.index("pleural_effusion") == 1
    assert "PLEURAL EFFUSION" in concepts
    assert "effusion" not in concepts
    assert 3 not in concepts


def test_find_goes_by_term_before_synonym() -> None:
    concepts = ConceptSet(
        (Concept("pleural effusion", ("effusion", "edema")), Concept("edema"), Concept("fluid", ("effusion",)))
    )
    found = {name: concepts.find(name) for name in ("Pleural_Effusion", "EFFUSION ", "edema", "hernia")}
    assert concepts.find("Pleural_Oedemas") is None
    assert concepts.find("oedemas") == concepts[1]
    assert found == {
        "Pleural_Effusion": concepts[0],
        "EFFUSION ": concepts[0],
        "edema": concepts[1],
        "hernia": None,
    }


def test_unknown_term_suggests_the_nearest_and_names_the_synonym() -> None:
    concepts = ConceptSet((Concept("pleural effusion", ("effusion",)), Concept("mass")))
    with pytest.raises(UnknownNameError, match="Did you mean 'pleural effusion'"):
        concepts.index("pleural efusion")
    with pytest.raises(UnknownNameError, match="It is a synonym of 'pleural effusion'"):
        concepts.index("effusion")


def test_blanks_and_repeats_are_counted() -> None:
    concepts = ConceptSet.from_terms(["mass", " ", "hernia", "Mass", "", "mass_"])
    assert concepts.terms == ["mass", "hernia"]
    assert concepts.notes == ("2 blank entries dropped", "2 repeated entries dropped: 'Mass', 'mass_'")


def test_fingerprint_is_of_the_terms_in_their_order() -> None:
    one = ConceptSet.from_terms(["mass", "hernia"])
    assert len(one.fingerprint) == 64
    assert one.fingerprint == ConceptSet((Concept("mass", affirmed=3), Concept("hernia", ("x",)))).fingerprint
    assert one.fingerprint != ConceptSet.from_terms(["hernia", "mass"]).fingerprint
    assert ConceptSet.from_terms(["a, b"]).fingerprint != ConceptSet.from_terms(["a", "b"]).fingerprint


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"term": " "}, "names of one line"),
        ({"term": "a\nb"}, "names of one line"),
        ({"term": "a", "synonyms": ("",)}, "names of one line"),
        ({"term": "a", "synonyms": ("b;c",)}, "hold a ';'"),
        ({"term": "a", "category": "thing"}, "'thing', not one of finding, anatomy"),
        ({"term": "a", "negated": -1}, "negated of 'a' is -1"),
    ],
)
def test_impossible_concepts_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ReportError, match=message):
        Concept(**fields)


def test_impossible_sets_are_refused() -> None:
    with pytest.raises(ReportError, match="is empty"):
        ConceptSet(())
    with pytest.raises(ReportError, match="is empty"):
        ConceptSet.from_terms(["", " "])
    with pytest.raises(ReportError, match="'Mass' stands twice, in rows 0 and 2"):
        ConceptSet((Concept("mass"), Concept("b"), Concept("Mass")))
    with pytest.raises(InputError, match="single string"):
        ConceptSet.from_terms("mass")


def test_import_brings_neither_torch_nor_a_language_library() -> None:
    code = (
        "import sys, mammi.concepts; print([m for m in ('torch', 'spacy', 'textblob', 'negspacy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
