"""A text's map lies on the film where the patches look, with a model whose answer is known."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from mammi.cli import app
from mammi.errors import VlmError
from mammi.explain.overlay import FOR
from mammi.explain.text_map import draw_text_map, text_map
from mammi.types import Film, VlmCard
from mammi.vlms import Annotator, create_vlm
from mammi.vlms.annotator import check_vlm

#: Side of a patch, of the input, and of films' short side before its middle is cut out.
PATCH, SIDE, SHORT = 8, 64, 80


class Brightness(nn.Module):
    """Patches point towards "bright" or "dark" as they are; the middle 64 of 80 pixels are seen."""

    patch_offset = (0.0, 0.0)

    def preprocess(self, image):
        width, height = image.size
        scale = SHORT / min(width, height)
        grey = image.convert("L").resize((round(width * scale), round(height * scale)), Image.Resampling.BOX)
        left, top = (grey.width - SIDE) // 2, (grey.height - SIDE) // 2
        return torch.from_numpy(np.array(grey.crop((left, top, left + SIDE, top + SIDE)), dtype=np.float32) / 255)[None]

    def placement(self, height, width):
        scale = SHORT / min(width, height)
        tall, wide = round(height * scale), round(width * scale)
        return tall, wide, -((tall - SIDE) // 2), -((wide - SIDE) // 2)

    def encode_patches(self, images):
        mean = nn.functional.avg_pool2d(images, PATCH)[:, 0]
        return torch.stack([mean, 1 - mean], dim=1)

    def encode_images(self, images):
        return self.encode_patches(images).mean(dim=(2, 3))

    def encode_texts(self, texts):
        return torch.tensor([[1.0, 0.0] if text == "bright" else [0.1, 0.9] for text in texts])


def create():
    """The model, for ``test_text_map.py:create``."""
    return Brightness()


@pytest.fixture
def vlm():
    found = Annotator("brightness", Brightness(), VlmCard("brightness"), "0" * 64)
    check_vlm(found)
    return found


def film_with_square(shape, top, left, size):
    pixels = np.full(shape, 0.1, np.float32)
    pixels[top : top + size, left : left + size] = 0.9
    return Film(pixels)


@pytest.mark.parametrize("shape", [(160, 240), (300, 200), (80, 80)])
def test_the_map_is_high_where_the_film_is_bright(vlm, shape):
    scale = min(shape) / SHORT
    size = round(16 * scale)
    top, left = (round(side / 2 + shift * scale) for side, shift in zip(shape, (-16, 8), strict=True))
    found = text_map(vlm, film_with_square(shape, top, left, size), "bright")
    assert found.on_film.shape == shape
    assert found.cosines.shape == (SIDE // PATCH, SIDE // PATCH)
    row, column = np.unravel_index(np.nanargmax(found.on_film), shape)
    assert top <= row < top + size
    assert left <= column < left + size
    strong = found.on_film > np.nanmax(found.on_film) - 0.1
    rows, columns = np.nonzero(strong)
    assert rows.mean() == pytest.approx(top + size / 2 - 0.5, abs=PATCH / 2 * scale)
    assert columns.mean() == pytest.approx(left + size / 2 - 0.5, abs=PATCH / 2 * scale)
    assert found.cosine == pytest.approx(
        float(vlm.embed_images(vlm.view(Film(film_with_square(shape, top, left, size).pixels))[None])[0, 0]), abs=1e-6
    )


def test_what_the_model_never_saw_is_not_a_number(vlm):
    found = text_map(vlm, Film(np.full((160, 240), 0.3, np.float32)), "bright")
    seen = np.isfinite(found.on_film)
    rows, columns = np.nonzero(seen)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (16, 144, 56, 184)
    assert seen[16:144, 56:184].all()


def test_an_offset_moves_the_map(vlm):
    film = film_with_square((160, 160), 80, 80, 32)
    plain = text_map(vlm, film, "bright")
    vlm.model.patch_offset = (-4.0, 0.0)
    moved = text_map(vlm, film, "bright")
    assert np.array_equal(plain.cosines, moved.cosines)
    # Half a patch of the input is 8 pixels of this film: what was said of row r is now said of r - 8.
    assert np.allclose(plain.on_film[60:120, 16:144], moved.on_film[52:112, 16:144], atol=1e-5)


def test_the_picture_is_orange_where_the_text_is(vlm):
    film = film_with_square((160, 160), 80, 80, 32)
    picture = Image.open(io.BytesIO(draw_text_map(film, text_map(vlm, film, "bright"))))
    rgb = np.asarray(picture.convert("RGB")).astype(int)
    rows, columns = np.nonzero((rgb == np.array(FOR)).all(axis=2))
    scale = (picture.height - 92) / 160
    assert rows.mean() == pytest.approx(54 + 96 * scale, abs=8 * scale)
    assert columns.mean() == pytest.approx((picture.width - 160 * scale) / 2 + 96 * scale, abs=8 * scale)


def test_a_model_without_patches_is_refused():
    with pytest.raises(VlmError, match="phantom does not place patches in the space of its texts"):
        text_map(create_vlm("phantom"), Film(np.zeros((64, 64), np.float32)), "mass")


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["vlms", "map", *map(str, arguments)], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result


def test_the_command_draws_a_map(tmp_path):
    film = film_with_square((160, 160), 80, 80, 32)
    film.to_pil().save(tmp_path / "film.png")
    result = run(tmp_path / "film.png", f"{__file__}:create", "--text", "bright", "-o", tmp_path / "map.png")
    assert "of its 8 x 8 patches: +0.113 to +0.994" in result.stdout
    assert "not a diagnostic device" in result.stderr
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.format == "PNG"
        assert not picture.info


def test_the_command_refuses(tmp_path):
    Film(np.zeros((70, 70), np.float32)).to_pil().save(tmp_path / "film.png")
    result = run(tmp_path / "film.png", "phantom", "--text", "mass", "-o", tmp_path / "map.png", code=2)
    assert "does not place patches" in result.stderr
    assert not (tmp_path / "map.png").exists()
    result = run(tmp_path / "film.png", "phantom", "--text", "mass", "-o", tmp_path / "map.jpg", code=2)
    assert "must end with .png" in result.stderr
