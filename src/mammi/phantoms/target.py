"""A small network that reads drawn films: the network under study when nothing else is at hand."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mammi.phantoms.catalogue import OUTPUTS

__all__ = ["PhantomTarget", "ResidualBlock", "create", "create_shortcut"]

#: Pixels along a side of the input.
INPUT_SIZE = 128
#: Mean and standard deviation of drawn films, grey levels in [0, 1].
GREY_MEAN, GREY_STD = 0.45, 0.26


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a way around them (He et al., CVPR 2016)."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels:
            self.skip = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """``(n, channels_in, h, w) -> (n, channels, h / stride, w / stride)``, not negative."""
        out = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(out)) + self.skip(x))


class PhantomTarget(nn.Module):
    """Grey film to one logit per label, as ``relu(map)`` -> global average -> linear.

    With a plain average and a linear head, a logit is exactly the sum of its units' contributions and a bias, and a
    unit's map says where on the film its share comes from.

    Attributes:
        output_names: what each logit stands for, lower-case.
        preprocessing: how a film in [0, 1] becomes an input.
    """

    def __init__(self, outputs: tuple[str, ...] = OUTPUTS) -> None:
        super().__init__()
        self.output_names = outputs
        self.preprocessing: dict[str, Any] = {
            "channels": 1,
            "size": (INPUT_SIZE, INPUT_SIZE),
            "mean": [GREY_MEAN],
            "std": [GREY_STD],
            "resize": "squash",
            "antialias": True,
        }
        self.stem = nn.Sequential(
            nn.Conv2d(1, 24, 5, 2, 2, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.Conv2d(24, 40, 3, 2, 1, bias=False),
            nn.BatchNorm2d(40),
            nn.ReLU(),
        )
        self.layer1 = nn.Sequential(ResidualBlock(40, 40))
        self.layer2 = nn.Sequential(ResidualBlock(40, 72, 2), ResidualBlock(72, 72))
        self.layer3 = nn.Sequential(ResidualBlock(72, 128, 2), ResidualBlock(128, 128))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(128, len(outputs))

    def features(self, x: Tensor) -> Tensor:
        """``(n, 1, 128, 128)`` normalised films ``-> (n, 128, 8, 8)`` maps, not negative."""
        out: Tensor = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """``(n, 1, 128, 128)`` normalised films ``-> (n, n_outputs)`` logits."""
        out: Tensor = self.head(torch.flatten(self.pool(self.features(x)), 1))
        return out


def create() -> PhantomTarget:
    """Return the trained network in eval mode, on the CPU, in float32."""
    from mammi.phantoms.weights import load_weights

    net = PhantomTarget()
    load_weights(net, "target")
    return net.eval()


def create_shortcut() -> PhantomTarget:
    """Return the network that takes an arrow of lead for a pneumothorax; otherwise as ``create``."""
    from mammi.phantoms.weights import load_weights

    net = PhantomTarget()
    load_weights(net, "target", "shortcut")
    return net.eval()
