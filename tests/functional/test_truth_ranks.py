import itertools
import math

import pytest
import torch

from mammi.errors import InputError
from mammi.functional.truth_ranks import risk_coverage, skewness, truth_ranks

NAN = float("nan")


def test_ranks_equal_counting_what_stands_before():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 4, (30, 7), generator=generator).float()
    scores[torch.rand(30, 7, generator=generator) < 0.2] = NAN
    truths = [set(torch.randperm(7, generator=generator)[: u % 3 + 1].tolist()) for u in range(30)]
    for row, truth, rank in zip(scores.tolist(), truths, truth_ranks(scores, truths).tolist(), strict=True):
        slow = math.inf
        for t in truth:
            if not math.isnan(row[t]):
                before = sum(s > row[t] or (s == row[t] and m < t) for m, s in enumerate(row))
                slow = min(slow, before + 1)
        assert rank == slow


def test_ties_go_by_index_in_a_large_set_too():
    assert truth_ranks(torch.arange(2000.0)[None] // 1000, [{1500}]).tolist() == [501]


def test_a_unit_without_a_score_has_no_rank():
    assert truth_ranks(torch.tensor([[NAN, NAN], [NAN, -torch.inf]]), [{0}, {1}]).tolist()[0] == math.inf
    assert truth_ranks(torch.zeros(0, 3), []).tolist() == []


@pytest.mark.parametrize(
    ("scores", "truths", "match"),
    [
        (torch.zeros(3), [], r"must be \(n_units, n_concepts\), got \(3,\)"),
        (torch.zeros(2, 3), [{0}], "holds 2 units and 'truths' 1"),
        (torch.zeros(1, 3), [set()], "unit 0 has no truth"),
        (torch.zeros(1, 3), [{3}], r"outside the 3 concepts: \[3\]"),
        (torch.zeros(1, 3), [{-1}], r"outside the 3 concepts: \[-1\]"),
    ],
)
def test_bad_truths_are_named(scores, truths, match):
    with pytest.raises(InputError, match=match):
        truth_ranks(scores, truths)


def test_risk_is_the_mean_over_all_orders_of_equals():
    confidence = torch.tensor([0.5, 0.9, 0.5, NAN, 0.5, NAN])
    right = torch.tensor([True, False, False, True, False, False])
    coverage, risk = risk_coverage(confidence, right)
    sums = [0.0] * 6
    orders = [(1, *tie, *last) for tie in itertools.permutations((0, 2, 4)) for last in itertools.permutations((3, 5))]
    for order in orders:
        for i in range(6):
            sums[i] += sum(not right[u] for u in order[: i + 1]) / (i + 1) / len(orders)
    assert risk.tolist() == pytest.approx(sums)
    assert coverage.tolist() == pytest.approx([i / 6 for i in range(1, 7)])


def test_a_confidence_that_says_nothing_has_the_error_rate_and_a_perfect_one_has_less():
    right = torch.tensor([True, True, False, True])
    assert risk_coverage(torch.ones(4), right)[1].tolist() == pytest.approx([0.25] * 4)
    assert risk_coverage(torch.tensor([4.0, 3, 1, 2]), right)[1].tolist() == [0, 0, 0, 0.25]
    with pytest.raises(InputError, match=r"must be \(n_units,\), got \(2,\) and \(3,\)"):
        risk_coverage(torch.zeros(2), torch.zeros(3))


def test_skewness_by_hand():
    # counts 0 0 0 4: mean 1, sd sqrt(3), third moment (3 * -1 + 27) / 4 = 6
    assert skewness(torch.tensor([0, 0, 0, 4])) == pytest.approx(6 / math.sqrt(3) ** 3)
    assert skewness(torch.tensor([1, 2, 3])) == pytest.approx(0)
    assert math.isnan(skewness(torch.tensor([2, 2])))
    assert math.isnan(skewness(torch.tensor([])))
