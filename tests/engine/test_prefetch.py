import threading

import pytest

from mammi.engine.prefetch import decoded_batches


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 3, 10, 50])
def test_batches_come_in_order_whatever_the_workers(workers, batch_size):
    rows = list(range(100, 123))
    batches = list(decoded_batches(lambda row: -row, rows, batch_size, workers))
    assert [item for batch in batches for item in batch] == [-row for row in rows]
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}


def test_no_more_than_two_batches_are_held():
    loaded = []
    batches = decoded_batches(lambda row: loaded.append(row) or row, range(100), 10)
    next(batches)
    next(batches)
    assert len(loaded) <= 30
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mammi-decode")]


def test_an_error_in_loading_reaches_the_caller_and_ends_the_threads():
    def load(row):
        if row == 7:
            raise ValueError("row 7")
        return row

    with pytest.raises(ValueError, match="row 7"):
        list(decoded_batches(load, range(20), 4))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mammi-decode")]


def test_nothing_to_load():
    assert list(decoded_batches(lambda row: row, [], 4)) == []
