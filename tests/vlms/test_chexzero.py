"""CheXzero: a checkpoint alone and several averaged, its preprocessing, its score, and what is not CheXzero."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.published import by_hand, chexzero
from tests.published.vlm_row import TEXTS, measure, pictures
from torch.nn.functional import normalize

from mammi.errors import VlmError
from mammi.types import Film, Scorer
from mammi.vlms import create_vlm
from mammi.vlms.chexzero import chexzero_transform
from mammi.vlms.clip_layout import config_of, written_by

open_clip = pytest.importorskip("open_clip")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chexzero")
    chexzero.make_ensemble(folder, "tiny")
    return folder


@pytest.fixture(scope="module")
def files(folder):
    return sorted(folder.glob("*.pt"))


@pytest.fixture(scope="module")
def state(files):
    return torch.load(files[0], weights_only=True)


@pytest.fixture
def saved(tmp_path):
    def save(content, name="weights.pt"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


@pytest.mark.parametrize("row", chexzero.ROWS, ids=lambda row: row.name)
def test_it_is_embedded_as_by_hand(row, tmp_path):
    found = measure(row, tmp_path, "tiny")
    assert max(found[key] for key in ("images", "texts", "batch", "padding")) < 1e-5
    assert found["card"]
    assert not found["alone"]


@pytest.mark.parametrize("several", [False, True])
def test_the_score_is_the_mean_share_of_a_text_against_its_negative(folder, files, several):
    spec = f"chexzero:{files[1]},{files[0]}" if several else f"chexzero:{files[0]}"
    annotator = create_vlm(spec)
    assert isinstance(annotator.model, Scorer)
    assert annotator.templates == ("{}",)
    views = torch.stack([annotator.view(Film(np.asarray(p, dtype=np.float32) / 255)) for p in pictures()])
    got = annotator.score(annotator.embed_images(views), annotator.embed_texts(list(TEXTS[:2])))
    shares = []
    for state in list(chexzero.states(folder))[: 1 + several]:
        films = normalize(chexzero.embed_pixels(state, views), dim=1)
        yes, no = (
            torch.stack([chexzero.embed_ids(state, chexzero.ids_of(word.format(text))) for text in TEXTS[:2]])
            for word in ("{}", "no {}")
        )
        plus, minus = ((films @ normalize(rows, dim=1).T).double().exp() for rows in (yes, no))
        shares.append(plus / (plus + minus))
    torch.testing.assert_close(got.double(), torch.stack(shares).mean(0), atol=1e-6, rtol=0)
    assert got.shape == (3, 2)
    assert float(got.std()) > 0.01


def test_a_half_precision_file_is_computed_in_float32(files):
    annotator = create_vlm(f"chexzero:{files[1]}")
    assert torch.load(files[1], weights_only=True)["ln_final.weight"].dtype == torch.float16
    assert {p.dtype for p in annotator.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("shape", [(600, 520), (480, 700), (90, 110), (320, 320)])
@pytest.mark.parametrize("size", [224, 64])
def test_preprocessing_is_as_published(shape, size):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    # By hand in float64; torch places its samples in float32, which on noise of all levels shows in the fifth digit.
    torch.testing.assert_close(chexzero_transform(picture, size), chexzero.pixels_of(picture, size), atol=1e-4, rtol=0)
    if size == 224:
        transforms = pytest.importorskip("torchvision.transforms")
        square = chexzero.pixels_of(picture, 320)
        resize = transforms.Resize(size, interpolation=transforms.InterpolationMode.BICUBIC, antialias=False)
        torch.testing.assert_close(chexzero_transform(picture, size), resize(square), atol=1e-6, rtol=0)


def test_a_line_of_pixels_is_a_picture_too():
    assert chexzero_transform(Image.new("L", (500, 1))).shape == (3, 224, 224)


def test_antialiasing_would_make_another_picture():
    transforms = pytest.importorskip("torchvision.transforms")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (320, 320), dtype=np.uint8))
    square, bicubic = chexzero.pixels_of(noise, 320), transforms.InterpolationMode.BICUBIC
    smooth = transforms.Resize(224, interpolation=bicubic, antialias=True)(square)
    assert float((chexzero_transform(noise) - smooth).abs().max()) > 0.1


def test_a_colour_picture_is_made_grey_after_it_is_resized():
    values = np.random.default_rng(1).integers(0, 256, (500, 400, 3), dtype=np.uint8)
    torch.testing.assert_close(
        chexzero_transform(Image.fromarray(values)), chexzero.pixels_of(Image.fromarray(values), 224), atol=1e-4, rtol=0
    )


def test_the_published_size_is_what_open_clip_calls_vit_b_32_quickgelu():
    state = {name: torch.empty(shape, device="meta") for name, shape in chexzero.shapes(chexzero.FULL)}
    assert len(state) == 302
    assert config_of(state) | {"quick_gelu": True} == open_clip.get_model_config("ViT-B-32-quickgelu")
    with torch.device("meta"):
        model = open_clip.CLIP(**config_of(state), quick_gelu=True)
    assert {name: value.shape for name, value in model.state_dict().items()} == {n: v.shape for n, v in state.items()}


def test_the_order_of_tensors_tells_which_class_wrote_them(state):
    assert written_by(state) == "openai"
    model = open_clip.CLIP(**config_of(state), quick_gelu=True)
    assert written_by(model.state_dict()) == "open_clip"
    assert written_by({f"module.{name}": value for name, value in model.state_dict().items()}) == "open_clip"
    assert written_by(dict(sorted(state.items()))) == ""


def meta(config):
    """What a file with an architecture's tensors holds, all of them small."""
    with torch.device("meta"):
        model = open_clip.CLIP(**config)
    return {name: torch.zeros(()).expand(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("ViT-B-16", r"is a ViT-B-16; expected CheXzero, a ViT-B-32"),
        ("ViT-L-14", r"is a ViT-L-14; expected CheXzero"),
        ("RN50", r"is an RN50, a CLIP with a convolutional tower; expected CheXzero"),
        ("ViT-B-32-256", r"is a ViT-B-32-256; expected CheXzero"),
    ],
)
def test_another_architecture_is_refused_by_its_name(architecture, message, saved):
    with pytest.raises(VlmError, match=message) as caught:
        create_vlm(f"chexzero:{saved(meta(open_clip.get_model_config(architecture)))}")
    assert "\n" not in str(caught.value)


def test_a_vit_b_32_of_open_clip_is_refused(saved):
    file = saved({"epoch": 3, "name": "mine", "state_dict": meta(open_clip.get_model_config("ViT-B-32"))})
    with pytest.raises(VlmError, match=r"written by open_clip's class.*may compute with GELU.*ViT-B-32-quickgelu@FILE"):
        create_vlm(f"chexzero:{file}")


def test_a_file_that_lost_its_order_is_noted(state, saved):
    notes = create_vlm(f"chexzero:{saved(dict(sorted(state.items())))}").notes
    assert any("nothing tells them from those of a ViT-B-32 with GELU" in note for note in notes)


def test_a_plain_vit_b_32_cannot_be_asked_for(state, saved, files):
    """The same tensors with the other activation embed otherwise; the scheme has no way to say so."""
    annotator = create_vlm(f"chexzero:{files[0]}")
    view = annotator.view(Film(np.asarray(pictures()[0], dtype=np.float32) / 255))[None]
    plain = normalize(chexzero.embed_pixels(state, view, "gelu"), dim=1)
    assert float((annotator.embed_images(view) - plain).abs().max()) > 1e-3


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "ran")


def test_code_in_a_file_is_refused_and_never_run(saved, tmp_path):
    with pytest.raises(VlmError, match=r"holds more than tensors .*, which could run code, so it was not opened"):
        create_vlm(f"chexzero:{saved({'logit_scale': Bomb(tmp_path / 'ran')})}")
    assert not (tmp_path / "ran").exists()


def test_a_truncated_file_is_refused(files, tmp_path):
    (tmp_path / "cut.pt").write_bytes(files[0].read_bytes()[:9000])
    with pytest.raises(VlmError, match="truncated"):
        create_vlm(f"chexzero:{tmp_path / 'cut.pt'}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("visual.ln_post.bias"), r"1 missing: visual\.ln_post\.bias"),
        (lambda s: s.update(spare=torch.zeros(2)), r"1 unexpected: spare"),
        (lambda s: [s.pop(n) for n in list(s) if not n.startswith("visual")], r"a CLIP that lacks tensors; expected"),
        (lambda s: [s.pop(n) for n in list(s) if n != "ln_final.bias"], r"is no CLIP; expected"),
        (lambda s: (s.clear(), s.update({"vision_model.x": torch.zeros(1)})), r"transformers' layout"),
        (lambda s: (s.clear(), s.update({"visual.trunk.x": torch.zeros(1)})), r"open_clip:local-dir:FOLDER"),
    ],
)
def test_tensors_that_do_not_fit_are_said(state, saved, change, message):
    changed = dict(state)
    change(changed)
    with pytest.raises(VlmError, match=message) as caught:
        create_vlm(f"chexzero:{saved(changed)}")
    assert "\n" not in str(caught.value)


def test_the_numbers_in_openais_own_files_are_left_out(state, saved, files):
    numbers = {name: torch.tensor(7) for name in ("input_resolution", "context_length", "vocab_size")}
    assert (
        create_vlm(f"chexzero:{saved(state | numbers)}").fingerprint == create_vlm(f"chexzero:{files[0]}").fingerprint
    )


def test_an_ensemble_is_of_different_checkpoints_of_one_size(state, saved, files, tmp_path):
    with pytest.raises(VlmError, match=r"are one checkpoint: give each once"):
        create_vlm(f"chexzero:{files[0]},{saved(state)}")
    other = by_hand.fill(chexzero.shapes(chexzero.TINY | {"embed": 16}), 5)
    with pytest.raises(VlmError, match=r"is of another size than the first"):
        create_vlm(f"chexzero:{files[0]},{saved(other)}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(VlmError, match=r"holds no checkpoint"):
        create_vlm(f"chexzero:{tmp_path / 'empty'}")
    with pytest.raises(VlmError, match=r"there is no file 'nowhere\.pt'"):
        create_vlm(f"chexzero:{files[0]},nowhere.pt")


def test_a_text_is_measured_with_its_no(files):
    annotator = create_vlm(f"chexzero:{files[0]}")
    model = annotator.model
    assert model.text_length("mass") == len(chexzero.ids_of("no mass"))
    fits = "mass " * 74
    assert not model.too_long(fits)
    assert model.too_long(f"{fits} mass")
