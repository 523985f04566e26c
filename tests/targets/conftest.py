import pytest
import torch
from torch import nn


@pytest.fixture
def net_file(tmp_path):
    """Write a user's file; return its path as text."""

    def write(body: str, name: str = "net.py") -> str:
        path = tmp_path / name
        path.write_text("import torch\nfrom torch import nn\n" + body)
        return str(path)

    return write


class Small(nn.Module):
    """A grey convolution network with two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small()
