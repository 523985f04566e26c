"""Laws of comparing, the numbers derived again in loops, and what is refused."""

import json
import math
import shutil
from itertools import permutations

import numpy as np
import pandas as pd
import pytest

import mammi
from mammi.errors import InputError, RunError, UnknownNameError
from mammi.store.files import read_json, write_json

ORDER = (4, 2, 5, 0, 3, 1)


def only(comparison):
    assert len(comparison.layers) == 1
    return comparison.layers[0]


def assert_nothing_changed(layer):
    assert (layer.same_name.value, layer.any_shared.value, layer.jaccard.value) == (1, 1, 1)
    assert (layer.gained, layer.lost, len(layer.changed)) == ([], [], 0)
    assert layer.coverage_difference.value == 0


def test_a_run_beside_itself(before):
    comparison = mammi.compare(before, before.folder)
    assert [layer.title for layer in comparison.layers] == ["head", "tail"]
    assert (comparison.n_films, comparison.n_patients, comparison.differs, comparison.notes) == (60, 30, (), ())
    for layer, n_units in zip(comparison.layers, (6, 4), strict=True):
        assert (layer.paired_by, layer.n_matched, layer.matched.value) == ("index", n_units, 1)
        assert layer.correlation == pytest.approx((1, 1, 1))
        assert layer.pairs["unit_a"].tolist() == layer.pairs["unit_b"].tolist() == list(range(n_units))
        assert len(layer.units_lost) == len(layer.units_gained) == 0
        assert_nothing_changed(layer)
        assert layer.coverage_difference == (0, 0, 0)
    # the unit that never varies is paired by index all the same
    assert comparison.layers[0].n_varying == (5, 5)
    assert math.isnan(comparison.layers[0].pairs["correlation"][5])


def test_permuted_units_are_matched_back(before, permuted):
    comparison = mammi.compare(before, permuted, layer_a="head")
    assert comparison.differs == ("the target network",)
    layer = only(comparison)
    assert (layer.paired_by, layer.n_varying, layer.n_matched) == ("correlation", (5, 5), 5)
    assert {a: ORDER[b] for a, b in zip(layer.pairs["unit_a"], layer.pairs["unit_b"], strict=True)} == {
        unit: unit for unit in range(5)
    }
    assert layer.correlation == pytest.approx((1, 1, 1))
    assert layer.matched == (1, 1, 1)
    assert_nothing_changed(layer)
    assert layer.units_lost["unit"].tolist() == [5]  # the dead ones have no partner, and count for nothing
    assert layer.units_gained["unit"].tolist() == [2]
    assert math.isnan(layer.units_lost["correlation"][0])
    assert layer.chance_matched == pytest.approx(0, abs=0.1)
    assert 0.1 < layer.chance_correlation < 0.5


def test_two_layers_of_one_width_are_not_one_layer(parts):
    run = parts.run("through", order=ORDER, layers=("head@in", "head"))
    layer = only(mammi.compare(run, run, layer_a="head@in", layer_b="head"))
    assert (layer.title, layer.paired_by) == ("head@in -> head", "correlation")
    assert [ORDER[unit] for unit in layer.pairs["unit_b"]] == layer.pairs["unit_a"].tolist() == list(range(5))


def slow_numbers(run_a, run_b, name_a, name_b, least):
    """Everything but the intervals, in loops over plain Python values."""
    acts = [np.array(run.activations(name)).astype(float).tolist() for run, name in ((run_a, name_a), (run_b, name_b))]

    def pearson(x, y):
        mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
        top = sum((p - mean_x) * (q - mean_y) for p, q in zip(x, y, strict=True))
        return top / math.sqrt(sum((p - mean_x) ** 2 for p in x) * sum((q - mean_y) ** 2 for q in y))

    live = [[unit for unit, row in enumerate(rows) if min(row) < max(row)] for rows in acts]
    r = {(i, j): pearson(acts[0][i], acts[1][j]) for i in live[0] for j in live[1]}
    few, many = (0, 1) if len(live[0]) <= len(live[1]) else (1, 0)
    pairings = (
        [(i, j) if few == 0 else (j, i) for i, j in zip(live[few], order, strict=True)]
        for order in permutations(live[many], len(live[few]))
    )
    best = max(pairings, key=lambda pairs: sum(max(0, r[pair]) for pair in pairs))
    pairs = sorted(pair for pair in best if r[pair] >= least)

    kept = [{}, {}]
    for side, (run, name) in enumerate(((run_a, name_a), (run_b, name_b))):
        kept[side] = {unit: [] for unit in range(len(acts[side]))}
        for row in run.annotations.to_dict("records"):
            if row["layer"] == name and row["kept"]:
                kept[side][row["unit"]].append(row["concept"])
    same, shared, jaccard = [], [], []
    for i, j in pairs:
        x, y = kept[0][i], kept[1][j]
        if x or y:
            same.append(bool(x and y and x[0] == y[0]))
            shared.append(any(concept in y for concept in x))
            jaccard.append(len([c for c in x if c in y]) / len(x + [c for c in y if c not in x]))
    counts = [{}, {}]
    for side in (0, 1):
        for concepts in kept[side].values():
            for concept in concepts:
                counts[side][concept] = counts[side].get(concept, 0) + 1
    known = sorted(r[pair] for pair in pairs)
    middle = len(known) // 2
    return {
        "pairs": pairs,
        "matched": len(pairs) / len(live[0]),
        "correlation": known[middle] if len(known) % 2 else (known[middle - 1] + known[middle]) / 2,
        "same_name": sum(same) / len(same),
        "any_shared": sum(shared) / len(shared),
        "jaccard": sum(jaccard) / len(jaccard),
        "coverage_a": sum(bool(c) for c in kept[0].values()) / len(kept[0]),
        "coverage_b": sum(bool(c) for c in kept[1].values()) / len(kept[1]),
        "gained": sorted(set(counts[1]) - set(counts[0])),
        "lost": sorted(set(counts[0]) - set(counts[1])),
        "counts": {c: (counts[0].get(c, 0), counts[1].get(c, 0)) for c in counts[0] | counts[1]},
    }


@pytest.mark.parametrize("least", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("case", ["odd", "layers", "layers of two runs", "other rule too"])
def test_the_numbers_derived_again(parts, before, permuted, odd, wider, case, least):
    run_a, name_a, run_b, name_b = {
        "odd": (before, "head", odd, "head"),
        "layers": (before, "head", before, "tail"),
        "layers of two runs": (permuted, "tail", odd, "head"),
        "other rule too": (wider, "head", permuted, "head"),
    }[case]
    layer = only(mammi.compare(run_a, run_b, layer_a=name_a, layer_b=name_b, min_correlation=least))
    slow = slow_numbers(run_a, run_b, name_a, name_b, least)
    assert layer.paired_by == "correlation"
    assert list(zip(layer.pairs["unit_a"], layer.pairs["unit_b"], strict=True)) == slow["pairs"]
    for name in ("matched", "correlation", "same_name", "any_shared", "jaccard", "coverage_a", "coverage_b"):
        estimate = getattr(layer, name)
        assert estimate.value == pytest.approx(slow[name], abs=1e-6), name
        assert estimate.low - 1e-9 <= estimate.high, name
    assert layer.coverage_difference.value == pytest.approx(slow["coverage_b"] - slow["coverage_a"])
    assert (sorted(layer.gained), sorted(layer.lost)) == (slow["gained"], slow["lost"])
    rows = layer.concepts.to_dict("records")
    assert {row["concept"]: (row["before"], row["after"]) for row in rows} == slow["counts"]
    moved = [abs(row["after"] - row["before"]) for row in rows]
    assert moved == sorted(moved, reverse=True)
    alone_a, alone_b = ({i for i, _ in slow["pairs"]}, {j for _, j in slow["pairs"]})
    assert not alone_a & set(layer.units_lost["unit"])
    assert len(layer.units_lost) + len(alone_a) == layer.n_units[0]
    assert len(layer.units_gained) + len(alone_b) == layer.n_units[1]


def test_a_unit_that_looks_elsewhere_is_lost(before, odd):
    layer = only(mammi.compare(before, odd))
    assert layer.n_matched == 4
    assert layer.matched.value == pytest.approx(0.8)
    assert layer.matched.low <= 0.8 <= layer.matched.high
    assert layer.units_lost["unit"].tolist() == layer.units_gained["unit"].tolist() == [0, 5]
    assert layer.units_lost["correlation"][0] < 0.5
    assert layer.units_lost["name"][0] == "bright"


def test_two_rules_over_the_same_units(before, wider):
    comparison = mammi.compare(before, wider)
    assert comparison.methods == ("mammi", "mammi")
    assert comparison.differs == ("the layers or their pooling", "the method or its options")
    layer = only(comparison)
    assert (layer.paired_by, layer.title, layer.n_matched) == ("index", "head", 6)
    assert layer.jaccard.value < 1
    assert layer.jaccard.low < layer.jaccard.value < layer.jaccard.high


def test_swapping_the_runs_swaps_gained_and_lost(before, wider, odd):
    for a, b in ((before, wider), (before, odd), (wider, odd)):
        there, back = only(mammi.compare(a, b)), only(mammi.compare(b, a))
        assert (there.gained, there.lost) == (back.lost, back.gained)
        assert sorted(zip(there.pairs["unit_a"], there.pairs["unit_b"], strict=True)) == sorted(
            zip(back.pairs["unit_b"], back.pairs["unit_a"], strict=True)
        )
        assert there.coverage_difference.value == -back.coverage_difference.value
        for name in ("same_name", "any_shared", "jaccard", "correlation"):
            assert getattr(there, name).value == pytest.approx(getattr(back, name).value)
        pd.testing.assert_frame_equal(there.units_lost, back.units_gained)
        swap = {"lost its name": "got a name", "got a name": "lost its name"}
        assert sorted(there.pairs["change"]) == sorted(back.pairs["change"].replace(swap))


def renamed(parts, run, out, kept):
    """Copy a run whose units keep these concepts: by unit, best first."""
    units, rows = run.units.copy(), []
    for unit in units.index:
        concepts = kept.get(int(units["unit"][unit]), [])
        units.loc[unit, "name"] = concepts[0] if concepts else "no concept"
        units.loc[unit, "n_concepts"] = len(concepts)
        units.loc[unit, "reason"] = "" if concepts else "nothing was sure"
        rows += [
            {"layer": "head", "unit": unit, "rank": rank, "concept": concept, "score": 1.0 / rank, "kept": True}
            for rank, concept in enumerate(concepts, start=1)
        ]
        rows.append({"layer": "head", "unit": unit, "rank": 9, "concept": "dark", "score": 0.0, "kept": False})
    return parts.copy(run, out, units=units, annotations=pd.DataFrame(rows))


def test_names_changed_lost_and_got(parts, odd, tmp_path):
    a = renamed(parts, odd, tmp_path / "a", {0: ["x", "y"], 1: ["x"], 2: ["left"], 3: ["z"]})
    b = renamed(parts, odd, tmp_path / "b", {0: ["y", "x"], 1: ["x"], 3: ["q"], 4: ["w", "left"]})
    layer = only(mammi.compare(a, b))
    assert layer.pairs["change"].tolist() == ["renamed", "", "lost its name", "renamed", "got a name", ""]
    assert layer.changed["unit_a"].tolist() == [0, 2, 3, 4]
    assert layer.pairs["reason_b"][2] == layer.pairs["reason_a"][4] == "nothing was sure"
    assert layer.same_name.value == pytest.approx(1 / 5)  # of five with a name in either
    assert layer.any_shared.value == pytest.approx(2 / 5)
    assert layer.jaccard.value == pytest.approx((1 + 1 + 0 + 0 + 0) / 5)
    assert (layer.coverage_a.value, layer.coverage_b.value) == (pytest.approx(4 / 6), pytest.approx(4 / 6))
    assert (layer.gained, layer.lost) == (["q", "w"], ["z"])
    assert layer.effect_difference is None  # these tables have no such column, as those of older versions


def test_effects_are_compared_where_one_method_states_them(parts, odd, tmp_path):
    kept = {0: ["x"], 1: ["x", "y"], 2: ["z"], 3: ["z"]}
    a = renamed(parts, odd, tmp_path / "a", kept)
    b = renamed(parts, odd, tmp_path / "b", {**kept, 2: []})
    effects = {"a": [0.1, 0.2, 0.9, 0.6, 0.4], "b": [0.5, 0.3, 0.9, math.nan]}
    for run, side in ((a, "a"), (b, "b")):
        table = run.annotations
        table.loc[table["kept"], "effect"] = effects[side]
        table["q_value"] = 0.01
        shutil.copytree(run.folder, tmp_path / f"{side}2")
        parts.copy(run, tmp_path / f"{side}3", annotations=table)
    layer = only(mammi.compare(tmp_path / "a3", tmp_path / "b3"))
    # unit 2 has no concept in B, and the effect of unit 3 is unknown there
    assert layer.effect_difference.value == pytest.approx(((0.5 - 0.1) + (0.3 - 0.2)) / 2)
    assert layer.effect_difference.low == pytest.approx(0.1)
    assert only(mammi.compare(tmp_path / "a3", tmp_path / "b2")).effect_difference is None
    manifest = read_json(tmp_path / "b3" / "manifest.json")
    manifest["identity"]["method"]["name"] = "another"
    write_json(tmp_path / "b3" / "manifest.json", manifest)
    assert only(mammi.compare(tmp_path / "a3", tmp_path / "b3")).effect_difference is None


def test_films_are_found_by_content_where_the_lists_differ(parts, before):
    rows = tuple(range(59, 20, -1))
    other = parts.run("reversed", rows=rows)
    comparison = mammi.compare(before, other)
    assert (comparison.n_films, comparison.n_patients) == (39, 19)
    layer = only(comparison)
    assert layer.paired_by == "index"
    np.testing.assert_allclose(layer.pairs["correlation"][:5], 1)  # the same film stands beside itself
    assert "names come from all 60 films of A and 39 of B" in comparison.notes[0]


def test_the_salt_of_a_run_steers_nothing(parts, before, odd):
    again = parts.run("again", layers=("head", "tail"))
    assert again.images["patient"].tolist() != before.images["patient"].tolist()
    assert mammi.compare(before, odd).to_dict() == mammi.compare(again, odd).to_dict()


def test_a_film_held_twice_is_one_film(parts, before, tmp_path):
    films = before.folder / "private" / "films.json"
    doubled = parts.copy(before, tmp_path / "run")
    listed = read_json(films)
    listed[7]["sha256"] = listed[6]["sha256"]
    write_json(doubled.folder / "private" / "films.json", listed)
    doubled.manifest["identity"]["images"]["fingerprint"] = "another"
    assert mammi.compare(doubled, before).n_films == mammi.compare(before, doubled).n_films == 59


def test_unknown_patients_are_taken_from_the_other_run(parts, before, odd):
    unknown = parts.run("unknown", patients=False)
    assert mammi.compare(unknown, odd).n_patients == mammi.compare(odd, unknown).n_patients == 30
    assert mammi.compare(unknown, unknown).n_patients == 60


def test_one_patient_gives_numbers_without_intervals(parts, before, odd, tmp_path):
    a, b = (
        parts.copy(run, tmp_path / name, images=run.images.assign(patient="p-1"))
        for run, name in ((before, "a"), (odd, "b"))
    )
    comparison = mammi.compare(a, b)
    layer = only(comparison)
    assert layer.matched.value == pytest.approx(0.8)
    assert all(math.isnan(x) for x in (layer.matched.low, layer.correlation.high, layer.chance_matched))
    assert "all films are of one patient" in comparison.notes[0]
    assert comparison.to_dict()["layers"][0]["matched"]["low"] is None


def test_a_threshold_that_chance_reaches_is_told(before, odd):
    assert any("on shuffled films" in note for note in mammi.compare(before, odd, min_correlation=0.05).notes)
    assert not mammi.compare(before, odd, min_correlation=0.6).notes


def test_other_concepts_are_told(parts, before):
    fewer = parts.run("fewer", concepts=mammi.ConceptSet.from_terms(["dark", "left"]))
    assert mammi.compare(before, fewer).notes[0].startswith("the concept sets differ")


def test_networks_that_never_vary(parts, before, odd, tmp_path):
    dead = parts.copy(before, tmp_path / "dead")
    dead.manifest["identity"]["target"] = "another"
    array = np.load(dead.folder / "activations" / "head" / "by_unit.npy")
    np.save(dead.folder / "activations" / "head" / "by_unit.npy", 0 * array)
    gone = only(mammi.compare(odd, dead))
    assert (gone.matched.value, gone.n_matched, len(gone.units_lost)) == (0, 0, 6)
    assert math.isnan(gone.same_name.value)
    assert math.isnan(only(mammi.compare(dead, odd)).matched.value)
    json.dumps(gone.to_dict(), allow_nan=False)


def test_nothing_names_a_film_a_patient_or_a_path(parts, before, odd):
    text = json.dumps(mammi.compare(before, odd).to_dict(), allow_nan=False)
    for run in (before, odd):
        for word in (*run.images["id"], *run.images["patient"], str(run.folder), "plate-", "ward-"):
            assert word not in text


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"layer_a": "haed"}, UnknownNameError, "Layer of run A 'haed' is not known. Did you mean 'head'"),
        ({"layer_a": "tail"}, UnknownNameError, "Layer of run B 'tail' is not known.* It holds: head."),
        ({"layer_b": "hed"}, UnknownNameError, "Layer of run A 'hed' is not known. Did you mean 'head'"),
        ({"min_correlation": 0}, InputError, r"must be in \(0, 1\], got 0"),
        ({"min_correlation": 1.5}, InputError, r"must be in \(0, 1\], got 1.5"),
    ],
)
def test_wrong_arguments(before, odd, changes, error, match):
    with pytest.raises(error, match=match):
        mammi.compare(before, odd, **changes)


def test_runs_that_cannot_be_compared(parts, before, odd, tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        mammi.compare(before, tmp_path)
    stopped = parts.copy(odd, tmp_path / "stopped")
    write_json(stopped.folder / "manifest.json", {**stopped.manifest, "status": "encoding"})
    with pytest.raises(RunError, match="is not complete"):
        mammi.compare(before, stopped.folder)
    tail = parts.run("tail", layers=("tail",), odd=True)
    with pytest.raises(InputError, match=r"no layer has the same name in both runs \(A: head; B: tail\): say which"):
        mammi.compare(odd, tail)
    few = parts.run("few", rows=tuple(range(19)))
    with pytest.raises(InputError, match=r"share 19 films \(60 in A, 19 in B\), at least 20 are needed"):
        mammi.compare(before, few)
    first, last = (
        parts.run(name, rows=rows) for name, rows in (("low", tuple(range(30))), ("high", tuple(range(30, 60))))
    )
    with pytest.raises(InputError, match="share 0 films"):
        mammi.compare(first, last)
    shared = parts.copy(first, tmp_path / "shared")
    shutil.rmtree(shared.folder / "private")
    assert mammi.compare(shared, first).n_films == 30  # the same list needs no private file
    with pytest.raises(RunError, match="run B has no private/films.json.*Put 'private' back"):
        mammi.compare(before, shared)
    framed = [parts.copy(odd, tmp_path / name) for name in ("one", "two")]
    for frame, run in enumerate(framed):
        run.manifest["identity"]["images"]["frame"] = frame
    with pytest.raises(InputError, match="run A shows frame 0 of each file, run B frame 1"):
        mammi.compare(*framed)
