"""A disk that is full and a process that is killed, at every stage: a readable run, and the same command goes on."""

import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import mammi
from mammi.errors import RunError
from mammi.store.files import read_json
from small_job import N_FILMS, assert_same, call, write_parts

#: A method that chooses films first, and one that looks at all of them: they record in two ways.
METHODS = ["mammi", "calibrated"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return write_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def undisturbed(parts, tmp_path_factory):
    return {method: call(parts, tmp_path_factory.mktemp(method) / "run", method=method) for method in METHODS}


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk in memory; returns the folder and a function that sets its size in kB."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options: str) -> bool:
        return subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False).returncode == 0

    if not mount("-t", "tmpfs", "-o", "size=4k", "tmpfs"):
        pytest.skip("a disk of a few kB needs the right to mount one")
    yield folder, lambda size: mount("-o", f"remount,size={size}k")
    subprocess.run(["umount", "-l", str(folder)], check=True)


def readable(out: Path) -> None:
    """Whatever lies in a run folder under its own name can be read; what was being written has another name."""
    for path in out.rglob("*.json"):
        read_json(path)
    for path in out.rglob("*.npy"):
        np.load(path, allow_pickle=False)
    if (out / "manifest.json").is_file():
        with suppress(RunError):  # "is not complete"
            mammi.open_run(out)


@pytest.mark.parametrize("method", METHODS)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(parts, undisturbed, small_disk, method):
    folder, set_size = small_disk
    out = folder / "run"
    stages = Counter()
    size = 16
    while True:  # the disk grows a little each time, so that it is full at every stage in turn
        assert set_size(size)
        said = ""
        try:
            run = call(parts, out, method=method)
        except RunError as error:
            said = str(error)
        if not said:
            break
        assert "cannot write" in said
        assert "Free space" in said
        assert "\n" not in said
        assert not list(folder.rglob("*.part")), "what was half written is gone"
        readable(out)
        path = out / "manifest.json"
        stages[read_json(path)["status"] if path.is_file() else "not begun"] += 1
        size += 12 if path.is_file() else size // 3
        assert size < 20_000
    assert {"recording", "encoding"} <= set(stages), stages
    assert sum(stages.values()) > 5
    assert_same(run, undisturbed[method])


SCRIPT = """
import sys
from pathlib import Path
from small_job import call
call(Path(sys.argv[1]), sys.argv[2], method=sys.argv[3], progress=lambda step, done, total: print(step, done, flush=True))
"""


@pytest.mark.parametrize(
    ("method", "step", "at"),
    [
        ("calibrated", "recording films", 300),
        ("calibrated", "recording films of an untrained copy", 300),
        ("calibrated", "matching head", 0),
        ("mammi", "matching conv", 0),
    ],
)
def test_kill_9_and_the_same_command_gives_the_same_run(parts, undisturbed, tmp_path, method, step, at):
    out = tmp_path / "run"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, parts, out, method],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        for line in process.stdout:
            name, done = line.rsplit(" ", 1)
            if name == step and int(done) >= at:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(RunError, match="is not complete"):
        mammi.open_run(out)
    readable(out)
    assert_same(call(parts, out, method=method), undisturbed[method])


def test_what_was_half_written_by_a_killed_process_is_removed(parts, undisturbed, tmp_path):
    out = tmp_path / "run"
    half = [out / place / ".x.npy.1.part" for place in (".", "embeddings", "activations/head", "private/blocks")]
    foreign = out / "explain" / ".y.json.2.part"  # whoever explains a run does not hold its lock
    for path in (*half, foreign):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    (out / ".lock").touch()
    run = call(parts, out)
    assert not any(path.exists() for path in half)
    assert_same(run, undisturbed["mammi"])


@pytest.mark.parametrize("method", METHODS)
def test_every_film_is_decoded_once(parts, tmp_path, method):
    images = mammi.ProbingSet.open(parts / "films")
    decode, decoded = images.film, Counter()

    def film(row):
        decoded[row] += 1
        return decode(row)

    images.film = film
    options = {"control": False} if method == "calibrated" else {}
    call(parts, tmp_path / "run", images=images, method=method, precision="float32", **options)
    assert decoded == Counter(range(N_FILMS))
    assert not (tmp_path / "run" / "recorded").exists(), "what was kept for the annotator is gone"


def test_without_room_for_views_films_are_decoded_again_and_nothing_else_changes(
    parts, undisturbed, tmp_path, monkeypatch
):
    monkeypatch.setattr("mammi.naming.VIEWS_SHARE", 0)
    images = mammi.ProbingSet.open(parts / "films")
    decode, decoded = images.film, []
    images.film = lambda row: (decoded.append(row), decode(row))[1]
    run = call(parts, tmp_path / "run", images=images, precision="float32")
    assert len(decoded) == N_FILMS + run.manifest["counts"]["encoded"]
    assert_same(run, undisturbed["mammi"])
