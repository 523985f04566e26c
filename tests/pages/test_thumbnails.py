"""Thumbnails: made once, in the private part, without a word of where they come from."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from mammi.errors import ImageError, InputError, RunError
from mammi.pages import RunView
from mammi.pages.thumbnails import Thumbnails, jpeg
from mammi.store import open_run
from mammi.types import Film
from small_run import SECRET, write_small_run


@pytest.fixture
def thumbnails(tmp_path):
    return Thumbnails(RunView(write_small_run(tmp_path / "run")))


def test_made_once_with_progress(thumbnails, monkeypatch):
    films = thumbnails.view.films[:3]
    told = []
    thumbnails.make_all([*films, films[0]], progress=lambda step, done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    folder = thumbnails.view.run.folder / "private" / "thumbnails"
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{film}.jpg" for film in films)
    monkeypatch.setattr("mammi.pages.thumbnails.read_film", lambda *_, **__: pytest.fail("made again"))
    assert thumbnails.make(films[1]) == thumbnails.path(films[1])


def test_is_the_film_and_says_nothing_else(thumbnails):
    film = thumbnails.view.films[7]
    picture = Image.open(thumbnails.make(film))
    source = Image.open(thumbnails.view.run.folder.parent / "films" / f"{SECRET}_7.png")
    assert (picture.format, picture.size) == ("JPEG", source.size)
    assert np.abs(np.asarray(picture, float) - np.asarray(source, float)).mean() < 25
    assert not picture.getexif()
    assert SECRET.encode() not in thumbnails.path(film).read_bytes()


def test_is_small():
    film = Film(np.random.default_rng(0).random((900, 1500), dtype=np.float32))
    assert Image.open(io.BytesIO(jpeg(film))).size == (384, 230)


def test_errors_name_the_film_by_its_id_only(thumbnails):
    view = thumbnails.view
    with pytest.raises(InputError, match="no film '../../secret'"):
        thumbnails.path("../../secret")
    films = view.run.folder.parent / "films"
    (films / f"{SECRET}_1.png").unlink()
    (films / f"{SECRET}_2.png").write_bytes(b"nothing")
    for film in view.films[1:3]:
        with pytest.raises(ImageError) as error:
            thumbnails.make(film)
        assert film in str(error.value)
        assert SECRET not in str(error.value)
    shutil.rmtree(view.run.folder / "private")
    with pytest.raises(RunError, match=r"films\.json"):
        Thumbnails(RunView(open_run(view.run.folder))).make(view.films[0])
