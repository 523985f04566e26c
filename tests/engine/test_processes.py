"""Several processes: the same to the bit as one, whoever is killed on the way, and none left behind."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from processes_at_work import Squares, all_end, children, pieces, workers_of

import mammi
from mammi.engine import LocalEngine, ProcessEngine, processes
from mammi.engine.stem import Stem
from mammi.errors import BusyRunError, InputError, UnknownNameError, WorkerError
from small_job import SCRIPT, assert_same, call, write_parts


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return write_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def undisturbed(parts, tmp_path_factory):
    return call(parts, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def stem():
    """What all tests make their workers of: the libraries are loaded once."""
    return Stem()


@pytest.fixture(autouse=True)
def _nobody_is_left():
    yield
    assert not workers_of(os.getpid())


def test_two_processes_record_and_encode_the_same(stem, parts, tmp_path):
    at_work = set()

    def look(step, done, total):
        at_work.update((step, pid) for pid in workers_of(os.getpid()))

    run = call(parts, tmp_path / "two", engine=ProcessEngine(2, stem=stem), progress=look, batch_size=4)
    assert_same(run, call(parts, tmp_path / "one", batch_size=4))
    assert len({pid for step, pid in at_work if step == "recording films"}) == 2
    assert len({pid for step, pid in at_work if step == "encoding films"}) == 2


def test_one_of_three_killed_on_the_way_changes_nothing(stem, parts, tmp_path):
    killed = []

    def kill(step, done, total):
        if step == "recording films" and done >= 100 and not killed:
            killed.append(max(workers_of(os.getpid())))
            os.kill(killed[0], signal.SIGKILL)

    calibrated = {"method": "calibrated"}
    run = call(parts, tmp_path / "three", engine=ProcessEngine(3, stem=stem), progress=kill, **calibrated)
    assert killed
    assert_same(run, call(parts, tmp_path / "one", **calibrated))


def test_a_leader_that_is_killed_takes_its_workers_along(parts, undisturbed, tmp_path):
    out = tmp_path / "run"
    script = SCRIPT.replace("layers=", "engine=mammi.create_engine(workers=2), layers=")
    env = {**os.environ, "MAMMI_TEST_SLOW_VLM": "0.01"}
    leader = subprocess.Popen(
        [sys.executable, "-c", script, str(parts), str(out)], stdout=subprocess.PIPE, text=True, env=env
    )
    with leader:
        next(line for line in leader.stdout if line.startswith("recording films") and not line.endswith(" 0\n"))
        with pytest.raises(BusyRunError, match="another process is working in"):
            call(parts, out)
        workers = [*children(leader.pid), *workers_of(leader.pid)]
        assert len(workers) == 3
        leader.kill()
    assert all_end(workers)
    assert_same(call(parts, out), undisturbed)


def done(engine, work, all_pieces):
    seen = []
    found = {piece.number: result for piece, result in engine.run(work, all_pieces, seen.append)}
    assert sum(seen) == sum(len(piece.rows) for piece in all_pieces)
    return [found[number].tolist() for number in sorted(found)]


def test_work_is_taken_up_where_a_worker_died_and_blamed_when_two_did(stem, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "CHANCES", 2)
    some = pieces(7, 1, 30)
    work = Squares({5: "die once"}, tmp_path)
    assert done(ProcessEngine(2, stem=stem), work, some) == done(LocalEngine(), Squares(), some)
    with pytest.raises(
        WorkerError, match=r"2 workers ended .* the same \d+ films or texts \(rows .*by signal 9.*stays"
    ):
        done(ProcessEngine(2, stem=stem), Squares({20: "die"}), some)


def test_errors_of_a_worker_are_raised(stem):
    with pytest.raises(WorkerError, match="a worker failed: ZeroDivisionError: row 31") as caught:
        done(ProcessEngine(2, stem=stem), Squares({31: "own error"}), pieces(7, 1, 30))
    assert "in compute" in caught.value.__notes__[0]


def test_who_wants_no_more_results_leaves_no_worker(stem):
    results = ProcessEngine(2, stem=stem).run(Squares(), pieces(*[8] * 200), lambda n: None)
    next(results)
    assert len(workers_of(os.getpid())) == 2
    results.close()
    assert not workers_of(os.getpid())


def test_a_stem_goes_with_whoever_holds_it(monkeypatch):
    monkeypatch.setattr("mammi.engine.stem._START", "import time; time.sleep(99)  # {}")
    before = set(children(os.getpid()))
    stem = Stem()
    stem._start()
    (process,) = set(children(os.getpid())) - before
    del stem
    assert all_end([process])


def test_little_work_starts_no_process(stem):
    results = ProcessEngine(8).run(Squares(), pieces(28), lambda n: None)
    assert next(results)[1].tolist() == [n * n for n in range(28)]
    assert not workers_of(os.getpid())
    assert list(ProcessEngine(2, stem=stem).run(Squares(), [], lambda n: None)) == []


def test_a_model_that_cannot_be_sent_is_refused_at_once(stem, parts, tmp_path):
    model = mammi.create_target(f"{parts / 'model.py'}:create").model
    target = mammi.create_target(model)
    with pytest.raises(InputError, match="use one worker, or give 'path/file.py:NAME'"):
        call(parts, tmp_path / "run", target=target, engine=ProcessEngine(2, stem=stem))
    call(parts, tmp_path / "run", target=target)  # goes on in the same folder


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"name": "dask"}, UnknownNameError, "Engine 'dask' is not known. Known: local, ray"),
        ({"workers": 0}, InputError, "'workers' and 'decoders' must be at least 1, got 0 and None"),
        ({"decoders": 0}, InputError, "got 1 and 0"),
        ({"address": "auto"}, InputError, "'address' is for the engine 'ray'"),
    ],
)
def test_wrong_engines_are_one_line(arguments, error, match):
    with pytest.raises(error, match=match):
        mammi.create_engine(**arguments)


def test_engines_by_name():
    assert mammi.create_engine() == LocalEngine(None)
    assert mammi.create_engine(workers=3, decoders=2) == ProcessEngine(3, 2)
    assert np.array_equal(done(LocalEngine(), Squares(), pieces(3)), [[0, 1, 4]])


def test_a_stem_that_is_lost_is_replaced(stem):
    engine = ProcessEngine(2, stem=stem)
    before = set(children(os.getpid()))
    for process in before:
        os.kill(process, signal.SIGKILL)
    assert done(engine, Squares(), pieces(40)) == done(LocalEngine(), Squares(), pieces(40))
    assert len(set(children(os.getpid())) - before) == 1
