"""The judge, by hand on tiny results; and every method on the small material."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mammi.arrays import ArrayAnnotations
from mammi.benchmark import Contestant, Planted, contestants, planting, run_contest
from mammi.benchmark.contest import first_names, judge, says_absent
from mammi.methods import METHODS, Verdict, create_method
from mammi.methods.base import method_options

NAN = np.nan
NO_FILM = np.empty(0)


def said(scores, kept, formulas=None):
    """What a method says, from lists."""
    return ArrayAnnotations(
        examples=[np.array([0])] * len(kept),
        scores=np.array(scores, dtype=float),
        concepts=[np.array(row, dtype=np.int64) for row in kept],
        formulas=formulas,
    )


def unit(*truths, kind="single", absent=False):
    return Planted(kind, NO_FILM, frozenset(truths), absent)


@pytest.mark.parametrize(
    ("scores", "kept", "first"),
    [
        ([0.1, 0.9, 0.5, 0.3], [], [1, 2, 3, 0]),
        ([0.1, 0.9, 0.5, 0.3], [3], [3, 1, 2, 0]),  # what is kept comes first, whatever its score
        ([0.1, 0.9, 0.5, 0.3], [0, 2], [0, 2, 1, 3]),  # in the method's own order
        ([0.5, 0.5, 0.9, 0.5], [], [2, 0, 1, 3]),  # ties by the lower index
        ([NAN, 0.9, NAN, 0.3], [], [1, 3]),  # no score, no candidate
        ([NAN, 0.9, NAN, 0.3], [2], [2, 1, 3]),  # unless it is kept
        ([NAN] * 4, [], []),
        ([-0.1, -0.9, -0.5, -0.3], [], [0, 3, 2, 1]),
    ],
)
def test_who_comes_first(scores, kept, first):
    found = said([scores], [kept])
    assert first_names(found, 0, 5) == first
    assert first_names(found, 0, 2) == first[:2]


def test_ranks_one_to_five():
    scores = [[0.9, 0.8, 0.7, 0.6, 0.5, 0.4]] * 7
    units = [*(unit(m) for m in range(6)), unit(5, 3)]
    table = judge(said(scores, [[]] * 7), units)
    assert table["hit1"].tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert table["hit5"].tolist() == [1, 1, 1, 1, 1, 0, 1]
    assert table["named"].tolist() == [0] * 7
    assert table["right"].tolist() == [0] * 7  # right first, but the method abstained


def test_named_right_wrong_and_not_at_all():
    scores = [[0.9, 0.8, 0.1]] * 4
    found = said(scores, [[0], [1], [1, 0], []])
    table = judge(found, [unit(0)] * 4)
    assert table["hit1"].tolist() == [1, 0, 0, 1]
    assert table["hit5"].tolist() == [1, 1, 1, 1]
    assert table["named"].tolist() == [1, 1, 1, 0]
    assert table["right"].tolist() == [1, 0, 0, 0]
    assert list(table) == ["kind", "hit1", "hit5", "named", "right", "confidence"]
    assert table["confidence"].tolist()[:3] == [0.9, 0.8, 0.8]  # of the first name
    assert np.isnan(table["confidence"][3])


def test_confidence_is_the_size_of_the_effect_where_it_is_stated():
    kept = [[0], [1, 0], [0], []]
    effects = [[-0.7], [0.2, 0.9], [NAN], []]
    verdict = Verdict.only(
        [torch.tensor(row) for row in kept], [""] * 4, [torch.tensor(row, dtype=torch.float64) for row in effects]
    )
    found = replace(said([[0.1, 0.3, 0.5]] * 4, kept), verdict=verdict)
    assert judge(found, [unit(0)] * 4)["confidence"].tolist()[:3] == [0.7, 0.2, 0.1]


def test_a_unit_of_which_nothing_is_known_is_not_judged():
    found = said([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1]], [[0], [0], [1]])
    table = judge(found, [unit(0), unit(kind=""), unit(1)])
    assert table["hit1"].tolist() == [1, 1]  # the third is judged by its own names
    assert len(judge(found, [unit(kind="")] * 3)) == 0


def test_a_unit_without_any_score_is_a_miss():
    table = judge(said([[NAN, NAN]], [[]]), [unit(0)])
    assert table.iloc[0].tolist()[:-1] == ["single", 0, 0, 0, 0]


def test_what_means_nothing_has_no_hits():
    table = judge(said([[0.9, 0.1], [0.9, 0.1]], [[0], []]), [unit(kind="noise"), unit(kind="dead")])
    assert table["kind"].tolist() == ["noise", "dead"]
    assert table[["hit1", "hit5", "right"]].isna().all().all()
    assert table["named"].tolist() == [1, 0]


def test_an_absence_must_be_said_and_a_presence_must_not():
    scores = [[0.9, 0.1, 0.2]] * 8
    kept = [[0], [0], [0], [0], [1], [1], [1, 0], []]
    formulas = ["NOT {0}", "", "-0.40 {0}", "0.40 {0}", "{1} AND NOT {0}", "{1}", "0.40 {1} - 0.21 {0}", ""]
    table = judge(said(scores, kept, formulas), [unit(0, absent=True)] * 8)
    assert table["hit1"].tolist() == [1, 0, 1, 0, 0, 0, 0, 0]
    assert table["right"].tolist() == [1, 0, 1, 0, 0, 0, 0, 0]
    assert table["hit5"].tolist() == [1, 0, 1, 0, 1, 0, 1, 0]
    table = judge(said(scores, kept, formulas), [unit(0)] * 8)
    assert table["hit1"].tolist() == [0, 1, 0, 1, 0, 0, 0, 1]
    assert table["hit5"].tolist() == [0, 1, 0, 1, 0, 1, 0, 1]


def test_methods_that_write_no_formula_never_say_absent():
    found = said([[0.9, 0.1]], [[0]])
    assert not says_absent(found, 0, 0)
    assert judge(found, [unit(0, absent=True)])["hit5"].tolist() == [0]


@pytest.mark.parametrize(
    ("formula", "absent"),
    [
        ("", ()),
        ("NOT {3}", (3,)),
        ("{3} AND NOT {30}", (30,)),
        ("({3} OR {5}) AND NOT {7}", (7,)),
        ("({3} AND NOT {5}) OR NOT {7}", (5, 7)),
        ("NOT {13} AND {3}", (13,)),
        ("-0.40 {2}", (2,)),
        ("-0.40 {2} + 0.21 {9}", (2,)),
        ("0.40 {2} - 0.21 {9}", (9,)),
        ("1.24 {9} - 0.21 {2} - 0.20 {92} + 0.10 {29}", (2, 92)),
        ("-10.00 {1} - 0.00 {0}", (0, 1)),
    ],
)
def test_what_formulas_take_as_absent(formula, absent):
    found = said([[0.0] * 100], [[]], [formula])
    assert tuple(m for m in range(100) if says_absent(found, 0, m)) == absent


def negative(n_concepts=6, n_films=240):
    """A unit that fires when concept 2 is absent, one for concept 4, one for 1 without 3; films that show concepts."""
    rng = np.random.default_rng(3)
    shown = rng.random((n_films, n_concepts)) < 0.3
    films = np.concatenate([2.0 * shown + 0.1 * rng.standard_normal(shown.shape), np.ones((n_films, 1))], axis=1)
    noise = 0.05 * rng.standard_normal((3, n_films))
    units = [1.0 - shown[:, 2], 1.0 * shown[:, 4], 1.0 * shown[:, 1] - shown[:, 3]]
    concepts = np.concatenate([np.eye(n_concepts), np.zeros((n_concepts, 1))], axis=1)
    return np.stack(units, axis=1) + noise.T, films, concepts, shown


@pytest.mark.parametrize(
    ("method", "options"),
    [("invert", {"share": 0.3, "max_fraction": 0.9}), ("linear", {}), ("calibrated", {"min_effect": 0.1})],
)
def test_what_methods_really_write_is_understood(method, options):
    """The formulas of those that write them, on units that are plain."""
    from mammi import annotate_arrays

    activations, films, concepts, _ = negative()
    found = annotate_arrays(activations, films, concepts, method=method, **options)
    assert found.formulas is not None
    table = judge(found, [unit(2, absent=True), unit(4), unit(1)])
    assert table["hit1"].tolist() == [1, 1, 1], found.formulas
    assert table["right"].tolist() == [1, 1, 1], found.formulas
    assert judge(found, [unit(2), unit(4, absent=True), unit(1, absent=True)])["hit5"].tolist() == [0, 0, 0]
    if method in ("invert", "linear"):
        assert says_absent(found, 2, 3)
        assert not says_absent(found, 2, 1)


def test_who_takes_part():
    found = contestants()
    titles = [contestant.title for contestant in found]
    assert titles[0] == "calibrated"
    assert len(set(titles)) == len(titles)
    able = [name for name in METHODS.names() if create_method(name).needs in ("examples", "films")]
    assert {"mammi", "calibrated", "invert", "linear", "correlation", "www", "falcon"} < set(able)
    assert {contestant.method for contestant in found} == {*able, "dissection"}
    similarities = [contestant.options["similarity"] for contestant in found if contestant.method == "clip-dissect"]
    assert len(similarities) == len(set(similarities)) == 5
    assert method_options("clip-dissect")["similarity"] in similarities
    assert "clip-dissect (soft_wpmi)" in titles


@pytest.fixture
def small(material, monkeypatch):
    """The material with fewer units: three labels, four real units of each layer that have a truth and one that has
    none, three untrained ones."""
    monkeypatch.setattr(planting, "NOISES", 2)
    monkeypatch.setattr(planting, "PAIRS", 1)
    labels = [label for label in material.labels if label.name in ("effusion", "emphysema", "side marker")]
    chosen = {}
    for layer, units in material.layers.items():
        places = [place for place, unit in enumerate(units) if unit.kind][:4]
        places += [place for place, unit in enumerate(units) if not unit.kind][:1]
        chosen[layer] = sorted(places)
    return replace(
        material,
        labels=labels,
        layers={layer: [material.layers[layer][place] for place in places] for layer, places in chosen.items()},
        areas={
            layer: replace(areas, both=areas.both[chosen[layer]], units=areas.units[chosen[layer]])
            for layer, areas in material.areas.items()
        },
        untrained_too={layer: rows[:, :3] for layer, rows in material.untrained_too.items()},
    )


def test_every_contestant_names_every_unit(small):
    told = []
    results = run_contest([(5, small)], progress=lambda *step: told.append(step))
    n = len(contestants())
    assert told == [("naming units, seed 5, as trained", done, n) for done in range(1, n + 1)]
    counts = results.groupby("method", sort=False).size()
    assert list(counts.index) == [contestant.title for contestant in contestants()]
    masked = results[results["method"] == "dissection"]
    assert masked["kind"].tolist() == ["layer3"] * 4 + ["layer2"] * 4  # where masks are
    assert counts.drop("dissection").nunique() == 1
    for _, rows in results[results["method"] != "dissection"].groupby("method"):
        # Every method judges the same units in the same order: the page compares them one by one.
        assert rows["kind"].tolist() == results[results["method"] == "calibrated"]["kind"].tolist()
    kinds = results[results["method"] != "dissection"].groupby("kind").size() / (n - 1)
    assert "" not in kinds
    assert kinds["head"] == kinds["layer2"] == kinds["layer3"] == 4
    assert kinds["untrained layer3"] == 3
    assert kinds["dead"] == kinds["noise"] == 2
    assert kinds["rare"] == 1  # effusion was made rare
    assert kinds["negative"] == 2
    assert results[["kind", "named", "seconds", "zero_shot"]].notna().all().all()
    assert (results["seconds"] > 0).all()
    assert set(results["seed"]) == {5}
    assert set(results["quality"]) == {"as trained"}
    assert set(results["zero_shot"]) == {small.zero_shot}
    means_nothing = results["kind"].isin(planting.MEANINGLESS) | results["kind"].str.startswith("untrained")
    assert (results["hit1"].isna() == means_nothing).all()
    # Units that never vary reach no method.
    assert (results.loc[results["kind"].isin(["dead", "constant"]), "named"] == 0).all()
    assert (results["hit5"].dropna() >= results["hit1"].dropna()).all()
    named = results[results["named"] == 1]
    assert named["confidence"].notna().all()
    assert results.loc[results["named"] == 0, "confidence"].isna().all()
    assert (named["right"].fillna(-1) == named["hit1"].fillna(-1)).all()
    assert results.loc[results["method"] == "calibrated", "hit1"].mean() > 0.4


def test_the_control_reaches_the_methods_that_use_one(small, monkeypatch):
    given = []
    from mammi.benchmark import contest

    real = contest.annotate_arrays

    def noted(activations, *arrays, control, **more):
        given.append((activations.shape[1], control, more["patients"]))
        return real(activations, *arrays, control=control, **more)

    monkeypatch.setattr(contest, "annotate_arrays", noted)
    run_contest([(0, small)], [Contestant("mine", "mammi")])
    expected = np.concatenate(list(small.untrained.values()), axis=1)
    assert len(given) == 1  # units are looked at one by one: all together
    run_contest([(0, small)], [Contestant("ours", "calibrated", {"shuffles": 20, "resamples": 10})])
    assert len(given) == 1 + 1 + 3 + 3  # layer by layer
    for _, control, patients in given:
        np.testing.assert_array_equal(control, expected)
        assert patients is small.patients
    units = [n for n, _, _ in given]
    assert units[2:] == [len(layer) for layer in small.layers.values()] + [3, 3, 3]
    assert units[0] == sum(units[1:])
    given.clear()
    run_contest([(0, replace(small, untrained={}))], [Contestant("mine", "mammi")])
    assert all(control is None for _, control, _ in given)


def test_a_layer_of_which_nothing_is_known_spoils_no_table(small):
    unknown = [replace(unit, kind="", truths=frozenset()) for unit in small.layers["layer2"]]
    pair = [Contestant("mammi", "mammi"), Contestant("ours", "calibrated", {"shuffles": 20, "resamples": 10})]
    results = run_contest([(0, replace(small, layers={"layer2": unknown}))], pair)
    assert "layer2" not in set(results["kind"])
    assert (results.dtypes == run_contest([(0, small)], pair).dtypes).all()


def test_options_reach_the_method_and_seeds_plant_other_units(small):
    none = {"example_threshold": 0.9999}
    pair = [Contestant("as published", "mammi"), Contestant("one film", "mammi", none)]
    results = run_contest([(0, small), (1, small)], pair)
    by_method = results.groupby("method", sort=False)["hit1"].apply(list)
    assert list(by_method.index) == ["as published", "one film"]
    assert by_method["as published"] != by_method["one film"]
    again = run_contest([(0, small), (1, small)], pair)
    columns = ["kind", "hit1", "hit5", "named", "right", "seed", "method"]
    assert results[columns].equals(again[columns])
