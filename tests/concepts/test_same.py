"""Concepts that are one thing under two names."""

from mammi.concepts import Concept, ConceptSet
from mammi.concepts.same import same_concepts


def of(*concepts):
    return same_concepts(ConceptSet(tuple(Concept(*concept) for concept in concepts)))


def test_a_shared_name_makes_one_thing():
    assert of(("mass",), ("effusion", ("pleural fluid",)), ("pleural fluid",), ("tube",)) == [0, 1, 1, 3]
    assert of(("effusion",), ("fluid", ("effusion", "wet")), ("oedema", ("wet",))) == [0, 0, 0]  # through a third


def test_number_and_spelling_do_not_matter():
    assert of(("opacity",), ("Opacities",), ("edema",), ("oedemas",)) == [0, 0, 2, 2]


def test_words_alike_are_not_names_shared():
    assert of(("effusion",), ("pleural effusion",), ("mass", ("lesion",)), ("nodule", ("small lesion",))) == [
        0,
        1,
        2,
        3,
    ]


def test_groups_that_meet_late_are_one_from_the_first():
    assert of(("a1", ("p",)), ("b1", ("q",)), ("c1", ("r",)), ("d1", ("r", "q")), ("e1", ("q", "p"))) == [0] * 5
