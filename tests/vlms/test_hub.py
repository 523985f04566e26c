from pathlib import Path
from types import SimpleNamespace

import pytest

from mammi.errors import VlmError
from mammi.vlms.hub import choose_files, explain_load, find_folder

hub = pytest.importorskip("huggingface_hub")
errors = pytest.importorskip("huggingface_hub.errors")


def find(name="who/what", needs=("config.json",), weights=("model.safetensors", "pytorch_model.bin")):
    return find_folder(name, f"transformers:{name}", needs=needs, weights=weights, extra="transformers")


class Hub:
    """Stands for the hub: what is cached, what the network holds, what it answers."""

    def __init__(self, monkeypatch, folder, remote=(), cached=False):
        self.folder, self.remote, self.cached, self.error, self.asked = folder, remote, cached, None, []
        monkeypatch.setattr(hub, "snapshot_download", self.snapshot)
        monkeypatch.setattr(hub.HfApi, "model_info", lambda api, name, timeout: self.info(timeout))

    def info(self, timeout):
        assert timeout <= 10
        self.asked.append("info")
        if self.error:
            raise self.error
        return SimpleNamespace(sha="abc", siblings=[SimpleNamespace(rfilename=name) for name in self.remote])

    def snapshot(self, name, local_files_only=False, revision=None, allow_patterns=None):
        if local_files_only:
            if not self.cached:
                raise errors.LocalEntryNotFoundError("not here")
            return str(self.folder)
        self.asked.append(tuple(allow_patterns))
        for file in allow_patterns:
            (self.folder / file).write_text("{}")
        return str(self.folder)


def test_what_is_stored_here_is_used_without_asking(monkeypatch, tmp_path):
    server = Hub(monkeypatch, tmp_path, cached=True)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    assert find() == tmp_path
    assert server.asked == []


def test_half_a_cache_is_completed_with_one_set_of_weights(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    remote = ("config.json", "merges.txt", "README.md", "model.safetensors", "pytorch_model.bin", "onnx/config.json")
    server = Hub(monkeypatch, tmp_path, remote, cached=True)
    assert find() == tmp_path
    assert server.asked == ["info", ("config.json", "merges.txt", "model.safetensors")]


def test_a_repository_without_weights_is_said(monkeypatch, tmp_path):
    Hub(monkeypatch, tmp_path, ("config.json",))
    with pytest.raises(VlmError, match=r"is incomplete, without model\.safetensors or pytorch_model\.bin"):
        find()


def refusal(kind):
    return kind("401 Client Error\nlong story", response=SimpleNamespace(headers={}, request=None))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("GatedRepoError", r"is behind a licence: accept it on the model's page, run 'hf auth login'"),
        ("RepositoryNotFoundError", r"the hub knows no 'who/what', or it is private: check the spelling"),
        ("OfflineModeIsEnabled", r"not stored here and could not be downloaded.*give its folder in place of the name"),
    ],
)
def test_every_refusal_of_the_hub_has_its_way_out(monkeypatch, tmp_path, kind, message):
    server = Hub(monkeypatch, tmp_path)
    error = getattr(errors, kind)
    server.error = error("offline mode") if kind == "OfflineModeIsEnabled" else refusal(error)
    with pytest.raises(VlmError, match=message) as caught:
        find()
    assert "\n" not in str(caught.value)


def test_a_licence_is_asked_for_at_the_download_too(monkeypatch, tmp_path):
    server = Hub(monkeypatch, tmp_path, ("config.json",))

    def gated(name, local_files_only=False, **kwargs):
        raise errors.LocalEntryNotFoundError("no") if local_files_only else refusal(errors.GatedRepoError)

    monkeypatch.setattr(hub, "snapshot_download", gated)
    with pytest.raises(VlmError, match="behind a licence"):
        find()
    assert server.asked == ["info"]


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "model", "a/b/c", "~/nowhere-at-all"])
def test_a_folder_that_is_not_there_is_not_asked_of_the_hub(name, no_network):
    with pytest.raises(VlmError, match="there is no folder"):
        find(name)
    assert no_network == []


def test_one_of_a_group_is_enough(tmp_path):
    (tmp_path / "vocab.txt").write_text("a")
    assert find(str(tmp_path), needs=(("tokenizer.json", "vocab.txt"),), weights=()) == tmp_path
    with pytest.raises(VlmError, match=r"without a\.json or b\.json: download"):
        find(str(tmp_path), needs=(("a.json", "b.json"),), weights=())


def test_shards_are_chosen_with_their_index():
    names = ["config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors"]
    names += ["model-00002-of-00002.safetensors", "pytorch_model.bin", "training_args.bin"]
    assert choose_files(names, ["model.safetensors", "pytorch_model.bin"]) == names[:4]
    assert choose_files(["a.json", "x.bin"], ["model.safetensors"]) == ["a.json"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("Weights only load failed.\nIn PyTorch 2.6"), "could run code, so they were not opened"),
        (ImportError("SiglipTokenizer requires the SentencePiece library"), "pip install sentencepiece protobuf"),
        (EOFError("Ran out of input"), "are truncated"),
        (RuntimeError("PytorchStreamReader failed reading zip archive"), "are truncated"),
        (KeyError("vision"), "cannot be loaded from 'w': KeyError: 'vision'"),
    ],
)
def test_what_a_library_raises_becomes_one_line(error, message):
    text = str(explain_load("transformers:x/y", Path("w"), error))
    assert message in text
    assert "\n" not in text
