"""``mammi vlms check``, and what an annotation makes of it."""

import json

import pytest
from typer.testing import CliRunner

import mammi
from mammi.cli import app


def run(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checked")
    run("phantoms", "write", folder / "data", "--films", "40", "--seed", "6")
    (folder / "concepts.txt").write_text("effusion\ncardiomegaly\nno such thing\n")
    return folder


@pytest.fixture(scope="module")
def check(job):
    found = run(
        *("vlms", "check", "phantom", "--images", job / "data" / "images", "--labels", job / "data" / "labels.csv"),
        *("-o", job / "c.json", "--golden", job / "g.safetensors"),
    )
    return found.stdout, json.loads((job / "c.json").read_text())


def annotate(job, out, *more, code=0):
    return run(
        *("annotate", "--target", "phantom", "--layers", "head", "--vlm", "phantom", "--out", job / out),
        *("--images", job / "data" / "images", "--concepts", job / "concepts.txt", *more),
        code=code,
    )


def test_a_check_is_printed_and_written(check, job):
    printed, written = check
    assert "effusion" in printed
    assert "mean AUROC" in printed
    assert "drawn chest radiographs, 128 pixels" in printed
    assert written["golden"]["status"] == "written"
    again = run(
        *("vlms", "check", "phantom", "--images", job / "data" / "images", "--labels", job / "data" / "labels.csv"),
        *("--golden", job / "g.safetensors"),
    )
    assert "equal" in again.stdout


def test_what_cannot_be_told_is_marked_or_left_out(check, job):
    _, written = check
    for row in written["concepts"]:
        row["told"] = "no" if row["concept"] == "cardiomegaly" else row["told"]
    (job / "blind.json").write_text(json.dumps(written))
    said = annotate(job, "marked", "--checked", job / "blind.json").stderr
    assert "1 of 3 concepts its check shows it cannot tell, they are marked; 1 were not in its check" in said
    assert "cardiomegaly (not told in its check) " in run("show", job / "marked").stdout
    run("report", job / "marked", "-o", job / "pages")
    pages = [page.read_text() for page in (job / "pages").rglob("*.html")]
    assert any("the annotator could not tell it in its check" in page for page in pages)
    said = annotate(job, "left", "--checked", job / "blind.json", "--leave-out-unseen").stderr
    assert "they are left out" in said
    assert "cardiomegaly" not in set(mammi.open_run(job / "left").annotations["concept"])


def test_a_check_of_another_annotator_is_refused(check, job):
    _, written = check
    written["annotator"]["fingerprint"] = "0" * 64
    (job / "other.json").write_text(json.dumps(written))
    assert "the check is of another annotator" in annotate(job, "no", "--checked", job / "other.json", code=2).stderr
    assert "needs --checked" in annotate(job, "no", "--leave-out-unseen", code=2).stderr
    assert not (job / "no").exists()


def test_another_model_than_the_golden_one_ends_with_1(check, job):
    from safetensors.torch import load_file, save_file

    rows = {name: -rows for name, rows in load_file(job / "g.safetensors").items()}
    save_file(rows, job / "h.safetensors", metadata={"preprocessing": "x", "fingerprint": "y"})
    found = run(
        *("vlms", "check", "phantom", "--images", job / "data" / "images", "--labels", job / "data" / "labels.csv"),
        *("--golden", job / "h.safetensors"),
        code=1,
    )
    assert "another preprocessing" in found.stdout
