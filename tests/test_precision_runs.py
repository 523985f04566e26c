"""A run in bfloat16: it says so, is gone on with so, and its explanation still adds up."""

import json
import re

import numpy as np
import pytest
import torch

import mammi
from mammi.engine import trial
from mammi.errors import InputError, StaleRunError
from mammi.explain.account import open_account
from mammi.explain.models import load_target
from mammi.pages.method import limits, model_card
from mammi.pages.view import RunView
from mammi.phantoms import write_cohort

TERMS = ["effusion", "pneumothorax", "mass", "cardiomegaly", "pacemaker", "normal"]


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 48, seed=3)
    return folder


def annotate(films, out, **options):
    said = []
    run = mammi.annotate(
        mammi.create_target("phantom"),
        mammi.ProbingSet.open(films / "images", films / "labels.csv"),
        mammi.ConceptSet.from_terms(TERMS),
        mammi.create_vlm("phantom"),
        layers=["layer3", "head"],
        out=out,
        say=said.append,
        **options,
    )
    return run, said


@pytest.fixture(scope="module")
def runs(films, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {
        precision: annotate(films, folder / precision, precision=precision) for precision in ("float32", "bfloat16")
    }


def test_the_run_says_how_it_was_computed_and_by_how_much_it_errs(runs):
    run, said = runs["bfloat16"]
    plain, _ = runs["float32"]
    assert len(said) == 1
    assert said[0].startswith("precision: target bfloat16 (as asked; activations differ by ")
    kept = run.manifest["precision"]
    assert run.manifest["identity"]["capture"]["dtype"] == "bfloat16"
    assert run.manifest["identity"]["capture"]["annotator"] == "bfloat16"
    assert plain.manifest["identity"]["capture"]["dtype"] == "float32"
    assert "annotator" not in plain.manifest["identity"]["capture"]
    assert set(kept["annotator"]["errors"]["bfloat16"]) == {"images"}
    texts = [{path.name: path.read_bytes() for path in each.folder.glob("embeddings/texts-*")} for each in (plain, run)]
    assert texts[0] == texts[1]
    for layer, stated in kept["target"]["errors"]["bfloat16"].items():
        rows, exact = run.activations(layer), plain.activations(layer)
        assert rows.dtype == np.float32
        error = np.linalg.norm(rows - exact) / np.linalg.norm(exact - exact.mean(axis=1, keepdims=True))
        assert 0 < error < 3 * stated  # stated from the first films, found on all


def test_the_explanation_of_a_run_in_bfloat16_adds_up(runs):
    run, _ = runs["bfloat16"]
    target = load_target(run)
    account = open_account(run, target, "layer3")
    assert account.exact
    total = account.contributions(0).sum(axis=0) + account.rest(0)
    np.testing.assert_allclose(total, account.logits[:, 0], atol=1e-9)
    # What float32 puts out for the first film differs from that by no more than the stated error allows.
    plain = open_account(runs["float32"][0], target, "layer3").logits
    stated = run.manifest["precision"]["target"]["errors"]["bfloat16"]["head"]
    error = np.linalg.norm(account.logits - plain) / np.linalg.norm(plain - plain.mean(axis=0))
    assert 0 < error < 3 * stated


def test_the_report_says_how_a_run_was_computed(runs):
    for precision, said in (("float32", False), ("bfloat16", True)):
        view = RunView(runs[precision][0])
        assert (
            any("but the target in bfloat16 and the annotator in bfloat16 (" in line for line in limits(view)) == said
        )
        assert f" --precision {precision} --out RUN" in model_card(view)["how_to_repeat"]


def test_a_run_is_gone_on_with_as_it_began(films, runs):
    run, _ = runs["bfloat16"]
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*.npy")}
    (run.folder / "annotations.parquet").unlink()
    manifest = json.loads((run.folder / "manifest.json").read_text())
    (run.folder / "manifest.json").write_text(json.dumps(manifest | {"status": "encoding"}))
    again, said = annotate(films, run.folder, precision="auto")
    assert again.manifest["precision"] == manifest["precision"]
    assert said[0].startswith("precision: target bfloat16 (as asked; ")
    arrays = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*.npy") if path.parent.name == "embeddings"}
    assert arrays == {path: before[path] for path in arrays}
    with pytest.raises(StaleRunError, match=r"the capture settings changed \(capture.dtype was bfloat16, now float32"):
        annotate(films, run.folder, precision="float32")


def test_a_long_job_is_tried_before_it_begins(films, tmp_path, monkeypatch):
    for name in ("SHORT", "WORTH", "QUICKER", "WORTH_TRYING"):
        monkeypatch.setattr(trial, name, -1e9)
    run, said = annotate(films, tmp_path / "run", method="calibrated")
    assert said[0].startswith("precision: target bfloat16 (")
    assert set(run.manifest["precision"]["target"]["seconds"]) == {"float32", "float32-channels-last", "bfloat16"}
    assert torch.isfinite(torch.from_numpy(np.array(run.activations("head")))).all()


def test_a_small_job_is_float32(films, tmp_path):
    run, said = annotate(films, tmp_path / "run")
    assert re.fullmatch(r"precision: target float32 \(\d+ s of work\), annotator float32 \(\d+ s of work\)", said[0])
    assert run.manifest["identity"]["capture"]["dtype"] == "float32"
    with pytest.raises(InputError, match="'precision' must be one of auto, "):
        annotate(films, tmp_path / "other", precision="half")
    assert not (tmp_path / "other").exists()
