"""Where a concept stands among all: by hand, and against scikit-learn and plain loops."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mammi.functional.standing import merged, standing

NAN = math.nan


def test_by_hand():
    scores = torch.tensor([[3.0, 1.0, 2.0, 2.0], [NAN, 5.0, 4.0, NAN], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    found = standing(scores, torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 2, 1, 2, 0, 3]))
    assert found.rank.tolist()[:4] == [1, 2, 4, 2]
    assert found.known.tolist() == [True, True, True, True, False, True]
    assert found.place.tolist()[:4] == [1, 0.5, 0, 0]
    assert found.place[5] == 0.5
    assert math.isnan(found.place[4])
    assert found.z.tolist()[:4] == pytest.approx([1 / math.sqrt(0.5), 0, -1 / math.sqrt(0.5), -1])
    assert math.isnan(found.z[5])


def test_place_is_an_area_under_the_roc_curve():
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.integers(0, 6, (7, 13)).astype(float))
    scores[torch.from_numpy(rng.random((7, 13)) < 0.2)] = NAN
    units, concepts = (~scores.isnan()).nonzero().T
    found = standing(scores, units, concepts)
    for row, (unit, concept) in enumerate(zip(units.tolist(), concepts.tolist(), strict=True)):
        known = ~scores[unit].isnan()
        own = torch.arange(13) == concept
        assert found.place[row] == pytest.approx(roc_auc_score(own[known], scores[unit][known]))
        values = scores[unit][known].numpy()
        assert found.z[row] == pytest.approx((float(scores[unit, concept]) - values.mean()) / values.std())
        assert found.rank[row] == 1 + (values > float(scores[unit, concept])).sum()


def test_many_rows_are_looked_up_in_tiles(monkeypatch):
    scores = torch.rand(5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    units, concepts = torch.randint(5, (40,)), torch.randint(9, (40,))
    whole = standing(scores, units, concepts)
    monkeypatch.setattr("mammi.functional.tiles.VALUES", 20)
    tiled = standing(scores, units, concepts)
    for name in ("rank", "z", "place", "known"):
        assert torch.equal(getattr(whole, name), getattr(tiled, name))


def test_the_best_name_of_a_thing_counts():
    scores = torch.tensor([[1.0, 4.0, NAN, 2.0], [NAN, 1.0, NAN, 3.0]], dtype=torch.float64)
    found = merged(scores, torch.tensor([0, 1, 0, 1]))
    torch.testing.assert_close(found, torch.tensor([[1.0, 4.0], [NAN, 3.0]], dtype=torch.float64), equal_nan=True)
    assert merged(scores, torch.arange(4)) is scores
