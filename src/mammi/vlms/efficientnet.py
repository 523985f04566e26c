"""EfficientNet as Mammo-CLIP's checkpoints hold it (Tan and Le, ICML 2019, arXiv 1905.11946, table 1).

The names are those of the EfficientNet-PyTorch code that Mammo-CLIP copied. It pads its convolutions once and for all
as if the input were a square of the variant's own size, 456 or 260 pixels a side, whatever is really put in: at the
mammograms' 1520 x 912 other rows and columns are padded than TensorFlow's rule, or timm's ``tf_`` networks, would.
That is what the weights were trained under, and no library pads so; hence a network of our own.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from mammi.errors import VlmError
from mammi.weights_file import load_weights

__all__ = ["EfficientNet", "efficientnet_from"]

#: Strides of the stages; everything else that differs between variants is in the tensors' sizes.
_STRIDES = (1, 2, 2, 2, 1, 2, 1)
#: Of the batch norms, as TensorFlow's.
_EPS = 1e-3


def efficientnet_from(state: dict[str, Tensor], source: str, side: int) -> "EfficientNet":
    """Build an EfficientNet of the size its tensors have, and load them, every one.

    Args:
        state: tensors by name, for example ``_blocks.0._depthwise_conv.weight``; no last linear layer.
        source: what to call the weights in messages.
        side: pixels along a side of the square that the padding is made for.

    Returns:
        The network in ``eval()`` mode and float32.

    Raises:
        VlmError: if the blocks do not form seven stages, or tensors are missing, superfluous or of another shape.
    """
    stem, head = state.get("_conv_stem.weight"), state.get("_conv_head.weight")
    n_blocks = 1 + max((int(name.split(".")[1]) for name in state if name.startswith("_blocks.")), default=-1)
    shapes = [_shape(state, f"_blocks.{index}.") for index in range(n_blocks)]
    whole = [shape for shape in shapes if shape is not None]
    # The first block of a stage changes the number of channels, those after it do not.
    starts = [i == 0 or shape["channels"] != shape["out"] for i, shape in enumerate(whole)]
    if stem is None or head is None or len(whole) < n_blocks or sum(starts) != len(_STRIDES):
        raise VlmError(
            f"{source} holds no EfficientNet image tower where one was expected ({sum(starts)} stages of "
            f"{len(_STRIDES)}): is it the checkpoint of another model?"
        )
    strides = [_STRIDES[sum(starts[: i + 1]) - 1] if start else 1 for i, start in enumerate(starts)]
    model = EfficientNet(stem.shape[0], whole, strides, head.shape[0], side)
    load_weights(model, state, source, error=VlmError)
    return model.float().eval()


def _shape(state: dict[str, Tensor], prefix: str) -> dict[str, int] | None:
    """Return the sizes of one block, or None if it is not whole; ``inner`` equals ``channels`` if it does not widen."""
    names = ("_depthwise_conv", "_project_conv", "_se_reduce")
    depthwise, project, squeeze = (state.get(f"{prefix}{name}.weight") for name in names)
    if depthwise is None or project is None or squeeze is None or {depthwise.ndim, project.ndim, squeeze.ndim} != {4}:
        return None
    expand = state.get(f"{prefix}_expand_conv.weight")
    return {
        "channels": depthwise.shape[0] if expand is None else expand.shape[1],
        "inner": depthwise.shape[0],
        "kernel": depthwise.shape[-1],
        "squeezed": squeeze.shape[0],
        "out": project.shape[0],
        "widens": int(expand is not None),
    }


class EfficientNet(nn.Module):
    """Stem, blocks, head and the mean over the picture.

    Args:
        stem: channels after the first convolution.
        shapes: sizes of each block, as the tensors tell.
        strides: stride of each block.
        head: channels after the last convolution, the width of a row.
        side: pixels along a side of the square that the padding is made for.
    """

    def __init__(self, stem: int, shapes: list[dict[str, int]], strides: list[int], head: int, side: int) -> None:
        super().__init__()
        self._conv_stem = Padded(3, stem, 3, 2, side)
        self._bn0 = nn.BatchNorm2d(stem, eps=_EPS)
        side = math.ceil(side / 2)
        self._blocks = nn.ModuleList()
        for shape, stride in zip(shapes, strides, strict=True):
            self._blocks.append(_Block(shape, stride, side))
            side = math.ceil(side / stride)
        self._conv_head = nn.Conv2d(shapes[-1]["out"], head, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(head, eps=_EPS)

    def forward(self, images: Tensor) -> Tensor:
        """Embed ``(n, 3, height, width)`` as ``(n, head)``."""
        maps = F.silu(self._bn0(self._conv_stem(images)))
        for block in self._blocks:
            maps = block(maps)
        rows: Tensor = F.silu(self._bn1(self._conv_head(maps))).mean(dim=(2, 3))
        return rows


class Padded(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's ``SAME`` would a square of ``side`` pixels, always."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, side: int, groups: int = 1) -> None:
        super().__init__(channels, out, kernel, stride, groups=groups, bias=False)
        total = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
        self.before, self.after = total // 2, total - total // 2

    def forward(self, maps: Tensor) -> Tensor:
        """Convolve ``(n, channels, h, w)``."""
        return super().forward(F.pad(maps, (self.before, self.after, self.before, self.after)))


class _Block(nn.Module):
    """A widening, a depthwise convolution, a gate per channel (squeeze and excitation), a narrowing; a skip."""

    def __init__(self, shape: dict[str, int], stride: int, side: int) -> None:
        super().__init__()
        channels, inner, out = shape["channels"], shape["inner"], shape["out"]
        self.widens = bool(shape["widens"])
        self.skips = stride == 1 and channels == out
        if self.widens:
            self._expand_conv = nn.Conv2d(channels, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=_EPS)
        self._depthwise_conv = Padded(inner, inner, shape["kernel"], stride, side, groups=inner)
        self._bn1 = nn.BatchNorm2d(inner, eps=_EPS)
        self._se_reduce = nn.Conv2d(inner, shape["squeezed"], 1)
        self._se_expand = nn.Conv2d(shape["squeezed"], inner, 1)
        self._project_conv = nn.Conv2d(inner, out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out, eps=_EPS)

    def forward(self, maps: Tensor) -> Tensor:
        given = maps
        if self.widens:
            maps = F.silu(self._bn0(self._expand_conv(maps)))
        maps = F.silu(self._bn1(self._depthwise_conv(maps)))
        gate = self._se_expand(F.silu(self._se_reduce(maps.mean(dim=(2, 3), keepdim=True))))
        maps = self._bn2(self._project_conv(maps * gate.sigmoid()))
        return maps + given if self.skips else maps
