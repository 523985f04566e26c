"""What is sent to another process comes out the same there, or is refused in a line that says what to do."""

from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
import torch
from processes_at_work import Squares
from torch import nn

import mammi
import mammi.errors
from mammi.data import ProbingSet
from mammi.engine.encoding import EncodeTexts
from mammi.engine.recording import RecordFilms
from mammi.engine.sending import Parcel, as_error
from mammi.errors import InputError, TargetError, VlmError, WorkerError
from mammi.targets import randomised
from mammi.types import Film
from small_job import MODEL, VLM

#: A class that no module knows by name.
LOCAL = (
    MODEL.replace("class Net", "class Unused")
    + """
def create():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)
        def forward(self, x):
            return self.conv(x).mean((2, 3))
    net = Net()
    net.preprocessing = dict(channels=1, size=(16, 16), mean=[0.0], std=[1.0])
    return net
"""
)


@pytest.fixture
def specs(tmp_path):
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "vlm.py").write_text(VLM)
    return f"{tmp_path / 'model.py'}:create", f"{tmp_path / 'vlm.py'}:create"


@dataclass(frozen=True)
class Holding(Squares):
    model: Any = None


def there_and_back(model):
    return Parcel.of(Holding(model=model)).open().model


def test_models_are_made_again(specs):
    target, vlm = mammi.create_target(specs[0], output_names=["a", "b", "c", "d", "e"]), mammi.create_vlm(specs[1])
    again = there_and_back(target)
    assert again is not target
    assert (again.fingerprint, again.output_names, again.name) == (target.fingerprint, target.output_names, target.name)
    x = torch.rand(2, 1, 16, 16)
    assert torch.equal(again.model(x), target.model(x))
    again = there_and_back(vlm)
    assert (again.fingerprint, again.d_embed, again.name) == (vlm.fingerprint, vlm.d_embed, vlm.name)
    assert torch.equal(again.embed_texts(["dark"]), vlm.embed_texts(["dark"]))


def test_another_content_is_refused(specs, tmp_path):
    target, vlm = mammi.create_target(specs[0]), mammi.create_vlm(specs[1])
    parcels = [Parcel.of(Holding(model=model)) for model in (target, vlm)]
    (tmp_path / "model.py").write_text(MODEL.replace("manual_seed(0)", "manual_seed(1)"))
    (tmp_path / "vlm.py").write_text(VLM + "\n# changed\n")
    with pytest.raises(TargetError, match="is another network where a worker made it again"):
        parcels[0].open()
    with pytest.raises(VlmError, match="is another model where a worker made it again"):
        parcels[1].open()
    (tmp_path / "model.py").unlink()
    with pytest.raises(TargetError, match="There is no file"):
        parcels[0].open()


def test_a_network_given_as_a_module_goes_whole():
    torch.manual_seed(3)
    target = mammi.create_target(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), size=4, channels=1)
    again = there_and_back(target)
    assert again.fingerprint == target.fingerprint
    assert torch.equal(again.model[1].weight, target.model[1].weight)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("text", [MODEL, LOCAL])
def test_an_untrained_copy_goes_as_the_network_and_other_weights(text, precision, tmp_path):
    (tmp_path / "model.py").write_text(text)
    target = mammi.create_target(f"{tmp_path / 'model.py'}:create")
    film = Film(torch.rand(20, 20).numpy())
    copy = randomised(target, [film] * 4).at(precision)
    again = there_and_back(copy)
    assert again.precision == precision
    x = target.view(film)[None].to(copy.model.conv.weight.dtype)
    assert torch.equal(again.model(x), copy.model(x))
    assert not torch.equal(again.model.conv.weight, target.model.conv.weight)
    assert (again.fingerprint, again.name, again.source) == (copy.fingerprint, copy.name, None)


def test_what_cannot_be_sent_is_refused_with_the_way_out(specs):
    class Net(nn.Flatten):
        pass

    own = mammi.create_target(specs[0]).model
    function = nn.Flatten()
    function.register_forward_hook(lambda *_: None)
    for module, why in (
        (Net(), "test_what_cannot"),
        (own, "of this script or of a factory file"),
        (function, "lambda"),
    ):
        target = mammi.create_target(module, size=16, channels=1)
        with pytest.raises(
            InputError, match=rf"(?s)cannot be sent .*{why}.*use one worker, or give 'path/file.py:NAME'"
        ):
            Parcel.of(Holding(model=target))


@pytest.mark.parametrize("name", mammi.errors.__all__)
def test_errors_survive_the_way(name):
    error = getattr(mammi.errors, name)("the film 'a' is no film")
    error.add_note("where")
    again = ForkingPickler.loads(ForkingPickler.dumps(error))
    assert type(again) is type(error)
    assert str(again) == "the film 'a' is no film"
    assert again.__notes__ == ["where"]


def test_other_errors_become_one_of_ours():
    error = as_error(KeyError("a\nb"))
    assert type(error) is WorkerError
    assert str(error) == r"a worker failed: KeyError: 'a\nb'"


def test_a_loader_needs_no_device(specs, tmp_path):
    from dataclasses import replace

    target, vlm = (
        replace(make(spec), device="cuda")
        for make, spec in zip((mammi.create_target, mammi.create_vlm), specs, strict=True)
    )
    work = RecordFilms(target, (), ProbingSet([]), 4, vlm)
    assert work.device == "cuda"
    sent = Parcel.of(work.loader()).open()
    assert (sent.target.device, sent.vlm.device) == ("cpu", "cpu")
    assert Parcel.of(EncodeTexts(vlm, ["a"]).loader()).open().device == "cpu"
