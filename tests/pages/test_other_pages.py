"""Overview, units, classes, audit, method: what they count, sort and say."""

import numpy as np
import pytest
import torch

from mammi.errors import InputError, UnknownNameError
from mammi.functional.agreement import auroc
from mammi.pages import RunView, audit_page, class_page, classes_page, method_page, overview_page, render, units_page
from mammi.pages.reasons import count_reasons, kind_of_reason
from small_run import (
    DEAD,
    HEAD,
    IMAGE,
    LAYER,
    NAMELESS,
    OUTPUTS,
    SCRIPT,
    TWO_PATIENTS,
    TWO_SENSES,
    activations,
    write_small_run,
)


def test_overview_counts(view):
    data = overview_page(view).data
    assert data["counts"] == {"films": 40, "patients": 20, "units": 9, "named": 7, "encoded": 40, "concepts": 7}
    first, second = data["layers"]
    assert (first["units"], first["named"], first["distinct"]) == (6, 4, 4)
    assert first["hubs"]["top_1"] == 0.25
    assert first["hubs"]["top_5"] == 1.0
    counts = np.array([1, 1, 1, 1, 0, 0, 0])
    assert first["hubs"]["skewness"] == pytest.approx(((counts - counts.mean()) ** 3).mean() / counts.std() ** 3)
    assert second["abstentions"] == []
    assert data["abstentions"] == [
        {"reason": "no concept is above chance", "units": 1},
        {"reason": "it never varies over these films", "units": 1},
    ]
    effusion = next(row for row in data["concepts"] if row["concept"] == "effusion")
    assert effusion == {"concept": "effusion", "category": "finding", "units": 2, "layers": {LAYER: 1, HEAD: 1}}
    assert data["concepts"][0]["units"] == 2
    assert data["n_concepts"] == len(data["concepts"])
    assert data["control"] == {"units": 9, "films": 10, "turned_away": 0}
    assert data["warnings"] == [
        "Left out, since they could not be read: 1 film.",
        "With the same pixels as another film: 2 films.",
        "About the annotator: knows little.",
    ]
    glance = data["glance"]
    assert [card["name"] for card in glance][:2] == [SCRIPT, "effusion"]  # by effect, a name once
    twice = next(card for card in glance if card["name"] == "mass; nodule")
    assert (twice["layer"], twice["withheld"]) == (HEAD, "")  # the surer of two, and not the one of two patients


def test_names_are_checked_against_labels(view):
    # Too few names are labels here; with the bar lowered, each is the label its unit goes with most, or is not.
    from mammi.pages import overview

    assert overview_page(view).data["checked"] is None
    old, overview.CHECKABLE = overview.CHECKABLE, 1
    try:
        found = overview_page(RunView(view.run)).data["checked"]
    finally:
        overview.CHECKABLE = old
    r = {
        (layer, unit): [
            np.corrcoef(activations()[layer][unit][known], view.labels[known, label])[0, 1] for label in (0, 1)
        ]
        for layer, unit in ((LAYER, TWO_SENSES), (HEAD, 0))
        for known in [~np.isnan(view.labels[:, 1])]
    }
    assert found["units"] == 2
    assert found["right"] == sum(np.argmax(values) == 0 for values in r.values())
    assert found["coverage"] == [0.5, 1.0]
    assert found["risk"][-1] == pytest.approx(1 - found["right"] / 2)


def test_a_unit_that_fires_when_a_concept_is_absent_is_right_if_it_goes_with_it_least(view, monkeypatch):
    monkeypatch.setattr("mammi.pages.overview.CHECKABLE", 1)
    rows = view.units(HEAD)
    monkeypatch.setattr(view, "units", lambda layer: rows[rows["unit"] == 0] if layer == HEAD else rows[:0])
    # The head's first unit is what the label was made from: it goes with it most.
    assert overview_page(view).data["checked"]["right"] == 1
    turned = rows.assign(name="NOT effusion")
    monkeypatch.setattr(view, "units", lambda layer: turned[turned["unit"] == 0] if layer == HEAD else rows[:0])
    view._kept.clear()
    assert overview_page(view).data["checked"]["right"] == 0


def test_a_run_without_much(tmp_path, site):
    run = write_small_run(tmp_path / "run", labels=False, patients=False, control=False, method="mammi")
    view = RunView(run)
    overview = overview_page(view)
    assert overview.data["control"] is None
    assert overview.data["counts"]["patients"] is None
    said = " ".join(overview.data["warnings"])
    assert "not known who is on each film" in said
    assert "no labels" in said
    assert "states no error rate" in said
    assert "This run has none" in render(overview, site)
    page = units_page(view, LAYER)
    assert not page.data["has_effects"]
    assert '<th scope="col" class="num">score</th>' in render(page, site)
    from mammi.pages import unit_page

    unit = unit_page(view, LAYER, TWO_PATIENTS)
    assert unit.data["examples"]["patients"] == 4  # every film counts as one
    assert unit.data["examples"]["films"][0]["patient"] is None
    assert unit.data["labels"] == {"n": 0, "rows": []}
    assert "have no labels" in render(unit, site)
    assert classes_page(view).data["rows"][0]["auc"] is None
    render(class_page(view, 0), site)
    card = method_page(view).data["card"]
    assert "names nearly every unit" in card["limits"][1]
    assert card["probing_set"]["patients"] is None
    assert card["method"]["seed"] is None
    render(method_page(view), site)


def units(page):
    return [row["unit"] for row in page.data["rows"]]


def test_units_are_found_sorted_and_paged(view):
    assert units(units_page(view, LAYER)) == [0, 1, 2, 3, 4, 5]
    assert units(units_page(view, LAYER, only="none")) == [NAMELESS, DEAD]
    assert units(units_page(view, LAYER, only="named")) == [0, 1, 2, 5]
    assert units(units_page(view, LAYER, query="EFFUSION")) == [0, TWO_SENSES]  # any kept concept, in any case
    assert units(units_page(view, LAYER, query="effusion tube")) == [TWO_SENSES]
    assert units(units_page(view, LAYER, query="mass; nodule")) == [TWO_PATIENTS]
    assert units(units_page(view, LAYER, query="nothing of the kind")) == []
    assert units(units_page(view, LAYER, sort="effect")) == [0, 1, 2, 5, 3, 4]
    assert units(units_page(view, LAYER, sort="name")) == [1, 0, 2, 5, 3, 4]
    assert units(units_page(view, LAYER, sort="examples")) == [0, 1, 2, 3, 5, 4]
    assert units(units_page(view, HEAD, query="hernia")) == [2]
    second = units_page(view, LAYER, 2, size=4)
    assert (units(second), second.data["pages"], second.data["found"]) == ([4, 5], 2, 6)
    assert units(units_page(view, LAYER, 99, size=4)) == [4, 5]
    assert second.data["rows"][1]["withheld"]
    with pytest.raises(InputError, match="'sort' must be one of unit, name"):
        units_page(view, LAYER, sort="shoe")
    with pytest.raises(InputError, match="'only' must be"):
        units_page(view, LAYER, only="some")
    with pytest.raises(UnknownNameError):
        units_page(view, "nowhere")


def test_rows_say_what_the_unit_says(view):
    row = units_page(view, LAYER).data["rows"][0]
    assert (row["name"], row["more"], row["n_concepts"]) == (SCRIPT, ["effusion"], 2)
    order = np.argsort(-activations()[LAYER][0], kind="stable")[:3]
    assert row["films"] == [view.films[film] for film in order]
    # two films of one patient in a row would let that patient stand for the unit: the next patient's film is shown
    first = {int(film) for film in order}
    twice = view.patients.copy()
    twice[order[1]] = twice[order[0]]
    view.patients = twice
    films = [view.film_rows[film] for film in units_page(view, LAYER).data["rows"][0]["films"]]
    assert len({twice[film] for film in films}) == len(films) == 3
    assert set(films) - first
    cards = overview_page(view).data["glance"]
    assert all(len({twice[view.film_rows[film]] for film in card["films"]}) == len(card["films"]) for card in cards)
    nameless = units_page(view, LAYER).data["rows"][NAMELESS]
    assert (nameless["named"], nameless["effect"], nameless["more"]) == (False, None, [])


def test_classes(view, site):
    rows = classes_page(view).data["rows"]
    assert [row["name"] for row in rows] == OUTPUTS
    expected = auroc(torch.from_numpy(activations()[HEAD].T.copy()), torch.from_numpy(view.labels))
    assert rows[0]["auc"] == pytest.approx(expected[0, 0].item(), abs=1e-6)
    assert rows[1]["auc"] == pytest.approx(expected[1, 1].item(), abs=1e-6)
    assert rows[1]["films"] == 37
    assert (rows[2]["auc"], rows[2]["films"]) == (None, None)
    assert rows[0]["unit"] == {"layer": HEAD, "unit": 0}
    page = class_page(view, 0)
    logits = activations()[HEAD][0]
    films = [view.film_rows[film["id"]] for film in page.data["surest"]["films"]]
    assert films[0] == logits.argmax()
    assert len({film // 2 for film in films}) == len(films) == 7
    with pytest.raises(InputError, match="outputs 0 to 2, got 3"):
        class_page(view, 3)


def test_a_class_is_asked_once_and_shows_the_telling_concepts(view, site):
    asked = []

    def decide(number):
        asked.append(number)
        rows = [
            {"concept": f"c{n}", "n_units": 1, "in_class": 0.0, "elsewhere": 0.0, "difference": d, "low": d, "high": d}
            for n, d in enumerate([*np.linspace(1, 0.1, 18).tolist(), None, -2.0])
        ]
        return {"rule": "", "n_in": 1, "n_out": 1, "exact": False, "layer": LAYER, "units": [], "concepts": rows}

    view.decide = decide
    page = class_page(view, 1)
    class_page(view, 1)
    assert asked == [1]
    shown = [row["concept"] for row in page.data["concepts"]]
    assert shown == [*(f"c{n}" for n in range(14)), "c19"]  # the largest on either side, in their order
    assert "All 20 names" in render(page, site)


def test_audit_shows_what_is_clear_of_chance_first(view):
    assert not audit_page(view).data["made"]
    gaps = [
        {"gap": g, "low": low, "high": high}
        for g, low, high in ((0.1, 0.05, 0.2), (-0.9, -1.0, -0.8), (0.5, -0.1, 1.0), (2.0, None, None))
    ]
    view.audit = {"gaps": gaps}
    assert [row["gap"] for row in audit_page(view).data["gaps"]] == [-0.9, 0.1]


def test_model_card(view):
    card = method_page(view).data["card"]
    assert card["intended_use"].startswith("Development and audit")
    hashes = [card[part]["sha256"] for part in ("model", "annotator", "concept_set", "probing_set")]
    assert hashes == ["a" * 64, "b" * 64, "d" * 64, "c" * 64]
    assert card["code"] == {"mammi": "0", "torch": "0", "run_format": 1}
    assert card["method"]["seed"] == 0
    assert f"--layers {LAYER},{HEAD}".replace("<b>", "") in card["how_to_repeat"].replace("'", "").replace("<b>", "")
    assert "-O min_effect=0.2" in card["how_to_repeat"]
    assert "untrained copy" in card["method"]["how_to_read"]


def test_the_command_can_be_pasted_into_a_shell(view):
    import shlex

    view.run.manifest["identity"]["template"] = ["film of a {}", "it's {}"]
    words = shlex.split(method_page(view).data["card"]["how_to_repeat"])
    assert [words[place + 1] for place, word in enumerate(words) if word == "--template"] == ["film of a {}", "it's {}"]
    assert words[words.index("--layers") + 1] == f"{LAYER},{HEAD}"


def test_reasons_are_counted_by_kind():
    reasons = ["it rests on 2 patients, 3 are needed", "it rests on 1 patient, 3 are needed", "", "an odd one (5.2 %)"]
    assert count_reasons(reasons) == [
        {"reason": "it rests on too few patients", "units": 2},
        {"reason": "an odd one (…)", "units": 1},
    ]
    by_control = "its effect on held-out patients is 0.44, 0.59 is what an untrained copy of the network can show"
    assert kind_of_reason(by_control) == "an untrained copy of the network can show as much"
    assert kind_of_reason("its effect on held-out patients is 0.1, 0.20 is needed").endswith("too small")


def test_hostile_names_are_counted_not_run(view):
    assert {row["concept"] for row in overview_page(view).data["concepts"]} >= {SCRIPT, IMAGE}
