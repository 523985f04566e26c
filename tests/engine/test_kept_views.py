"""Views kept in a byte a pixel: they come back bit for bit, or were not kept."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mammi.engine import ViewTable
from mammi.types import Film

MEAN, STD = (0.48, 0.45, 0.41), (0.27, 0.26, 0.28)


def annotator(change=lambda picture: picture, channels=3):
    """A view as published models make it: resized in 8 bits, over 255, less the mean, over the deviation."""

    def view(film):
        picture = np.asarray(film.to_pil().convert("L").resize((9, 7)))
        grey = torch.from_numpy(picture.astype(np.float32) / 255)
        rows = [(grey - mean) / std for mean, std in zip(MEAN[:channels], STD[:channels], strict=True)]
        return change(torch.stack(rows))

    return SimpleNamespace(view=view)


def film(seed=0, shape=(40, 30)):
    return Film(np.random.default_rng(seed).random(shape, dtype=np.float32))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_view_comes_back_bit_for_bit(channels):
    vlm = annotator(channels=channels)
    table = ViewTable.of(vlm)
    assert table is not None
    assert table.size == (7, 9)
    for seed in range(20):
        view = vlm.view(film(seed))
        packed = table.pack(view)
        assert packed is not None
        assert packed.dtype == np.uint8
        assert packed.nbytes == table.n_bytes == 63
        assert torch.equal(table.unpack(packed), view)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda view: view + torch.tensor([0.0, 1e-3, 0.0])[:, None, None],  # colour
        lambda view: view * (1 + 1e-6 * (view == view.max())),  # between two levels
        lambda view: view[:, :6],  # another size
        lambda view: view * torch.nan,
    ],
)
def test_what_would_not_come_back_is_not_kept(spoil):
    vlm = annotator()
    table = ViewTable.of(vlm)
    assert table.pack(spoil(vlm.view(film()))) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda view: view.flatten(),  # no picture
        lambda view: view - view.mean(),  # every plain film looks alike
        lambda view: -view,  # levels fall
        lambda view: view + torch.arange(9),  # a plain film is not plain
    ],
)
def test_a_view_that_is_no_picture_of_levels_is_told(change):
    assert ViewTable.of(annotator(change)) is None


def test_a_block_is_kept_whole_or_not_at_all():
    vlm = annotator()
    table = ViewTable.of(vlm)
    first, second = (table.pack(vlm.view(film(seed))) for seed in (1, 2))
    block = table.stack([(first, False), (None, True), (second, False)])
    assert np.array_equal(block, np.stack([first, np.zeros_like(first), second]))
    assert table.stack([(first, False), (None, False)]) is None
