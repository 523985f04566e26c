import json
import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from mammi.errors import VlmError
from mammi.types import Film
from mammi.vlms import create_vlm

TEXTS = ["mass", "a chest film of a mass", "frontal", "left with small mass"]
WORDS = ["<pad>", "<unk>", "</s>", "a", "chest", "film", "of", "mass", "frontal", "radiograph", "with", "small", "left"]
MEAN = {
    "clip": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
    "siglip": ([0.5] * 3, [0.5] * 3),
}


def pixels_of(film, kind):
    """What a 32 x 32 film looks like to the model: 8 bits, three equal channels, its own mean and deviation."""
    mean, std = (np.array(v, dtype=np.float64)[:, None, None] for v in MEAN[kind])
    eight_bit = np.round(film.pixels * 255) / 255
    return torch.from_numpy(((eight_bit[None] - mean) / std).astype(np.float32))


def square_film():
    return Film(np.random.default_rng(3).random((32, 32), dtype=np.float32), bits=16)


@pytest.fixture(params=["clip", "siglip"])
def kind(request):
    return request.param


@pytest.fixture
def folder(request, kind):
    return request.getfixturevalue(f"{kind}_folder")


@pytest.fixture
def broken(folder, tmp_path):
    """A copy of the folder, to be broken."""
    return shutil.copytree(folder, tmp_path / "copy")


def raw_model(folder, kind):
    import transformers

    name = {"clip": "CLIPModel", "siglip": "SiglipModel"}[kind]
    return getattr(transformers, name).from_pretrained(folder).eval()


def test_images_are_embedded_as_by_hand(folder, kind):
    annotator = create_vlm(f"transformers:{folder}")
    film, model = square_film(), raw_model(folder, kind)
    view = annotator.view(film)
    torch.testing.assert_close(view, pixels_of(film, kind), atol=1e-5, rtol=0)
    with torch.no_grad():
        pooled = model.vision_model(pixel_values=pixels_of(film, kind)[None])[1]
        expected = model.visual_projection(pooled) if kind == "clip" else pooled
    torch.testing.assert_close(annotator.embed_images(view[None]), normalize(expected, dim=1), atol=1e-5, rtol=0)


def ids_by_hand(text, kind):
    """Token ids written out from the vocabulary the fixtures made."""
    if kind == "clip":
        letters = {c: i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz")}
        words = [[*(letters[c] for c in w[:-1]), 26 + letters[w[-1]]] for w in text.split()]
        return [52, *chain.from_iterable(words), 53]
    ids = [WORDS.index(word) for word in text.split()] + [2]
    return ids + [0] * (10 - len(ids))


def test_texts_are_embedded_as_by_hand(folder, kind):
    annotator = create_vlm(f"transformers:{folder}")
    model = raw_model(folder, kind)
    rows = annotator.embed_texts(TEXTS)
    for text, row in zip(TEXTS, rows, strict=True):
        with torch.no_grad():
            pooled = model.text_model(input_ids=torch.tensor([ids_by_hand(text, kind)]))[1]
            expected = model.text_projection(pooled) if kind == "clip" else pooled
        torch.testing.assert_close(row, normalize(expected, dim=1)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_a_text_does_not_depend_on_its_batch(folder, batch_size):
    annotator = create_vlm(f"transformers:{folder}")
    alone = torch.cat([annotator.embed_texts([text]) for text in TEXTS])
    torch.testing.assert_close(annotator.embed_texts(TEXTS, batch_size), alone, atol=1e-5, rtol=0)
    assert annotator.text_batch == 64
    assert float((alone[0] - alone[1]).abs().max()) > 0.01


def test_too_long_texts_are_cut_with_a_note(folder, kind):
    annotator = create_vlm(f"transformers:{folder}")
    word = "mass " if kind == "siglip" else "massmass "
    limit = 9 if kind == "siglip" else 3
    rows = annotator.embed_texts([word * (limit + 1), word * (limit + 9)])
    torch.testing.assert_close(rows[0], rows[1], atol=1e-5, rtol=0)
    assert "2 texts are longer than this model reads and were cut" in annotator.notes[-1]
    annotator.embed_texts([word * (limit + 9), word * (limit + 1)])
    quiet = create_vlm(f"transformers:{folder}")
    quiet.embed_texts(TEXTS)
    assert quiet.notes == []


def test_the_fingerprint_is_of_weights_processor_and_tokenizer(folder, broken, kind):
    first = create_vlm(f"transformers:{folder}").fingerprint
    assert create_vlm(f"transformers:{broken}").fingerprint == first
    settings = json.loads((broken / "preprocessor_config.json").read_text())
    (broken / "preprocessor_config.json").write_text(json.dumps(settings | {"image_mean": [0.1, 0.2, 0.3]}))
    assert create_vlm(f"transformers:{broken}").fingerprint != first


def test_a_colour_film_is_taken_too(folder):
    annotator = create_vlm(f"transformers:{folder}")
    film = Film(np.random.default_rng(0).random((40, 50, 3), dtype=np.float32))
    assert annotator.view(film).shape == (3, 32, 32)


def drop(name):
    return lambda folder: (folder / name).unlink()


def edit(name, **changes):
    def change(folder):
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))

    return change


def cut(name, share):
    def change(folder):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(len(whole) * share)])

    return change


def without_a_tensor(folder):
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    del state["text_model.encoder.layers.0.mlp.fc1.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("config.json"), r"is incomplete, without config\.json: download all of it again"),
        (drop("preprocessor_config.json"), r"is incomplete, without preprocessor_config\.json"),
        (drop("model.safetensors"), r"is incomplete, without model\.safetensors or pytorch_model\.bin"),
        (drop("tokenizer.json"), r"is incomplete, without tokenizer\.json or vocab\.json"),
        (cut("model.safetensors", 0.7), r"are truncated.*: download them again"),
        (cut("config.json", 0.5), r"config\.json' is not JSON"),
        (edit("config.json", model_type="bert"), r"is of type 'bert': expected clip or siglip or siglip2"),
        (without_a_tensor, r"lack 1 tensors, text_model\.encoder\.layers\.0\.mlp\.fc1\.weight"),
    ],
)
def test_half_a_folder_is_said_in_one_line(broken, change, message, no_network):
    change(broken)
    with pytest.raises(VlmError, match=message) as caught:
        create_vlm(f"transformers:{broken}")
    assert "\n" not in str(caught.value)
    assert no_network == []


def test_code_in_a_checkpoint_is_refused_and_never_run(clip_folder, tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.write_text, (tmp_path / "ran", "ran")

    folder = shutil.copytree(clip_folder, tmp_path / "copy")
    (folder / "model.safetensors").unlink()
    torch.save({"logit_scale": Bomb()}, folder / "pytorch_model.bin")
    with pytest.raises(VlmError, match="could run code, so they were not opened"):
        create_vlm(f"transformers:{folder}")
    assert not (tmp_path / "ran").exists()
