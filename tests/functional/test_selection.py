import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mammi.errors import InputError
from mammi.functional.selection import (
    Selection,
    limit_examples,
    select_adaptive,
    select_quantile,
    select_top,
    select_where,
)


def slowly(activations: list[list[float]], chosen) -> list[list[int]]:
    """Rank what ``chosen(column)`` picks, unit by unit, in plain Python."""
    answer = []
    for unit in range(len(activations[0])):
        column = [row[unit] for row in activations]
        picked = [i for i in chosen(column) if max(column) > min(column)]
        answer.append(sorted(picked, key=lambda i: (-column[i], i)))
    return answer


def as_lists(selection: Selection) -> list[list[int]]:
    return [images.tolist() for images in selection.per_unit()]


integers_with_ties = st.integers(1, 12).flatmap(
    lambda n: st.integers(1, 5).flatmap(
        lambda k: st.lists(st.lists(st.integers(-6, 6), min_size=k, max_size=k), min_size=n, max_size=n)
    )
)


@settings(deadline=None)
@given(integers_with_ties, st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_adaptive_equals_the_formula(rows, threshold):
    def picked(column):
        low, high = min(column), max(column)
        return [i for i, a in enumerate(column) if a > low + threshold * (high - low)]

    assert as_lists(select_adaptive(torch.tensor(rows, dtype=torch.float32), threshold)) == slowly(rows, picked)


@settings(deadline=None)
@given(integers_with_ties, st.integers(1, 14))
def test_top_equals_the_formula(rows, k):
    def picked(column):
        return sorted(range(len(column)), key=lambda i: (-column[i], i))[:k]

    assert as_lists(select_top(torch.tensor(rows, dtype=torch.float64), k)) == slowly(rows, picked)


@settings(deadline=None)
@given(integers_with_ties, st.sampled_from([0.0, 0.3, 0.5, 0.9]))
def test_quantile_equals_numpy(rows, quantile):
    def picked(column):
        line = np.quantile(np.array(column, dtype=np.float64), quantile)
        return [i for i, a in enumerate(column) if a > line]

    assert as_lists(select_quantile(torch.tensor(rows, dtype=torch.float64), quantile)) == slowly(rows, picked)


@settings(deadline=None)
@given(integers_with_ties, st.integers(0, 5), st.integers(0, 7))
def test_limits_fill_up_and_cut_by_rank(rows, minimum, more):
    activations = torch.tensor(rows, dtype=torch.float32)
    maximum = max(1, minimum + more)
    free = as_lists(select_adaptive(activations, 0.5))
    ranked = as_lists(select_top(activations, len(rows)))
    expected = [order[: min(max(len(chosen), minimum), maximum)] for chosen, order in zip(free, ranked, strict=True)]
    assert as_lists(limit_examples(activations, select_adaptive(activations, 0.5), minimum, maximum)) == expected


def test_what_another_rule_chose_is_ranked():
    activations = torch.tensor([[1.0, 5.0], [4.0, 5.0], [4.0, 6.0]])
    chosen = torch.tensor([[True, True], [True, False], [True, True]])
    found = select_where(activations, chosen)
    assert as_lists(found) == [[1, 2, 0], [2, 0]]
    assert found.activations.tolist() == [4, 4, 1, 6, 5]
    with pytest.raises(InputError, match="'chosen' must be bool of shape"):
        select_where(activations, chosen[:2])


def test_threshold_is_strict():
    # range 0..100, a = 0.93: exactly 93 is not above the line
    assert as_lists(select_adaptive(torch.tensor([[0.0], [93.0], [94.0], [100.0]]), 0.93)) == [[3, 2]]


def test_dead_and_constant_units_have_no_example_under_any_rule():
    dead = torch.tensor([[0.0, 3.0, 1.0], [0.0, 3.0, 2.0], [0.0, 3.0, 0.0]])
    for selection in (select_adaptive(dead), select_top(dead, 2), select_quantile(dead, 0.5)):
        assert selection.counts.tolist()[:2] == [0, 0]
        assert selection.counts[2] > 0
    assert limit_examples(dead, select_adaptive(dead), minimum=2).counts.tolist() == [0, 0, 2]


def test_all_negative_activations_are_ranked_like_any_other():
    assert as_lists(select_top(torch.tensor([[-3.0], [-1.0], [-2.0]]), 2)) == [[1, 2]]
    assert as_lists(select_adaptive(torch.tensor([[-3.0], [-1.0], [-1.05]]), 0.93)) == [[1, 2]]


def test_one_unit_chooses_the_same_alone_as_in_company():
    activations = torch.randn(60, 7, generator=torch.Generator().manual_seed(0))
    together = as_lists(select_adaptive(activations, 0.6))
    assert [as_lists(select_adaptive(activations[:, [u]], 0.6))[0] for u in range(7)] == together


def test_order_of_images_and_of_units_is_carried_along():
    generator = torch.Generator().manual_seed(1)
    activations = torch.rand(50, 4, generator=generator)
    images, units = torch.randperm(50, generator=generator), torch.randperm(4, generator=generator)
    plain = as_lists(select_adaptive(activations, 0.7))
    moved = as_lists(select_adaptive(activations[images][:, units], 0.7))
    assert [[int(images[i]) for i in chosen] for chosen in moved] == [plain[u] for u in units.tolist()]


@settings(deadline=None)
@given(integers_with_ties, st.sampled_from([0.5, 2.0, 8.0]), st.sampled_from([-4.0, 0.0, 16.0]))
def test_adaptive_ignores_a_positive_affine_map(rows, scale, shift):
    activations = torch.tensor(rows, dtype=torch.float64)  # powers of two: the map is exact
    assert as_lists(select_adaptive(activations * scale + shift, 0.75)) == as_lists(select_adaptive(activations, 0.75))


def test_many_thousand_units_and_examples():
    activations = torch.zeros(300, 10_050)
    activations[:150] = 1.0
    selection = select_adaptive(activations)
    assert selection.counts.unique().tolist() == [150]
    assert as_lists(selection)[10_049] == list(range(150))


def test_concatenation_of_blocks_equals_the_whole():
    activations = torch.rand(40, 9, generator=torch.Generator().manual_seed(2))
    activations[:, 3] = 0
    whole = select_adaptive(activations, 0.8)
    parts = [select_adaptive(activations[:, a:b], 0.8) for a, b in ((0, 2), (2, 4), (4, 9))]
    joined = Selection.concatenate(parts)
    assert as_lists(joined) == as_lists(whole)
    assert torch.equal(joined.units, whole.units)
    assert torch.equal(joined.activations, whole.activations)


@pytest.mark.parametrize(
    ("activations", "match"),
    [
        (torch.zeros(2, 3, 4, 4), r"got \(2, 3, 4, 4\): pool it first"),
        (torch.tensor([[1.0, float("nan")], [2.0, float("inf")]]), "2 values NaN or infinite"),
        (torch.zeros(2, 2, dtype=torch.int64), "must be floating, got torch.int64"),
        (torch.zeros(0, 2), "holds no image"),
    ],
)
@pytest.mark.parametrize("select", [select_adaptive, lambda a: select_top(a, 1), lambda a: select_quantile(a, 0.5)])
def test_bad_activations_are_named(select, activations, match):
    with pytest.raises(InputError, match=match):
        select(activations)


def test_bad_options_are_named():
    a = torch.rand(3, 2)
    with pytest.raises(InputError, match=r"'threshold' must be in \[0, 1\), got 1"):
        select_adaptive(a, 1)
    with pytest.raises(InputError, match="'k' must be at least 1, got 0"):
        select_top(a, 0)
    with pytest.raises(InputError, match="'quantile' must be in"):
        select_quantile(a, -0.1)
    with pytest.raises(InputError, match="at least 3, got 2"):
        limit_examples(a, select_top(a, 2), minimum=3, maximum=2)


def test_float32_activations_are_held_against_the_line_in_float64():
    """The line of these units falls between two neighbours of float32, or on one: no rounding may move it."""
    generator = torch.Generator().manual_seed(11)
    one, infinite = torch.ones(400), torch.full((400,), float("inf"))
    for share in (0.93, 0.5, 1 / 3):
        ends = torch.stack([-torch.rand(400, generator=generator), torch.rand(400, generator=generator) + one])
        line = ends[0].double() + share * (ends[1].double() - ends[0].double())
        near = line.float()
        middle = torch.stack([near, near.nextafter(infinite), near.nextafter(-infinite)])
        activations = torch.cat([ends, middle])
        found = select_adaptive(activations, share)
        slow = [
            [value for value in column if value > least + share * (most - least)]
            for column in activations.T.tolist()
            for least, most in [(column[0], column[1])]
        ]
        assert found.counts.tolist() == [len(values) for values in slow]
        assert 2 < found.counts.double().mean() < 3.2


def test_half_precision_is_selected_from_as_what_it_is():
    activations = torch.randn(30, 3, generator=torch.Generator().manual_seed(2)).bfloat16()
    for select in (lambda a: select_adaptive(a, 0.5), lambda a: select_quantile(a, 0.8), lambda a: select_top(a, 4)):
        half, single = select(activations), select(activations.float())
        assert torch.equal(half.images, single.images)
        assert torch.equal(half.activations, single.activations)


def test_the_selection_of_some_units_in_any_order():
    activations = torch.randn(40, 6, generator=torch.Generator().manual_seed(4))
    activations[:, 2] = 1.0
    found = select_adaptive(activations, 0.5)
    for wanted in ([5, 0, 3], [2], [], [2, 4, 4]):
        part = found.only(torch.tensor(wanted, dtype=torch.int64))
        assert [images.tolist() for images in part.per_unit()] == [found.per_unit()[unit].tolist() for unit in wanted]
        assert torch.equal(
            part.activations, activations[part.images, torch.tensor(wanted, dtype=torch.int64)[part.units]]
        )
