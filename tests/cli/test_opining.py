"""``mammi annotate`` with several annotators, and ``mammi opinion``."""

import json

import pytest
from typer.testing import CliRunner

from mammi.cli import app
from small_job import VLM, write_parts


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "90"})


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = write_parts(tmp_path_factory.mktemp("opining"), 30)
    (folder / "other.py").write_text(VLM.replace("6 * images.std", "9 * images.std"))
    return folder


@pytest.fixture(scope="module")
def annotated(parts, tmp_path_factory):
    out = tmp_path_factory.mktemp("opining_run") / "run"
    given = {"target": "model.py:create", "images": "films", "concepts": "concepts.txt"}
    result = run(
        *("annotate", "--layers", "head,conv", "--out", out, "--template", "a film that is {}"),
        *(word for name, value in given.items() for word in (f"--{name}", parts / value)),
        *("--vlm", f"{parts / 'vlm.py'}:create", "--vlm", f"{parts / 'other.py'}:create"),
    )
    assert result.exit_code == 0, result.output
    assert "Second opinions: mammi opinion" in result.output
    return out


def test_a_run_with_opinions_is_printed_without_a_model(annotated, parts, monkeypatch):
    monkeypatch.setattr("mammi.vlms.create_vlm", None)
    printed = run("opinion", annotated).output
    assert "A: vlm.py:create named the units; licence: not stated" in printed
    assert "B: other.py:create gives a second opinion" in printed
    assert "head   A, B" in printed
    assert "one names, another scores" in printed
    assert str(parts) not in printed


def test_another_wording_is_asked(annotated, tmp_path):
    result = run(
        *("opinion", annotated, "--template", "{}", "--limit", "1"),
        *("--json", tmp_path / "figures.json"),
    )
    assert result.exit_code == 0, result.output
    assert "wordings, A" in result.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [one["label"] for one in figures["vlms"]] == ["vlm.py:create"]
    assert {one["layer"] for one in figures["agreement"]} == {"head", "conv"}
    shown = run("show", annotated, "--layer", "head", "--unit", "0").output
    assert "  = vlm.py:create, 'a film that is {}': bright" in shown


def test_what_cannot_be_asked_is_one_line(annotated, parts):
    result = run("opinion", annotated, "--vlm", f"{parts / 'vlm.py'}:create")
    assert result.exit_code == 2
    assert "an annotator gives no second opinion of its own" in result.output


def test_a_report_has_a_page_of_them(annotated, tmp_path):
    assert run("report", annotated, "-o", tmp_path / "report").exit_code == 0
    assert json.loads((tmp_path / "report" / "opinions.json").read_text())["made"] is True
    assert 'href="../opinions.html"' in (tmp_path / "report" / "unit" / "0-0.html").read_text()
