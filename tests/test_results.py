import numpy as np
import pandas as pd
import torch

from mammi.functional.selection import select_top
from mammi.methods import Match, Verdict
from mammi.results import layer_tables


def test_concepts_without_a_score_have_no_place_and_reasons_are_kept():
    activations = np.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0], [1.0, 0.0, 1.5]], dtype=np.float32)
    selection = select_top(torch.from_numpy(activations).T, 2)
    nan = float("nan")
    scores = torch.tensor([[0.1, nan, 0.3], [nan, nan, nan], [0.0, 0.2, nan]], dtype=torch.float64)
    kept = [torch.tensor([2]), torch.tensor([], dtype=torch.int64), torch.tensor([1])]
    verdict = Verdict.only_reasons(kept, lambda unit: f"unit {unit} has no value")
    tables = layer_tables("head", activations, selection, Match(scores, kept, verdict=verdict), ["a", "b", "c"])
    assert list(tables.annotations["unit"]) == [0, 0, 2, 2]
    assert list(tables.annotations["concept"]) == ["c", "a", "b", "a"]
    assert list(tables.annotations["rank"]) == [1, 2, 1, 2]
    assert list(tables.annotations["kept"]) == [True, False, True, False]
    assert tables.annotations["effect"].isna().all()
    assert list(tables.units["name"]) == ["c", "no concept", "b"]
    assert list(tables.units["reason"]) == ["", "unit 1 has no value", ""]
    assert pd.isna(tables.units["score"][1])
