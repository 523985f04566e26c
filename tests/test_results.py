import numpy as np
import pandas as pd
import torch

from mammi.functional.selection import Selection, select_top
from mammi.methods import LayerMatch, Match, Verdict
from mammi.results import layer_tables


def bounds_of(activations):
    return np.stack([activations.min(axis=1), activations.max(axis=1)])


def test_concepts_without_a_score_have_no_place_and_reasons_are_kept():
    activations = np.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0], [1.0, 0.0, 1.5]], dtype=np.float32)
    selection = select_top(torch.from_numpy(activations).T, 2)
    nan = float("nan")
    scores = torch.tensor([[0.1, nan, 0.3], [nan, nan, nan], [0.0, 0.2, nan]], dtype=torch.float64)
    kept = [torch.tensor([2]), torch.tensor([], dtype=torch.int64), torch.tensor([1])]
    verdict = Verdict.only_reasons(kept, lambda unit: f"unit {unit} has no value")
    match = LayerMatch.of(Match(scores, kept, verdict=verdict))
    tables = layer_tables("head", bounds_of(activations), selection, match, ["a", "b", "c"])
    assert list(tables.annotations["unit"]) == [0, 0, 2, 2]
    assert list(tables.annotations["concept"]) == ["c", "a", "b", "a"]
    assert list(tables.annotations["rank"]) == [1, 2, 1, 2]
    assert list(tables.annotations["kept"]) == [True, False, True, False]
    assert tables.annotations["effect"].isna().all()
    assert list(tables.units["name"]) == ["c", "no concept", "b"]
    assert list(tables.units["reason"]) == ["", "unit 1 has no value", ""]
    assert pd.isna(tables.units["score"][1])


def layer_of(scores, kept, **more):
    activations = np.arange(3.0 * len(kept), dtype=np.float32).reshape(len(kept), 3)
    selection = select_top(torch.from_numpy(activations).T, 2)
    match = Match(torch.tensor(scores, dtype=torch.float64), [torch.tensor(k, dtype=torch.int64) for k in kept], **more)
    return layer_tables("head", bounds_of(activations), selection, LayerMatch.of(match), ["a", "b", "c"])


def test_formulas_are_names_in_words_and_certainty_follows_the_kept_concepts():
    kept = [[2, 0], [], [1], [1]]
    verdict = Verdict(
        effect=[torch.tensor(values, dtype=torch.float64) for values in ([0.9, -0.8], [], [-0.7], [0.6])],
        q_value=[torch.tensor(values, dtype=torch.float64) for values in ([0.01, 0.02], [], [0.03], [0.04])],
        stability=[torch.tensor(values, dtype=torch.float64) for values in ([0.1, 0.2], [], [0.3], [0.4])],
        sense=[torch.tensor(values) for values in ([1, 2], [], [0], [0])],
        purity=[torch.tensor(values, dtype=torch.float64) for values in ([0.5, 0.6], [], [1.0], [1.0])],
        reasons=["", "it rests on 2 patients", "", ""],
    )
    scores = [[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.1, 0.5, 0.2], [0.1, 0.5, 0.2]]
    formulas = ["{2} AND NOT {0}", "{1}", "NOT {1}", ""]
    tables = layer_of(scores, kept, formulas=formulas, verdict=verdict)
    assert list(tables.units["name"]) == ["c AND NOT a", "no concept", "NOT b", "b"]
    assert list(tables.units["reason"]) == ["", "it rests on 2 patients", "", ""]
    rows = tables.annotations
    assert list(rows["concept"]) == ["c", "a", "b", "a", "b", "c", "b", "c", "a", "b", "c", "a"]
    assert list(rows["kept"]) == [True, True, *[False] * 4, True, False, False, True, False, False]
    nan = np.nan
    for name, values in {
        "effect": [0.9, -0.8, *[nan] * 4, -0.7, nan, nan, 0.6, nan, nan],
        "q_value": [0.01, 0.02, *[nan] * 4, 0.03, nan, nan, 0.04, nan, nan],
        "stability": [0.1, 0.2, *[nan] * 4, 0.3, nan, nan, 0.4, nan, nan],
        "purity": [0.5, 0.6, *[nan] * 4, 1.0, nan, nan, 1.0, nan, nan],
        "sense": [1, 2, *[0] * 10],
    }.items():
        np.testing.assert_array_equal(rows[name], values)


def test_a_method_that_does_not_say_how_sure_it_is():
    rows = layer_of([[0.1, 0.2, 0.3]], [[2]]).annotations
    assert rows[["effect", "q_value", "stability", "purity"]].isna().all().all()
    assert list(rows["sense"]) == [0, 0, 0]


def test_a_kept_concept_without_a_score_of_its_own_keeps_its_place():
    """A concept of a weighted sum can be constant on the films that give the scores."""
    nan = float("nan")
    kept = [[1, 0], [2]]
    verdict = Verdict.only([torch.tensor(k) for k in kept], ["", ""], [torch.tensor([0.4, 0.3]), torch.tensor([0.2])])
    tables = layer_of([[nan, nan, 0.3], [0.1, nan, 0.3]], kept, formulas=["{1} - {0}", ""], verdict=verdict)
    rows = tables.annotations
    assert rows[["unit", "concept", "kept"]].to_numpy().tolist() == [
        *([0, "b", True], [0, "a", True], [0, "c", False]),
        *([1, "c", True], [1, "a", False]),
    ]
    np.testing.assert_array_equal(rows["effect"], [np.float32(0.4), np.float32(0.3), nan, np.float32(0.2), nan])


def test_reasons_in_order_of_what_is_known():
    """Broken before dead, dead before what the method says, that before the plain ones; a named unit has none."""
    inf, nan = np.inf, np.nan
    bounds = np.array([[0, 0, 0, 1, nan, -inf, -3e38, 0], [1, 1, 1, 1, nan, 2, 3e38, inf]], dtype=np.float32)
    counts = torch.tensor([1, 0, 2, 0, 0, 0, 1, 0])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    selection = Selection(torch.arange(4), torch.ones(4), offsets)
    empty = torch.empty(0, dtype=torch.int64)
    kept = [torch.tensor([1]), *[empty] * 7]
    scores = torch.zeros(8, 3, dtype=torch.float64)
    plain = layer_tables("a", bounds, selection, LayerMatch.of(Match(scores, kept)), ["x", "y", "z"]).units
    broken, dead = "its activation is NaN or infinite on some film", "it never varies over these films"
    none = "no concept fits its films better than the bare template"
    few = "no film stands out for it"
    assert list(plain["reason"]) == ["", few, none, dead, broken, broken, none, broken]
    verdict = Verdict.only(kept, ["", "", "said", "said", "said", "", "", ""])
    match = LayerMatch.of(Match(scores, kept, verdict=verdict))
    said = layer_tables("a", bounds, selection, match, ["x", "y", "z"], [f"out {u}" for u in range(8)]).units
    assert list(said["reason"]) == ["", few, "said", dead, broken, broken, none, broken]
    assert list(said["output"]) == [f"out {u}" for u in range(8)]
    assert list(said["name"]) == ["y", *["no concept"] * 7]
    np.testing.assert_array_equal(said["low"], bounds[0])
    assert list(said["n_examples"]) == counts.tolist()
