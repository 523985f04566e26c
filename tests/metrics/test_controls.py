from collections import Counter

import pytest

from mammi.errors import InputError
from mammi.metrics import NamingAccuracy, constant_label, control_table, frequency_matched, shuffled_concepts

CONCEPTS = ["a", "b", "c", "d", "e"]
TRUTHS = ["a", "b", "c", "a", "d", "a"]
NAMES = [["a", "b"], ["b"], ["c"], ["a"], [], ["e", "a"]]


def judge(names):
    accuracy = NamingAccuracy(lambda truth, concept: truth == concept)
    for truth, concepts in zip(TRUTHS, names, strict=True):
        accuracy.update(truth, concepts)
    return accuracy.compute()


def test_shuffled_concepts_are_one_renaming_of_all_units():
    shuffled = shuffled_concepts(NAMES, CONCEPTS, seed=4)
    renamed = {}
    for before, after in zip(NAMES, shuffled, strict=True):
        assert len(before) == len(after)
        for x, y in zip(before, after, strict=True):
            assert renamed.setdefault(x, y) == y
    assert len(set(renamed.values())) == len(renamed) == 4
    assert shuffled == shuffled_concepts(NAMES, CONCEPTS, seed=4)
    assert any(shuffled_concepts(NAMES, CONCEPTS, seed=s) != shuffled for s in range(5))


def test_shuffled_concepts_hit_by_chance_one_time_in_the_number_of_concepts():
    row = control_table(NAMES, CONCEPTS, judge, "first", seed=0, draws=2000)[1]
    # 5 of 6 units have a first name, each of 5 names alike
    assert row.values["first"] == pytest.approx(5 / 6 / 5, abs=0.02)


def test_frequency_matched_labels_keep_how_often_a_label_occurs():
    drawn = Counter(str(unit) for seed in range(2000) for unit in frequency_matched(NAMES, seed))
    assert set(drawn) == {str(unit) for unit in NAMES}
    assert all(count / 12_000 == pytest.approx(1 / 6, abs=0.02) for count in drawn.values())
    assert frequency_matched([], 0) == []


def test_the_constant_label_is_the_best_there_is():
    assert constant_label(CONCEPTS, 6, judge, "first") == "a"
    assert constant_label(["e", "d", "b", "c"], 6, judge, "first") == "d", "the first of equals"
    scores = {c: judge([[c]] * 6)["first"] for c in CONCEPTS}
    assert scores["a"] == max(scores.values())


def test_the_table_judges_all_rows_alike():
    rows = control_table(NAMES, CONCEPTS, judge, "first", seed=0, draws=50)
    assert [row.name for row in rows] == ["method", "shuffled concepts", "constant label", "frequency-matched"]
    assert rows[0].values == judge(NAMES)
    assert rows[2].values == judge([["a"]] * 6)
    assert rows[2].detail == "'a' for every unit"
    for row in rows:
        assert set(row.values) == set(row.spread) == {"units", "first", "kept"}
        assert 0 <= row.values["first"] <= rows[0].values["first"]
    assert rows[1].spread["first"] > 0 == rows[0].spread["first"]
    assert rows == control_table(NAMES, CONCEPTS, judge, "first", seed=0, draws=50)
    assert rows != control_table(NAMES, CONCEPTS, judge, "first", seed=1, draws=50)


def test_order_of_units_does_not_matter_to_the_fixed_rows():
    order = [3, 0, 5, 1, 4, 2]

    def moved(names):
        back = [names[order.index(unit)] for unit in range(6)]
        return judge(back)

    rows = control_table([NAMES[u] for u in order], CONCEPTS, moved, "kept", seed=0, draws=5)
    plain = control_table(NAMES, CONCEPTS, judge, "kept", seed=0, draws=5)
    assert rows[0] == plain[0]
    assert rows[2] == plain[2]
    assert rows[1] == plain[1], "a renaming is the same for every unit"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"draws": 0}, "'draws' must be at least 1, got 0"),
        ({"by": "best"}, "gives no number 'best': it gives units, first, kept"),
        ({"concepts": []}, "holds no candidate"),
        ({"concepts": ["a", "b"]}, "the name 'c' is not among the 2 concepts"),
        ({"concepts": [*CONCEPTS, "a"]}, "holds 1 names twice"),
    ],
)
def test_bad_arguments_are_named(change, match):
    given = {"names": NAMES, "concepts": CONCEPTS, "judge": judge, "by": "first", "seed": 0, "draws": 3} | change
    with pytest.raises(InputError, match=match):
        control_table(**given)
