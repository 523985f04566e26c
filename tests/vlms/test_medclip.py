"""MedCLIP loads from files in its published layout, computes what they say, and refuses what it is not."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.published import clinical, flair, medclip
from tests.published.vlm_row import TEXTS, largest, measure

from mammi.errors import VlmError
from mammi.types import Film
from mammi.vlms import create_vlm
from mammi.vlms.medclip import medclip_view

pytest.importorskip("transformers")
pytest.importorskip("torchvision")
HEAD = "text_model.projection_head.weight"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Tiny files of both variants, each in a folder with its vocabulary."""
    folders = {}
    for variant in ("vit", "resnet"):
        folders[variant] = tmp_path_factory.mktemp(variant)
        medclip.make(folders[variant], "tiny", variant)
    return folders


@pytest.fixture
def copy(published, tmp_path):
    """A folder of the Swin-T to be changed, and its tensors."""
    folder = shutil.copytree(published["vit"], tmp_path / "copy")
    return folder, torch.load(folder / medclip.FILE, weights_only=True)


@pytest.mark.parametrize("row", medclip.ROWS, ids=lambda row: row.name)
def test_equals_a_forward_written_anew(row, tmp_path):
    found = measure(row, tmp_path, "tiny")
    assert all(found[column] < 1e-5 for column in ("images", "texts", "batch", "padding"))
    assert found["alone"] == row.alone


def test_the_written_names_are_as_many_as_published(monkeypatch):
    narrow = {"full": ((12, 64, 200), (4, (2, 2, 6, 2), (1, 1, 1, 1)), ((3, 4, 6, 3), 1), 3)}
    monkeypatch.setattr(medclip, "SIZES", narrow)
    swin, resnet = medclip.make_state("vit", "full"), medclip.make_state("resnet", "full")
    assert (len(swin), len(resnet)) == (434, 521)
    assert sum(name.startswith("text_model.model.") for name in swin) == 200
    assert sum(name.startswith("vision_model.model.") for name in swin) == 231
    assert sum(name.startswith("vision_model.model.") for name in resnet) == 319


@pytest.mark.parametrize("shape", [(300, 251), (180, 500), (90, 61), (224, 224), (150, 400, 3)])
def test_the_view_is_the_published_one(shape):
    levels = np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)
    picture = Image.fromarray(levels)
    assert medclip_view(picture).shape == (1, 224, 224)
    assert (medclip_view(picture) - medclip.view(picture)).abs().max() < 1e-6


def test_a_small_film_lies_in_the_middle_of_black():
    view = medclip_view(Image.fromarray(np.full((100, 50), 255, dtype=np.uint8)))[0]
    white = view > 1
    assert white[62:162, 87:137].all()
    assert white.sum() == 100 * 50
    assert torch.isclose(view[0, 0], torch.tensor(-0.5862785803 / 0.2795008897))


def test_pictures_and_texts_differ(published):
    annotator = create_vlm(f"medclip:{published['vit']}")
    noise = np.random.default_rng(2)
    films = [Film(noise.random(shape, dtype=np.float32)) for shape in ((200, 220), (240, 180))]
    rows = annotator.embed_images(torch.stack([annotator.view(film) for film in films]))
    assert rows.shape == (2, 24)
    assert largest(rows[:1], rows[1:]) > 1e-2
    texts = annotator.embed_texts(list(TEXTS))
    assert largest(texts[:2], texts[1:]) > 1e-2


def test_in_a_batch_padding_counts_as_published(published):
    """The trap itself: the model as its authors wrote it means over the padding too."""
    folder = published["vit"]
    annotator = create_vlm(f"medclip:{folder}")
    state = torch.load(folder / medclip.FILE, weights_only=True)
    lengths = [len(clinical.word_pieces(folder, text)) for text in TEXTS]
    padded = [
        clinical.text_rows(state, folder, [text], padding=max(lengths) - length)
        for text, length in zip(TEXTS, lengths, strict=True)
    ]
    expected = torch.cat(padded) @ state[HEAD].T
    with torch.inference_mode():
        together = annotator.model.encode_texts(list(TEXTS))
    assert largest(together, expected) < 1e-5
    assert largest(together, annotator.embed_texts(list(TEXTS))) > 1e-2
    assert any("padding" in note for note in annotator.notes)


@pytest.mark.parametrize("variant", ["vit", "resnet"])
def test_the_masked_mean_is_that_of_a_text_alone(published, variant):
    file = published[variant] / medclip.FILE
    plain, masked = create_vlm(f"medclip:{file}"), create_vlm(f"medclip:masked@{file}")
    assert (plain.text_batch, masked.text_batch) == (1, 64)
    assert plain.fingerprint != masked.fingerprint
    assert largest(plain.embed_texts(list(TEXTS)), masked.embed_texts(list(TEXTS))) < 1e-5
    with torch.inference_mode():
        together = masked.model.encode_texts(list(TEXTS))
    assert largest(together, masked.embed_texts(list(TEXTS))) < 1e-5


def test_texts_are_lower_cased_and_cut(published):
    annotator = create_vlm(f"medclip:masked@{published['vit'] / medclip.FILE}")
    long = " ".join(["x"] * 75)
    rows = annotator.embed_texts(["Mass", "mass", long, f"{long} effusion"])
    assert torch.equal(rows[0], rows[1])
    torch.testing.assert_close(rows[2], rows[3], atol=1e-6, rtol=0)
    assert "1 texts are longer" in annotator.notes[-1]


def test_a_folder_and_a_relative_path_are_found(published, monkeypatch):
    monkeypatch.chdir(published["resnet"])
    annotator = create_vlm(f"medclip:masked@{medclip.FILE}")
    assert annotator.source["spec"] == f"medclip:masked@{published['resnet'] / medclip.FILE}"
    assert create_vlm("medclip:.").d_embed == 24


def refused(spec):
    with pytest.raises(VlmError) as caught:
        create_vlm(str(spec))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_flair_is_not_medclip(tmp_path):
    flair.make(tmp_path, "tiny")
    assert "is it FLAIR's? Then give 'flair:FILE'" in refused(f"medclip:{tmp_path}")


def test_another_checkpoint_is_refused(copy):
    folder, _ = copy
    torch.save({"visual.conv1.weight": torch.zeros(3, 3), "ln_final.bias": torch.zeros(2)}, folder / medclip.FILE)
    message = refused(f"medclip:{folder}")
    assert "is no checkpoint of MedCLIP: expected" in message
    assert "among its 2 tensors" in message


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("vision_model.projection_head.", "nothing under 'vision_model.projection_head.'"),
        ("text_model.model.", "nothing under 'text_model.model.'"),
        ("text_model.model.encoder.layer.2.output.LayerNorm.bias", "encoder.layer.2.output.LayerNorm.bias"),
        ("vision_model.model.encoder.layers.1.blocks.0.layernorm_after", "2 missing: encoder.layers.1"),
        ("vision_model.model.encoder.layers.0.blocks.0.attention.self.relative_position_bias", "no Swin image tower"),
        ("text_model.model.encoder.layer.0.intermediate", "no BERT text tower"),
    ],
)
def test_an_incomplete_file_is_refused(copy, part, message):
    folder, state = copy
    state = {name: value for name, value in state.items() if not name.startswith(part)}
    torch.save(state, folder / medclip.FILE)
    assert message in refused(f"medclip:{folder}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("image_encoder.resnet.bn1.bias", "1 tensors that MedCLIP (Swin-T) has not, such as"),
        ("text_model.projection_head.bias", "unexpected: bias"),
        ("vision_model.model.encoder.layers.0.blocks.0.attention.self.query.gate", "unexpected"),
    ],
)
def test_a_tensor_too_many_is_refused(copy, name, message):
    folder, state = copy
    torch.save(state | {name: torch.zeros(24)}, folder / medclip.FILE)
    assert message in refused(f"medclip:{folder}")


def test_images_and_texts_of_unequal_width_are_refused(copy):
    folder, state = copy
    torch.save(state | {HEAD: state[HEAD][:20].clone()}, folder / medclip.FILE)
    assert "must share one space" in refused(f"medclip:{folder}")


def test_a_text_tower_of_one_layer_is_refused(copy):
    folder, state = copy
    cut = {n: v for n, v in state.items() if ".encoder.layer.1." not in n and ".encoder.layer.2." not in n}
    torch.save(cut, folder / medclip.FILE)
    assert "has one layer" in refused(f"medclip:{folder}")


def test_a_resnet_without_its_projection_is_refused(published, tmp_path):
    state = medclip.make_state("resnet", "tiny")
    del state["vision_model.model.fc.weight"]
    torch.save(state, tmp_path / medclip.FILE)
    shutil.copy(published["vit"] / "vocab.txt", tmp_path)
    assert "has no 'fc.weight'" in refused(f"medclip:{tmp_path}")


def test_a_truncated_file_is_refused(copy):
    folder, _ = copy
    file = folder / medclip.FILE
    file.write_bytes(file.read_bytes()[:20000])
    assert "truncated" in refused(f"medclip:{folder}")


class Code:
    def __reduce__(self):
        return Path.touch, (Path("touched"),)


def test_a_pickle_with_code_is_refused_and_not_run(copy, monkeypatch):
    folder, _ = copy
    monkeypatch.chdir(folder)
    (folder / medclip.FILE).write_bytes(pickle.dumps({"weight": Code()}))
    assert "could run code, so it was not opened" in refused(f"medclip:{folder}")
    assert not (folder / "touched").exists()


def test_a_missing_vocabulary_is_refused(copy, no_network):
    folder, _ = copy
    (folder / "vocab.txt").unlink()
    message = refused(f"medclip:{folder}")
    assert "put the vocab.txt of 'emilyalsentzer/Bio_ClinicalBERT' beside 'pytorch_model.bin'" in message
    assert no_network == ["emilyalsentzer/Bio_ClinicalBERT"]


def test_another_vocabulary_is_refused(copy):
    folder, _ = copy
    clinical.write_vocabulary(folder, 230)
    assert "has 230 words, the text tower 240: it is another model's" in refused(f"medclip:{folder}")


def test_names_that_mean_nothing_are_refused(published, tmp_path, no_network):
    file = published["vit"] / medclip.FILE
    assert "no variant 'mask': give 'medclip:FILE' or 'medclip:masked@FILE'" in refused(f"medclip:mask@{file}")
    assert "names no weights" in refused("medclip:")
    assert "there is no file 'nobody/medclip': MedCLIP is on no hub" in refused("medclip:nobody/medclip")
    assert no_network == []
    archive = tmp_path / "medclip-vit-pretrained.zip"
    archive.write_bytes(b"PK\x05\x06" + bytes(18))
    assert "is an archive: unpack it" in refused(f"medclip:{archive}")
