"""CONCH: equal to a forward written anew, its mask of one place off and all, and wrong files are refused."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tests.published import conch
from tests.published.vlm_row import TEXTS, measure

from mammi.errors import VlmError
from mammi.types import Film
from mammi.vlms import create_vlm

pytest.importorskip("open_clip")
pytest.importorskip("timm")
pytest.importorskip("transformers")

LONG = "mass " * 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("conch")
    conch.make(made, "tiny")
    return made


@pytest.fixture(scope="module")
def vlm(folder):
    return create_vlm(f"conch:{folder}")


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def change(folder, edit):
    state = torch.load(folder / conch.FILE, weights_only=True)
    edit(state)
    torch.save(state, folder / conch.FILE)


def test_equals_an_independent_forward(tmp_path):
    found = measure(conch.ROWS[0], tmp_path, "tiny")
    assert max(found[name] for name in ("images", "texts", "batch", "padding")) < 1e-5
    assert not found["alone"]


def test_rows_tell_texts_apart(vlm):
    assert torch.pdist(vlm.embed_texts(list(TEXTS))).min() > 0.05


@pytest.mark.parametrize("size", [(60, 52), (37, 130), (20, 31)])
def test_preprocessing_equals_the_published_one(vlm, size):
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    ours = vlm.view(Film(pixels.astype(np.float32) / 255))
    assert (ours - conch.view(Image.fromarray(pixels), 48)).abs().max() < 1e-6


def test_a_text_of_all_places_is_cut_and_its_class_token_sees_itself(vlm, folder):
    cut, notes = vlm.embed_texts([LONG]), list(vlm.notes)
    assert any("were cut" in note for note in notes)
    shorter = "mass " * 18  # 18 words of 5 bytes and two ends: 92 of 95 places
    assert (
        vlm.embed_texts([shorter]) - torch.nn.functional.normalize(conch.texts(folder, [shorter]))
    ).abs().max() < 1e-5
    full = "mass " * 18 + "ab"  # 95 of 95
    ours = vlm.embed_texts([full])
    assert (ours - torch.nn.functional.normalize(conch.texts(folder, [full]))).abs().max() < 1e-5
    assert (cut - ours).abs().max() > 1e-3


def test_a_decoder_and_a_prefix_are_taken_off(vlm, copied):
    change(copied, lambda s: s.update({"text_decoder.ln_final.weight": torch.ones(3)}))
    state = torch.load(copied / conch.FILE, weights_only=True)
    torch.save({"state_dict": {f"module.{name}": v for name, v in state.items()}}, copied / conch.FILE)
    assert create_vlm(f"conch:{copied / conch.FILE}").fingerprint == vlm.fingerprint


def test_other_positions_are_noted(vlm):
    assert any("positions are for films of 48 pixels, not the published 448" in note for note in vlm.notes)


@pytest.mark.parametrize("lost", ["visual.trunk.blocks.1.attn.qkv.bias", "text.transformer.resblocks.0.ln_2.weight"])
def test_every_tensor_is_accounted_for(copied, lost):
    change(copied, lambda state: state.pop(lost))
    with pytest.raises(VlmError, match=f"1 missing: {lost}"):
        create_vlm(f"conch:{copied}")


def test_a_tensor_too_many_is_refused(copied):
    change(copied, lambda state: state.update({"visual.trunk.blocks.0.ls1.gamma": torch.zeros(3)}))
    with pytest.raises(VlmError, match="1 unexpected: visual.trunk.blocks.0.ls1.gamma"):
        create_vlm(f"conch:{copied}")


def test_another_model_is_refused(copied):
    torch.save({"visual.conv1.weight": torch.zeros(4, 3, 8, 8)}, copied / conch.FILE)
    with pytest.raises(VlmError, match="no checkpoint of CONCH: without 'visual.trunk.pos_embed'"):
        create_vlm(f"conch:{copied}")


def test_a_missing_tokenizer_is_refused(copied):
    (copied / conch.TOKENIZER).unlink()
    with pytest.raises(VlmError, match="its tokenizer is missing: put 'conch_byte_level_bpe_uncased.json'"):
        create_vlm(f"conch:{copied}")


def test_another_tokenizer_is_refused(copied):
    text = (
        (copied / conch.TOKENIZER).read_text().replace('"\\u0120unused0": ', '"\\u0120more": 300, "\\u0120unused0": ')
    )
    (copied / conch.TOKENIZER).write_text(text)
    with pytest.raises(VlmError, match="has 301 words and 'pytorch_model.bin' embeds 300"):
        create_vlm(f"conch:{copied}")


def test_damaged_files_are_refused(copied):
    whole = (copied / conch.FILE).read_bytes()
    (copied / conch.TOKENIZER).write_text("{")
    with pytest.raises(VlmError, match="cannot be loaded from"):
        create_vlm(f"conch:{copied}")
    (copied / conch.FILE).write_bytes(whole[:-300])
    with pytest.raises(VlmError, match="truncated"):
        create_vlm(f"conch:{copied}")
    torch.save({"model": torch.nn.Linear(2, 2)}, copied / conch.FILE)
    with pytest.raises(VlmError, match="could run code"):
        create_vlm(f"conch:{copied}")


def test_the_hub_is_not_asked_for_what_is_behind_terms(no_network):
    with pytest.raises(VlmError, match="accept the terms of 'MahmoodLab/conch'"):
        create_vlm("conch:MahmoodLab/conch")
    assert not no_network
