"""In which numbers a network computes: its weights cast in a copy, and its input made to fit them."""

import copy
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mammi.errors import InputError

__all__ = ["PRECISIONS", "Precision", "as_input", "check_precision", "lowered", "modules_of"]

Precision = Literal["float32", "float32-channels-last", "bfloat16"]
#: ``float32`` is plain, the one of published numbers; the other two lay pictures out with their channels last.
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

T = TypeVar("T")


def check_precision(name: str) -> Precision:
    """Return ``name`` if it is a precision.

    Raises:
        InputError: if it is not.
    """
    if name not in PRECISIONS:
        raise InputError(f"'precision' must be one of {', '.join(PRECISIONS)}, got {name!r}")
    return name


def modules_of(model: object) -> list[nn.Module]:
    """Return the networks that an object is, or holds as attributes."""
    if isinstance(model, nn.Module):
        return [model]
    return [value for value in getattr(model, "__dict__", {}).values() if isinstance(value, nn.Module)]


def lowered(model: T, precision: Precision) -> T:
    """Return a copy of a network, or of an object that holds some, that computes in ``precision``.

    Weights and floating buffers are cast; integers and complex numbers are not. Batch normalisation keeps its weights and
    running statistics in float32, as libraries for mixed precision do: rounded, they alone double the error.

    Args:
        model: float32, in ``eval()`` mode; left as it is.
        precision: ``"float32"`` returns a plain copy.

    Returns:
        The copy, on the same device.

    Raises:
        Whatever copying or casting someone else's object raises.
    """
    twin = copy.deepcopy(model)
    if precision == "float32":
        return twin
    for network in modules_of(twin):
        network.to(memory_format=torch.channels_last)
        if precision == "bfloat16":
            for module in network.modules():
                if not isinstance(module, _BatchNorm):
                    _cast(module)
    return twin


def _cast(module: nn.Module) -> None:
    """Cast what a module holds itself, not its children; tensors shared by several modules stay shared."""
    for parameter in module.parameters(recurse=False):
        if parameter.dtype == torch.float32:
            parameter.data = parameter.data.to(torch.bfloat16)
    for name, buffer in module.named_buffers(recurse=False):
        if buffer.dtype == torch.float32:
            setattr(module, name, buffer.to(torch.bfloat16))


def as_input(batch: Tensor, precision: str, device: str | torch.device) -> Tensor:
    """Return a batch as a network of some precision takes it, on its device.

    To a graphics card the batch goes from pinned memory without waiting, and is cast there.

    Args:
        batch: floating, ``(n, ...)``; pictures are ``(n, channels, height, width)``.
        precision: one of `PRECISIONS`.
        device: where the network is.
    """
    device = torch.device(device)
    if device.type == "cuda" and batch.device.type == "cpu":
        batch = batch.pin_memory().to(device, non_blocking=True)
    dtype = torch.bfloat16 if precision == "bfloat16" else batch.dtype
    pictures = precision != "float32" and batch.ndim == 4
    return batch.to(device, dtype, memory_format=torch.channels_last if pictures else torch.preserve_format)
