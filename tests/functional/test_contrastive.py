"""The contrastive loss: equal to CLIP's on pairs, to a slow double loop with several partners and unknown pairs."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from mammi.errors import InputError
from mammi.functional.contrastive import contrastive_loss


def slow(scores, truth):
    def one_way(scores, truth):
        losses = []
        for row, known in zip(scores, truth, strict=True):
            partners = [j for j, value in enumerate(known) if value == 1]
            if not partners:
                continue
            total = sum(math.exp(row[j]) for j, value in enumerate(known) if not math.isnan(value))
            losses.append(-sum(math.log(math.exp(row[j]) / total) for j in partners) / len(partners))
        return sum(losses) / len(losses)

    return (one_way(scores, truth) + one_way(list(zip(*scores, strict=True)), list(zip(*truth, strict=True)))) / 2


def example(seed=0, shape=(5, 3)):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(shape, generator=generator, dtype=torch.float64)
    truth = torch.randint(3, shape, generator=generator).double()
    return scores, truth.masked_fill(truth == 2, torch.nan)


def test_with_one_partner_each_it_is_the_loss_of_clip():
    scores = torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = torch.arange(6)
    expected = (cross_entropy(scores, rows) + cross_entropy(scores.T, rows)) / 2
    torch.testing.assert_close(contrastive_loss(scores, torch.eye(6)), expected)


@pytest.mark.parametrize("seed", range(4))
def test_it_equals_a_double_loop(seed):
    scores, truth = example(seed)
    assert contrastive_loss(scores, truth).item() == pytest.approx(slow(scores.tolist(), truth.tolist()))


def test_an_unknown_pair_does_not_count():
    scores, truth = example(2)
    moved = torch.where(truth.isnan(), scores + 5, scores)
    assert contrastive_loss(moved, truth).item() == pytest.approx(contrastive_loss(scores, truth).item())


def test_the_gradient_is_finite_where_all_but_one_text_is_unknown():
    scores = torch.zeros(2, 3, requires_grad=True)
    truth = torch.tensor([[1.0, torch.nan, torch.nan], [torch.nan, torch.nan, torch.nan]])
    contrastive_loss(scores, truth).backward()
    assert torch.isfinite(scores.grad).all()
    assert contrastive_loss(scores, truth * torch.nan).item() == 0


def test_shapes_must_agree():
    with pytest.raises(InputError, match=r"got \(2, 3\) and \(3, 2\)"):
        contrastive_loss(torch.zeros(2, 3), torch.zeros(3, 2))
