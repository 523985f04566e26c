"""FLAIR loads from files in its published layout, computes what they say, and refuses what it is not."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tests.published import clinical, flair, medclip
from tests.published.vlm_row import TEXTS, largest, measure

from mammi.errors import VlmError
from mammi.types import Film
from mammi.vlms import create_vlm
from mammi.vlms.flair import flair_view

pytest.importorskip("transformers")
pytest.importorskip("torchvision")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flair")
    flair.make(folder, "tiny")
    return folder


def save(folder, state, name="flair_resnet.pth"):
    torch.save(state, folder / name)
    clinical.write_vocabulary(folder, 240)
    return f"flair:{folder}"


def refused(spec):
    with pytest.raises(VlmError) as caught:
        create_vlm(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_equals_a_forward_written_anew(tmp_path):
    (row,) = flair.ROWS
    found = measure(row, tmp_path, "tiny")
    assert all(found[column] < 1e-5 for column in ("images", "texts", "batch", "padding"))
    assert found["alone"] == row.alone


def as_upstream(picture):
    """Take the authors' steps one by one, as their ``preprocess_image`` does, on a batch of one."""
    pixels = np.float32(np.asarray(picture.convert("RGB")))
    image = torch.tensor(np.transpose(pixels / 255, (2, 0, 1))[None])
    scale = max(image.shape[-2:]) / 512
    sides = tuple(int(side / scale) for side in image.shape[-2:])
    small = torch.nn.functional.interpolate(image, sides, mode="bilinear", align_corners=False, antialias=True)
    square = torch.zeros(3, 512, 512)
    square[:, : sides[0], : sides[1]] = small[0]
    return square


@pytest.mark.parametrize("shape", [(700, 541, 3), (300, 801, 3), (90, 61, 3), (512, 512, 3), (400, 333)])
def test_the_view_is_the_published_one(shape):
    picture = Image.fromarray(np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8))
    view = flair_view(picture)
    assert view.shape == (3, 512, 512)
    assert (view - as_upstream(picture)).abs().max() < 1e-6
    # By the definition of the filter, in double precision; torch places its samples in single precision.
    assert (view - flair.view(picture)).abs().max() < 3e-5


def test_the_picture_lies_in_the_upper_left():
    view = flair_view(Image.fromarray(np.full((60, 120, 3), (255, 51, 0), dtype=np.uint8)))
    torch.testing.assert_close(view[:, :256], torch.tensor([1.0, 0.2, 0.0])[:, None, None].expand(3, 256, 512))
    assert not view[:, 256:].any()


def test_the_shorter_side_is_cut_to_whole_pixels():
    view = flair_view(Image.fromarray(np.full((300, 301), 255, dtype=np.uint8)))
    assert int(300 / (301 / 512)) == 510
    assert view[:, :510].all()
    assert not view[:, 510:].any()


def test_a_strip_keeps_a_pixel():
    view = flair_view(Image.fromarray(np.full((1, 2000), 255, dtype=np.uint8)))
    assert view[:, 0].all()
    assert not view[:, 1:].any()


def test_colour_counts_and_grey_is_repeated(folder):
    annotator = create_vlm(f"flair:{folder}")
    colour = np.random.default_rng(1).random((40, 50, 3)).astype(np.float32)
    grey = Film(colour[..., 0])
    views = [annotator.view(film) for film in (Film(colour), Film(colour[..., ::-1].copy()), grey)]
    rows = annotator.embed_images(torch.stack(views[:2]))
    assert largest(rows[:1], rows[1:]) > 1e-3
    assert torch.equal(views[2], annotator.view(Film(np.repeat(colour[..., :1], 3, axis=2))))


def test_its_own_prompt_and_texts_alone(folder):
    annotator = create_vlm(f"flair:{folder}")
    assert annotator.templates == ("A fundus photograph of {}",)
    assert annotator.text_batch == 1
    assert largest(annotator.embed_texts(list(TEXTS))[:2], annotator.embed_texts(list(TEXTS))[1:]) > 1e-2


def test_both_published_names_are_read(folder, tmp_path):
    spec = save(tmp_path, flair.make_state("tiny"))
    ours, theirs = create_vlm(spec), create_vlm(f"flair:{folder / flair.FILE}")
    assert torch.equal(ours.embed_texts(["mass"]), theirs.embed_texts(["mass"]))


def test_medclip_is_not_flair(tmp_path):
    medclip.make(tmp_path, "tiny", "resnet")
    assert "but of MedCLIP: give 'medclip:FILE'" in refused(f"flair:{tmp_path}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_model.model.fc.weight": torch.zeros(20, 2048)}, "ends in a classifier"),
        ({"vision_model.model.layer1.0.conv1.bias": torch.zeros(8)}, "1 unexpected: layer1.0.conv1.bias"),
        ({"text_model.projection_head_text.projection.bias": torch.zeros(20)}, "unexpected: bias"),
        ({"kd_head.weight": torch.zeros(2)}, "1 tensors that FLAIR has not, such as 'kd_head.weight'"),
        ({"vision_model.model.layer2.0.conv2.weight": None}, "1 missing: layer2.0.conv2.weight"),
        ({flair.IMAGE_HEAD: None}, "nothing under 'vision_model.projection_head_vision.projection.'"),
        ({"vision_model.model.layer1.0.conv3.weight": None}, "no ResNet image tower"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, change, message):
    state = flair.make_state("tiny") | change
    spec = save(tmp_path, {name: value for name, value in state.items() if value is not None})
    assert message in refused(spec)


def test_a_truncated_file_is_refused(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    file = copy / flair.FILE
    file.write_bytes(file.read_bytes()[:-1000])
    assert "not a whole safetensors file" in refused(f"flair:{copy}")


def test_without_network_the_hub_says_what_to_do(no_network, monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub.errors")

    def absent(*args, **kwargs):
        raise hub.LocalEntryNotFoundError("not stored")

    monkeypatch.setattr("huggingface_hub.snapshot_download", absent)
    assert "download 'jusiro2/FLAIR' on another machine" in refused("flair:jusiro2/FLAIR")
    assert no_network == ["jusiro2/FLAIR"]


def test_a_missing_vocabulary_is_refused(folder, tmp_path, no_network):
    shutil.copy(folder / flair.FILE, tmp_path)
    assert "put the vocab.txt of 'emilyalsentzer/Bio_ClinicalBERT' beside" in refused(f"flair:{tmp_path}")
