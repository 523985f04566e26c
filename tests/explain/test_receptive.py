"""Where cells look, against the arithmetic of strides and padding."""

import numpy as np
import pytest
import torch
from torch import nn

from mammi.capture import plan_layers, plan_maps
from mammi.errors import CaptureError
from mammi.explain.receptive import cell_offset
from mammi.explain.where import unit_maps
from mammi.targets import create_target
from mammi.types import Film


def stride_two(channels, kernel=3, padding=1):
    return nn.Sequential(
        nn.Conv2d(channels, 6, kernel, 2, padding, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True)
    )


def offset(net, layer, size=(96, 128)):
    torch.manual_seed(0)
    target = create_target(net, channels=1, size=size, mean=0.5, std=0.25)
    before = [value.clone() for value in target.model.state_dict().values()]
    found = cell_offset(target, plan_maps(target, plan_layers(target, [layer]))[0])
    assert all(torch.equal(a, b) for a, b in zip(before, target.model.state_dict().values(), strict=True))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in target.model.modules())
    return found


def by_arithmetic(layers, size):
    """Araujo, Norris, Sim (Distill 2019): start of the receptive field and jump, layer by layer, from (kernel, stride, pad)."""
    jump, start, cells = 1, 0.0, size
    for kernel, stride, padding in layers:
        start += ((kernel - 1) / 2 - padding) * jump
        jump *= stride
        cells = (cells + 2 * padding - kernel) // stride + 1
    # The first cell looks at pixel ``start``; the middle of its share is half a share, less half a pixel, further on.
    middle = (start + start + (cells - 1) * jump) / 2
    return middle - (size - 1) / 2


@pytest.mark.parametrize(
    "layers",
    [
        [(3, 2, 1)],
        [(3, 2, 1), (3, 2, 1)],
        [(5, 2, 2), (3, 2, 1), (3, 2, 1)],
        [(4, 4, 0)],  # a patch embedding: every cell looks at its own share
        [(4, 2, 1)],
        [(3, 1, 1), (3, 1, 1)],
        [(7, 2, 3), (2, 2, 0)],
    ],
)
def test_plain_convolutions_give_what_the_arithmetic_says(layers):
    net = nn.Sequential(*(stride_two(1 if i == 0 else 6) for i in range(len(layers))))
    for i, (kernel, stride, padding) in enumerate(layers):
        net[i][0] = nn.Conv2d(1 if i == 0 else 6, 6, kernel, stride, padding)
    down, right = offset(net, str(len(layers) - 1))
    expected = [by_arithmetic(layers, size) for size in (96, 128)]
    assert (down, right) == pytest.approx([x if abs(x) >= 0.25 else 0.0 for x in expected], abs=0.1)


def test_a_maximum_is_not_taken_for_its_first_corner():
    net = nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    assert offset(net, "2") == pytest.approx([-0.5, -0.5], abs=0.15)
    assert offset(nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), nn.MaxPool2d(2)), "1") == (0.0, 0.0)


def test_a_residual_network_by_torchvision():
    target = create_target("torchvision:resnet18", "random", size=224)
    found = cell_offset(target, plan_maps(target, plan_layers(target, ["layer2"]))[0])
    assert found == pytest.approx([-3.5, -3.5], abs=0.3)  # conv 7/2/3, max 3/2/1, conv 3/2/1


def test_patches_of_a_transformer_look_at_themselves():
    target = create_target("timm:vit_tiny_patch16_224", "random", size=224)
    assert cell_offset(target, plan_maps(target, plan_layers(target, ["blocks.3"]))[0]) == (0.0, 0.0)


def test_a_layer_that_does_not_follow_from_the_film():
    class Apart(nn.Module):
        def __init__(self):
            super().__init__()
            self.own = nn.Conv2d(1, 2, 3, padding=1)
            self.constant = nn.Parameter(torch.ones(1, 1, 8, 8))

        def forward(self, x):
            return (self.own(self.constant.expand(len(x), -1, -1, -1)) * x.mean()).mean((2, 3))

    with pytest.raises(CaptureError, match="'own' does not follow from the network's input"):
        offset(Apart(), "own")


def test_a_spot_comes_back_to_where_it_is_through_strided_convolutions():
    """The map of a network that only blurs and strides peaks at the spot; without the offset, 7 pixels away."""
    net = nn.Sequential(*(nn.Conv2d(1, 1, 3, 2, 1, bias=False) for _ in range(3)))
    for layer in net:
        layer.weight.data = torch.tensor([[[[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]]]) / 16
    target = create_target(net, channels=1, size=128, mean=0.001, std=1.0)
    plan = plan_layers(target, ["2"])[0]
    for y, x in ((61.0, 50.0), (40.0, 83.0)):
        rows, columns = np.mgrid[:128, :128] + 0.5
        film = Film(np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 60).astype(np.float32))
        found = unit_maps(target, plan, film).maps[0].clip(0)
        assert (found * rows).sum() / found.sum() == pytest.approx(y, abs=1.0)
        assert (found * columns).sum() / found.sum() == pytest.approx(x, abs=1.0)
