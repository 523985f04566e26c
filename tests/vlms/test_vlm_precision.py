"""An annotator in another precision: rows of unit length in float32, whatever the model computes in."""

import pytest
import torch

from mammi.errors import InputError, VlmError
from mammi.types import Film, VlmCard
from mammi.vlms import Annotator, create_vlm

TEXTS = ["mass", "a chest film of a mass", "frontal", "left with small mass"]


def films(n=5):
    generator = torch.Generator().manual_seed(0)
    return [Film((torch.rand(40, 32, generator=generator) * (i + 1) / n).numpy()) for i in range(n)]


@pytest.mark.parametrize("folder", ["open_clip_folder", "tower_folder", "clip_folder", "siglip_folder"])
def test_rows_are_float32_of_unit_length_and_nearly_the_same(folder, request):
    kind = "open_clip" if folder in ("open_clip_folder", "tower_folder") else "transformers"
    plain = create_vlm(f"{kind}:{request.getfixturevalue(folder)}")
    views = torch.stack([plain.view(film) for film in films()])
    other = plain.at("bfloat16")
    exact, rows = plain.embed_images(views), other.embed_images(views)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows)), atol=1e-6, rtol=0)
    assert not torch.equal(rows, exact)
    assert float((rows * exact).sum(dim=1).min()) > 0.99  # tiny towers with large random weights
    assert torch.equal(plain.embed_texts(TEXTS), other.embed_texts(TEXTS))
    assert (other.fingerprint, other.precision, plain.precision) == (plain.fingerprint, "bfloat16", "float32")
    assert {value.dtype for value in plain.model.parameters()} == {torch.float32}
    assert plain.at("float32") is plain
    with pytest.raises(InputError, match="is a copy in bfloat16"):
        other.at("float32-channels-last")


def test_the_phantom_annotator_computes_in_both():
    plain = create_vlm("phantom")
    views = torch.stack([plain.view(film) for film in films()])
    other = plain.at("bfloat16")
    assert float((plain.embed_images(views) * other.embed_images(views)).sum(dim=1).min()) > 0.999
    assert torch.equal(plain.embed_texts(TEXTS), other.embed_texts(TEXTS))


def test_an_object_without_a_network_is_said():
    annotator = Annotator("mine", object(), VlmCard("mine"), "0" * 64)
    with pytest.raises(VlmError, match=r"mine is no torch.nn.Module and holds none"):
        annotator.at("bfloat16")
