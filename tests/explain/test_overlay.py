"""The picture: its size, colours and line where they belong, its words, and nothing of the source in it."""

import io

import numpy as np
import pytest
from PIL import Image

from mammi.errors import InputError
from mammi.explain.overlay import AGAINST, FOR, overlay
from mammi.types import Film, UnitId


def draw(shape=(200, 160), values=None, name="effusion", **options):
    film = Film(np.full(shape, 0.4, np.float32))
    values = np.zeros(shape[:2], np.float32) if values is None else values
    data = overlay(film, values, name=name, unit=UnitId("layer3", 7), value=1.5, **options)
    return Image.open(io.BytesIO(data)), data


def film_part(picture, shape):
    """The film's own pixels of the picture, and how much they were enlarged."""
    rgb = np.asarray(picture.convert("RGB")).astype(int)
    height = picture.height - 54 - 38
    width = round(shape[1] * height / shape[0])
    left = (picture.width - width) // 2
    return rgb[54 : 54 + height, left : left + width], height / shape[0]


@pytest.mark.parametrize("shape", [(200, 160), (64, 64), (900, 700), (120, 900), (900, 60), (3, 2), (50, 70, 3)])
def test_no_side_is_longer_than_512_and_nothing_is_written_into_the_file(shape):
    picture, data = draw(shape)
    assert max(picture.size) <= 512
    assert picture.width >= 256
    assert picture.format == "PNG"
    assert not picture.info
    assert draw(shape)[1] == data  # the same picture each time


def test_colours_lie_where_the_map_is_and_the_line_around_the_strongest():
    shape = (200, 160)
    values = np.zeros(shape, np.float32)
    values[20:60, 20:70] = 2.0
    values[120:180, 90:110] = -1.0
    picture, _ = draw(shape, values, share=0.2)
    rgb, scale = film_part(picture, shape)
    at = lambda y, x: rgb[round(y * scale), round(x * scale)]
    red, _, blue = at(40, 45)
    assert red > blue + 60  # orange inside
    red, _, blue = at(150, 100)
    assert blue > red + 20  # blue, fainter: half as strong
    plain = at(100, 20)
    assert len(set(plain.tolist())) == 1  # grey elsewhere
    for colour, (top, bottom, left, right) in ((FOR, (20, 60, 20, 70)), (AGAINST, (120, 180, 90, 110))):
        rows, columns = np.nonzero((rgb == np.array(colour)).all(axis=2))
        assert abs(rows.min() / scale - top) < 2
        assert abs(rows.max() / scale - bottom) < 2
        assert abs(columns.min() / scale - left) < 2
        assert abs(columns.max() / scale - right) < 2


def test_what_was_not_seen_is_dark_and_hatched():
    shape = (200, 160)
    values = np.full(shape, 0.5, np.float32)
    values[:, :40] = np.nan
    picture, _ = draw(shape, values)
    rgb, scale = film_part(picture, shape)
    hidden = rgb[:, : int(38 * scale)]
    assert len(np.unique(hidden.reshape(-1, 3), axis=0)) == 2  # the dark film and the hatching
    assert hidden.max() == 110
    assert hidden.min() < 0.5 * 0.4 * 255
    # The words below say so, where there is something to say.
    whole, _ = draw(shape, np.nan_to_num(values, nan=0.5))
    below = [np.asarray(p.convert("L"))[-17:] for p in (picture, whole)]
    assert (below[0] > 60).sum() > (below[1] > 60).sum()


def test_flat_empty_and_unseen_maps_draw_no_line():
    for level in (0.0, 3.0, -3.0, np.nan):
        picture, _ = draw(values=np.full((200, 160), level, np.float32))
        rgb, _ = film_part(picture, (200, 160))
        for colour in (FOR, AGAINST):
            assert not (rgb == np.array(colour)).all(axis=2).any()


def test_a_common_scale_makes_pictures_comparable():
    values = np.zeros((200, 160), np.float32)
    values[50:150, 40:120] = 1.0
    own, weak, strong = (
        film_part(draw(values=v, **o)[0], (200, 160))[0][200, 160]
        for v, o in ((values, {}), (values, {"scale": 4.0}), (values * 4, {"scale": 4.0}))
    )
    assert (own == strong).all()
    assert own[0] - own[2] > weak[0] - weak[2] > 0


def test_names_of_any_length_stay_inside():
    for name in ("", "x" * 300, "many words " * 40, "line\nbreaks\tand tabs"):
        picture, _ = draw((200, 120), name=name)
        above = np.asarray(picture.convert("L"))[:30]
        assert (above[:, -3:] < 60).all()  # nothing runs off the edge
        assert (above > 100).any() == bool(name)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"'values' must have the film's shape \(200, 160\), got \(160, 200\)"):
        draw(values=np.zeros((160, 200), np.float32))
    with pytest.raises(InputError, match="'scale' must be above 0, got 0"):
        draw(scale=0)
    with pytest.raises(InputError, match="'share' must be in"):
        draw(share=0)
