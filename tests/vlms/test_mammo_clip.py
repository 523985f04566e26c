import numpy as np
import pytest
import torch
from PIL import Image
from tests.published import mammo_clip as published
from tests.published.vlm_row import measure, pictures

from mammi.errors import VlmError
from mammi.types import Film
from mammi.vlms import create_vlm
from mammi.vlms.efficientnet import efficientnet_from
from mammi.vlms.mammogram import cut_breast, mammogram_view, resize_area

pytest.importorskip("transformers")

#: Of OpenCV 4.9's ``INTER_AREA`` on ``arange(h * w) * 37 % 251``.
AREA = (
    ((7, 5), [[94, 67, 105], [124, 155, 121], [133, 99, 130], [149, 187, 74]]),
    (
        (4, 6),
        [[19, 93, 167], [43, 85, 159], [115, 64, 138], [163, 49, 123], [212, 35, 109], [190, 107, 87], [183, 131, 80]],
    ),
    ((3, 2), [[0, 0, 37, 37], [25, 25, 62, 62], [74, 74, 111, 111], [123, 123, 160, 160], [148, 148, 185, 185]]),
    ((8, 6), [[67, 78, 152], [197, 83, 94], [139, 213, 36], [81, 155, 166]]),
    ((9, 6), [[92, 119], [172, 88], [85, 168]]),
)


@pytest.fixture(scope="module")
def b2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("b2")
    return folder, published.make("b2", folder, "tiny")


@pytest.mark.parametrize("row", published.ROWS, ids=lambda row: row.name)
def test_it_equals_the_independent_forward(row, tmp_path):
    found = measure(row, tmp_path, "tiny")
    assert max(found[key] for key in ("images", "texts", "batch", "padding")) < 1e-5
    assert not found["alone"]


def lukemelas(model):
    """Names of timm's network in EfficientNet-PyTorch, whose blocks are counted through."""
    whole = (("conv_pw", "_expand_conv"), ("bn1", "_bn0"), ("conv_dw", "_depthwise_conv"), ("bn2", "_bn1"))
    whole += (("se.conv_reduce", "_se_reduce"), ("se.conv_expand", "_se_expand"), ("conv_pwl", "_project_conv"))
    whole += (("bn3", "_bn2"),)
    plain = (
        ("conv_dw", "_depthwise_conv"),
        ("bn1", "_bn1"),
        *whole[4:6],
        ("conv_pw", "_project_conv"),
        ("bn2", "_bn2"),
    )
    pairs = [("conv_stem", "_conv_stem"), ("bn1", "_bn0"), ("conv_head", "_conv_head"), ("bn2", "_bn1")]
    index = 0
    for stage, repeated in enumerate(model.blocks):
        for place in range(len(repeated)):
            names = whole if stage else plain
            pairs += [(f"blocks.{stage}.{place}.{old}", f"_blocks.{index}.{new}") for old, new in names]
            index += 1
    state = model.state_dict()
    return {
        f"{new}.{tail}": state[f"{old}.{tail}"]
        for old, new in pairs
        for tail in ("weight", "bias", "running_mean", "running_var")
        if f"{old}.{tail}" in state
    }


def test_at_its_own_size_it_is_timms_network_and_at_another_it_is_padded_otherwise():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_b2", num_classes=0).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    ours = efficientnet_from(lukemelas(model), "'timm'", 260)
    images = torch.randn(2, 3, 260, 260)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), model(images), rtol=1e-4, atol=1e-5)
        larger = torch.randn(1, 3, 288, 160)
        assert float((ours(larger) - model(larger)).abs().max()) > 1e-3


@pytest.mark.parametrize(("shape", "expected"), AREA)
def test_areas_are_resized_as_opencv_does(shape, expected):
    grey = (np.arange(shape[0] * shape[1]).reshape(shape) * 37 % 251).astype(np.uint8)
    assert resize_area(grey, len(expected), len(expected[0])).tolist() == expected


def test_a_film_is_cut_to_the_breast_by_hand():
    grey = np.zeros((10, 12), dtype=np.uint8)
    grey[2:8, 5:10] = np.arange(30).reshape(6, 5) + 100
    grey[4:6, 1:3] = 90, 91  # a mark, narrower
    grey[3:5, 3] = 40  # still background
    np.testing.assert_array_equal(cut_breast(grey), grey[2:8, 5:10])
    np.testing.assert_array_equal(cut_breast(np.roll(grey, -5, 1)), grey[2:8, 5:10])  # at the edge
    np.testing.assert_array_equal(cut_breast(np.zeros((4, 3), np.uint8)), np.zeros((4, 3)))
    assert cut_breast(np.ones((1, 1), np.uint8)).shape == (1, 1)


def test_films_are_seen_as_published():
    prepared = Image.fromarray(np.random.default_rng(0).integers(7, 200, (1520, 912), dtype=np.uint8))
    for picture in (*pictures(), prepared):
        view = mammogram_view(picture)
        assert view.shape == (3, 1520, 912)
        torch.testing.assert_close(view, published.view(picture), rtol=0, atol=1e-6)
    least, largest = float(view.min()), float(view.max())
    assert (least, largest) == pytest.approx((-0.3089279 / 0.25053555, (1 - 0.3089279) / 0.25053555), abs=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (10, 10), (11, 40), (912, 1520)])
def test_a_plain_or_tiny_picture_gives_no_nan(size):
    assert bool(torch.isfinite(mammogram_view(Image.new("L", size, 77))).all())


def test_the_variant_is_told_by_settings_size_or_user(b2, tmp_path):
    folder, spec = b2
    film = Film(np.asarray(pictures()[0], dtype=np.float32) / 255)

    def row(spec):
        annotator = create_vlm(spec)
        return annotator.embed_images(annotator.view(film)[None])

    path = published.make("b2", tmp_path, "tiny", called=False).removeprefix("mammo-clip:")
    with pytest.raises(VlmError, match=r"tells not which EfficientNet it holds \(rows of 12.*give 'mammo-clip:b5@b2-"):
        create_vlm(f"mammo-clip:{path}")
    torch.testing.assert_close(row(f"mammo-clip:b2@{path}"), row(spec), rtol=0, atol=0)
    torch.testing.assert_close(row(f"mammo-clip:b2@{folder}"), row(spec), rtol=0, atol=0)
    assert float((row(f"mammo-clip:b5@{path}") - row(spec)).abs().max()) > 1e-4  # what the padding does
    with pytest.raises(VlmError, match=r"is not the variant asked for: it says 'tf_efficientnetv2-detect' \(b2\)"):
        create_vlm(f"mammo-clip:b5@{spec.removeprefix('mammo-clip:')}")
    with pytest.raises(VlmError, match="there is no variant 'b7': give 'b5' or 'b2' before the '@'"):
        create_vlm(f"mammo-clip:b7@{path}")


def test_what_it_was_trained_on_is_read_from_the_file(b2, tmp_path):
    assert create_vlm(b2[1]).card.training_corpora == ("UPMC mammograms and reports (not public)",)
    both = create_vlm(published.make("b2", tmp_path, "tiny", data=("upmc_wo_period", "vindr_wo_period")))
    assert both.card.training_corpora == ("UPMC mammograms and reports (not public)", "VinDr-Mammo")


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("image_encoder._conv_stem", r"is not Mammo-CLIP's: it has no 'image_encoder\._conv_stem'"),
        (
            "image_encoder._blocks.9",
            r"\(6 stages of 7\): is it the checkpoint of another model\?|holds no EfficientNet",
        ),
        ("image_encoder._blocks.1._bn2.weight", r"1 missing: _blocks\.1\._bn2\.weight"),
        ("text_encoder.text_encoder.embeddings", "holds no BERT text tower"),
        ("text_projection", "holds no 'text_projection'"),
    ],
)
def test_a_wrong_file_is_refused(prefix, message, b2, tmp_path):
    folder, _ = b2
    state = {name: value for name, value in published.read(folder).items() if not name.startswith(prefix)}
    torch.save({"model": state}, tmp_path / "w.tar")
    (tmp_path / "vocab.txt").write_text((folder / "vocab.txt").read_text())
    with pytest.raises(VlmError, match=message):
        create_vlm(f"mammo-clip:b2@{tmp_path / 'w.tar'}")
