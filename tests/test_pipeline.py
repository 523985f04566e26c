"""The main job on a small network and a small annotator of the tests' own: laws, resuming, kills, refusals."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
import torch

import mammi
from mammi.errors import BusyRunError, CaptureError, ImageError, InputError, RunError, StaleRunError
from mammi.store.files import locked
from small_job import MODEL, N_FILMS, SCRIPT, TERMS, VLM, assert_same, call, draw, write_parts


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return write_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def undisturbed(parts, tmp_path_factory):
    return call(parts, tmp_path_factory.mktemp("runs") / "run")


def test_names_are_right(undisturbed):
    frame = undisturbed.to_frame("head").set_index("output")
    for truth in ("bright", "dark", "right", "textured"):
        assert frame.loc[truth, "name"] == truth
    assert frame.loc["dead", "name"] == "no concept"
    assert frame.loc["dead", "reason"] == "it never varies over these films"
    assert frame.loc["dead", "n_examples"] == 0
    assert undisturbed.manifest["counts"]["named"] == int((undisturbed.units["n_concepts"] > 0).sum())


def test_a_run_equals_the_same_job_from_arrays(parts, undisturbed):
    films = mammi.ProbingSet.open(parts / "films")
    vlm = mammi.create_vlm(f"{parts / 'vlm.py'}:create")
    images = vlm.embed_images(torch.stack([vlm.view(films.film(i)) for i in range(N_FILMS)]))
    texts = vlm.embed_texts([f"a film that is {term}" for term in TERMS])
    bare = vlm.embed_texts(["a film that is"])
    for layer in ("head", "conv"):
        found = mammi.annotate_arrays(np.array(undisturbed.activations(layer)).T, images, texts, bare)
        examples = undisturbed.examples[undisturbed.examples["layer"] == layer]
        for unit, chosen in enumerate(found.examples):
            assert examples[examples["unit"] == unit]["film"].tolist() == list(chosen)
            page = undisturbed.unit(layer, unit)
            assert [c.concept for c in page.annotation.concepts] == [TERMS[m] for m in found.concepts[unit]]
            np.testing.assert_allclose(
                page.ranking["score"], np.sort(found.scores[unit][np.isfinite(found.scores[unit])])[::-1], atol=1e-7
            )


def test_activations_equal_a_bare_forward(parts, undisturbed):
    films = mammi.ProbingSet.open(parts / "films")
    target = mammi.create_target(f"{parts / 'model.py'}:create")
    rows = [0, 255, 256, 599]
    with torch.no_grad():
        expected = target.model(torch.stack([target.view(films.film(i)) for i in rows]))
    np.testing.assert_allclose(undisturbed.activations("head")[:, rows].T, expected, atol=1e-6)


@pytest.mark.parametrize("decoders", [1, 3])
def test_the_number_of_decoders_changes_nothing(parts, undisturbed, tmp_path, decoders):
    assert_same(call(parts, tmp_path / "run", engine=mammi.create_engine(decoders=decoders)), undisturbed)


def test_one_layer_alone_equals_the_layer_in_company(parts, undisturbed, tmp_path):
    alone = call(parts, tmp_path / "run", layers=["conv"])
    np.testing.assert_array_equal(alone.activations("conv"), undisturbed.activations("conv"))
    together = undisturbed.annotations[undisturbed.annotations["layer"] == "conv"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.annotations, together)


def test_each_chosen_film_is_encoded_once(parts, tmp_path):
    vlm = mammi.create_vlm(f"{parts / 'vlm.py'}:create")
    seen = []
    encode = vlm.model.encode_images
    vlm.model.encode_images = lambda batch: (seen.append(len(batch)), encode(batch))[1]
    run = call(parts, tmp_path / "run", vlm=vlm)
    assert sum(seen) == run.examples["film"].nunique() == run.manifest["counts"]["encoded"]
    assert len(run.examples) > run.examples["film"].nunique()  # some film was chosen by several units


def test_a_complete_run_is_returned_as_it_is(parts, undisturbed):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.folder.rglob("*.npy")}
    again = call(parts, undisturbed.folder)
    assert {path: path.stat().st_mtime_ns for path in undisturbed.folder.rglob("*.npy")} == before
    assert_same(again, undisturbed)


@pytest.mark.parametrize(
    ("step", "at"), [("recording films", 300), ("recording films", 590), ("encoding films", 65), ("selecting", 0)]
)
def test_kill_9_and_again_gives_the_same_run(parts, undisturbed, tmp_path, step, at):
    out = tmp_path / "run"
    # Slow enough on the way to be killed in the middle of encoding.
    env = {**os.environ, "MAMMI_TEST_SLOW_VLM": "0.002"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(parts), str(out)], stdout=subprocess.PIPE, text=True, env=env
    )
    for line in process.stdout:
        name, done = line.rsplit(" ", 1)
        if name.startswith(step) and int(done) >= at:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(RunError, match="is not complete"):
        mammi.open_run(out)
    finished = {path: path.stat().st_mtime_ns for path in out.rglob("*.json") if path.parent.name == "blocks"}
    encoded = {path: path.stat().st_mtime_ns for path in out.rglob("*.npy") if path.parent.name == "embeddings"}
    assert_same(call(parts, out), undisturbed)
    for path, written in (finished | encoded).items():
        assert path.stat().st_mtime_ns == written, f"{path.name} was done again"
    if step == "recording films":
        assert len(finished) == at // 256
    if step == "encoding films":
        assert encoded


def test_a_second_process_is_refused(parts, tmp_path):
    out = tmp_path / "run"
    with locked(out), pytest.raises(BusyRunError, match="another process is working in"):
        call(parts, out)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"template": "a {}"}, "the template changed"),
        ({"example_threshold": 0.9}, r"method.options.example_threshold was 0.93, now 0.9"),
        ({"layers": ["head"]}, "the layers or their pooling changed"),
        ({"pooling": "max"}, "the layers or their pooling changed"),
        ({"batch_size": 8}, "capture.batch_size was 16, now 8"),
        ({"concepts": mammi.ConceptSet.from_terms([*TERMS, "more"])}, "the concept set changed"),
    ],
)
def test_other_settings_are_refused_by_name(parts, undisturbed, change, what):
    with pytest.raises(StaleRunError, match=what):
        call(parts, undisturbed.folder, **change)


def test_a_network_that_starts_at_random_can_be_resumed(parts):
    make = [mammi.create_target("torchvision:squeezenet1_1", "random").fingerprint for _ in range(2)]
    assert make[0] == make[1]
    before = torch.random.get_rng_state()
    mammi.create_target("torchvision:squeezenet1_1", "random")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_other_weights_and_films_are_refused_by_name(parts, undisturbed, tmp_path):
    target = mammi.create_target(f"{parts / 'model.py'}:create")
    target.model.conv.weight.data[0] += 1e-3
    changed = mammi.create_target(target.model)
    with pytest.raises(StaleRunError, match="the target network changed"):
        call(parts, undisturbed.folder, target=changed)
    with pytest.raises(StaleRunError, match="the films changed .*images.n was 600, now 599"):
        call(parts, undisturbed.folder, images=mammi.ProbingSet.open(parts / "films").subset(range(599)))
    films = mammi.ProbingSet.open(parts / "films")
    with pytest.raises(StaleRunError, match=r"the films changed \(images.fingerprint"):
        call(parts, undisturbed.folder, images=films.subset([1, 0, *range(2, 600)]))
    vlm = tmp_path / "vlm.py"
    vlm.write_text(VLM.replace("- 0.5, torch", "- 0.4, torch"))
    with pytest.raises(StaleRunError, match="the vision-language model changed"):
        call(parts, undisturbed.folder, vlm=mammi.create_vlm(f"{vlm}:create"))


@pytest.fixture
def damaged(parts, tmp_path):
    draw(tmp_path / "films", 300)
    for name in ("plate-0007.png", "plate-0270.png"):
        (tmp_path / "films" / name).write_bytes(b"not a picture")
    (tmp_path / "films" / "plate-0009.png").write_bytes((tmp_path / "films" / "plate-0008.png").read_bytes())
    return tmp_path / "films"


def test_unreadable_films_fail_with_the_whole_list_and_cost_nothing(parts, damaged, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(ImageError) as caught:
        call(parts, out, images=mammi.ProbingSet.open(damaged))
    assert "2 of 300 films cannot be read" in str(caught.value)
    assert "plate-0007" in str(caught.value)
    assert "plate-0270" in str(caught.value)
    blocks = {path: path.stat().st_mtime_ns for path in (out / "private" / "blocks").iterdir()}
    assert len(blocks) == 2

    run = call(parts, out, images=mammi.ProbingSet.open(damaged), on_error="skip")
    assert {path: path.stat().st_mtime_ns for path in (out / "private" / "blocks").iterdir()} == blocks
    counts = run.manifest["counts"]
    assert (counts["films"], counts["unreadable"], counts["same_pixels"]) == (298, 2, 1)
    for path in out.rglob("*"):
        assert "private" in path.parts or not path.is_file() or b"plate-0270" not in path.read_bytes(), path.name
    assert list(json.loads((out / "private" / "unreadable.json").read_text())) == ["plate-0007", "plate-0270"]
    assert run.activations("head").shape == (5, 298)
    assert 7 not in set(run.images["row"])
    twin = run.images[run.images["same_pixels_as"].notna()].iloc[0]
    assert (twin["row"], twin["same_pixels_as"]) == (
        9,
        7,
    )  # film 9 of the folder equals film 8, the eighth that is left

    # The same films without the broken ones give the same names.
    clean = mammi.ProbingSet.open(damaged).subset([i for i in range(300) if i not in (7, 270)])
    other = call(parts, tmp_path / "other", images=clean)
    pd.testing.assert_frame_equal(other.annotations, run.annotations)


def test_a_repaired_film_is_taken_up_and_the_other_blocks_stay(parts, damaged, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(ImageError):
        call(parts, out, images=mammi.ProbingSet.open(damaged))
    first = (out / "private" / "blocks" / "000000.json").stat().st_mtime_ns
    for name in ("plate-0270.png",):
        (damaged / name).write_bytes((damaged / "plate-0001.png").read_bytes())
    run = call(parts, out, images=mammi.ProbingSet.open(damaged), on_error="skip")
    assert (out / "private" / "blocks" / "000000.json").stat().st_mtime_ns == first
    assert run.manifest["counts"]["unreadable"] == 1
    np.testing.assert_array_equal(run.activations("head")[:, 269], run.activations("head")[:, 1])


def test_a_readable_film_that_changed_is_refused(parts, damaged, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(ImageError):
        call(parts, out, images=mammi.ProbingSet.open(damaged))
    (damaged / "plate-0003.png").write_bytes((damaged / "plate-0001.png").read_bytes())
    with pytest.raises(StaleRunError, match="the films changed"):
        call(parts, out, images=mammi.ProbingSet.open(damaged), on_error="skip")


def test_no_film_at_all_is_one_line(parts, tmp_path):
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "a.png").write_bytes(b"no")
    with pytest.raises(ImageError, match="none of the 1 films can be read"):
        call(parts, tmp_path / "run", images=mammi.ProbingSet.open(tmp_path / "films"), on_error="skip")


@pytest.mark.parametrize("name", ["layer=head", "unit=1", "a[1]", "b?", "c*", "run#1", "run%203", "größer run"])
def test_a_run_may_be_called_anything(parts, undisturbed, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (name, "a1", "bx", "cy"):
        shutil.copytree(undisturbed.folder, folder)
    before = sorted(path.name for path in tmp_path.iterdir())
    run = mammi.open_run(name)
    pd.testing.assert_frame_equal(run.to_frame(), undisturbed.to_frame())
    assert run.unit("head", 1).annotation == undisturbed.unit("head", 1).annotation
    pd.testing.assert_frame_equal(run.search("bright"), undisturbed.search("bright"))
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "name",
    [
        *("units.parquet", "examples.parquet", "annotations.parquet", "images.parquet", "index.sqlite"),
        "activations/conv/by_unit.npy",
    ],
)
@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_damaged_run_is_refused_and_mended_by_the_same_command(parts, undisturbed, tmp_path, name, kept):
    out = tmp_path / "run"
    shutil.copytree(undisturbed.folder, out)
    whole = (out / name).read_bytes()
    (out / name).write_bytes(whole[: int(len(whole) * kept)])

    def look():
        damaged = mammi.open_run(out)
        return damaged.to_frame(), damaged.examples, damaged.images, damaged.search("bright"), damaged.unit("conv", 0)

    with pytest.raises(RunError, match=Path(name).name):
        look()
    (out / "explain").mkdir()
    (out / "explain" / "audit.json").write_text("{}")
    assert_same(call(parts, out), undisturbed)
    assert not (out / "explain").exists()  # it was about the damaged tables


def test_a_damaged_manifest_is_one_line(undisturbed, tmp_path):
    shutil.copytree(undisturbed.folder, tmp_path / "run")
    (tmp_path / "run" / "manifest.json").write_text('{"schema": ')
    with pytest.raises(RunError, match="it is damaged, remove the run folder and run again"):
        mammi.open_run(tmp_path / "run")


def test_only_the_output_layer_carries_the_output_names(parts, tmp_path):
    class Equal(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Sequential(torch.nn.Linear(3, 3))
            self.hidden = torch.nn.Linear(256, 3)
            self.output_names = ("effusion", "mass", "nodule")

        def forward(self, x):
            return self.head(self.hidden(x.flatten(1)))

    target = mammi.create_target(Equal(), channels=1, size=16, mean=0.0, std=1.0)
    run = call(parts, tmp_path / "run", target=target, layers=["hidden", "head"])
    assert run.to_frame("hidden")["output"].tolist() == ["", "", ""]
    assert run.to_frame("head")["output"].tolist() == ["effusion", "mass", "nodule"]
    alone = call(parts, tmp_path / "alone", target=target, layers=["hidden"])
    assert alone.to_frame()["output"].tolist() == ["", "", ""]


class Broken(torch.nn.Module):
    """Some units are NaN or infinite on some films, as after an overflow."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Identity()

    def forward(self, x):
        m = x.mean((1, 2, 3))
        return self.head(torch.stack([m, torch.where(m > 0.6, torch.nan, m), torch.where(m > 0.7, torch.inf, m)], 1))


def test_a_broken_unit_does_not_cost_the_others(parts, tmp_path):
    target = mammi.create_target(Broken(), channels=1, size=16, mean=0.0, std=1.0)
    run = call(parts, tmp_path / "run", target=target, layers=["head"])
    assert run.units["name"].tolist() == ["bright", "no concept", "no concept"]
    assert run.units["reason"].tolist()[1:] == ["its activation is NaN or infinite on some film"] * 2


@pytest.mark.parametrize("n_films", [1, 2])
def test_a_single_film_and_a_network_that_never_varies(parts, tmp_path, n_films):
    films = mammi.ProbingSet.open(parts / "films").subset(range(n_films))
    dead = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 3))
    dead[1].weight.data.zero_()
    target = mammi.create_target(dead, channels=1, size=16, mean=0.0, std=1.0)
    run = call(parts, tmp_path / "run", target=target, images=films, layers=["1"])
    assert run.units["reason"].tolist() == ["it never varies over these films"] * 3
    assert run.manifest["counts"]["encoded"] == 0
    assert run.to_frame()["concepts"].tolist() == [""] * 3
    assert "no concept" in str(run.unit("1", 0))
    assert mammi.write_report(run, tmp_path / "report.html").is_file()


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"layers": ["hea"]}, InputError, "Did you mean 'head'"),
        ({"layers": []}, InputError, "name at least one layer"),
        ({"method": "mamm"}, InputError, "Did you mean 'mammi'"),
        ({"exampel_threshold": 1}, InputError, "Did you mean 'example_threshold'"),
        ({"template": "no place"}, InputError, "must hold {} once"),
        ({"on_error": "ignore"}, InputError, "must be fail or skip"),
        ({"batch_size": 0}, InputError, "at least 1"),
        ({"pooling": "cls"}, InputError, "applies to none"),
    ],
)
def test_wrong_arguments_write_nothing(parts, tmp_path, change, error, match):
    with pytest.raises(error, match=match):
        call(parts, tmp_path / "run", **change)
    assert not (tmp_path / "run").exists()


def test_a_folder_with_other_things_is_left_alone(parts, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty and holds no run"):
        call(parts, tmp_path)
    with pytest.raises(RunError, match="is a file"):
        call(parts, tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_others_can_read_a_run_without_this_package(undisturbed):
    folder = undisturbed.folder
    counted = duckdb.sql(
        f"SELECT layer, count(*) AS n FROM '{folder}/annotations.parquet' WHERE kept GROUP BY layer ORDER BY layer"
    ).fetchall()
    kept = undisturbed.annotations[undisturbed.annotations["kept"]]
    assert counted == sorted(kept.groupby("layer").size().items())
    joined = duckdb.sql(
        f"SELECT id FROM '{folder}/examples.parquet' JOIN '{folder}/images.parquet' USING (film) "
        "WHERE layer = 'head' AND unit = 0 ORDER BY rank"
    ).fetchall()
    assert [row[0] for row in joined] == list(undisturbed.unit("head", 0).film_ids)
    raw = np.load(folder / "activations" / "head" / "by_unit.npy", mmap_mode="r")
    assert raw.shape == (5, N_FILMS)
    assert undisturbed.search("brights")["unit"].tolist()[0] == 0  # plurals find singulars


def test_names_and_paths_are_for_the_owner_alone(undisturbed):
    assert (undisturbed.folder / "private").stat().st_mode & 0o077 == 0


def test_nothing_outside_private_names_a_film_or_a_path(parts, undisturbed, tmp_path):
    (tmp_path / "model.py").write_text(MODEL.replace("self.preprocessing", "self.unused"))
    target = mammi.create_target(f"{tmp_path / 'model.py'}:create", size=16)
    noted = call(parts, tmp_path / "run", target=target, images=mammi.ProbingSet.open(parts / "films").subset(range(9)))
    assert noted.manifest["target"]["notes"]  # a note names the file it is about, and not where that lies
    for path in (*undisturbed.folder.rglob("*"), *noted.folder.rglob("*")):
        if path.is_file() and "private" not in path.parts:
            data = path.read_bytes()
            assert b"plate-0001" not in data, path.name
            assert str(parts).encode() not in data, path.name
            assert str(tmp_path).encode() not in data, path.name


def test_a_layer_that_cannot_be_recorded_is_refused_before_any_film(parts, tmp_path):
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.act = torch.nn.ReLU()

        def forward(self, x):
            return self.act(self.act(x)).mean((2, 3))

    target = mammi.create_target(Twice(), channels=1, size=16, mean=0.0, std=1.0)
    with pytest.raises(CaptureError, match="called 2 times"):
        call(parts, tmp_path / "run", target=target, layers=["act"])
    assert not (tmp_path / "run").exists()


def test_it_says_how_far_it_is(parts, tmp_path):
    steps: dict[str, list[int]] = {}
    began = time.monotonic()
    call(parts, tmp_path / "run", progress=lambda step, done, total: steps.setdefault(step, []).append(done))
    assert time.monotonic() > began
    assert steps["recording films"][0] == 0
    for name, done in steps.items():
        assert done == sorted(done), name
    assert steps["recording films"][-1] == N_FILMS
    assert {"encoding films", "encoding texts", "selecting for head", "matching conv"} <= set(steps)
