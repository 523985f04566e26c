"""The one-file page keeps the same rule as the folder: no patient stands for a unit alone."""

import json
import re

from mammi.reports import unit_page, write_report
from small_run import LAYER, SCRIPTED, TWO_PATIENTS, write_small_run


def said(page):
    return json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL)[1])


def test_pictures_of_a_unit_of_two_patients_are_withheld(tmp_path):
    run = write_small_run(tmp_path / "run")
    data = said(write_report(run, tmp_path / "page.html", with_images=True).read_text(encoding="utf-8"))
    units = {unit["u"]: unit for unit in data["units"] if unit["l"] == run.layers.index(LAYER)}
    assert "of 2 patients" in units[TWO_PATIENTS]["w"]
    assert units[SCRIPTED]["w"] == ""
    shown = {film for unit in data["units"] if not unit["w"] for film, _ in unit["f"]}
    assert {int(film) for film in data["pictures"]} == shown
    alone = said(unit_page(run, LAYER, TWO_PATIENTS, with_images=True))
    assert alone["pictures"] == {}
    assert not any(unit["w"] for unit in said(unit_page(run, LAYER, TWO_PATIENTS))["units"])  # nothing to withhold
