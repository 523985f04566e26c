"""The untrained copy beside a run: recorded once, resumed like the rest, naming nobody, leaving the network alone."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import mammi
from mammi.errors import ImageError, RunError, StaleRunError, TargetError
from mammi.functional.fingerprint import fingerprint_module
from mammi.functional.similarity import unit_rows
from mammi.methods import METHODS, Evidence, create_method, match_units, select_units, wants_control
from mammi.reports import write_report
from mammi.store.shards import ActivationStore
from mammi.targets import randomised
from test_pipeline import MODEL, TERMS, VLM, assert_same, draw
from test_pipeline import call as call_any

N_FILMS = 300  # more than one block of 256
COPYING = "recording films of an untrained copy"
OPTIONS = {"method": "calibrated", "shuffles": 20, "resamples": 10}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    (folder / "model.py").write_text(MODEL)
    (folder / "vlm.py").write_text(VLM)
    (folder / "concepts.txt").write_text("\n".join(TERMS) + "\n")
    draw(folder / "films", N_FILMS)
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "patient", "bright"])
        rows.writerows([f"plate-{i:04d}", f"Ottokar-{i // 2}", i % 3 == 0] for i in range(N_FILMS))
    return folder


def films(parts):
    return mammi.ProbingSet.open(parts / "films", parts / "labels.csv")


def call(parts, out, **changes):
    return call_any(parts, out, **({"images": films(parts)} | OPTIONS | changes))


@pytest.fixture(scope="module")
def undisturbed(parts, tmp_path_factory):
    return call(parts, tmp_path_factory.mktemp("runs") / "run")


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def control(run, layer):
    return np.load(run.folder / "control" / "activations" / layer / "by_unit.npy")


def assert_same_run(run, other):
    assert_same(run, other)
    for layer in run.layers:
        np.testing.assert_array_equal(control(run, layer), control(other, layer))


def seen_by_a_copy(parts, rows):
    """Activations of the copy, from nothing but the network and the films: ``(n_units, n_films)`` per layer."""
    target, probing = mammi.create_target(f"{parts / 'model.py'}:create"), films(parts)
    settle = np.unique(np.linspace(0, len(rows) - 1, 64).astype(int))
    copy = randomised(target, [probing.film(int(rows[place])) for place in settle], seed=1)
    views = torch.stack([copy.view(probing.film(int(row))) for row in rows])
    with torch.no_grad():
        return {"head": copy.model(views).T.numpy(), "conv": copy.model.conv(views).mean((2, 3)).T.numpy()}


def test_the_copy_is_recorded_on_the_same_films(parts, undisturbed):
    for layer, expected in seen_by_a_copy(parts, range(N_FILMS)).items():
        np.testing.assert_allclose(control(undisturbed, layer), expected, atol=1e-6)
    head = control(undisturbed, "head")
    assert not np.allclose(head, undisturbed.activations("head"), atol=0.1)


def test_the_names_are_those_of_the_same_arrays(parts, undisturbed):
    probing, vlm = films(parts), mammi.create_vlm(f"{parts / 'vlm.py'}:create")
    images = vlm.embed_images(torch.stack([vlm.view(probing.film(i)) for i in range(N_FILMS)]))
    texts, bare = vlm.embed_texts([f"a film that is {term}" for term in TERMS]), vlm.embed_texts(["a film that is"])
    beside = np.concatenate([control(undisturbed, layer) for layer in undisturbed.layers]).T
    for layer in undisturbed.layers:
        found = mammi.annotate_arrays(
            *(np.array(undisturbed.activations(layer)).T, images, texts, bare),
            **{"patients": [str(patient) for patient in probing.patients], "control": beside} | OPTIONS,
        )
        rows = undisturbed.units[undisturbed.units["layer"] == layer]
        for unit, kept in enumerate(found.concepts):
            named = [concept.concept for concept in undisturbed.unit(layer, unit).annotation.concepts]
            assert named == [TERMS[concept] for concept in kept]
            if found.verdict.reasons[unit]:
                assert rows["reason"].iloc[unit] == found.verdict.reasons[unit]
    reasons = " ".join(undisturbed.units["reason"])
    assert "is what an untrained copy of the network can show" in reasons  # five numbers of a film: no great art


def test_without_a_control_there_is_no_copy_and_more_names(parts, undisturbed, tmp_path):
    steps = set()
    alone = call(parts, tmp_path / "run", control=False, progress=lambda step, *_: steps.add(step))
    assert not any("untrained" in step for step in steps)
    assert not any("control" in path.parts for path in (tmp_path / "run").rglob("*"))
    assert alone.to_frame("head")["name"].tolist() == ["bright", "dark", "right", "textured", "no concept"]
    assert (undisturbed.units["n_concepts"] > 0).sum() < (alone.units["n_concepts"] > 0).sum()
    with pytest.raises(StaleRunError, match="control was False, now True"):
        call(parts, tmp_path / "run")
    with pytest.raises(StaleRunError, match="control was True, now False"):
        call(parts, undisturbed.folder, control=False)


def test_nothing_outside_private_names_a_film_a_patient_or_a_path(parts, undisturbed, tmp_path):
    run_folder = tmp_path / "run"
    shutil.copytree(undisturbed.folder, run_folder)
    assert {path.name for path in (run_folder / "control").rglob("*") if path.is_file()} == {"by_unit.npy"}
    shutil.rmtree(run_folder / "private")
    run = mammi.open_run(run_folder)  # what is passed on can be looked at
    write_report(run, run_folder / "report.html")
    assert "no concept" in str(run.unit("head", 0))
    for path in (path for path in run_folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        for secret in ("plate-0", "Ottokar", str(parts), str(undisturbed.folder)):
            assert secret.encode() not in data, f"{secret} in {path.relative_to(run_folder)}"
    # What was noted of each block holds fingerprints of the films' pixels.
    assert sorted(path.name for path in (undisturbed.folder / "private" / "control" / "blocks").iterdir()) == [
        "000000.json",
        "000001.json",
    ]


def test_a_complete_run_is_returned_without_work(parts, undisturbed):
    before, steps = times(undisturbed.folder), set()
    again = call(parts, undisturbed.folder, progress=lambda step, *_: steps.add(step))
    after = times(undisturbed.folder)
    manifest = undisturbed.folder / "manifest.json"
    assert {path: at for path, at in after.items() if path != manifest} == {
        path: at for path, at in before.items() if path != manifest
    }
    assert not any("record" in step or "encod" in step or "match" in step for step in steps)
    assert_same_run(again, undisturbed)


class StopError(Exception):
    """As if the machine had been switched off."""


def stop_at(step, at):
    def progress(name, done, total):
        if name == step and done >= at:
            raise StopError

    return progress


@pytest.mark.parametrize(
    ("step", "at", "blocks"),
    [(COPYING, 0, 0), (COPYING, 100, 0), (COPYING, 272, 1), (COPYING, N_FILMS, 1), ("encoding films", 64, 2)],
)
def test_an_interrupted_copy_is_gone_on_with(parts, undisturbed, tmp_path, step, at, blocks):
    out = tmp_path / "run"
    with pytest.raises(StopError):
        call(parts, out, progress=stop_at(step, at))
    with pytest.raises(RunError, match="is not complete"):
        mammi.open_run(out)
    records = out / "private" / "control" / "blocks"
    before = {path: at for path, at in times(out).items() if path.suffix == ".npy" or path.parent.name == "blocks"}
    assert len(list(records.glob("*"))) == blocks
    seen = []
    run = call(parts, out, progress=lambda name, done, _: seen.append(done) if name == COPYING else None)
    assert seen[:1] == ([256 * blocks] if blocks < 2 else [])  # what is there is not recorded again
    assert_same_run(run, undisturbed)
    after = times(out)
    for path, written in before.items():
        assert after.get(path, written) == written, f"{path.relative_to(out)} was done again"


def test_stopping_between_two_layers_of_the_copy_loses_neither(parts, undisturbed, tmp_path, monkeypatch):
    out, finish = tmp_path / "run", ActivationStore.finish

    def fail(self, layer, *rest):
        if self.part and layer == "conv":
            raise StopError
        finish(self, layer, *rest)

    monkeypatch.setattr(ActivationStore, "finish", fail)
    with pytest.raises(StopError):
        call(parts, out)
    assert (out / "control" / "activations" / "head" / "by_unit.npy").is_file()
    monkeypatch.undo()
    assert_same_run(call(parts, out), undisturbed)
    assert not list(out.rglob("shard-*"))


SCRIPT = """
import sys
from pathlib import Path
import mammi
parts, out = Path(sys.argv[1]), sys.argv[2]
mammi.annotate(
    mammi.create_target(f"{parts / 'model.py'}:create"),
    mammi.ProbingSet.open(parts / "films", parts / "labels.csv"),
    mammi.ConceptSet.read(parts / "concepts.txt"), mammi.create_vlm(f"{parts / 'vlm.py'}:create"),
    layers=["head", "conv"], out=out, template="a film that is {}", method="calibrated", shuffles=20, resamples=10,
    progress=lambda step, done, total: print(step, done, flush=True))
"""


def test_kill_9_in_the_middle_of_the_copy(parts, undisturbed, tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(parts), str(out)], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    for line in process.stdout:
        name, done = line.rsplit(" ", 1)
        if name == COPYING and int(done) >= 272:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    record = out / "private" / "control" / "blocks" / "000000.json"
    written = record.stat().st_mtime_ns
    assert_same_run(call(parts, out), undisturbed)
    assert record.stat().st_mtime_ns == written


def test_the_network_under_study_is_left_as_it_is(parts, tmp_path):
    target = mammi.create_target(f"{parts / 'model.py'}:create")
    calls = []
    target.model.conv.register_forward_hook(lambda *_: calls.append(1))
    target.model.conv.train()
    target.model.head.requires_grad_(False)

    def state():
        modules = list(target.model.modules())
        return (
            fingerprint_module(target.model),
            [module.training for module in modules],
            [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in modules],
            [(parameter.requires_grad, parameter.data_ptr()) for parameter in target.model.parameters()],
        )

    before = state()
    call(parts, tmp_path / "run", target=target)
    assert state() == before
    assert calls


class Bare(torch.nn.Module):
    """A layer whose units are the mean and its opposite."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(1, 2, bias=False)
        self.head.weight.data = torch.tensor([[1.0], [-1.0]])

    def forward(self, x):
        return self.head(x.mean((1, 2, 3))[:, None])


def wrapped(model):
    return mammi.create_target(model, channels=1, size=16, mean=0.0, std=1.0)


def test_a_network_that_cannot_be_copied_is_refused_before_any_film(parts, tmp_path):
    target = wrapped(Bare())
    target.model.lock = (i for i in range(3))  # a generator cannot be copied
    steps = []
    with pytest.raises(TargetError, match=r"cannot be copied .*: leave out .*control=False \(-O control=false\)"):
        call(parts, tmp_path / "run", target=target, layers=["head"], progress=lambda *step: steps.append(step))
    assert not (tmp_path / "run").exists()
    assert not steps
    run = call(parts, tmp_path / "run", target=target, layers=["head"], control=False)
    assert run.units["name"].tolist() == ["bright", "dark"]


class Brittle(Bare):
    """Divides by what only training made different from 0."""

    class Scale(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.by = torch.nn.Parameter(torch.tensor([2.0]))

        def reset_parameters(self):
            torch.nn.init.zeros_(self.by)

    def __init__(self):
        super().__init__()
        self.scale = self.Scale()

    def forward(self, x):
        return super().forward(x) / self.scale.by


def test_a_copy_that_overflows_says_the_way_out_and_keeps_what_is_recorded(parts, tmp_path):
    with pytest.raises(TargetError, match=r"not finite once its weights are drawn anew: leave out .*control=False"):
        call(parts, tmp_path / "run", target=wrapped(Brittle()), layers=["head"])
    assert len(list((tmp_path / "run" / "private" / "blocks").iterdir())) == 2


def test_of_very_many_films_evenly_spaced_ones_are_shown(parts, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr("mammi.untrained.MOST_FILMS", 50)
    steps = []
    run = call(parts, tmp_path / "run", progress=lambda *step: steps.append(step) if step[0] == COPYING else None)
    assert steps[-1] == (COPYING, 50, 50)
    rows = [i * (N_FILMS - 1) // 49 for i in range(50)]
    assert (rows[0], rows[-1], set(np.diff(rows))) == (0, N_FILMS - 1, {6, 7})
    for layer, expected in seen_by_a_copy(parts, rows).items():
        np.testing.assert_allclose(control(run, layer), expected, atol=1e-6)
    # Names as from the same arrays, with the copy's films in their places.
    probing, vlm = films(parts), mammi.create_vlm(f"{parts / 'vlm.py'}:create")
    recipe = create_method(**{"name": "calibrated"} | {name: OPTIONS[name] for name in ("shuffles", "resamples")})
    activations = torch.from_numpy(np.array(run.activations("head"))).T
    evidence = Evidence(
        activations=activations,
        films=unit_rows(vlm.embed_images(torch.stack([vlm.view(probing.film(i)) for i in range(N_FILMS)])), "films"),
        concepts=unit_rows(vlm.embed_texts([f"a film that is {term}" for term in TERMS]), "texts"),
        template=None,
        patients=torch.from_numpy(np.unique(probing.patients, return_inverse=True)[1]),
        control=torch.from_numpy(np.concatenate([control(run, layer) for layer in run.layers])).T,
        control_films=torch.tensor(rows),
    )
    selection = select_units(recipe, lambda units: activations[:, units], 5)
    found = match_units(recipe, evidence, selection)
    assert [[TERMS[concept] for concept in kept] for kept in found.concepts] == [
        [concept.concept for concept in run.unit("head", unit).annotation.concepts] for unit in range(5)
    ]
    reasons, whole = (each.to_frame("head")["reason"].tolist()[:4] for each in (run, undisturbed))
    assert reasons == found.verdict.reasons[:4]
    assert reasons != whole  # 50 films set another bar


@pytest.mark.parametrize("most", [50, 2000])
def test_unreadable_films_are_not_shown_to_the_copy(parts, tmp_path, monkeypatch, most):
    monkeypatch.setattr("mammi.untrained.MOST_FILMS", most)
    shutil.copytree(parts / "films", tmp_path / "films")
    broken = [0, 6, 7, 299]
    for row in broken:
        (tmp_path / "films" / f"plate-{row:04d}.png").write_bytes(b"not a picture")
    damaged = mammi.ProbingSet.open(tmp_path / "films", parts / "labels.csv")
    run = call(parts, tmp_path / "run", images=damaged, on_error="skip")
    whole = films(parts).subset([row for row in range(N_FILMS) if row not in broken])
    other = call(parts, tmp_path / "other", images=whole)
    assert run.manifest["counts"]["unreadable"] == 4
    assert control(run, "head").shape == (5, min(most, 296))
    assert np.isfinite(control(run, "head")).all()
    for name in ("units", "annotations", "examples"):
        pd.testing.assert_frame_equal(getattr(run, name), getattr(other, name), check_exact=True)
    for layer in run.layers:
        np.testing.assert_array_equal(control(run, layer), control(other, layer))


def test_a_film_that_is_gone_when_the_copy_is_shown_it(parts, undisturbed, tmp_path):
    shutil.copytree(parts / "films", tmp_path / "films")
    lost, aside = tmp_path / "films" / "plate-0270.png", tmp_path / "aside.png"

    def lose(step, done, total):
        if step == COPYING and lost.exists():
            lost.rename(aside)

    def again(**more):
        probing = mammi.ProbingSet.open(tmp_path / "films", parts / "labels.csv")
        return call(parts, tmp_path / "run", images=probing, **more)

    with pytest.raises(ImageError, match="1 of 300 films could be read for the network and not .*plate-0270"):
        again(progress=lose)
    aside.rename(lost)
    assert_same_run(again(), undisturbed)


@pytest.mark.parametrize("damage", ["torn", "other films", "gone"])
def test_a_damaged_copy_is_recorded_again_where_it_is_needed(parts, undisturbed, tmp_path, damage):
    out = tmp_path / "run"
    shutil.copytree(undisturbed.folder, out)
    array = out / "control" / "activations" / "conv" / "by_unit.npy"
    match damage:
        case "torn":
            array.write_bytes(array.read_bytes()[:200])
        case "other films":
            np.save(array, np.zeros((3, 7), np.float32))
        case "gone":
            shutil.rmtree(out / "control")
            shutil.rmtree(out / "private" / "control")
    assert_same(call(parts, out), undisturbed)  # a complete run does not need it any more
    (out / "units.parquet").unlink()
    assert_same_run(call(parts, out), undisturbed)


@pytest.mark.parametrize("n_films", [1, 2, 3])
def test_hardly_any_film(parts, tmp_path, n_films):
    """Batch normalisation cannot be settled on one film, and nothing varies over it."""
    run = call(
        parts,
        tmp_path / "run",
        target=mammi.create_target("phantom"),
        images=films(parts).subset(range(n_films)),
        layers=["head", "layer3"],
    )
    assert (run.units["name"] == "no concept").all()
    assert (run.units["reason"] != "").all()
    assert (run.folder / "control").is_dir() == (n_films > 1)


def test_only_methods_that_look_at_all_films_compare_with_a_copy():
    """The copy's films are given as places among all films, so all of them must be encoded."""
    comparing = [name for name in METHODS.names() if wants_control(create_method(name))]
    assert "calibrated" in comparing
    for name in comparing:
        assert create_method(name).needs == "films"
    assert not wants_control(create_method("calibrated", control=False))
