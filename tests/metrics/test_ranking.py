import math

import pytest
import torch

from mammi.errors import InputError
from mammi.metrics import Abstention, Hubness, TruthRanking

NAN = float("nan")


def test_ranking_by_hand():
    ranking = TruthRanking()
    ranking.update(torch.tensor([[3.0, 2, 1], [3, 2, 1], [1, 1, 1], [NAN] * 3]), [{0}, {2}, {1, 2}, {0}])
    assert ranking.ranks == [1, 3, 2, math.inf]
    assert ranking.compute(at=(1, 2)) == {
        "units": 4,
        "hit@1": 0.25,
        "hit@2": 0.5,
        "median rank": 2.5,
        "mean reciprocal rank": pytest.approx((1 + 1 / 3 + 1 / 2 + 0) / 4),
    }


def test_ranking_merged_equals_the_whole_and_order_of_concepts_only_moves_ties():
    scores = torch.rand(9, 6, generator=torch.Generator().manual_seed(0))
    truths = [{u % 6} for u in range(9)]
    whole, left, right, moved = (TruthRanking() for _ in range(4))
    whole.update(scores, truths)
    left.update(scores[:4], truths[:4])
    right.update(scores[4:], truths[4:])
    left.merge(right)
    assert left.compute() == whole.compute()
    order = [5, 3, 1, 0, 2, 4]
    moved.update(scores[:, order], [{order.index(m) for m in truth} for truth in truths])
    assert moved.ranks == whole.ranks
    assert math.isnan(TruthRanking().compute()["median rank"])


def abstention(units):
    judge = Abstention()
    for named, right, confidence, meaningful in units:
        judge.update(named=named, right=right, confidence=confidence, meaningful=meaningful)
    return judge


UNITS = [(True, True, 0.9, True), (True, False, 0.2, True), (False, False, 0.95, True), (True, False, 0.5, False)]
UNITS += [(False, False, NAN, False), (False, False, NAN, False)]


def test_abstention_by_hand():
    found = abstention(UNITS).compute()
    # surest first: right, wrong (means nothing), wrong, then three without a name
    risks = [0, 1 / 2, 2 / 3, 3 / 4, 4 / 5, 5 / 6]
    assert found == pytest.approx(
        {"units": 6, "coverage": 2 / 3, "selective accuracy": 1 / 2, "false-name rate": 1 / 3, "aurc": sum(risks) / 6}
    )
    assert abstention(UNITS).curve()[1].tolist() == pytest.approx(risks)


def test_abstention_merged_equals_the_whole():
    left, right = abstention(UNITS[:2]), abstention(UNITS[2:])
    left.merge(right)
    assert left.compute() == abstention(UNITS).compute()
    assert abstention(UNITS[::-1]).compute() == pytest.approx(left.compute())


def test_silence_is_no_way_to_a_good_area():
    silent = abstention([(True, True, 0.9, True), (False, False, NAN, True)])
    forced = abstention([(True, True, 0.9, True), (True, False, 0.1, True)])
    assert silent.compute()["aurc"] == forced.compute()["aurc"]
    assert silent.compute()["selective accuracy"] == 1
    assert silent.compute()["coverage"] == 0.5


def test_shares_of_nothing_are_nan_and_nonsense_is_refused():
    assert all(math.isnan(v) for k, v in Abstention().compute().items() if k != "units")
    assert math.isnan(abstention(UNITS[:3]).compute()["false-name rate"])
    for wrong in ({"named": False}, {"named": True, "meaningful": False}):
        with pytest.raises(InputError, match="can only be right on a unit that has one"):
            Abstention().update(right=True, **wrong)


def test_hubness_by_hand():
    hubs = Hubness(8)
    hubs.update([[0], [0, 1], [0], [1], [2], [3], [4], [5], []])
    assert hubs.counts().tolist() == [3, 1, 1, 1, 1, 1, 0, 0]
    found = hubs.compute()
    assert (found["units"], found["named"]) == (9, 8)
    assert found["top-1 share"] == 3 / 8
    assert found["top-5 share"] == 7 / 8
    assert found["skewness"] == pytest.approx((8 + -2) / 8 / (6 / 8) ** 1.5)  # deviations 2, 0 x5, -1 x2
    two = Hubness(8, first=2)
    two.update([[0, 1], [2, 1], [3]])
    assert two.counts().tolist() == [1, 2, 1, 1, 0, 0, 0, 0]
    assert two.compute()["top-1 share"] == pytest.approx(2 / 3)


def test_hubness_merged_equals_the_whole_and_without_names_says_nothing():
    units = [[1, 0], [1], [], [3, 2], [0]]
    whole, left, right = Hubness(4), Hubness(4), Hubness(4)
    whole.update(units)
    left.update(units[:2])
    right.update(units[2:])
    left.merge(right)
    assert left.compute() == whole.compute()
    assert math.isnan(Hubness(4).compute()["top-1 share"])
    with pytest.raises(InputError, match="concept 4 is outside the 4 concepts"):
        whole.update([[4]])
    with pytest.raises(InputError, match="cannot be merged with the first 2 of 4"):
        whole.merge(Hubness(4, first=2))
