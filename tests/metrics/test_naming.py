import math

from mammi.metrics import NamingAccuracy


def same(truth, concept):
    return truth == concept


def test_first_and_kept_by_hand():
    accuracy = NamingAccuracy(same)
    accuracy.update("a", ["a", "b"])
    accuracy.update("b", ["a", "b"])
    accuracy.update("c", ["a"])
    accuracy.update("d", [])
    assert accuracy.compute() == {"units": 4, "first": 0.25, "kept": 0.5}


def test_merged_parts_equal_the_whole():
    units = [("a", ["a"]), ("b", ["c", "b"]), ("c", [])]
    whole, left, right = NamingAccuracy(same), NamingAccuracy(same), NamingAccuracy(same)
    for place, unit in enumerate(units):
        whole.update(*unit)
        (left if place < 1 else right).update(*unit)
    left.merge(right)
    assert left.compute() == whole.compute()


def test_no_unit_has_no_share():
    assert math.isnan(NamingAccuracy(same).compute()["first"])
