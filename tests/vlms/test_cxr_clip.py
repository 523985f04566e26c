import pytest
import torch
from tests.published import cxr_clip as published
from tests.published.vlm_row import TEXTS, largest, measure, pictures

from mammi.errors import VlmError
from mammi.types import Film
from mammi.vlms import create_vlm
from mammi.vlms.swin import swin_from

pytest.importorskip("transformers")
pytest.importorskip("torchvision")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("r50")
    return folder, published.make_resnet(folder, "tiny")


@pytest.fixture(scope="module")
def swin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swint")
    return folder, published.make_swin(folder, "tiny")


@pytest.mark.parametrize("row", published.ROWS, ids=lambda row: row.name)
def test_it_equals_the_independent_forward(row, tmp_path):
    found = measure(row, tmp_path, "tiny")
    assert max(found[key] for key in ("images", "texts", "batch", "padding")) < 1e-5
    assert not found["alone"]


@pytest.mark.parametrize(
    ("make", "mean", "std"), [("resnet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ("swin", 0.5, 0.5)]
)
def test_each_tower_sees_films_as_published(make, mean, std, request):
    import numpy as np

    annotator = create_vlm(request.getfixturevalue(make)[1])
    for picture in pictures():
        film = Film(np.asarray(picture, dtype=np.float32) / 255)
        torch.testing.assert_close(annotator.view(film), published.view(picture, mean, std), rtol=0, atol=1e-6)


def test_the_swin_tower_gives_its_upper_left_patch(swin):
    folder, _ = swin
    first, second = (published.images_of_swin(folder, pictures(), token) for token in (0, 1))
    assert largest(first, second) > 0.01  # so that the first row of the table could tell them apart


def test_a_swin_is_read_under_the_names_of_either_version():
    from transformers import SwinConfig, SwinModel

    torch.manual_seed(0)
    config = SwinConfig(image_size=56, patch_size=4, embed_dim=8, depths=[1, 2], num_heads=[1, 2], window_size=7)
    model = SwinModel(config).eval()
    again = swin_from(model.state_dict(), "'w'", image_size=56)
    images = torch.randn(2, 3, 56, 56)
    with torch.inference_mode():
        torch.testing.assert_close(again(images).last_hidden_state, model(images).last_hidden_state, rtol=0, atol=0)
    with pytest.raises(VlmError, match=r"'w' does not fit SwinModel.*unexpected: encoder\.layers\.0\.extra"):
        swin_from({**model.state_dict(), "encoder.layers.0.extra": torch.zeros(1)}, "'w'", image_size=56)


def test_what_it_was_trained_on_is_read_from_the_file(swin):
    assert create_vlm(swin[1]).card.training_corpora == ("MIMIC-CXR", "CheXpert")


@pytest.mark.parametrize(
    ("name", "corpora", "noted"),
    [
        ("m", ("MIMIC-CXR",), False),
        ("mcc", ("MIMIC-CXR", "CheXpert", "NIH ChestX-ray14"), False),
        ("other", ("MIMIC-CXR", "CheXpert", "NIH ChestX-ray14"), True),
    ],
)
def test_without_settings_its_name_tells_and_else_the_worst_is_assumed(name, corpora, noted, tmp_path):
    annotator = create_vlm(published.make_resnet(tmp_path, "tiny", data=(), name=name))
    assert annotator.card.training_corpora == corpora
    assert any("are assumed" in note for note in annotator.notes) == noted


def test_chest_x_ray_14_is_named_so_that_it_can_be_flagged(tmp_path):
    annotator = create_vlm(published.make_resnet(tmp_path, "tiny", data=("mimic_cxr", "chest14")))
    assert annotator.card.training_corpora == ("MIMIC-CXR", "NIH ChestX-ray14")


def test_a_text_is_cut_at_256_tokens(resnet):
    annotator = create_vlm(resnet[1])
    rows = annotator.embed_texts(["mass " * 254, "mass " * 300, "mass " * 253])
    torch.testing.assert_close(rows[0], rows[1])
    assert float((rows[0] - rows[2]).abs().max()) > 1e-4
    assert any("were cut" in note for note in annotator.notes)


def test_texts_are_put_in_lower_case(resnet):
    rows = create_vlm(resnet[1]).embed_texts(["mass", "Mass"])
    torch.testing.assert_close(rows[0], rows[1])


def rewrite(made, tmp_path, change):
    """Write the checkpoint again after ``change(checkpoint)``, its vocabulary beside it; return the spec."""
    folder, _ = made
    whole = {"model": published.read(folder), "config": {}}
    change(whole)
    torch.save(whole, tmp_path / "r50_m.tar")
    (tmp_path / "vocab.txt").write_text((folder / "vocab.txt").read_text())
    return f"cxr-clip:{tmp_path / 'r50_m.tar'}"


def drop(prefix):
    def change(whole):
        whole["model"] = {name: value for name, value in whole["model"].items() if not name.startswith(prefix)}

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("image_encoder."), r"is not CXR-CLIP's: it has no tensors of 'image_encoder\.resnet'"),
        (drop("text_encoder."), "holds no BERT text tower"),
        (drop("image_projection."), "holds no 'image_projection', which puts its towers into one space"),
        (drop("image_encoder.resnet.layer4"), "holds no ResNet image tower"),
        (drop("image_encoder.resnet.layer4.0.conv2"), r"1 missing: layer4\.0\.conv2\.weight"),
        (lambda w: w["model"].update({"classifier.weight": torch.zeros(2, 2)}), r"not \(classifier\.weight\): is it"),
        (lambda w: w["model"].update({"text_projection.fc.weight": torch.zeros(2, 2)}), "is more than linear"),
        (lambda w: w["config"].update(model={"text_encoder": {"pooling": "mean"}}), "pooled by 'mean', expected 'eos'"),
    ],
)
def test_a_wrong_file_is_refused(change, message, resnet, tmp_path):
    with pytest.raises(VlmError, match=message):
        create_vlm(rewrite(resnet, tmp_path, change))


class Bomb:
    def __reduce__(self):
        return print, ("run",)


def test_a_file_that_could_run_code_or_is_cut_short_is_refused(resnet, tmp_path, capsys):
    spec = rewrite(resnet, tmp_path, lambda whole: whole.update(config=Bomb()))
    with pytest.raises(VlmError, match="could run code"):
        create_vlm(spec)
    assert not capsys.readouterr().out
    path = tmp_path / "r50_m.tar"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(VlmError, match="copy it again"):
        create_vlm(spec)


def test_a_missing_or_foreign_vocabulary_is_refused(resnet, tmp_path, no_network, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    spec = rewrite(resnet, tmp_path, lambda whole: None)
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text(vocabulary.read_text() + "".join(f"more{i}\n" for i in range(9)))
    with pytest.raises(
        VlmError, match=r"the vocabulary found has \d+ words, 'r50_m\.tar' reads \d+: put the vocab.txt"
    ):
        create_vlm(spec)
    vocabulary.unlink()
    with pytest.raises(VlmError, match=r"put the vocab\.txt of 'emilyalsentzer/Bio_ClinicalBERT' beside 'r50_m\.tar'"):
        create_vlm(spec)


def test_its_folder_will_do_and_no_file_is_said(resnet, tmp_path):
    annotator = create_vlm(f"cxr-clip:{resnet[0]}")
    torch.testing.assert_close(annotator.embed_texts(TEXTS), create_vlm(resnet[1]).embed_texts(TEXTS))
    with pytest.raises(VlmError, match="names no weights"):
        create_vlm("cxr-clip:")
    with pytest.raises(VlmError, match="there is no file"):
        create_vlm(f"cxr-clip:{tmp_path / 'absent.tar'}")
