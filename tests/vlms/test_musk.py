"""MUSK: both ways equal to a forward written anew with the published names, and wrong files are refused."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tests.published import musk
from tests.published.vlm_row import TEXTS, measure

from mammi.errors import VlmError
from mammi.types import Film
from mammi.vlms import create_vlm

pytest.importorskip("transformers")
pytest.importorskip("torchvision")
safetensors = pytest.importorskip("safetensors.torch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("musk")
    musk.make(made, "tiny")
    return made


@pytest.fixture(scope="module")
def vlm(folder):
    return create_vlm(f"musk:{folder}")


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def change(folder, edit):
    state = safetensors.load_file(folder / musk.FILE)
    edit(state)
    safetensors.save_file(state, folder / musk.FILE)


def test_equals_an_independent_forward(tmp_path):
    found = measure(musk.ROWS[0], tmp_path, "tiny")
    assert max(found[name] for name in ("images", "texts", "batch", "padding")) < 1e-5
    assert not found["alone"]


def test_rows_tell_texts_apart(vlm):
    assert torch.pdist(vlm.embed_texts(list(TEXTS))).min() > 0.05


def test_a_long_text_is_cut_as_published(vlm, folder):
    long = "left mass " * 60
    theirs = torch.nn.functional.normalize(musk.texts(folder, [long]))
    assert (vlm.embed_texts([long]) - theirs).abs().max() < 1e-5
    assert any("were cut" in note for note in vlm.notes)


@pytest.mark.parametrize("size", [(60, 52), (37, 130), (20, 31)])
def test_preprocessing_equals_the_published_one(vlm, size):
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    ours = vlm.view(Film(pixels.astype(np.float32) / 255))
    assert (ours - musk.view(Image.fromarray(pixels), 48)).abs().max() < 1e-6


def test_a_torch_file_of_half_precision_loads(vlm, copied):
    state = safetensors.load_file(copied / musk.FILE)
    (copied / musk.FILE).unlink()
    torch.save({"model": {name: value.half() for name, value in state.items()}}, copied / "musk.pth")
    half = create_vlm(f"musk:{copied}")
    assert half.embed_texts(["mass"]).dtype == torch.float32
    assert (half.embed_texts(["mass"]) - vlm.embed_texts(["mass"])).abs().max() < 0.02


@pytest.mark.parametrize(
    ("lost", "way"),
    [
        ("beit3.encoder.layers.1.self_attn.q_proj.A.bias", "A, of images"),
        ("beit3.encoder.layers.0.ffn.B.ffn_layernorm.weight", "B, of texts"),
    ],
)
def test_every_tensor_is_accounted_for(copied, lost, way):
    change(copied, lambda state: state.pop(lost))
    short = lost.removeprefix("beit3.encoder.").replace(".A.", ".").replace(".B.", ".")
    with pytest.raises(VlmError, match=rf"way {way}.*1 missing: {short}"):
        create_vlm(f"musk:{copied}")


def test_a_tensor_too_many_is_refused(copied):
    change(copied, lambda state: state.update({"beit3.encoder.output_projection.weight": torch.zeros(3)}))
    with pytest.raises(VlmError, match="1 unexpected: output_projection.weight"):
        create_vlm(f"musk:{copied}")


def test_another_model_is_refused(copied):
    safetensors.save_file({"visual.conv1.weight": torch.zeros(4, 3, 8, 8)}, copied / musk.FILE)
    with pytest.raises(VlmError, match="no checkpoint of MUSK: without 'beit3.text_embed.weight'"):
        create_vlm(f"musk:{copied}")


def test_a_missing_tokenizer_is_refused_with_how_to_make_it(copied):
    (copied / musk.TOKENIZER).unlink()
    (copied / "tokenizer.spm").write_bytes(b"pieces")
    with pytest.raises(VlmError, match="put 'tokenizer.json' beside 'model.safetensors'.*'tokenizer.spm', once"):
        create_vlm(f"musk:{copied}")


def test_another_tokenizer_is_refused(copied):
    musk.tokenizer(150).save(str(copied / musk.TOKENIZER))
    with pytest.raises(VlmError, match="has 142 words, but 'model.safetensors' embeds 120 words"):
        create_vlm(f"musk:{copied}")
    text = musk.tokenizer(120).to_str().replace('"<pad>"', '"<PAD>"')
    (copied / musk.TOKENIZER).write_text(text)
    with pytest.raises(VlmError, match="its '<pad>' is not word 1: it is another model's"):
        create_vlm(f"musk:{copied}")


def test_damaged_files_are_refused(copied):
    whole = (copied / musk.FILE).read_bytes()
    (copied / musk.TOKENIZER).write_text("{")
    with pytest.raises(VlmError, match="cannot be loaded from"):
        create_vlm(f"musk:{copied}")
    (copied / musk.FILE).write_bytes(whole[:-300])
    with pytest.raises(VlmError, match="not a whole safetensors file"):
        create_vlm(f"musk:{copied}")
    torch.save({"model": torch.nn.Linear(2, 2)}, copied / "musk.pth")
    with pytest.raises(VlmError, match="could run code"):
        create_vlm(f"musk:{copied / 'musk.pth'}")


def test_the_hub_is_not_asked_for_what_is_behind_terms(no_network):
    with pytest.raises(VlmError, match="accept the terms of 'xiangjx/musk'"):
        create_vlm("musk:xiangjx/musk")
    assert not no_network
