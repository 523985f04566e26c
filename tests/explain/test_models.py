"""A run finds its models and films again, and refuses others."""

import json
import shutil

import pytest
import torch
from torch import nn

import mammi
from mammi.errors import ImageError, RunError, StaleRunError
from mammi.explain.models import load_target, load_vlm, run_films


def test_the_models_of_a_run_load_without_being_told(phantom_run):
    identity = phantom_run.manifest["identity"]
    assert load_target(phantom_run).fingerprint == identity["target"]
    assert load_vlm(phantom_run).fingerprint == identity["vlm"]


def test_paths_are_kept_absolute_and_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("import torch\ndef make():\n    return torch.nn.Linear(4, 2)\n")
    code = "import torch\nfrom torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))\n"
    (tmp_path / "net.py").write_text(code)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    torch.save(net.state_dict(), tmp_path / "w.pt")
    target = mammi.create_target("net.py:make", "w.pt", channels=1, size=8, mean=0.5, std=1.0)
    assert target.source["spec"] == f"{tmp_path / 'net.py'}:make"
    assert target.source["weights"] == str(tmp_path / "w.pt")
    monkeypatch.chdir("/")
    again = mammi.create_target(**json.loads(json.dumps(target.source)))
    assert again.fingerprint == target.fingerprint


def test_a_network_made_from_a_module_cannot_be_found_again(phantom_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(phantom_run.folder, folder)
    (folder / "private" / "models.json").write_text('{"target": null, "vlm": null}')
    with pytest.raises(RunError, match="give --target and --weights"):
        load_target(mammi.open_run(folder))
    with pytest.raises(RunError, match="search by concept"):
        load_vlm(mammi.open_run(folder))
    assert load_target(mammi.open_run(folder), "phantom").name == "phantom"
    (folder / "private" / "models.json").unlink()  # a run of an older version
    with pytest.raises(RunError, match="or an older version wrote the run.: give --target and --weights"):
        load_target(mammi.open_run(folder))


def test_another_network_is_refused(phantom_run):
    with pytest.raises(StaleRunError, match="is not the one of"):
        load_target(phantom_run, "phantom", mean=0.1)


def test_films_come_in_the_order_of_the_tables(phantom_run, drawn):
    films = run_films(phantom_run)
    assert films.ids == list(phantom_run.images["id"])
    assert films.paths == sorted((drawn / "images").iterdir())
    assert len(set(films.patients)) == phantom_run.manifest["counts"]["patients"]


def test_a_film_that_is_gone_is_named_by_its_salted_id(phantom_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(phantom_run.folder, folder)
    sources = json.loads((folder / "private" / "films.json").read_text())
    sources[3]["path"] = str(tmp_path / "gone" / "Mueller.png")
    (folder / "private" / "films.json").write_text(json.dumps(sources))
    with pytest.raises(ImageError, match=r"1 of 60 films are not where they were \(film-") as caught:
        run_films(mammi.open_run(folder))
    assert "Mueller" not in str(caught.value)


def test_films_of_a_run_without_its_private_part_are_asked_for_back(phantom_run, tmp_path):
    shutil.copytree(phantom_run.folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "private")
    with pytest.raises(RunError, match="put 'private' back beside the manifest"):
        run_films(mammi.open_run(tmp_path / "run"))
