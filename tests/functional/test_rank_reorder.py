import pytest
import torch

from mammi.errors import InputError
from mammi.functional import rank_reorder as module
from mammi.functional.rank_reorder import rank_reorder
from mammi.functional.selection import Selection, select_top
from mammi.functional.similarity import unit_rows


def one_unit(*activations: float) -> Selection:
    n = len(activations)
    return Selection(torch.arange(n), torch.tensor(activations), torch.tensor([0, n]))


def test_by_hand(monkeypatch):
    """Activations 3, 1, 0; a concept in their order costs nothing, one against it |3-0|^3 + 0 + |0-3|^3."""
    monkeypatch.setattr(module, "_baseline", lambda strongest, seed: 2.0)
    images = unit_rows(torch.tensor([[4.0, 3.0], [1.0, 1.0], [3.0, 4.0]]))
    scores = rank_reorder(one_unit(3, 1, 0), images, torch.eye(2, dtype=torch.float64))
    mean = (0.8 + 0.5**0.5 + 0.6) / 3
    assert scores.tolist() == [[0.0, pytest.approx(-(54 / 3) / 2 / mean**0.5)]]


def test_images_that_a_concept_cannot_tell_apart_give_no_credit():
    images = unit_rows(torch.ones(4, 2))
    reverse = unit_rows(torch.tensor([[1.0, 1.0], [1.0, 0.9], [1.0, 0.8], [1.0, 0.7]]))
    concept = unit_rows(torch.tensor([[1.0, 0.0]]))
    tied = rank_reorder(one_unit(4, 3, 2, 1), images, concept) * images[0, 0] ** 0.5
    worst = rank_reorder(one_unit(4, 3, 2, 1), reverse, concept) * reverse[:, 0].mean() ** 0.5
    torch.testing.assert_close(tied, worst)


def test_rows_are_ordered_with_ties_by_lower_index():
    generator = torch.Generator().manual_seed(0)
    for n in (1, 2, 7, 64, 65):
        cosines = torch.randint(-3, 4, (20, n), generator=generator).double() / 3
        noisy = cosines + 1e-15 * torch.randn(20, n, generator=generator)
        assert torch.equal(module._rising(noisy), cosines.argsort(dim=1, stable=True))


def test_the_baseline_is_the_mean_over_five_seeded_orders_and_never_zero():
    strongest = torch.tensor([5.0, 2.0, 1.0, 0.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(6)
    rising = [0.0, 1.0, 2.0, 5.0]
    changes = []
    for _ in range(5):
        order = torch.randperm(4, generator=generator).tolist()
        changes += [abs(rising[i] - rising[order[i]]) ** 3 for i in range(4)]
    assert module._baseline(strongest, 6) == pytest.approx(sum(changes) / 20)
    two = torch.tensor([1.0, 0.0], dtype=torch.float64)
    baselines = {module._baseline(two, seed) for seed in range(200)}
    assert min(baselines) > 0
    state = torch.random.get_rng_state()
    module._baseline(strongest, 1)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_blocks_change_nothing(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    images, concepts = (unit_rows(torch.rand(n, 6, generator=generator)) for n in (40, 9))
    selection = select_top(torch.randn(40, 5, generator=generator), 8)
    whole = rank_reorder(selection, images, concepts)
    assert torch.isfinite(whole).all()
    for cells in (1, 100):
        monkeypatch.setattr(module, "CELLS", cells)
        torch.testing.assert_close(rank_reorder(selection, images, concepts), whole, rtol=1e-13, atol=0)


def test_what_has_no_value_is_nan():
    images, concepts = torch.eye(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    assert rank_reorder(one_unit(2, 2, 2), images, concepts).isnan().all()  # nothing to put in order
    assert rank_reorder(one_unit(2), images, concepts).isnan().all()
    scores = rank_reorder(one_unit(3, 2), images, torch.stack([concepts[0], -concepts[0], concepts[2]]))
    assert scores.isnan().tolist() == [[False, True, True]]  # mean cosines 0.5, -0.5 and 0
    assert rank_reorder(
        Selection(*(torch.empty(0, dtype=torch.int64),) * 2, torch.zeros(1)), images, concepts
    ).shape == (
        0,
        3,
    )


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match="embedded in 3 dimensions and concepts in 2"):
        rank_reorder(one_unit(1, 0), torch.eye(3), torch.eye(2))
