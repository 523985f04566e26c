"""The main job on real films, reports, a real network and a real annotator; skipped where they are absent."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import mammi

ROOT = Path(__file__).resolve().parents[1]
FINDINGS = [
    *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax"),
    *("consolidation", "edema", "emphysema", "fibrosis", "pleural thickening", "hernia"),
]


@pytest.fixture(scope="module")
def run(shared_data, tmp_path_factory):
    films = mammi.ProbingSet.open(shared_data / "nih" / "images", shared_data / "nih" / "labels.csv")
    twins = [row for row, name in enumerate(films.ids) if name.startswith("00002658_00")]
    concepts = mammi.build_concepts(mammi.read_reports(shared_data / "reports.jsonl"), max_concepts=250)
    assert all(concepts.find(name) for name in FINDINGS)
    network = shared_data / "mobilenet_nih"
    return mammi.annotate(
        mammi.create_target(f"{network / 'model.py'}:MNV3S", network / "weights.pt"),
        films.subset(sorted({*range(0, 1088, 5), *twins})),
        concepts,
        mammi.create_vlm(f"{shared_data / 'cxr_mini_vlm' / 'vlm.py'}:create"),
        layers=["linear4", "hs3", "hs2"],
        out=tmp_path_factory.mktemp("real") / "run",
    )


def test_a_real_network_is_annotated(run):
    assert run.units.groupby("layer", sort=False).size().to_dict() == {"linear4": 15, "hs3": 1280, "hs2": 576}
    assert (run.units["n_concepts"] > 0).mean() > 0.9
    assert run.to_frame("linear4")["output"].tolist()[:3] == ["no finding", "infiltration", "atelectasis"]
    assert run.manifest["counts"]["same_pixels"] == 1
    assert len(run.labels.columns) == 14


def test_its_activations_equal_a_bare_forward(run, shared_data):
    network = shared_data / "mobilenet_nih"
    target = mammi.create_target(f"{network / 'model.py'}:MNV3S", network / "weights.pt")
    films = mammi.ProbingSet.open(shared_data / "nih" / "images")
    names = [films.ids[row] for row in range(0, 40, 5)]
    views = []
    for name in names:
        film = mammi.read_film(shared_data / "nih" / "images" / f"{name}.png")
        views.append(target.view(film))
    with torch.no_grad():
        maps = target.model.features(torch.stack(views))
        logits = target.model(torch.stack(views))
    np.testing.assert_allclose(run.activations("linear4")[:, : len(names)].T, logits, atol=1e-4)
    np.testing.assert_allclose(run.activations("hs2")[:, : len(names)].T, maps.mean((2, 3)), atol=1e-4)


def test_the_recorded_densenet_gives_the_recorded_figures(shared_data, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["recorded_densenet.py", str(shared_data)])
    runpy.run_path(str(ROOT / "benchmarks" / "recorded_densenet.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "578 films, 14 outputs, 829 concepts" in printed
    assert "examples per output: 1 to 8, median 2" in printed
    assert printed.splitlines()[-1].split()[-3:] == ["0.00", "0.36", "25"]
