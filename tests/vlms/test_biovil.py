"""BioViL and BioViL-T: equal to a forward written anew, wherever patches are, and wrong files are refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tests.published import biovil
from tests.published.vlm_row import TEXTS, largest, measure, pictures

from mammi.capture import plan_layers, plan_maps
from mammi.errors import VlmError
from mammi.explain.receptive import cell_offset
from mammi.targets import create_target
from mammi.types import Film, PatchVlm
from mammi.vlms import create_vlm

pytest.importorskip("transformers")
pytest.importorskip("torchvision")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Both models in the published layout."""
    found = {}
    for with_time in (False, True):
        found[with_time] = tmp_path_factory.mktemp("biovil")
        biovil.make(found[with_time], "tiny", with_time)
    return found


@pytest.fixture(scope="module")
def both(folders):
    return {with_time: create_vlm(f"biovil:{folder}") for with_time, folder in folders.items()}


@pytest.fixture(scope="module", params=[False, True], ids=["biovil", "biovil-t"])
def with_time(request):
    return request.param


@pytest.fixture(scope="module")
def vlm(both, with_time):
    return both[with_time]


@pytest.fixture(scope="module")
def batch(vlm):
    return views(vlm)


@pytest.fixture(scope="module")
def patches(vlm, batch):
    with torch.no_grad():
        return vlm.model.encode_patches(batch)


@pytest.fixture
def copied(folders, tmp_path):
    """BioViL-T, to be spoilt."""
    folder = tmp_path / "copy"
    shutil.copytree(folders[True], folder)
    return folder


IMAGE = biovil.IMAGE[True]


def views(vlm):
    return torch.stack([vlm.view(Film(np.asarray(p, dtype=np.float32) / 255)) for p in pictures()])


def change(folder, name, edit):
    state = torch.load(folder / name, weights_only=True)
    edit(state)
    torch.save(state, folder / name)


@pytest.mark.parametrize("row", biovil.ROWS, ids=lambda row: row.name)
def test_equals_an_independent_forward(row, tmp_path):
    found = measure(row, tmp_path, "tiny")
    assert max(found[name] for name in ("images", "texts", "batch", "padding")) < 1e-5
    assert not found["alone"]


def test_rows_tell_films_and_texts_apart(vlm, patches):
    """Or the comparison would say nothing."""
    films, texts = patches.mean(dim=(2, 3)), vlm.embed_texts(list(TEXTS))
    films = torch.nn.functional.normalize(films, dim=1)
    assert torch.pdist(films).min() > 0.01
    assert torch.pdist(texts).min() > 0.1


@pytest.mark.parametrize("size", [(600, 520), (700, 480), (110, 90), (512, 512), (481, 1000)])
def test_preprocessing_equals_the_published_one(vlm, with_time, size):
    pixels = np.random.default_rng(1).integers(20, 231, size, dtype=np.uint8)
    side = 448 if with_time else 480
    ours, theirs = vlm.view(Film(pixels.astype(np.float32) / 255)), biovil.view(Image.fromarray(pixels), side)
    assert ours.shape == (3, side, side)
    assert (ours - theirs).abs().max() < 1e-6
    colour = Image.fromarray(np.random.default_rng(2).integers(9, 200, (*size, 3), dtype=np.uint8))
    assert (vlm.model.preprocess(colour) - biovil.view(colour, side)).abs().max() < 1e-6


def test_a_film_of_one_level_is_black(vlm):
    assert not vlm.view(Film(np.full((60, 50), 0.4, np.float32))).any()


def test_patches_are_the_published_ones_and_their_mean_is_the_film(vlm, with_time, folders, batch, patches):
    assert isinstance(vlm.model, PatchVlm)
    theirs = biovil.patches(folders[with_time], pictures()[:1], with_time)
    cells = 14 if with_time else 15
    assert patches.shape == (3, 12, cells, cells)
    assert (patches[:1] - theirs).abs().max() < 1e-5 * theirs.abs().max()
    assert largest(vlm.embed_images(batch[:1]), patches[:1].mean(dim=(2, 3))) < 1e-6


def test_similarity_maps_are_cosines_of_patches(vlm, with_time, folders, batch, patches, monkeypatch):
    monkeypatch.setattr("mammi.vlms.annotator.MAPPED", 2)  # three films in two parts
    maps = vlm.similarity_maps(batch, TEXTS[:2])
    rows = biovil.texts(folders[with_time], TEXTS[:2])
    assert maps.shape == (3, 2, *patches.shape[2:])
    for film, text, y, x in ((0, 0, 0, 0), (1, 1, 3, 11), (2, 0, 13, 7), (2, 1, 5, 6)):
        expected = torch.cosine_similarity(patches[film, :, y, x], rows[text], dim=0)
        assert maps[film, text, y, x] == pytest.approx(float(expected), abs=1e-5)
    assert maps.abs().max() <= 1
    assert maps.std(dim=(2, 3)).min() > 1e-3
    assert vlm.similarity_maps(batch[:0], ["mass"]).shape == (0, 1, 0, 0)
    # The law of a mean of patches: <mean p, e> = mean |p| cos(p, e).
    lengths = patches.norm(dim=1)[:, None]
    films = patches.mean(dim=(2, 3)) @ vlm.embed_texts(TEXTS[:2]).T
    assert torch.allclose(films, (maps * lengths).mean(dim=(2, 3)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(600, 520), (480, 700), (1024, 1024)])
def test_placement_is_where_a_film_comes_to_lie(vlm, height, width):
    """One bright square stands on the input where the placement says."""
    tall, wide, top, left = vlm.model.placement(height, width)
    film = np.zeros((height, width), np.float32)
    film[height // 2 : height // 2 + 40, width // 3 : width // 3 + 40] = 1
    view = vlm.view(Film(film))[0]
    rows, columns = (view > 0.5).nonzero(as_tuple=True)
    assert float(rows.float().mean()) + 0.5 == pytest.approx(top + (height // 2 + 20) * tall / height, abs=1)
    assert float(columns.float().mean()) + 0.5 == pytest.approx(left + (width // 3 + 20) * wide / width, abs=1)


def test_patches_look_where_the_offset_says(vlm):
    """Measured on the network itself, in the way that maps of targets are laid on films."""
    target = create_target(vlm.model.image.trunk, channels=3, size=(96, 128))
    found = cell_offset(target, plan_maps(target, plan_layers(target, ["7"]))[0])
    assert found == pytest.approx(vlm.model.patch_offset, abs=1)


def test_a_model_without_patches_says_so():
    phantom = create_vlm("phantom")
    view = phantom.view(Film(np.zeros((64, 64), np.float32)))
    with pytest.raises(VlmError, match="does not place patches in the space of its texts"):
        phantom.similarity_maps(view[None], ["mass"])


def test_marks_at_the_end_of_a_text_change_nothing(vlm):
    plain, marked = vlm.embed_texts(["left mass", "left mass."])
    assert torch.equal(plain, marked)
    inside = vlm.embed_texts(["left. mass"])[0]
    assert (plain - inside).abs().max() > 1e-3


def test_capitals_change_nothing(vlm):
    plain, loud = vlm.embed_texts(["left mass", "LEFT Mass"])
    assert torch.equal(plain, loud)


def test_a_file_finds_the_text_model_beside_it(both, folders, tmp_path):
    assert create_vlm(f"biovil:{folders[True] / IMAGE}").fingerprint == both[True].fingerprint
    shutil.copy(folders[True] / IMAGE, tmp_path / "mine.pt")
    shutil.copytree(folders[True], tmp_path / "BiomedVLP-BioViL-T")
    assert create_vlm(f"biovil:{tmp_path / 'mine.pt'}").fingerprint == both[True].fingerprint


def test_safetensors_without_the_shared_tensors_load(both, copied):
    from safetensors.torch import save_file

    state = torch.load(copied / "pytorch_model.bin", weights_only=True)
    for name in ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias", "bert.embeddings.position_ids"):
        del state[name]
    save_file({name: value.clone() for name, value in state.items()}, copied / "model.safetensors")
    (copied / "pytorch_model.bin").unlink()
    assert create_vlm(f"biovil:{copied}").fingerprint == both[True].fingerprint


def test_waves_of_older_files_are_dropped(copied, both):
    change(copied, IMAGE, lambda s: s.update({"encoder.vit_pooler.pos_embed": torch.zeros(1, 196, 16)}))
    assert create_vlm(f"biovil:{copied}").fingerprint == both[True].fingerprint


@pytest.mark.parametrize(
    "lost",
    ["encoder.vit_pooler.blocks.1.attn.proj_k.weight", "encoder.encoder.layer2.1.bn3.bias", "projector.model.1.weight"],
)
def test_every_tensor_of_the_image_file_is_accounted_for(copied, lost):
    kept = torch.load(copied / IMAGE, weights_only=True)[lost]
    change(copied, IMAGE, lambda state: state.pop(lost))
    with pytest.raises(VlmError, match=f"1 missing: {lost}"):
        create_vlm(f"biovil:{copied}")
    change(copied, IMAGE, lambda state: state.update({lost: kept, "more": torch.zeros(1)}))
    with pytest.raises(VlmError, match="1 unexpected: more"):
        create_vlm(f"biovil:{copied}")


def test_every_tensor_of_the_text_file_is_accounted_for(copied):
    change(copied, "pytorch_model.bin", lambda state: state.update({"classifier.weight": torch.zeros(1)}))
    with pytest.raises(VlmError, match=r"'pytorch_model.bin' does not fit.*classifier.weight"):
        create_vlm(f"biovil:{copied}")


def test_another_image_model_is_refused(copied):
    torch.save({"visual.conv1.weight": torch.zeros(4, 3, 8, 8)}, copied / IMAGE)
    with pytest.raises(VlmError, match="holds no image model of BioViL"):
        create_vlm(f"biovil:{copied}")


def test_a_plain_bert_is_refused(copied):
    change(copied, "pytorch_model.bin", lambda s: [s.pop(n) for n in list(s) if n.startswith("cls_projection_head")])
    with pytest.raises(VlmError, match=r"no CXR-BERT with a projection \('cls_projection_head"):
        create_vlm(f"biovil:{copied}")


def test_the_text_model_of_the_other_is_refused_or_noted(copied, folders, both):
    assert not both[True].notes
    (copied / "config.json").write_text(json.dumps({"_name_or_path": biovil.NAME[False]}))
    assert any("says that it is BioViL-T's own" in note for note in create_vlm(f"biovil:{copied}").notes)
    (copied / "config.json").write_text(json.dumps({"_name_or_path": biovil.NAME[True]}))
    (copied / IMAGE).unlink()
    shutil.copy(folders[False] / biovil.IMAGE[False], copied)
    with pytest.raises(VlmError, match="do not share a space"):
        create_vlm(f"biovil:{copied}")


def test_a_truncated_file_is_refused(copied):
    (copied / IMAGE).write_bytes((copied / IMAGE).read_bytes()[:-500])
    with pytest.raises(VlmError, match="truncated"):
        create_vlm(f"biovil:{copied}")


def test_code_in_a_file_is_not_run(copied):
    torch.save({"model": torch.nn.Linear(2, 2)}, copied / IMAGE)
    with pytest.raises(VlmError, match="could run code, so it was not opened"):
        create_vlm(f"biovil:{copied}")


def test_a_missing_tokenizer_is_refused(copied, no_network):
    for name in ("vocab.txt", "tokenizer_config.json"):
        (copied / name).unlink()
    with pytest.raises(VlmError, match="The tokenizer of .*put the vocab.txt of 'microsoft/BiomedVLP-BioViL-T'"):
        create_vlm(f"biovil:{copied}")


def test_another_vocabulary_is_refused(copied):
    with (copied / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("pneumothorax\n")
    with pytest.raises(VlmError, match="the tokenizer has 101 words and 'pytorch_model.bin' embeds 100"):
        create_vlm(f"biovil:{copied}")


def test_a_missing_text_model_is_refused(copied, no_network):
    (copied / "pytorch_model.bin").unlink()
    with pytest.raises(VlmError, match=r"The text model of .*put 'pytorch_model.bin' and 'vocab.txt'"):
        create_vlm(f"biovil:{copied}")


def test_a_missing_file_is_refused(no_network):
    with pytest.raises(VlmError, match="there is no file"):
        create_vlm("biovil:nowhere.pt")
    with pytest.raises(VlmError, match="is not stored here"):
        create_vlm("biovil:microsoft/BiomedVLP-BioViL-T")
    with pytest.raises(VlmError, match="names no weights"):
        create_vlm("biovil:")
