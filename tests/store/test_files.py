import errno
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from mammi.errors import BusyRunError, RunError, StaleRunError
from mammi.store.files import atomic_path, locked, read_array, read_json, write_array, write_json
from mammi.store.identity import refuse_changes
from mammi.store.images import new_salt, salted_ids
from mammi.store.shards import ActivationStore


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "table.json"
    write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), atomic_path(path) as aside:  # noqa: PT012
        aside.write_text("half")
        _ = 1 / 0
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["table.json"]


def test_a_reader_of_the_old_file_never_sees_the_new_one_half_written(tmp_path):
    path = tmp_path / "table.json"
    write_json(path, {"old": "x" * 100})
    with path.open() as reader:
        write_json(path, {"new": 1})
        assert '"old"' in reader.read()
    assert read_json(path) == {"new": 1}


def test_a_full_disk_is_one_line_and_keeps_what_was_written(tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    write_array(path, np.arange(3))

    def full(_fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="cannot write .*a.npy: No space left on device. Free space"):
        write_array(path, np.arange(9))
    np.testing.assert_array_equal(read_array(path), np.arange(3))
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


def test_objects_are_neither_written_nor_read(tmp_path):
    with pytest.raises(ValueError, match="[Oo]bject"):
        write_array(tmp_path / "o.npy", np.array([{}], dtype=object))
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(RunError, match="cannot be read"):
        read_array(tmp_path / "o.npy")


def test_a_second_process_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from mammi.store.files import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline().strip() == "held"
        with pytest.raises(BusyRunError, match="another process is working in"), locked(tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with locked(tmp_path):
        pass


def test_an_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunError, match="cannot write to the run folder .*Choose another --out"),
        locked(tmp_path / "file" / "run"),
    ):
        pass


def store_of(tmp_path, n_films=7, block_size=3):
    return ActivationStore(tmp_path, n_films, block_size)


def test_blocks_become_one_array_by_unit(tmp_path):
    store = store_of(tmp_path)
    values = np.arange(7 * 4, dtype=np.float32).reshape(7, 4)
    for block in (2, 0, 1):  # in any order
        store.write(block, {"a": values[list(store.rows(block))]}, {"n": block})
    assert store.done() == {0: {"n": 0}, 1: {"n": 1}, 2: {"n": 2}}
    kept = np.array([0, 2, 3, 6])
    store.finish("a", 4, kept)
    np.testing.assert_array_equal(store.read("a"), values[kept].T)
    assert not list((tmp_path / "activations" / "a").glob("shard-*"))
    store.finish("a", 4, kept)  # again, as after a kill between finishing two layers


@pytest.mark.parametrize("side", [1, 2, 3, 5, 4096])
def test_the_pieces_that_are_turned_over_change_no_byte(tmp_path, monkeypatch, side):
    monkeypatch.setattr("mammi.store.shards.SIDE", side)
    values = np.random.default_rng(side).normal(size=(23, 7)).astype(np.float32)
    values[4] = np.nan
    for number, kept in enumerate((np.arange(23), np.array([0, 3, 4, 5, 9, 21]), np.array([11]))):
        store = store_of(tmp_path / str(number), 23, 4)
        for block in range(store.n_blocks):
            store.write(block, {"a": values[list(store.rows(block))]}, {})
        store.finish("a", 7, kept)
        np.save(tmp_path / "plain.npy", np.ascontiguousarray(values[kept].T))
        assert store.array_path("a").read_bytes() == (tmp_path / "plain.npy").read_bytes()
        for wanted in ([6, 0, 3], [2], []):
            found = store.read_units("a", np.array(wanted, dtype=np.int64))
            np.testing.assert_array_equal(found, values[kept].T[wanted])
            assert found.flags.writeable


def test_a_disk_too_small_for_the_array_costs_no_block(tmp_path, monkeypatch):
    store = store_of(tmp_path)
    for block in range(3):
        store.write(block, {"a": np.full((len(store.rows(block)), 2), block, np.float32)}, {})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(RunError, match="by_unit.npy: No space left"):
            store.finish("a", 2, np.arange(7))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    with pytest.raises(RunError, match="the run is not complete"):
        store.read_units("a", np.arange(2))
    store.finish("a", 2, np.arange(7))
    assert store.read("a").tolist() == [[0, 0, 0, 1, 1, 1, 2]] * 2


def test_a_block_without_its_record_is_not_done(tmp_path):
    store = store_of(tmp_path)
    store.write(0, {"a": np.zeros((3, 2), np.float32)}, {})
    write_array(tmp_path / "activations" / "a" / "shard-000001.npy", np.zeros((3, 2), np.float32))
    assert list(store.done()) == [0]


def test_a_missing_or_misshapen_block_is_named(tmp_path):
    store = store_of(tmp_path)
    for block in range(3):
        store.write(block, {"a": np.zeros((len(store.rows(block)), 2), np.float32)}, {})
    with pytest.raises(RunError, match=r"shape \(3, 2\), expected \(3, 5\)"):
        store.finish("a", 5, np.arange(7))
    (tmp_path / "activations" / "a" / "shard-000001.npy").unlink()
    with pytest.raises(RunError, match=r"shard-000001.npy cannot be read"):
        store.finish("a", 2, np.arange(7))
    with pytest.raises(RunError, match="the run is not complete"):
        store.read("a")


def test_changes_are_named_part_by_part(tmp_path):
    old = {"target": "a" * 64, "method": {"name": "mammi", "options": {"example_threshold": 0.93}}, "template": "x {}"}
    refuse_changes(tmp_path, old, dict(old))
    new = {**old, "target": "b" * 64, "method": {"name": "mammi", "options": {"example_threshold": 0.9}}}
    with pytest.raises(StaleRunError) as caught:
        refuse_changes(tmp_path, old, new)
    text = str(caught.value)
    assert "the target network, the method or its options changed" in text
    assert "method.options.example_threshold was 0.93, now 0.9" in text
    assert "target was aaaaaaaaaaaa..., now bbbbbbbbbbbb..." in text
    assert "\n" not in text


def test_ids_are_salted():
    salt = new_salt()
    ids = salted_ids(["a", "b", "a"], salt, "film")
    assert ids[0] == ids[2] != ids[1]
    assert ids != salted_ids(["a", "b", "a"], new_salt(), "film")
    assert salted_ids(["a"], salt, "patient")[0][8:] != ids[0][5:]
    assert all(part != "a" for part in ids)


def test_the_arrays_of_another_network_lie_apart_and_its_records_in_private(tmp_path):
    own, part = store_of(tmp_path), replace(store_of(tmp_path), part="control")
    for each, value in ((own, 1.0), (part, 2.0)):
        for block in range(each.n_blocks):
            rows = each.rows(block)
            layers = {"a": np.full((len(rows), 3), value, np.float32)}
            each.write(block, layers, {"unreadable": {}, "value": value})
    assert [record["value"] for record in part.done().values()] == [2.0] * part.n_blocks
    part.discard(0)
    assert sorted(own.done()) == list(range(own.n_blocks))
    assert sorted(part.done()) == list(range(1, part.n_blocks))
    for each, value in ((own, 1.0), (part, 2.0)):
        each.finish("a", 3, np.arange(each.n_films))
        assert (each.read("a") == value).all()
    assert [path.name for path in (tmp_path / "control").rglob("*") if path.is_file()] == ["by_unit.npy"]
    assert part.array_path("a") == tmp_path / "control" / "activations" / "a" / "by_unit.npy"
