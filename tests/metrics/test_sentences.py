import importlib.util

import pytest
import torch

from mammi.errors import MissingExtraError, VlmError
from mammi.metrics import LabelAgreement, SentenceEncoder


@pytest.fixture(scope="module")
def encoder():
    pytest.importorskip("sentence_transformers")
    return SentenceEncoder()


def test_the_packaged_encoder_knows_what_is_alike(encoder):
    rows = encoder(["pleural effusion", "fluid in the pleural space", "bicycle", "pleural effusion"])
    assert rows.shape == (4, 384)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(4))
    assert torch.equal(rows[0], rows[3])
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.2


def test_a_text_is_embedded_once(encoder, monkeypatch):
    first = encoder(["a mass", "a nodule"])

    def never(*args, **kwargs):
        raise AssertionError("embedded again")

    monkeypatch.setattr(encoder._model, "encode", never)
    assert torch.equal(encoder(["a nodule", "a mass"]), first.flip(0))


def test_it_serves_the_published_block(encoder):
    judge = LabelAgreement(["mass", "nodule"], {"minilm": encoder})
    judge.update("mass", ["mass"])
    judge.update("mass", ["nodule"])
    found = judge.compute()
    assert 0.5 < found["cosine minilm"] < 1
    assert found["hit rate"] == 0.5


def test_a_folder_of_the_users_own_is_loaded(encoder, tmp_path):
    encoder._model.save(str(tmp_path / "mine"))
    torch.testing.assert_close(SentenceEncoder(tmp_path / "mine")(["mass"]), encoder(["mass"]))


def test_what_is_not_on_this_machine_is_not_downloaded_but_said(encoder):
    with pytest.raises(VlmError, match="'no-such-encoder' is not on this machine.*download it first"):
        SentenceEncoder("no-such-encoder")


def test_a_missing_package_is_said_with_the_line_that_installs_it(encoder, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "mammi.metrics.sentences.find_spec", lambda name: None if name.startswith("gt_") else found(name)
    )
    with pytest.raises(MissingExtraError, match=r"pip install 'mammi\[sentences\]'"):
        SentenceEncoder()
