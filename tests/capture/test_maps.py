"""Whole maps of layers: channels first or last, patches of a transformer, and what has no map."""

import pytest
import torch
from torch import nn

from mammi.capture import Recorder, plan_layers, plan_maps
from mammi.errors import CaptureError
from mammi.targets import create_target


class Net(nn.Module):
    """A convolution, an in-place ReLU after it, channels last, tokens with a class token, and a vector."""

    def __init__(self, n_extra: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 6, 4, stride=4)
        self.act = nn.ReLU(inplace=True)
        self.norm = nn.LayerNorm(6)
        self.cls_token = nn.Parameter(torch.randn(1, 1, 6))
        self.extra = torch.randn(1, n_extra, 6)
        self.block = nn.Identity()
        self.patches = nn.Linear(6, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.act(self.conv(x)).movedim(1, -1))
        x = x.flatten(1, 2)
        x = self.block(torch.cat([self.cls_token.expand(len(x), -1, -1), x, self.extra.expand(len(x), -1, -1)], 1))
        return self.head(self.patches(x[:, 1:]).mean(1))


def make(size=(80, 64), n_extra=0):
    return create_target(Net(n_extra), channels=1, size=size, mean=0.5, std=0.25)


def n_hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_every_kind_of_map_equals_a_forward_by_hand():
    target = make()
    model = target.model
    names = ["conv", "norm", "block", "patches", "norm@in"]
    films = torch.randn(3, 1, 80, 64, generator=torch.Generator().manual_seed(1))
    plans = plan_maps(target, plan_layers(target, names))
    model.train()
    with Recorder(model, plans) as recorder:
        recorded = recorder.record(films)
    assert model.training
    assert not n_hooks(model)
    with torch.no_grad():
        conv = model.conv(films)
        norm = model.norm(conv.relu().movedim(1, -1))
    torch.testing.assert_close(recorded["conv"], conv)
    assert recorded["conv"].min() < 0  # a copy from before the in-place ReLU
    torch.testing.assert_close(recorded["norm"], norm.movedim(-1, 1))
    torch.testing.assert_close(recorded["norm@in"], conv.relu())
    torch.testing.assert_close(recorded["block"], norm.movedim(-1, 1))  # row by row, without the class token
    torch.testing.assert_close(recorded["patches"], model.patches(norm).movedim(-1, 1))


def test_a_layer_without_maps_is_refused():
    target = make()
    with pytest.raises(CaptureError, match="'head' gives one number a unit and no map"):
        plan_maps(target, plan_layers(target, ["conv", "head"]))
    assert not n_hooks(target.model)


def test_tokens_that_are_no_grid_are_refused():
    target = make(n_extra=3)
    with pytest.raises(
        CaptureError, match=r"'block' gives 323 tokens behind 1 .* 80x64 input: choose a layer with maps"
    ):
        plan_maps(target, plan_layers(target, ["block"]))
    assert not n_hooks(target.model)
