import numpy as np
import pytest
import torch

from mammi.errors import InputError, TargetError
from mammi.targets import PilPreprocessing, Preprocessing
from mammi.types import Film

IDENTITY = {"mean": 0.0, "std": 1.0}


def film(height, width, seed=0, colour=False):
    shape = (height, width, 3) if colour else (height, width)
    return Film(np.random.default_rng(seed).random(shape, dtype=np.float32))


def grey(**settings):
    return Preprocessing.from_dict({"channels": 1, **IDENTITY, **settings})


def test_no_resize_and_no_eight_bits_on_the_way():
    pixels = np.array([[0.00001, 0.5], [0.50001, 1.0]], dtype=np.float32)
    out = Preprocessing.from_dict({"channels": 1, "size": 2, "mean": 0.5, "std": 0.25}).apply(Film(pixels, bits=16))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, torch.from_numpy((pixels - 0.5) / 0.25)[None])


@pytest.mark.parametrize("shape", [(70, 50), (50, 70), (64, 64), (20, 31)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crop_is_what_torchvision_does(shape, interpolation):
    functional = pytest.importorskip("torchvision.transforms.functional")
    mode = functional.InterpolationMode(interpolation)
    one = film(*shape)
    out = grey(size=28, resize="crop", crop_pct=28 / 32, interpolation=interpolation).apply(one)
    expected = functional.resize(torch.from_numpy(one.pixels)[None], 32, mode, antialias=True).clamp(0, 1)
    torch.testing.assert_close(out, functional.center_crop(expected, [28, 28]))


def test_squash_is_what_torchvision_does():
    functional = pytest.importorskip("torchvision.transforms.functional")
    one = film(70, 50)
    expected = functional.resize(torch.from_numpy(one.pixels)[None], [24, 36], antialias=True)
    torch.testing.assert_close(grey(size=(24, 36)).apply(one), expected)


def test_squash_without_antialias_is_what_torchvision_does():
    functional = pytest.importorskip("torchvision.transforms.functional")
    one = film(70, 50)
    expected = functional.resize(torch.from_numpy(one.pixels)[None], [24, 36], antialias=False)
    torch.testing.assert_close(grey(size=(24, 36), antialias=False).apply(one), expected)


def test_pad_keeps_the_shape_of_the_film_on_black():
    white = Film(np.ones((40, 20), dtype=np.float32))
    out = grey(size=(10, 10), resize="pad").apply(white)[0]
    assert out[:, 2:7].sum() == 50
    assert out.sum() == 50
    wide = grey(size=(10, 10), resize="pad").apply(Film(np.ones((20, 40), dtype=np.float32)))[0]
    assert wide.sum(1).nonzero().flatten().tolist() == [2, 3, 4, 5, 6]
    tall = grey(size=(10, 20), resize="pad").apply(Film(np.ones((20, 20), dtype=np.float32)))[0]
    assert tall.sum(0).nonzero().flatten().tolist() == list(range(5, 15))


def test_colour_becomes_grey_by_luma_and_grey_is_repeated():
    pixels = np.zeros((4, 4, 3), dtype=np.float32)
    pixels[..., 1] = 1
    torch.testing.assert_close(grey(size=4).apply(Film(pixels)), torch.full((1, 4, 4), 0.587))
    out = Preprocessing(size=(6, 5)).apply(film(9, 8))
    back = out * torch.tensor([0.229, 0.224, 0.225])[:, None, None] + torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    assert out.shape == (3, 6, 5)
    torch.testing.assert_close(back[0], back[2])
    assert Preprocessing(size=(6, 5)).apply(film(9, 8, colour=True)).shape == (3, 6, 5)


def test_a_film_is_not_written_into():
    one = film(8, 8)
    before = one.pixels.copy()
    grey(size=8).apply(one).mul_(0)
    np.testing.assert_array_equal(one.pixels, before)


def test_settings_survive_a_round_trip():
    preprocessing = Preprocessing(1, (12, 34), (0.4,), (0.2,), "pad", 1.0, "bicubic", False)
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing
    assert Preprocessing.from_dict({"mean": [0.1], "std": [0.2]}).channels == 1


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"sizes": 3}, r"has no 'sizes'\. Did you mean 'size'"),
        ({"channels": 2}, r"'channels' must be 1 or 3, got 2"),
        ({"channels": 3, "mean": [0.1], "std": 1}, r"'mean' must hold 3 finite numbers"),
        ({"std": 0}, r"'std' must be above 0"),
        ({"resize": "stretch"}, r"must be one of squash, crop, pad, got 'stretch'"),
        ({"crop_pct": 1.5}, r"'crop_pct' must be in \(0, 1\], got 1\.5"),
        ({"size": 0}, r"'size' must be"),
        ({"interpolation": "area"}, r"bilinear or bicubic, got 'area'"),
    ],
)
def test_settings_that_cannot_be_applied_are_refused(declared, message):
    with pytest.raises(InputError, match=message):
        Preprocessing.from_dict(declared)


def as_grey(picture):
    return torch.from_numpy(np.asarray(picture.convert("L").resize((8, 6)), dtype=np.float64)[None] / 255)


def test_a_preprocess_function_gets_a_picture_and_its_tensor_is_used():
    own = PilPreprocessing(as_grey, "mine.py")
    out = own.apply(Film(np.ones((4, 4), dtype=np.float32)))
    assert (own.channels, own.size, out.dtype) == (1, (6, 8), torch.float32)
    assert float(out.min()) == 1.0
    darker = PilPreprocessing(lambda picture: as_grey(picture) / 2, "mine.py")
    assert own.to_dict()["probe"] != darker.to_dict()["probe"]
    assert own.to_dict()["probe"] == PilPreprocessing(as_grey, "mine.py").to_dict()["probe"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda picture: picture, r"preprocess\(\) of mine\.py must return .* got Image"),
        (lambda picture: as_grey(picture)[0], r"got a tensor of shape \(6, 8\)"),
        (lambda picture: 1 / 0, r"preprocess\(\) of mine\.py failed: ZeroDivisionError"),
    ],
)
def test_a_preprocess_function_that_fails_is_named(function, message):
    with pytest.raises(TargetError, match=message):
        PilPreprocessing(function, "mine.py")


@pytest.mark.parametrize("settings", [{"resize": "squash"}, {"resize": "crop"}, {"resize": "pad"}, {"crop_pct": 0.8}])
@pytest.mark.parametrize("shape", [(96, 60), (60, 96), (80, 80), (41, 97)])
def test_the_placement_tells_where_the_film_lies(settings, shape):
    """On a film whose values are its own coordinates, the placement foretells every pixel of the input."""
    preprocessing = grey(size=(48, 40), antialias=False, **settings)
    place = preprocessing.placement(*shape)
    for axis in (0, 1):
        ramp = (np.indices(shape)[axis] + 0.5) / shape[axis]
        seen = preprocessing.apply(Film(ramp.astype(np.float32)))[0].numpy()
        length, margin = ((place.height, place.top), (place.width, place.left))[axis]
        at = (np.arange(48 if axis == 0 else 40) + 0.5 - margin) / length
        expected = np.broadcast_to(at[:, None] if axis == 0 else at, seen.shape)
        rows, columns = (
            (np.arange(n) + 0.5 - start) / total
            for n, start, total in ((48, place.top, place.height), (40, place.left, place.width))
        )
        on_film = ((rows > 0) & (rows < 1))[:, None] & ((columns > 0) & (columns < 1))
        assert (seen[~on_film] == 0).all()  # black beside the film
        inner = on_film & (expected > 0.03) & (expected < 0.97)  # at its edges the ramp is held
        np.testing.assert_allclose(seen[inner], expected[inner], atol=1e-4)
