"""open_clip and transformers checkpoints in their published layouts, and how the texts of SigLIP are written."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.published import open_clip_models, transformers_models, vocabularies
from tests.published.vlm_row import measure, pictures

from mammi.errors import VlmError
from mammi.types import Film
from mammi.vlms import create_vlm
from mammi.vlms.naflex import pack, unpack

pytest.importorskip("open_clip")
pytest.importorskip("transformers")
#: timm has no small tower of the first's kind; the others are as their neighbours.
SLOW = {"an open_clip SigLIP ViT-B/16", "an open_clip ViT-B/16", "PLIP"}
ROWS = [*open_clip_models.ROWS, *transformers_models.ROWS]


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=pytest.mark.slow if row.name in SLOW else (), id=row.name) for row in ROWS],
)
def test_it_is_embedded_as_by_hand(row, tmp_path, no_network):
    found = measure(row, tmp_path, "tiny")
    assert max(found[key] for key in ("images", "texts", "batch", "padding")) < 1e-5
    assert not found["alone"]
    assert no_network == []


def made(name, folder):
    return next(row for row in transformers_models.ROWS if row.name == name).make(folder, "tiny")


@pytest.fixture(scope="module")
def specs(tmp_path_factory):
    """Specs of a tiny SigLIP, SigLIP 2 and one of variable size."""
    names = {"siglip": "XraySigLIP", "siglip2": "SigLIP 2", "naflex": "SigLIP 2, variable size"}
    return {kind: made(name, tmp_path_factory.mktemp(kind)) for kind, name in names.items()}


@pytest.fixture
def copied(specs, tmp_path):
    """Copies of their folders, to be changed."""
    return lambda kind: shutil.copytree(specs[kind].partition(":")[2], tmp_path / kind)


@pytest.mark.parametrize(
    ("kind", "text", "same", "other"),
    [
        ("siglip", "Small Left mass.", "small left mass", None),
        ("siglip", "small-left  mass", "smallleft mass", "small left mass"),
        ("siglip2", "Small Left mass", "small left mass", "small left mass."),
        ("naflex", "Small Left mass", "small left mass", "small left mass."),
    ],
)
def test_texts_are_written_as_it_was_trained(specs, kind, text, same, other):
    annotator = create_vlm(specs[kind])
    rows = annotator.embed_texts([text, same])
    assert torch.equal(rows[0], rows[1])
    assert annotator.model.canonical(annotator.model.canonical(text)) == annotator.model.canonical(text)
    if other is not None:
        assert float((annotator.embed_texts([other])[0] - rows[0]).abs().max()) > 1e-4


@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_a_tokenizer_of_no_named_class_is_known_by_its_size(copied, kind):
    folder = copied(kind)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"tokenizer_class": "TokenizersBackend"}))
    assert create_vlm(f"transformers:{folder}").model.written == ""  # 1,024 pieces are nobody's
    from mammi.vlms import from_transformers

    words = {"siglip": 32_000, "siglip2": 256_000}[kind]
    assert from_transformers._written(folder, "siglip", words).startswith("lower case")


def test_a_tokenizer_with_padding_built_in_tells_what_is_too_long(specs):
    model = create_vlm(specs["siglip2"]).model
    fits = " ".join(["mass"] * 31)
    assert vocabularies.padded_ids(Path(specs["siglip2"].partition(":")[2]), fits, 64, 0)[61:] == [1, 0, 0]
    assert not model.too_long(fits)
    assert model.too_long("mass " * 70)


def test_siglips_pieces_alone_need_a_package(copied):
    folder = copied("siglip")
    (folder / "tokenizer.json").rename(folder / "spiece.model")
    try:
        import sentencepiece  # noqa: F401 - it is there
    except ModuleNotFoundError:
        message = r"needs a package that is not installed.*sentencepiece"
    else:
        message = "cannot be loaded"
    with pytest.raises(VlmError, match=message):
        create_vlm(f"transformers:{folder}")


def test_a_picture_of_any_shape_is_one_tensor_of_one_shape(specs):
    annotator = create_vlm(specs["naflex"])
    views = [annotator.view(Film(np.asarray(picture, dtype=np.float32) / 255)) for picture in pictures()]
    assert {view.shape for view in views} == {(257, 3 * 16 * 16)}
    patches, mask, shapes = unpack(torch.stack(views))
    assert patches.shape == (3, 256, 768)
    assert shapes.tolist() == [[17, 15], [13, 19], [14, 18]]
    assert mask.sum(dim=1).tolist() == shapes.prod(dim=1).tolist()
    assert not patches[mask == 0].any()
    assert patches[mask == 1].any(dim=1).all()


def test_the_shape_survives_half_the_precision():
    view = pack(torch.ones(256, 12), torch.tensor([1, 256]))
    patches, mask, shapes = unpack(torch.stack([view, view]).bfloat16())
    assert shapes.tolist() == [[1, 256]] * 2
    assert mask.all()
    assert patches.dtype == torch.bfloat16


def test_the_padding_of_a_picture_counts_for_nothing(specs):
    annotator = create_vlm(specs["naflex"])
    view = annotator.view(Film(np.asarray(pictures()[1], dtype=np.float32) / 255))
    filled = view.clone()
    filled[13 * 19 : -1] = 7.0
    torch.testing.assert_close(
        annotator.embed_images(filled[None]), annotator.embed_images(view[None]), atol=1e-6, rtol=0
    )


def test_pictures_go_through_pillow_whatever_is_installed(specs):
    assert type(create_vlm(specs["siglip"]).model.processor).__name__.endswith("Pil")


def test_biomedclip_without_its_tower_is_said(tmp_path, no_network):
    open_clip_models.make_biomedclip(tmp_path, "tiny")
    shutil.rmtree(tmp_path / open_clip_models.BERT_NAME)
    with pytest.raises(VlmError, match=rf"The text tower of .*put it at '.*{open_clip_models.BERT_NAME}/config\.json'"):
        create_vlm(f"open_clip:local-dir:{tmp_path}")
    assert no_network == [f"microsoft/{open_clip_models.BERT_NAME}"]
