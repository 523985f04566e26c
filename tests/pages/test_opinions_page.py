"""The page of second opinions, and what a unit's page says of them; names are as hostile as anywhere."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from mammi.pages import NAV, RunView, nav_of, opinions_page, render, twin, unit_page
from mammi.store import open_run
from mammi.store.files import read_json, write_json
from mammi.store.tables import write_parquet
from small_run import HEAD, IMAGE, LAYER, SCRIPT

ASKED = [(0, "{}"), (0, "x {}"), (1, "{}"), (1, "x {}")]
#: What each opinion keeps of units 0, 1 and 3 of the first layer; nothing of the others.
SAID = {0: [[SCRIPT, "effusion"], [SCRIPT], [SCRIPT], ["lung"]], 1: [[IMAGE], ["mass"], [], ["NOT mass"]], 3: [[]] * 4}


def write_opinions(folder):
    rows = [
        (LAYER, unit, number, rank, name.removeprefix("NOT "), 0.5, True, -1.0 if name.startswith("NOT ") else np.nan)
        for unit, said in SAID.items()
        for number, names in enumerate(said)
        for rank, name in enumerate(names, start=1)
    ]
    columns = ["layer", "unit", "opinion", "rank", "concept", "score", "kept", "effect"]
    write_parquet(folder / "opinions" / "opinions.parquet", pd.DataFrame(rows, columns=columns))
    units = [(layer, unit) for layer, count in ((LAYER, 6), (HEAD, 3)) for unit in range(count)]
    table = pd.DataFrame(units, columns=["layer", "unit"]).assign(naming=0, votes=0, jaccard=np.nan, consensus="")
    table["differs"] = [unit in (0, 1) for _, unit in units[:6]] + [False] * 3
    table.loc[0, ["votes", "jaccard", "consensus"]] = [3, 0.5, SCRIPT]
    table.loc[1, ["votes", "jaccard"]] = [1, 0.0]
    write_parquet(folder / "opinions" / "units.parquet", table)
    shared = {"n_units": 6, "units": 2, "same": 1 / 3, "same_chance": 0.2, "same_chance_high": 0.4}
    shared |= {"jaccard": 0.25, "jaccard_chance": 0.1, "alpha": None, "low": None, "high": None}
    scored = {"layer": LAYER, "namer": 0, "scorer": 1, "units": 2, "first": 0.5}
    note = {
        "key": "k",
        "vlms": [
            {"label": label, "licence": IMAGE, "shared_corpora": corpora, "content": "c" * 64}
            for label, corpora in ((SCRIPT, []), ("Other", ["NIH"]))
        ],
        "asked": [
            {"vlm": vlm, "template": text, "label": f"{(SCRIPT, 'Other')[vlm]}, {text!r}"} for vlm, text in ASKED
        ],
        "n_voters": 4,
        "same": {},
        "agreement": [
            {"layer": LAYER, "over": "annotators", "vlms": [0, 1], "opinions": 2, **shared},
            {
                "layer": LAYER,
                "over": "wordings",
                "vlms": [1],
                "opinions": 2,
                **shared,
                "alpha": 0.5,
                "low": 0.1,
                "high": 0.8,
            },
        ],
        "consensus": [{"layer": LAYER, "units": 6, "consensus": 1, "all_same": 0, "silent": 4, "differ": 2}],
        "scored": [{**scored, "median_rank": 3.0, "mean_z": -0.5, "mean_place": 0.75, "place_chance": 0.6}],
    }
    write_json(folder / "manifest.json", read_json(folder / "manifest.json") | {"opinions": note})


@pytest.fixture(scope="module")
def seconded(folder, tmp_path_factory):
    copy = shutil.copytree(folder, tmp_path_factory.mktemp("seconded") / "run")
    write_opinions(copy)
    return RunView(open_run(copy))


def test_a_run_without_says_how_to_ask(view, site):
    page = opinions_page(view)
    assert page.data == {"made": False}
    assert "mammi opinion" in render(page, site)
    assert unit_page(view, LAYER, 0).data["opinions"] is None
    assert nav_of(view.run) == NAV


def test_the_units_that_divide_them_come_first(seconded):
    data = opinions_page(seconded).data
    assert [(row["unit"], row["votes"]) for row in data["rows"]] == [(1, 1), (0, 3)]
    assert data["rows"][0]["firsts"] == [{"name": name, "votes": 1} for name in (IMAGE, "mass", "", "NOT mass")]
    assert data["rows"][1]["firsts"] == [{"name": SCRIPT, "votes": 3}, {"name": "lung", "votes": 1}]
    assert data["n_differ"] == 2
    assert data["wordings"] == ["{}", "x {}"]
    assert [entry.text for entry in nav_of(seconded.run)][:3] == ["Overview", "Units", "Opinions"]


def test_a_unit_says_who_agrees(seconded):
    found = unit_page(seconded, LAYER, 0).data["opinions"]
    assert [row["agrees"] for row in found["rows"]] == [True, True, True, False]
    assert found["rows"][0]["names"] == [SCRIPT, "effusion"]
    assert (found["votes"], found["n_voters"], found["consensus"], found["differs"]) == (3, 4, SCRIPT, True)
    assert [row["agrees"] for row in unit_page(seconded, LAYER, 1).data["opinions"]["rows"]] == [
        True,
        False,
        None,
        False,
    ]
    assert unit_page(seconded, LAYER, 3).data["opinions"]["rows"] == []


@pytest.mark.parametrize(
    "make", [opinions_page, lambda view: unit_page(view, LAYER, 0), lambda view: unit_page(view, HEAD, 1)]
)
def test_hostile_names_stay_text(seconded, site, make):
    page = make(seconded)
    html = render(page, site)
    assert SCRIPT not in html
    assert IMAGE not in html
    assert "not a diagnostic device" in html
    json.loads(twin(page))


def test_chance_stands_beside_every_agreement(seconded, site):
    html = render(opinions_page(seconded), site)
    assert "33 %" in html
    assert "20 %" in html
    assert "0.10 to 0.80" in html
    assert "It saw NIH, as the network did." in html
