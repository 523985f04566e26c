"""Agreement of raters: by hand, against slow re-derivations, by laws."""

import math
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from scipy import sparse

from mammi.errors import InputError
from mammi.functional.raters import alpha, alpha_interval, chance_agreement, pair_agreement, pair_jaccard

#: Four observers, twelve units, gaps: the worked example of Krippendorff, "Computing Krippendorff's Alpha-Reliability",
#: 2011, section C; nominal alpha 0.743. 0 stands for a gap.
EXAMPLE = torch.tensor(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ]
).T


def drawn(n_units=37, n_raters=3, n_names=5, seed=0):
    rng = np.random.default_rng(seed)
    names = torch.from_numpy(rng.integers(0, n_names, (n_units, 1)).repeat(n_raters, axis=1))
    other = torch.from_numpy(rng.random((n_units, n_raters)) < 0.5)
    names = torch.where(other, torch.from_numpy(rng.integers(0, n_names, (n_units, n_raters))), names)
    return names, torch.from_numpy(rng.random((n_units, n_raters)) < 0.8)


def slow_alpha(names, said):
    """The coincidence matrix, pair by pair, as the definition has it."""
    together = {}
    for row, spoken in zip(names.tolist(), said.tolist(), strict=True):
        values = [value for value, here in zip(row, spoken, strict=True) if here]
        for a, b in permutations(values, 2):
            together[a, b] = together.get((a, b), 0) + 1 / (len(values) - 1)
    margins = {}
    for (a, _), count in together.items():
        margins[a] = margins.get(a, 0) + count
    n = sum(margins.values())
    observed = sum(count for (a, b), count in together.items() if a != b) / n
    expected = sum(margins[a] * margins[b] for a, b in permutations(margins, 2)) / (n * (n - 1))
    return 1 - observed / expected


def test_alpha_of_the_published_example():
    assert alpha(EXAMPLE, EXAMPLE > 0) == pytest.approx(0.743, abs=5e-4)


@pytest.mark.parametrize("seed", range(3))
def test_alpha_is_its_definition(seed):
    names, said = drawn(n_raters=2 + seed, seed=seed)
    assert alpha(names, said) == pytest.approx(slow_alpha(names, said), abs=1e-12)


def test_alpha_of_two_raters_is_scotts_pi_corrected_for_few_units():
    names, said = drawn(n_raters=2)
    said = torch.ones_like(said)
    observed = float((names[:, 0] == names[:, 1]).double().mean())
    shares = torch.bincount(names.flatten()).double() / names.numel()
    pi = (observed - float((shares**2).sum())) / (1 - float((shares**2).sum()))
    n = names.numel()
    assert alpha(names, said) == pytest.approx(1 - (1 - pi) * (n - 1) / n, abs=1e-12)


def test_order_and_numbers_of_names_change_nothing():
    names, said = drawn()
    expected = alpha(names, said)
    units, raters, codes = torch.randperm(37), torch.tensor([2, 0, 1]), torch.tensor([900, 3, 17, 4, 0])
    assert alpha(names[units], said[units]) == pytest.approx(expected, abs=1e-12)
    assert alpha(names[:, raters], said[:, raters]) == pytest.approx(expected, abs=1e-12)
    assert alpha(codes[names], said) == pytest.approx(expected, abs=1e-12)
    hidden = names.where(said, 10**12)  # what was not said has no meaning
    assert alpha(hidden, said) == pytest.approx(expected, abs=1e-12)
    torch.testing.assert_close(pair_agreement(hidden, said), pair_agreement(names, said), equal_nan=True)


def test_full_agreement_and_nothing_to_agree_on():
    names = torch.tensor([[1, 1], [2, 2], [3, 9]])
    said = torch.tensor([[True, True], [True, True], [True, False]])
    assert alpha(names, said) == 1
    assert pair_agreement(names, said).tolist()[:2] == [1, 1]
    assert math.isnan(pair_agreement(names, said)[2])
    assert math.isnan(alpha(names[2:], said[2:]))
    assert all(map(math.isnan, alpha_interval(names[2:], said[2:])))
    assert math.isnan(alpha(torch.ones(4, 2, dtype=torch.int64), torch.ones(4, 2, dtype=torch.bool)))  # one name only


def test_pairs_by_hand():
    names = torch.tensor([[1, 1, 2, 2], [5, 5, 5, 7], [1, 2, 3, 4]])
    said = torch.tensor([[True] * 4, [True, True, True, False], [True, False, False, False]])
    found = pair_agreement(names, said)
    assert found[:2].tolist() == pytest.approx([2 / 6, 1])
    assert math.isnan(found[2])
    with pytest.raises(InputError, match=r"got \(3, 4\) and \(3, 3\)"):
        pair_agreement(names, said[:, :3])


def test_jaccard_against_sets():
    rng = np.random.default_rng(4)
    dense = [(rng.random((11, 6)) < 0.35).astype(float) for _ in range(3)]
    said = torch.from_numpy(np.stack([table.any(axis=1) for table in dense], axis=1))
    found = pair_jaccard([sparse.csr_array(table) for table in dense], said)
    for unit in range(11):
        sets = [set(np.flatnonzero(table[unit])) for table in dense]
        shares = [len(a & b) / len(a | b) for a, b in combinations(sets, 2) if a and b]
        assert math.isnan(found[unit]) if not shares else found[unit] == pytest.approx(np.mean(shares))


def test_chance_is_what_dealing_anew_expects():
    names, said = drawn(n_raters=2)
    said = torch.ones_like(said)
    kept = [sparse.csr_array(np.eye(5)[names[:, rater].numpy()]) for rater in range(2)]
    same, jaccard = chance_agreement(names, said, kept, shuffles=400)
    counts = [torch.bincount(names[:, rater], minlength=5).double() for rater in range(2)]
    expected = float((counts[0] * counts[1]).sum()) / 37**2  # of one unit, over all deals
    assert float(same.mean()) == pytest.approx(expected, abs=4 * float(same.std()) / 20)
    torch.testing.assert_close(jaccard, same)  # one concept each: kept in common is named the same
    again, _ = chance_agreement(names, said, kept, shuffles=400)
    assert torch.equal(same, again)


def test_silence_is_dealt_with_the_names():
    names = torch.tensor([[0, 0]] * 3 + [[1, 1]] * 5)
    said = torch.tensor([[True, True]] * 2 + [[False, True]] + [[True, False]] * 5)
    kept = [sparse.csr_array(np.eye(2)[names[:, rater].numpy()] * said[:, rater, None].numpy()) for rater in range(2)]
    same, _ = chance_agreement(names, said, kept, shuffles=50)
    hidden, _ = chance_agreement(names.where(said, 0), said, kept, shuffles=50)
    torch.testing.assert_close(hidden, same, equal_nan=True)
    # The second rater says 0 and nothing else: of the units that both name, those named 0 by the first agree.
    assert 0 < float(same.nanmean()) < 1
    assert pair_agreement(names, said).nanmean() == 1


def test_the_interval_holds_alpha_and_narrows_with_units():
    few, many = drawn(n_units=40), drawn(n_units=1000)
    intervals = [alpha_interval(*units, resamples=200) for units in (few, many)]
    for units, (low, high) in zip((few, many), intervals, strict=True):
        assert low < alpha(*units) < high
    assert intervals[1][1] - intervals[1][0] < 0.4 * (intervals[0][1] - intervals[0][0])


def test_the_interval_is_that_of_alpha_on_drawn_units():
    names, said = drawn(n_units=9)
    generator = torch.Generator().manual_seed(0)
    pairable = said.sum(dim=1) >= 2
    names, said = names[pairable], said[pairable]
    found = []
    for _ in range(60):
        units = torch.randint(len(names), (len(names),), generator=generator)
        found.append(alpha(names[units], said[units]))
    expected = np.nanquantile(found, [0.025, 0.975])
    assert alpha_interval(names, said, resamples=60) == pytest.approx(tuple(expected), abs=1e-12)
