import threading
import warnings

import numpy as np
import pytest
from film_crafting import encode, film

from mammi.data import read_film
from mammi.data.capture_warnings import caught_warnings


def test_warnings_are_caught_once_each_and_filters_come_back():
    before = list(warnings.filters), warnings.showwarning
    with caught_warnings() as caught:
        warnings.warn("first\n line", UserWarning, stacklevel=1)
        warnings.warn("second", RuntimeWarning, stacklevel=1)
    assert caught == ["first line", "second"]
    assert (list(warnings.filters), warnings.showwarning) == before
    with pytest.raises(UserWarning):  # the suite turns warnings into errors; that must still hold
        warnings.warn("after", UserWarning, stacklevel=1)


def test_filters_come_back_after_an_error():
    before = list(warnings.filters)
    with pytest.raises(ValueError, match="inside"), caught_warnings():
        raise ValueError("inside")
    assert list(warnings.filters) == before


def test_overlapping_threads_get_their_own_and_leave_nothing_behind():
    before = list(warnings.filters), warnings.showwarning
    barrier = threading.Barrier(8)
    seen = {}

    def work(number):
        barrier.wait()
        for turn in range(50):
            with caught_warnings() as caught:
                warnings.warn(f"{number}-{turn}", UserWarning, stacklevel=1)
            seen[number, turn] = caught

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {(number, turn): [f"{number}-{turn}"] for number in range(8) for turn in range(50)}
    assert (list(warnings.filters), warnings.showwarning) == before


def test_a_warning_of_another_thread_goes_where_it_went_before():
    with warnings.catch_warnings(record=True) as outer, caught_warnings() as caught:
        thread = threading.Thread(target=lambda: warnings.warn("other", UserWarning, stacklevel=1))
        thread.start()
        thread.join()
    assert caught == []
    assert [str(entry.message) for entry in outer] == ["other"]


def test_many_threads_read_films(tmp_path):
    pictures = [film(30 + i, 40, i) for i in range(8)]
    for i, picture in enumerate(pictures):
        (tmp_path / f"{i}.png").write_bytes(encode(picture, "PNG") + b"x" * (i % 2))
    got = {}

    def work(i):
        got[i] = [read_film(tmp_path / f"{i}.png") for _ in range(5)][-1]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, picture in enumerate(pictures):
        np.testing.assert_array_equal(np.round(got[i].pixels * 255), picture)
        assert bool(got[i].warnings) == bool(i % 2)
