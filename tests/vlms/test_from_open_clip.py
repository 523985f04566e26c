import json
import logging
import shutil

import numpy as np
import pytest
import torch
from tests.published import chexzero
from torch.nn.functional import normalize

from mammi.errors import UnknownNameError, VlmError
from mammi.types import Film
from mammi.vlms import create_vlm

open_clip = pytest.importorskip("open_clip")

TEXTS = ["mass", "a chest film of a mass", "frontal", "left with small mass"]
START, END = 49406, 49407


def square_film():
    return Film(np.random.default_rng(3).random((32, 32), dtype=np.float32), bits=16)


def by_hand(folder, **settings):
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    model = open_clip.CLIP(**config, **settings)
    model.load_state_dict(torch.load(folder / "open_clip_pytorch_model.bin", weights_only=True))
    return model.eval()


def test_images_are_embedded_as_by_hand(open_clip_folder):
    annotator = create_vlm(f"open_clip:local-dir:{open_clip_folder}")
    film = square_film()
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
    pixels = (torch.from_numpy(np.round(film.pixels * 255) / 255)[None] - mean) / std
    torch.testing.assert_close(annotator.view(film), pixels, atol=1e-5, rtol=0)
    with torch.no_grad():
        expected = normalize(by_hand(open_clip_folder).visual(pixels[None]), dim=1)
    torch.testing.assert_close(annotator.embed_images(pixels[None]), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_texts_are_embedded_as_by_hand(open_clip_folder, batch_size):
    annotator = create_vlm(f"open_clip:{open_clip_folder}")
    model = by_hand(open_clip_folder)
    vocabulary = open_clip.SimpleTokenizer().encoder
    rows = annotator.embed_texts(TEXTS, batch_size)
    for text, row in zip(TEXTS, rows, strict=True):
        ids = [START, *(vocabulary[f"{word}</w>"] for word in text.split()), END]
        with torch.no_grad():
            expected = model.encode_text(torch.tensor([ids + [0] * (16 - len(ids))]))
        torch.testing.assert_close(row, normalize(expected, dim=1)[0], atol=1e-5, rtol=0)


def test_a_hugging_face_text_tower_is_found_in_the_folder(tower_folder, no_network):
    annotator = create_vlm(f"open_clip:{tower_folder}")
    assert no_network == []
    alone = torch.cat([annotator.embed_texts([text]) for text in TEXTS])
    torch.testing.assert_close(annotator.embed_texts(TEXTS), alone, atol=1e-5, rtol=0)
    assert float((alone[0] - alone[1]).abs().max()) > 1e-3
    annotator.embed_texts(["mass " * 40])
    assert "were cut" in annotator.notes[-1]


def test_a_text_tower_that_is_nowhere_is_said(tower_folder, tmp_path, no_network):
    folder = shutil.copytree(tower_folder, tmp_path / "copy")
    shutil.rmtree(folder / "tiny-bert")
    with pytest.raises(VlmError, match=r"The text tower of .*or put it at '.*tiny-bert/config\.json'"):
        create_vlm(f"open_clip:{folder}")
    assert no_network == ["nobody/tiny-bert"]


def test_a_tokenizer_that_is_nowhere_is_said(tower_folder, tmp_path, no_network):
    folder = shutil.copytree(tower_folder, tmp_path / "copy")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(VlmError, match=r"The tokenizer of .*could not be downloaded.*give its folder"):
        create_vlm(f"open_clip:{folder}")


def test_the_two_activations_differ_and_a_file_must_say_which(open_clip_folder, architectures):
    file = open_clip_folder / "open_clip_pytorch_model.bin"
    message = (
        r"tiny comes with GELU and with QuickGELU.*no tensor tells which.*open_clip:tiny-quickgelu@FILE.*tiny-gelu@"
    )
    with pytest.raises(VlmError, match=message) as caught:
        create_vlm(f"open_clip:tiny@{file}")
    assert "\n" not in str(caught.value)
    plain = create_vlm(f"open_clip:tiny-gelu@{file}")
    quick = create_vlm(f"open_clip:tiny-quickgelu@{file}")
    assert plain.notes == quick.notes == []
    assert plain.fingerprint != quick.fingerprint
    view = quick.view(square_film())[None]
    for annotator, setting in ((plain, False), (quick, True)):
        with torch.no_grad():
            expected = normalize(by_hand(open_clip_folder, quick_gelu=setting).encode_image(view), dim=1)
        torch.testing.assert_close(annotator.embed_images(view), expected, atol=1e-5, rtol=0)
    assert float((plain.embed_images(view) - quick.embed_images(view)).abs().max()) > 1e-3


def test_a_file_of_openais_class_is_refused_for_the_plain_architecture(tmp_path):
    chexzero.write(tmp_path, "tiny", 1)
    file = next(tmp_path.glob("*.pt"))
    with pytest.raises(VlmError, match=r"in the order in which OpenAI's class writes them, which has QuickGELU only"):
        create_vlm(f"open_clip:ViT-B-32@{file}")


def test_a_plain_architecture_that_is_meant_is_noted_for_a_file_of_openais_class(
    open_clip_folder, architectures, tmp_path
):
    state = torch.load(open_clip_folder / "open_clip_pytorch_model.bin", weights_only=True)
    parts = ("attn", "ln_1", "mlp", "ln_2")
    order = sorted(state, key=lambda name: [part in name for part in parts].index(True) if "resblocks.0" in name else 9)
    torch.save({name: state[name] for name in order}, tmp_path / "weights.pt")
    assert (
        "in the order in which OpenAI's class" in create_vlm(f"open_clip:tiny-gelu@{tmp_path / 'weights.pt'}").notes[0]
    )
    assert create_vlm(f"open_clip:tiny-quickgelu@{tmp_path / 'weights.pt'}").notes == []


def test_weights_can_be_given_apart(open_clip_folder, architectures):
    file = open_clip_folder / "open_clip_pytorch_model.bin"
    apart = create_vlm("open_clip:tiny-gelu", weights=file)
    assert apart.fingerprint == create_vlm(f"open_clip:tiny-gelu@{file}").fingerprint


def test_too_long_texts_are_cut_with_a_note(open_clip_folder):
    annotator = create_vlm(f"open_clip:{open_clip_folder}")
    annotator.embed_texts(["mass " * 14])
    assert annotator.notes == []
    annotator.embed_texts(["mass " * 15, "mass"])
    assert annotator.notes[0].startswith("1 texts are longer")


def test_the_root_logger_is_left_as_it_was(open_clip_folder):
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.setLevel(logging.INFO)
    try:
        create_vlm(f"open_clip:{open_clip_folder}")
        assert (list(root.handlers), root.level) == (handlers, logging.INFO)
    finally:
        root.setLevel(level)


def drop(name):
    return lambda folder: (folder / name).unlink()


def cut(folder):
    path = folder / "open_clip_pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:5000])


def half_the_tensors(folder):
    path = folder / "open_clip_pytorch_model.bin"
    state = torch.load(path, weights_only=True)
    torch.save({k: v for k, v in state.items() if k.startswith("visual")}, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("open_clip_config.json"), r"is incomplete, without open_clip_config\.json"),
        (drop("open_clip_pytorch_model.bin"), r"is incomplete, without open_clip_model\.safetensors or"),
        (lambda f: (f / "open_clip_config.json").write_text("{}"), r"is not an open_clip configuration"),
        (cut, r"truncated|cannot be loaded"),
        (half_the_tensors, r"cannot be loaded from .*Missing key"),
    ],
)
def test_half_a_folder_is_said_in_one_line(open_clip_folder, tmp_path, change, message, no_network):
    folder = shutil.copytree(open_clip_folder, tmp_path / "copy")
    change(folder)
    with pytest.raises(VlmError, match=message) as caught:
        create_vlm(f"open_clip:{folder}")
    assert "\n" not in str(caught.value)
    assert no_network == []


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        ("open_clip:ViT-B-33@x.pt", UnknownNameError, r"Did you mean 'ViT-B-32'\?"),
        ("open_clip:ViT-B-32", VlmError, r"needs weights: give 'open_clip:ViT-B-32@FILE', or a tag \(openai"),
        ("open_clip:ViT-B-32@nowhere.pt", VlmError, r"no file 'nowhere\.pt', and ViT-B-32 has no such tag"),
        ("open_clip:ViT-B-32@openia", VlmError, r"Did you mean the tag 'openai'\?"),
        ("open_clip:ViT-B-32@openai", VlmError, r"another activation.*give 'open_clip:ViT-B-32-quickgelu@openai'"),
        ("open_clip:ViT-B-32@laion2b_e16", VlmError, r"could not be downloaded.*give 'open_clip:ViT-B-32@FILE'"),
        ("open_clip:hf-hub:nobody/nothing", VlmError, r"not stored here and could not be downloaded.*give its folder"),
        ("open_clip:local-dir:nowhere", VlmError, r"no folder 'nowhere'"),
    ],
)
def test_a_wrong_spec_is_said_in_one_line(spec, kind, message, no_network):
    with pytest.raises(kind, match=message) as caught:
        create_vlm(spec)
    assert "\n" not in str(caught.value)
