"""Names near to the truth: reported beside the right ones, never as right."""

import math
from collections import Counter

import pytest

from mammi.concepts.chest import chest_ontology
from mammi.errors import InputError
from mammi.metrics import LabelAgreement, NamingAccuracy

UNITS = [
    ("Effusion", ["pleural fluid", "mass"]),
    ("hernia", ["hiatal hernia"]),
    ("pneumonia", ["lung infection", "pneumonia"]),
    ("mass", ["nodule"]),
    ("edema", ["oedema"]),
    ("fibrosis", []),
    ("nodule", ["scoliosis", "nodules"]),
]


def judged(units):
    chest = chest_ontology()
    accuracy = NamingAccuracy(chest.names, relate=chest.relate, similarity=chest.similarity)
    for unit in units:
        accuracy.update(*unit)
    return accuracy


def test_grades_by_hand():
    found = judged(UNITS).compute()
    assert {name: round(7 * share) for name, share in found.items() if ": " in name and "similarity" not in name} == {
        "first: same": 1,
        "first: synonym": 1,
        "first: broader": 1,
        "first: narrower": 1,
        "first: related": 1,
        "first: other": 1,
        "first: no concept": 1,
    }
    assert (found["units"], found["first"], found["kept"]) == (7, 2 / 7, 4 / 7)
    assert 2 / 7 < found["first: similarity"] < 5 / 7


def test_shares_add_up_and_near_names_are_not_right():
    chest = chest_ontology()
    found = judged(UNITS).compute()
    assert sum(v for k, v in found.items() if k.startswith("first: ") and "simil" not in k) == pytest.approx(1)
    assert found["first"] == found["first: same"] + found["first: synonym"]
    plain = NamingAccuracy(chest.names)
    for unit in UNITS:
        plain.update(*unit)
    assert plain.compute() == {name: found[name] for name in ("units", "first", "kept")}


def test_merged_parts_equal_the_whole_and_unequal_kinds_do_not_merge():
    left, right = judged(UNITS[:2]), judged(UNITS[2:])
    left.merge(right)
    assert left.compute() == judged(UNITS).compute()
    assert Counter(left.grades) == Counter(judged(UNITS).grades)
    with pytest.raises(InputError, match="'relate' cannot be merged"):
        left.merge(NamingAccuracy(chest_ontology().names))
    assert math.isnan(judged([]).compute()["first: same"])
    with pytest.raises(InputError, match="relate says 'cousin'"):
        NamingAccuracy(str.__eq__, relate=lambda *_: "cousin").update("a", ["b"])


def test_label_agreement_by_meaning():
    chest = chest_ontology()
    units = [("effusion", ["pleural effusion", "fluid level", "pleural fluid"]), (["mass", "nodule"], ["lung mass"])]
    concepts = ["pleural fluid", "lung mass"]
    published, meaning = LabelAgreement(concepts), LabelAgreement(concepts, names=chest.names)
    for unit in (*units, ("hernia", [])):
        published.update(*unit)
        meaning.update(*unit)
    assert published.compute()["hit rate"] == published.compute()["ceiling"] == 0
    found = meaning.compute()
    assert found["hit rate"] == pytest.approx(2 / 3)
    assert found["precision"] == pytest.approx((2 / 3 + 1) / 3)
    assert found["recall"] == pytest.approx((1 + 1 / 2) / 3)
    assert found["f1"] == pytest.approx((0.8 + 2 / 3) / 3)
    assert found["ceiling"] == pytest.approx(2 / 3)
    with pytest.raises(InputError, match="different functions"):
        published.merge(meaning)


def test_label_agreement_with_equality_is_as_published():
    plain, by_name = LabelAgreement(["a", "b"]), LabelAgreement(["a", "b"], names=lambda truth, label: truth == label)
    for unit in (("a", ["a", "c", "d"]), (["b", "c"], ["c", "b"]), ("e", []), ("f", ["a"])):
        plain.update(*unit)
        by_name.update(*unit)
    assert plain.compute() == by_name.compute()
