import math

import pytest
import torch

from mammi.errors import InputError
from mammi.functional import wpmi as module
from mammi.functional.selection import Selection, select_top
from mammi.functional.similarity import unit_rows
from mammi.functional.wpmi import soft_wpmi, wpmi


def problem(n_images=40, n_units=5, n_concepts=9, top_k=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = unit_rows(torch.randn(n_images, 6, generator=generator))
    concepts = unit_rows(torch.randn(n_concepts, 6, generator=generator))
    return select_top(torch.randn(n_images, n_units, generator=generator), top_k), images, concepts


def test_by_hand():
    """Two units with one film each, two concepts; cosines 1 and 0, so the softmax is a logistic of a."""
    images = torch.eye(2, dtype=torch.float64)
    selection = Selection(torch.tensor([0, 1]), torch.zeros(2), torch.tensor([0, 1, 2]))
    yes, no = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))
    marginal = math.log((yes + no + 2e-7) / 2)
    scores = wpmi(selection, images, images)
    expected = [[math.log(yes + 1e-7) - 0.6 * marginal, math.log(no + 1e-7) - 0.6 * marginal]]
    torch.testing.assert_close(scores[:1], torch.tensor(expected, dtype=torch.float64), rtol=1e-14, atol=0)
    yes, no = 1 / (1 + math.exp(-10)), 1 / (1 + math.exp(10))
    high, low = 1 + 0.998 * (yes - 1) + 1e-7, 1 + 0.998 * (no - 1) + 1e-7
    expected = [[math.log(high) - math.log((high + low) / 2), math.log(low) - math.log((high + low) / 2)]]
    scores = soft_wpmi(selection, images, images)
    torch.testing.assert_close(scores[:1], torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def test_the_schedule_ends_one_rank_past_the_last():
    """One film at every rank: its weight is 0.998 at rank 0 and 0.97028 at rank 99, falling by 0.00028 a rank."""
    images = unit_rows(torch.tensor([[1.0, 0.0]])).expand(100, 2)
    concepts = torch.eye(2, dtype=torch.float64)
    no = 1 / (1 + math.exp(10))
    for n in (1, 100):
        selection = Selection(torch.arange(n), torch.zeros(n), torch.tensor([0, n]))
        other = Selection(torch.zeros(2, dtype=torch.int64), torch.zeros(2), torch.tensor([0, 1, 2]))
        slow = sum(math.log(1 + (0.998 - 0.00028 * r) * (no - 1) + 1e-7) for r in range(n))
        scores = soft_wpmi(selection, images, concepts, penalty=0.0)
        assert scores[0, 1].item() == pytest.approx(slow, rel=1e-12)
        assert soft_wpmi(other, images, concepts).shape == (2, 2)


@pytest.mark.parametrize("score", [wpmi, soft_wpmi])
def test_blocks_change_nothing(score, monkeypatch):
    selection, images, concepts = problem()
    whole = score(selection, images, concepts)
    for cells in (1, 50, 200):
        monkeypatch.setattr(module, "CELLS", cells)
        torch.testing.assert_close(score(selection, images, concepts), whole, rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("score", [wpmi, soft_wpmi])
def test_units_without_examples_are_no_part_of_the_marginal(score):
    selection, images, concepts = problem()
    with_empty = Selection(
        selection.images, selection.activations, torch.cat([selection.offsets[:3], selection.offsets[2:]])
    )
    found, alone = score(with_empty, images, concepts), score(selection, images, concepts)
    assert found[2].isnan().all()
    assert torch.equal(found[[0, 1, 3, 4, 5]], alone)
    nobody = Selection(selection.images[:0], selection.activations[:0], torch.zeros(4, dtype=torch.int64))
    assert score(nobody, images, concepts).isnan().all()


def test_a_single_unit_says_nothing_under_the_full_penalty():
    selection, images, concepts = problem(n_units=1)
    assert soft_wpmi(selection, images, concepts).abs().max() < 1e-12


def test_thousands_of_likelihoods_do_not_underflow():
    selection, images, concepts = problem(n_images=900, n_concepts=300, top_k=900)
    assert torch.isfinite(wpmi(selection, images, concepts)).all()
    assert torch.isfinite(soft_wpmi(selection, images, concepts, top_k=900)).all()


def test_bad_arguments_are_named():
    selection, images, concepts = problem()
    with pytest.raises(InputError, match="a unit has 12 examples, more than 'top_k' = 11"):
        soft_wpmi(selection, images, concepts, top_k=11)
    with pytest.raises(InputError, match="embedded in 6 dimensions and concepts in 5"):
        wpmi(selection, images, concepts[:, :5])
