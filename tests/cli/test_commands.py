"""The commands as a user types them, on drawn films and on the embedded models."""

import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from typer.testing import CliRunner

import mammi
from mammi.cli import app
from mammi.cli.console import progress_bars
from mammi.methods import METHODS
from mammi.reports import unit_page, write_report


def run(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Films, concepts and a run made by commands alone."""
    folder = tmp_path_factory.mktemp("job")
    written = run("phantoms", "write", str(folder / "data"), "--films", "60", "--seed", "5")
    assert "60 films" in written.stdout
    built = run("concepts", "build", str(folder / "data" / "reports.jsonl"), "-o", str(folder / "concepts.csv"))
    assert re.search(r"\d+ concepts", built.stdout)
    annotated = run(
        *("annotate", "--target", "phantom", "--layers", "head,layer3", "--vlm", "phantom"),
        *("--images", str(folder / "data" / "images"), "--labels", str(folder / "data" / "labels.csv")),
        *("--concepts", str(folder / "concepts.csv"), "--out", str(folder / "run")),
        *("-O", "min-examples=2", "-O", "max_examples=5"),
    )
    assert "recording films: 60 of 60" in annotated.stderr
    assert re.search(r"precision: target float32 \(\d+ s of work\), annotator float32", annotated.stderr)
    assert "147 units have a concept" in annotated.stdout
    return folder


def test_options_reach_the_method(job):
    opened = mammi.open_run(job / "run")
    options = opened.manifest["identity"]["method"]["options"]
    assert (options["min_examples"], options["max_examples"], options["example_threshold"]) == (2, 5, 0.93)
    assert opened.units["n_examples"].between(2, 5).all()


def test_layers(job):
    listed = run("layers", "--target", "phantom").stdout
    assert re.search(r"head +Linear +19 +19 +none", listed)
    assert re.search(r"layer3 +Sequential +128x8x8 +128 +mean", listed)


def test_show(job):
    shown = run("show", str(job / "run"), "--layer", "head").stdout
    assert re.search(r"head:1 +cardiomegaly", shown)
    assert len([line for line in shown.splitlines() if line.startswith("head:")]) == 19
    some = run("show", str(job / "run"), "--limit", "3")
    assert "3 of 147 units" in some.stderr
    page = run("show", str(job / "run"), "--layer", "head", "--unit", "2").stdout
    assert "unit head:2 (output 'effusion')" in page
    assert "activation over 60 films" in page
    concept = mammi.open_run(job / "run").unit("head", 2).annotation.name
    assert "head:2" in run("show", str(job / "run"), "--find", concept).stdout
    run("show", str(job / "run"), "--unit", "2", code=2)
    run("show", str(job / "run"), "--layer", "head", "--unit", "19", code=2)


def test_a_concept_may_hold_the_mark_that_joins_concepts(job, tmp_path):
    (tmp_path / "c.txt").write_text("mass; nodule\ncardiomegaly\n")
    run(
        *("annotate", "--target", "phantom", "--layers", "head", "--vlm", "phantom"),
        *("--images", str(job / "data" / "images"), "--concepts", str(tmp_path / "c.txt")),
        *("--out", str(tmp_path / "run")),
    )
    assert "mass; nodule 0." in run("show", str(tmp_path / "run")).stdout


class Page(HTMLParser):
    """Collects what a page would fetch, and the data in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses, self._inside, self.data, self.errors = [], None, "", []
        self.feed(text)
        self.data = json.loads(self.data)

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href") and value]
        self._inside = dict(attributes).get("id")

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "data":
            self.data += data


def test_report_is_one_file_that_fetches_nothing_and_names_nobody(job):
    run("report", str(job / "run"), "-o", str(job / "report.html"))
    text = (job / "report.html").read_text()
    page = Page(text)
    assert page.addresses == ["#units"]
    assert "http" not in text.replace("http-equiv", "")
    assert page.data["pictures"] == {}
    assert not re.search(r"film-\d{5}(?![0-9a-f])", text)  # the files' own names; salted ids have twelve digits
    assert str(job) not in text
    assert "A research and audit tool, not a diagnostic device." in text
    assert len(page.data["units"]) == 147
    opened = mammi.open_run(job / "run")
    for record, row in zip(page.data["units"], opened.units.to_dict("records"), strict=True):
        kept = [page.data["terms"][term] for term, _, is_kept in record["c"] if is_kept]
        assert (kept[0] if kept else "no concept") == row["name"]
        assert record["n"] == row["n_examples"]


def test_report_as_a_folder_with_what_units_do_to_classes(job):
    shown = run("report", str(job / "run"), "-o", str(job / "report"))
    assert shown.stdout.strip() == f"report: {job / 'report' / 'index.html'}"
    assert "writing pages: 147 of 147" in shown.stderr
    unit = json.loads((job / "report" / "unit" / "1-5.json").read_text())
    assert len(unit["feeds"]["rows"]) == 8
    assert unit["feeds"]["exact"]
    assert not (job / "report" / "films").exists()
    decided = json.loads((job / "report" / "class" / "2.json").read_text())["decided"]
    assert decided["exact"]
    assert decided["n_in"] + decided["n_out"] == 60


def test_report_with_images_holds_each_example_once(job):
    run("report", str(job / "run"), "-o", str(job / "pictures.html"), "--with-images")
    page = Page((job / "pictures.html").read_text())
    assert all(picture.startswith("data:image/jpeg;base64,") for picture in page.data["pictures"].values())
    opened = mammi.open_run(job / "run")
    examples = opened.examples.assign(patient=opened.images["patient"].to_numpy()[opened.examples["film"]])
    several = examples.groupby(["layer", "unit"]).filter(lambda unit: unit["patient"].nunique() >= 3)
    assert 0 < len(several) < len(examples)
    assert {int(film) for film in page.data["pictures"]} == set(several["film"])
    assert "pictures of patients" in (job / "pictures.html").read_text()


def test_page_of_one_unit(job):
    page = Page(unit_page(mammi.open_run(job / "run"), "head", 7))
    assert [(unit["l"], unit["u"], unit["o"]) for unit in page.data["units"]] == [(0, 7, "pneumothorax")]


def test_names_cannot_break_out_of_a_report(job, tmp_path):
    opened = mammi.open_run(job / "run")
    evil = "</script><script>alert(1)</script><!--"
    opened.__dict__["annotations"] = opened.annotations.assign(concept=evil)
    opened.__dict__["units"] = opened.units.assign(name=evil, output="<img src=x onerror=alert(1)>")
    text = write_report(opened, tmp_path / "evil.html").read_text()
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert Page(text).data["terms"] == [evil]


def test_lists_come_from_the_registries():
    for command, names in (
        ("targets", [name for name, _ in mammi.list_targets()]),
        ("vlms", [name for name, _ in mammi.list_vlms()]),
        ("methods", METHODS.names()),
    ):
        listed = run(command).stdout
        assert names
        for name in names:
            assert name in listed


@pytest.mark.parametrize("arguments", [[], ["annotate"], ["concepts"], ["concepts", "build"], ["demo"], ["report"]])
def test_help(arguments):
    assert "Usage: " in run(*arguments, "--help").stdout


def test_a_library_user_gets_a_frame_and_pages(job):
    opened = mammi.open_run(job / "run")
    frame = opened.to_frame("head")
    assert isinstance(frame, pd.DataFrame)
    assert list(frame["output"][:3]) == ["atelectasis", "cardiomegaly", "effusion"]
    row = frame.iloc[1]
    assert row["concepts"].split("; ")[0] == row["name"]
    assert len(row["concepts"].split("; ")) == len(row["scores"].split("; ")) == row["n_concepts"]
    page = opened.unit("head", 1)
    assert page.annotation.name == row["name"]
    assert len(page.activations) == 60


def test_progress_without_a_terminal_is_a_line_a_step(capsys):
    with progress_bars() as progress:
        for done in range(5):
            progress("walking", done + 1, 5)
    assert capsys.readouterr().err.count("walking: 5 of 5") == 1
