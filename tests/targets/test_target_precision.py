"""A target in another precision: a copy that records what the original does, nearly."""

import numpy as np
import pytest
import torch
from torch import nn

from mammi.capture import Recorder, plan_layers
from mammi.capture.maps import plan_maps
from mammi.errors import InputError, TargetError
from mammi.targets import create_target
from mammi.types import Film


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(self.conv(x)).relu().mean((2, 3)))


@pytest.fixture
def target():
    torch.manual_seed(0)
    return create_target(Net(), channels=1, size=(20, 16), mean=0.5, std=0.25)


def views(target):
    rng = np.random.default_rng(0)
    films = [Film(rng.random((24, 18), dtype=np.float32) * level) for level in (0.2, 0.5, 0.9, 1.0, 0.4)]
    return torch.stack([target.view(film) for film in films])


@pytest.mark.parametrize(("precision", "most"), [("float32-channels-last", 1e-5), ("bfloat16", 0.02)])
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_units_are_recorded_in_float32_whatever_the_network_computes_in(target, precision, most, pooling):
    other = target.at(precision)
    assert (other.precision, other.fingerprint, other.name) == (precision, target.fingerprint, target.name)
    plans = plan_layers(target, ["conv", "fc", "fc@in"], pooling)
    recorded = []
    for each in (target, other):
        with Recorder(each.model, plans, each.precision) as recorder:
            recorded.append(recorder.record(views(target)))
    for name, exact in recorded[0].items():
        rows = recorded[1][name]
        assert rows.dtype == torch.float32
        spread = (exact - exact.mean(dim=0)).norm()
        assert float((rows - exact).norm() / spread) < most
    assert {value.dtype for value in target.model.parameters()} == {torch.float32}


def test_maps_are_recorded_in_float32_too(target):
    other = target.at("bfloat16")
    with Recorder(other.model, plan_maps(target, plan_layers(target, ["conv"])), other.precision) as recorder:
        maps = recorder.record(views(target))["conv"]
    assert maps.dtype == torch.float32
    assert maps.shape == (5, 4, 18, 14)


def test_the_present_precision_is_no_copy_and_a_copy_is_not_copied(target):
    assert target.at("float32") is target
    other = target.at("bfloat16")
    assert other.at("bfloat16") is other
    with pytest.raises(InputError, match="is a copy in bfloat16: ask the target it was made from"):
        other.at("float32")
    with pytest.raises(InputError, match="got 'half'"):
        target.at("half")


def test_a_network_that_cannot_be_copied_is_said(target):
    target.model.held = (value for value in ())  # a generator
    with pytest.raises(TargetError, match=r"module cannot compute in bfloat16 \(TypeError: cannot pickle 'generator'"):
        target.at("bfloat16")
