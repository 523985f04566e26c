"""The page of one film: its twin, its sums, its pictures, and both faces it is shown by."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import mammi
from mammi.explain.account import open_account
from mammi.explain.classes import FilmAgreement
from mammi.explain.film import explain_film
from mammi.explain.models import load_target
from mammi.explain.where import UnitMaps
from mammi.pages.explanation import FILM, alone, explanation_page, explanation_pictures
from mammi.pages.site import NOTICE, Site, render, twin
from mammi.phantoms import write_cohort
from mammi.types import Film


class Served:
    """Addresses as a server would give them."""

    def page(self, *place):
        return "/" + "/".join(map(str, place))

    def twin(self, *place):
        return self.page(*place) + ".json"

    def picture(self, film):
        return f"/picture/{film}"

    def asset(self, name):
        return f"/asset/{name}"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("film")
    write_cohort(folder, 30, seed=21)
    run = mammi.annotate(
        mammi.create_target("phantom"),
        mammi.ProbingSet.open(folder / "images", folder / "labels.csv"),
        mammi.build_concepts(mammi.read_reports(folder / "reports.jsonl")),
        mammi.create_vlm("phantom"),
        layers=["layer3"],
        out=folder / "run",
    )
    pixels = mammi.read_film(min((folder / "images").iterdir())).pixels[:, ::-1]
    film = Film(np.ascontiguousarray(pixels))
    return explain_film(open_account(run, load_target(run)), film, outputs=["mass", "edema"], top=4), film


def test_its_twin_says_all_of_it(found):
    page = explanation_page(found[0])
    said = json.loads(twin(page))
    assert said["notice"] == NOTICE
    for output, one in zip(said["outputs"], found[0].outputs, strict=True):
        rows = output["sum"]["rows"]
        assert [row["kind"] for row in rows] == ["base", *["unit"] * 4, "others"]
        assert sum(row["value"] for row in rows) == pytest.approx(output["logit"], abs=1e-4)
        assert rows[-1]["end"] == pytest.approx(output["sum"]["total"], abs=1e-4)
        by_name = output["base"] + sum(row["contribution"] for row in output["concepts"]) + output["gap"]
        assert by_name == pytest.approx(output["logit"], abs=1e-6)
        assert sum(row["units"] for row in output["concepts"]) == len(one.contributions)
        assert len(output["concepts"]) <= 14


def test_names_beyond_the_list_are_one_row_and_no_concept_is_always_told(found):
    output = found[0].outputs[0]
    small = replace(output.concepts[0], concept="no concept", contribution=1e-9)
    many = [replace(small, concept=f"name {i}", contribution=20.0 - i) for i in range(20)]
    page = explanation_page(replace(found[0], outputs=(replace(output, concepts=(*many, small)),)))
    rows = page.data["outputs"][0]["concepts"]
    assert [row["concept"] for row in rows[:12]] == [f"name {i}" for i in range(12)]
    assert rows[12]["concept"] == "no concept"
    assert (rows[13]["other"], rows[13]["contribution"]) == (8, sum(20.0 - i for i in range(12, 20)))


def test_what_is_not_accounted_for_has_a_row(found):
    output = replace(found[0].outputs[0], gap=0.25)
    page = explanation_page(replace(found[0], exact=False, outputs=(output,)))
    assert page.data["outputs"][0]["sum"]["rows"][-1]["label"] == "not accounted for"
    html = render(page, alone("phantom", {}, with_images=False))
    assert html.count(">not accounted for<") == 2
    assert html.count("+0.2500") >= 2


def test_both_faces(found):
    page = explanation_page(found[0])
    lone = render(page, alone("phantom", {}, with_images=False))
    assert "<nav" not in lone
    assert ".json" not in lone
    served = render(page, Site("phantom", Served(), served=True, with_images=True))
    unit = found[0].outputs[0].units[0].unit
    assert f'href="/unit/layer3/{unit}"' in served
    assert f'src="/picture/{found[0].outputs[0].similar[0].film}"' in served
    for html in (lone, served):
        assert NOTICE in html
        assert " style=" not in html
        assert not re.search(r"<script(?! src=)", html)
        assert len(re.findall(r'id="([^"]+)"', html)) == len(set(re.findall(r'id="([^"]+)"', html)))
        for wanted in re.findall(r'aria-labelledby="([^"]+)"', html):
            assert all(f'id="{name}"' in html for name in wanted.split())


def test_a_warning_and_an_agreement_are_said(found):
    output = replace(found[0].outputs[0], agreement=FilmAgreement(0.5, 0.25, 12))
    site = alone("phantom", {}, with_images=False)
    html = render(explanation_page(replace(found[0], outputs=(output,))), site)
    assert "with cosine 0.50, as much as or more than in 25 % of the run\u2019s 12 films of the class" in html
    warned = replace(output, remarks=("It rests on <unusual> units.",))
    html = render(explanation_page(replace(found[0], outputs=(warned,))), site)
    assert "It rests on &lt;unusual&gt; units." in html
    assert "with cosine" not in html


def test_without_the_film_nothing_of_it_is_in_a_picture(found):
    explanation, film = found
    other = Film(np.random.default_rng(0).random(film.pixels.shape, dtype=np.float32))
    plain = explanation_pictures(explanation, film, with_film=False)
    assert plain == explanation_pictures(explanation, other, with_film=False)
    assert set(plain) == {f"unit {unit}" for unit in explanation.where.units}
    shown = explanation_pictures(explanation, film, with_film=True)
    assert set(shown) == {*plain, FILM}
    assert all(shown[name] != plain[name] for name in plain)


def test_maps_shown_alone_are_coarse(found):
    """Maps of a first layer are a picture of the patient: only means over 16 by 16 cells may be seen."""
    explanation, film = found
    units = explanation.where.units
    cells = np.random.default_rng(1).integers(1, 64, (len(units), 16, 16)) / 16  # sums of these are exact
    smooth = cells.astype(np.float32).repeat(8, 1).repeat(8, 2)
    fine = smooth + 4 * np.where(np.indices((128, 128)).sum(0) % 2, 1, -1).astype(np.float32)
    one, other = (replace(explanation, where=UnitMaps(maps, units, "layer3", "map")) for maps in (smooth, fine))
    alone_one, alone_other = (explanation_pictures(e, film, with_film=False) for e in (one, other))
    assert alone_one == alone_other
    assert explanation_pictures(one, film, with_film=True) != explanation_pictures(other, film, with_film=True)


def test_a_run_without_maps_says_why(found):
    page = explanation_page(replace(found[0], where=None, notes=("Where is not told: <because>.",)))
    assert explanation_pictures(replace(found[0], where=None), found[1], with_film=False) == {}
    html = render(page, alone("phantom", {}, with_images=False))
    assert "Where is not told: &lt;because&gt;." in html
    assert "Where these units are active" not in html
