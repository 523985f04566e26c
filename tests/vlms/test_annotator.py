import numpy as np
import pytest
import torch

from mammi.errors import InputError, VlmError
from mammi.types import Film, VlmCard
from mammi.vlms import Annotator
from mammi.vlms.annotator import check_vlm

FILM = Film(np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8))


class Toy:
    """Embeds a text by its letters, an image by its mean; keeps the batches it saw."""

    def __init__(self):
        self.batches = []

    def preprocess(self, image):
        return torch.from_numpy(np.array(image, dtype=np.float64))[None] / 255

    def encode_images(self, images):
        mean = images.mean((1, 2, 3))
        return torch.stack([mean, 3 * mean, 0 * mean], 1)

    def encode_texts(self, texts):
        self.batches.append(list(texts))
        return torch.tensor([[len(t), t.count("e"), 1] for t in texts], dtype=torch.float64)


def annotator(model):
    return Annotator("toy", model, VlmCard("toy"), "0" * 64)


def test_rows_have_unit_length_and_are_ordinary_float32():
    toy = annotator(Toy())
    images = toy.embed_images(torch.stack([toy.view(FILM), 0.5 * toy.view(FILM)]))
    texts = toy.embed_texts(["mass", "an effusion"])
    for rows in (images, texts):
        assert rows.dtype == torch.float32
        assert not rows.is_inference()
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(images[1], torch.tensor([1.0, 3.0, 0.0]) / 10**0.5)
    torch.testing.assert_close(texts[0], torch.tensor([4.0, 0.0, 1.0]) / 17**0.5)
    assert toy.view(FILM).dtype == torch.float32


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_texts_keep_their_order_whatever_the_batch(batch_size):
    model = Toy()
    texts = ["effusion on the left", "mass", "no finding", "mass", "edema", "a"]
    rows = annotator(model).embed_texts(texts, batch_size)
    expected = torch.tensor([[len(t), t.count("e"), 1] for t in texts], dtype=torch.float32)
    torch.testing.assert_close(rows, expected / expected.norm(dim=1, keepdim=True))
    assert max(map(len, model.batches)) <= batch_size
    assert [t for batch in model.batches for t in batch] == sorted(texts, key=len)


def test_nothing_in_is_nothing_out():
    toy = annotator(Toy())
    check_vlm(toy)
    assert toy.d_embed == 3
    assert toy.embed_texts([]).shape == (0, 3)
    assert toy.embed_images(torch.zeros(0, 1, 6, 8)).shape == (0, 3)


@pytest.mark.parametrize(
    ("texts", "batch_size", "message"),
    [
        ("mass", 4, "got one string"),
        (["mass", " \n"], 4, "Text 1 of 2 is blank"),
        (["mass"], 0, "'batch_size' must be at least 1, got 0"),
    ],
)
def test_texts_that_mean_nothing_are_refused(texts, batch_size, message):
    with pytest.raises(InputError, match=message):
        annotator(Toy()).embed_texts(texts, batch_size)


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_a_row_without_direction_is_named(bad):
    model = Toy()
    model.encode_images = lambda images: torch.stack([torch.ones(3), torch.full((3,), bad)])
    kind = "zero" if bad == 0 else "not finite"
    with pytest.raises(VlmError, match=rf"toy has no direction for image 1 of the batch: its embedding is {kind}"):
        annotator(model).embed_images(torch.ones(2, 1, 6, 8))
    model.encode_texts = lambda texts: torch.full((len(texts), 3), bad)
    with pytest.raises(VlmError, match=r"no direction for the text 'mass'.*\(1 of 1\)"):
        annotator(model).embed_texts(["mass"])


@pytest.mark.parametrize(
    ("method", "result", "message"),
    [
        ("encode_images", torch.ones(3), r"must return \(1, d_embed\) for 1 images, got \(3,\)"),
        ("encode_images", [[1.0]], r"got list"),
        ("encode_texts", torch.ones(5, 3), r"must return \(2, d_embed\) for 2 texts, got \(5, 3\)"),
        ("preprocess", "picture", r"preprocess\(\) of toy must return a tensor, got str"),
    ],
)
def test_a_method_that_returns_something_else_is_named(method, result, message):
    model = Toy()
    setattr(model, method, lambda given: result)
    with pytest.raises(VlmError, match=message):
        check_vlm(annotator(model))


@pytest.mark.parametrize("method", ["preprocess", "encode_images", "encode_texts"])
def test_a_method_that_fails_is_named(method):
    def fail(given):
        raise ZeroDivisionError("no\ncare")

    model = Toy()
    setattr(model, method, fail)
    with pytest.raises(VlmError, match=rf"{method}\(\) of toy failed.*ZeroDivisionError: no care"):
        check_vlm(annotator(model))


def test_images_and_texts_must_share_one_space():
    model = Toy()
    model.encode_texts = lambda texts: torch.ones(len(texts), 5)
    with pytest.raises(VlmError, match="gave rows of 5, expected 3: images and texts must share one space"):
        check_vlm(annotator(model))


def test_a_model_whose_texts_depend_on_their_neighbours_gets_them_one_at_a_time():
    class Leaky(Toy):
        def encode_texts(self, texts):
            rows = super().encode_texts(texts)
            rows[:, 2] = max(map(len, texts))
            return rows

    leaky = annotator(Leaky())
    check_vlm(leaky)
    assert leaky.text_batch == 1
    assert "with the texts beside it" in leaky.notes[0]
    torch.testing.assert_close(leaky.embed_texts(["mass", "an effusion"])[:1], leaky.embed_texts(["mass"]))
    steady = annotator(Toy())
    check_vlm(steady)
    assert (steady.text_batch, steady.notes) == (64, [])


def test_texts_that_cannot_be_told_apart_are_noted():
    model = Toy()
    model.encode_texts = lambda texts: torch.ones(len(texts), 3)
    same = annotator(model)
    check_vlm(same)
    assert "two different texts get the same embedding" in same.notes[0]


def test_the_fingerprint_sees_what_preprocess_does():
    def checked(model):
        one = annotator(model)
        check_vlm(one)
        return one.fingerprint

    other = Toy()
    other.preprocess = lambda image: 0.5 * Toy().preprocess(image)
    assert checked(Toy()) == checked(Toy())
    assert checked(Toy()) != checked(other)
