"""What is left out of open_clip's work changes no embedding; where it would, it is not left out."""

import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from mammi.vlms import create_vlm
from mammi.vlms.savings import can_be_cut, cut, encode_cut, takes_grey

from .conftest import open_clip_config, stir

open_clip = pytest.importorskip("open_clip")

TEXTS = ["mass", "a chest film of a mass", "frontal", "left with small mass", "mass " * 40]
START, END = 49406, 49407


def tokens(*lengths, context=16, pad=0):
    generator = torch.Generator().manual_seed(0)
    rows = torch.full((len(lengths), context), pad)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.tensor([START, *torch.randint(300, 5000, (length - 2,), generator=generator), END])
    return rows


def custom(**text):
    return stir(open_clip.CustomTextCLIP(**open_clip_config(**text)))


@pytest.mark.parametrize(
    "model",
    [lambda: stir(open_clip.CLIP(**open_clip_config())), custom, lambda: custom(pool_type="eos", eos_id=END)],
    ids=["CLIP", "CustomTextCLIP", "read at its end"],
)
@pytest.mark.parametrize("spare", [0, 1])
def test_a_causal_tower_gives_the_same_without_padding(model, spare):
    model, rows = model(), tokens(4, 7, 3)
    assert can_be_cut(model, rows, 0, spare)
    short = cut(rows, 0, spare)
    assert short.shape == (3, 7 + spare)
    with torch.inference_mode():
        torch.testing.assert_close(
            normalize(encode_cut(model, short), dim=1), normalize(model.encode_text(rows), dim=1), atol=1e-5, rtol=1e-4
        )


def test_a_tower_that_looks_at_padding_is_left_its_padding():
    rows = tokens(4, 7, 3)
    assert not can_be_cut(custom(no_causal_mask=True, pool_type="last"), rows, 0, 1)  # as SigLIP
    assert not can_be_cut(custom(embed_cls=True), rows, 0, 1)  # as CoCa
    assert not can_be_cut(custom(no_causal_mask=True, pool_type="argmax"), rows, 0, 1)
    assert not can_be_cut(custom(), rows, None, 1)


def test_a_tower_that_is_not_what_it_looks_like_is_found_out_by_trying():
    model = custom()
    model.text.attn_mask.zero_()  # every token sees every other, padding too
    assert not can_be_cut(model, tokens(4, 7, 3), 0, 1)


def test_the_end_may_be_written_with_the_padding():
    """Where texts are padded with the token that ends them, one such column must stay."""
    rows = tokens(4, 7, 3, pad=END)
    assert cut(rows, END, 1).shape == (3, 7)
    assert can_be_cut(custom(), rows, END, 1)
    full = tokens(16, 5)
    assert cut(full, 0, 1).shape == (2, 16)


@pytest.mark.parametrize("folder", ["open_clip_folder", "tower_folder"])
def test_loaded_models_cut_and_embed_as_before(folder, request):
    annotator = create_vlm(f"open_clip:{request.getfixturevalue(folder)}")
    vlm = annotator.model
    assert vlm.cuts_texts
    with torch.inference_mode():
        whole = normalize(vlm.model.encode_text(vlm.tokenizer(TEXTS)), dim=1)
    torch.testing.assert_close(annotator.embed_texts(TEXTS), whole, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(annotator.embed_texts(TEXTS[::-1]), whole.flip(0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_grey_film_is_resized_once_to_the_same_bits(mode, interpolation):
    transform = open_clip.image_transform(48, is_train=False, resize_mode=mode, interpolation=interpolation)
    assert takes_grey(transform)
    for size in ((301, 257), (31, 40)):
        grey = Image.frombytes("L", size, torch.randint(0, 256, size, dtype=torch.uint8).numpy().tobytes())
        assert torch.equal(transform(grey), transform(grey.convert("RGB")))


def test_a_transform_that_needs_colour_gets_it(open_clip_folder):
    def colourful(image):
        return torch.tensor([len(image.getbands())])

    def refuses(image):
        raise ValueError(image.mode)

    assert not takes_grey(colourful)
    assert not takes_grey(refuses)
    vlm = create_vlm(f"open_clip:{open_clip_folder}").model
    assert vlm.takes_grey
    vlm.transform, vlm.takes_grey = colourful, False
    assert vlm.preprocess(Image.new("L", (9, 9))).item() == 3
