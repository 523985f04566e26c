"""The tables of opinions, derived again in plain Python from what each opinion said."""

import json
import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch

from mammi.opinions.comparing import Names, Said, agreement, scored_summary, scored_table, unit_table
from mammi.store.opinions import UnitOpinion

TERMS = ["effusion", "mass", "pleural fluid", "tube", "nodule"]
#: "pleural fluid" is another name of "effusion".
NAMES = Names.of(TERMS, [0, 1, 0, 3, 4])
N_UNITS = 6


def said(*units, n_units=N_UNITS):
    """One opinion: per unit what is kept, best first; ``-`` before what is absent."""
    rows = [
        ("l", unit, rank, name.removeprefix("-"), 1.0 / rank, True, -1.0 if name.startswith("-") else math.nan)
        for unit, kept in enumerate(units)
        for rank, name in enumerate(kept, start=1)
    ]
    rows += [("l", unit, len(kept) + 1, "tube", -1.0, False, math.nan) for unit, kept in enumerate(units)]
    columns = ["layer", "unit", "rank", "concept", "score", "kept", "effect"]
    return Said.of(pd.DataFrame(rows, columns=columns), n_units, NAMES)


A = said(["effusion"], ["mass", "nodule"], ["tube"], [], ["-mass"], [])
B = said(["pleural fluid"], ["nodule", "mass"], [], ["mass"], ["mass"], [])
C = said(["effusion", "pleural fluid"], ["nodule"], ["mass"], ["mass"], ["-mass"], [])


def test_what_most_opinions_say():
    table = unit_table("l", [A, B, C], [A, B], [A, C], NAMES)
    assert table["naming"].tolist() == [3, 3, 2, 2, 3, 0]
    assert table["votes"].tolist() == [3, 2, 1, 2, 2, 0]
    assert table["consensus"].tolist() == ["effusion", "nodule; mass", "", "mass", "NOT mass", ""]
    assert table["differs"].tolist() == [False, True, True, True, True, False]
    assert table["same"].tolist()[:5] == pytest.approx([1, 1 / 3, 0, 1, 1 / 3])
    assert table["jaccard"].tolist()[:5] == pytest.approx([1, (1 + 0.5 + 0.5) / 3, 0, 1, 1 / 3])
    assert table["over_annotators"].tolist()[:2] == [1, 0]
    assert table["over_wordings"].tolist()[:3] == [1, 0, 0]
    assert table[["same", "jaccard", "over_annotators"]].iloc[5].isna().all()


def test_half_is_no_majority_and_ties_go_by_rank_then_by_concept():
    two = unit_table("l", [A, B], [A, B], [A], NAMES)
    # Both keep mass and nodule, first once each: the mean ranks tie too, and mass stands first in the set.
    assert two["consensus"].tolist() == ["effusion", "mass; nodule", "", "", "", ""]
    assert two["over_wordings"].isna().all()


def test_an_opinion_that_names_nothing():
    silent = said(*[[]] * N_UNITS)
    table = unit_table("l", [A, silent], [A, silent], [A], NAMES)
    assert (table["consensus"] == "").all()
    assert table["differs"].tolist() == [True, True, True, False, True, False]
    found = agreement([A, silent])
    assert found["units"] == 0
    assert found["same"] is found["alpha"] is found["same_chance"] is None
    json.dumps(found, allow_nan=False)


def test_one_names_and_another_scores():
    nan = math.nan
    scores = torch.tensor(
        [
            [1.0, 2.0, 5.0, 0.0, 3.0],  # as "pleural fluid" effusion is first
            [0.0, 1.0, 0.0, 4.0, 2.0],
            [1.0, 1.0, 1.0, 1.0, 1.0],
            [nan] * 5,
            [0.0, 9.0, 1.0, 2.0, 3.0],
            [nan] * 5,
        ],
        dtype=torch.float64,
    )
    table = scored_table("l", [A, B], [torch.zeros(N_UNITS, 5, dtype=torch.float64), scores], NAMES)
    found = table[(table["namer"] == 0) & (table["scorer"] == 1)].set_index(["unit", "name"])
    assert found.index.tolist() == [(0, "effusion"), (1, "mass"), (1, "nodule"), (2, "tube")]  # unit 4: opposite sides
    assert found["rank"].tolist() == [1, 3, 2, 1]
    assert found["place"].tolist() == pytest.approx([1, 1 / 3, 2 / 3, 0.5])
    best = np.array([5.0, 2.0, 0.0, 3.0])
    assert found["z"].iloc[0] == pytest.approx((5 - best.mean()) / best.std())
    assert math.isnan(found["z"].iloc[3])
    assert set(table.loc[(table["namer"] == 1) & (table["scorer"] == 0), "unit"]) == {0, 1, 3}


def test_the_place_that_chance_gives():
    """Of every dealing of the first names, by hand: the mean place over all that could be dealt to a unit."""
    scores = torch.rand(N_UNITS, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    namer = said(["mass"], ["mass"], ["tube"], ["nodule"], ["-mass"], ["effusion"])
    silent = said(*[[]] * N_UNITS)
    tables = [torch.zeros_like(scores), scores]
    table = scored_table("l", [namer, silent], tables, NAMES)
    (found,) = scored_summary("l", table, tables, NAMES)
    assert (found["namer"], found["scorer"], found["units"]) == (0, 1, 5)  # silence is taken for presence
    values = scores.numpy()
    best = np.column_stack([np.maximum(values[:, 0], values[:, 2]), values[:, 1], values[:, 3:]])
    column = {"effusion": 0, "mass": 1, "tube": 2, "nodule": 3}
    units, names = [0, 1, 2, 3, 5], ["mass", "mass", "tube", "nodule", "effusion"]
    places = [[(best[unit] < best[unit, column[name]]).sum() / 3 for name in names] for unit in units]
    assert found["mean_place"] == pytest.approx(np.mean(np.diag(places)))
    assert found["place_chance"] == pytest.approx(np.mean(places), abs=4 * np.std(places) / 10)


def test_the_tables_of_a_run_are_what_its_opinions_said(run):
    found = run.opinions
    same = {"shiny": "bright"}
    assert found.note["same"] == same
    voters = [number for number, one in enumerate(found.note["asked"]) if one["template"] is not None]
    kept = found.table[found.table["kept"]]
    for row in found.units.to_dict("records"):
        own = kept[(kept["layer"] == row["layer"]) & (kept["unit"] == row["unit"])]
        names = []
        for number in voters:
            words = own[own["opinion"] == number].sort_values("rank")["concept"]
            names.append(list(dict.fromkeys(same.get(word, word) for word in words)))
        naming = [own for own in names if own]
        assert row["naming"] == len(naming)
        firsts = [own[0] for own in naming]
        assert row["votes"] == max((firsts.count(name) for name in firsts), default=0)
        pairs = list(combinations(naming, 2))
        if pairs:
            assert row["same"] == pytest.approx(np.mean([a[0] == b[0] for a, b in pairs]))
            assert row["jaccard"] == pytest.approx(np.mean([len({*a} & {*b}) / len({*a} | {*b}) for a, b in pairs]))
        counts = {name: sum(name in own for own in names) for own in names for name in own}
        assert set(filter(None, row["consensus"].split("; "))) == {n for n, count in counts.items() if 2 * count > 4}
        assert row["differs"] == (len({own[0] if own else "" for own in names}) > 1)
    assert found.units["differs"].any()
    assert not found.units["differs"].all()


def test_the_scores_of_a_run_are_cosines_over_its_examples(run, naming, other):
    """MAMMI's score of a concept, by hand: mean over the examples of the cosine with the concept, less the template's."""
    from mammi.explain.models import run_films

    films, found, terms = run_films(run), run.opinions, pd.read_csv(run.folder / "concepts.csv")["term"].tolist()
    for scorer, vlm in enumerate((naming, other)):
        texts = [
            torch.stack([vlm.embed_texts([t.replace("{}", term)])[0] for t in ("a film that is {}", "{}")])
            for term in terms
        ]
        concepts = torch.nn.functional.normalize(torch.stack([rows.mean(dim=0) for rows in texts]).double(), dim=1)
        rows = found.scored[found.scored["scorer"] == scorer]
        for row in rows.to_dict("records"):
            examples = run.examples[(run.examples["layer"] == row["layer"]) & (run.examples["unit"] == row["unit"])]
            seen = torch.stack([vlm.view(films.film(int(film))) for film in examples["film"]])
            scores = (vlm.embed_images(seen).double() @ concepts.T).mean(dim=0).numpy()
            best = np.array([max(scores[0], scores[5]), *scores[1:5]])  # bright or shiny, and the others
            own = best[terms.index(row["name"])]
            assert row["rank"] == 1 + (best > own).sum()
            assert row["place"] == pytest.approx((best < own).sum() / 4)
            assert row["z"] == pytest.approx((own - best.mean()) / best.std(), abs=1e-4)
    assert len(rows) > 4


def test_a_unit_reads_as_lines(run):
    page = run.unit("head", 0)
    assert len(page.opinions) == 6
    assert page.opinions[0].agrees is True
    lines = str(page).splitlines()[-6:]
    assert lines[0].startswith("  = vlm.py:create, all wordings averaged: ")
    assert str(UnitOpinion("x", (), None)) == "  x: no concept"
    assert [one.names for one in run.unit("head", 4).opinions] == [()] * 6
    everyone = run.opinions.by_unit("head")
    assert everyone[0] == list(page.opinions)
    assert 4 not in everyone
    assert any(one.agrees is False for said in everyone.values() for one in said)


def test_another_name_of_the_same_thing_agrees(run):
    firsts = {one.names[0] for one in run.opinions.by_unit("head")[0] if one.names}
    assert firsts <= {"bright", "shiny"}
    assert all(one.agrees for one in run.opinions.by_unit("head")[0])


def test_disagreements_come_the_worst_first(run):
    differ = run.opinions.disagreements()
    assert len(differ) == int(run.opinions.units["differs"].sum())
    assert differ["votes"].is_monotonic_increasing
