"""How a film becomes the input of the network under study: resize, channels, normalise; in float32 throughout."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from mammi.errors import InputError, TargetError
from mammi.functional.fingerprint import fingerprint_tensors
from mammi.types import Film

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PilPreprocessing",
    "Placement",
    "Preprocessing",
    "ResizeMode",
    "TargetPreprocessing",
]

ResizeMode = Literal["squash", "crop", "pad"]

#: Mean and deviation of ImageNet in RGB; a grey network gets the first of each, as is usual for chest films.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, what PIL's "L" uses


class TargetPreprocessing(Protocol):
    """What a `Target` needs to know of its preprocessing."""

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        ...

    def apply(self, film: Film) -> Tensor:
        """Return one float32 input tensor ``(channels, height, width)``."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return what is done, for the manifest and the fingerprint."""
        ...


@dataclass(frozen=True)
class Placement:
    """Where a resized film lies on the network's input, in pixels of the input.

    Attributes:
        height: rows of the whole resized film.
        width: its columns.
        top: row of the input at which it begins; negative where rows of the film are cut off.
        left: likewise for columns.
    """

    height: int
    width: int
    top: int
    left: int


@dataclass(frozen=True)
class Preprocessing:
    """Resize, channels and normalisation, declared as numbers.

    Attributes:
        channels: 1 (grey) or 3 (RGB).
        size: height and width of the result.
        mean: subtracted per channel, in units of [0, 1] pixels.
        std: divided by per channel.
        resize: ``"squash"`` takes both sides to ``size`` (the shape is lost), ``"crop"`` takes the film to cover
            ``size / crop_pct`` and cuts out the centre, ``"pad"`` fits the film inside ``size`` on black.
        crop_pct: share of the resized film that is kept (``"squash"`` and ``"crop"``), in (0, 1].
        interpolation: ``"bilinear"`` or ``"bicubic"``.
        antialias: whether a shrinking film is smoothed first, as PIL does; only networks trained on tensors resized
            without it want ``False``.
    """

    channels: int = 3
    size: tuple[int, int] = (224, 224)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    resize: ResizeMode = "squash"
    crop_pct: float = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be applied."""
        if self.channels not in (1, 3):
            raise InputError(f"'channels' must be 1 or 3, got {self.channels}")
        if len(self.size) != 2 or min(self.size) < 1:
            raise InputError(f"'size' must be (height, width) of at least 1, got {self.size}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels or not all(math.isfinite(value) for value in values):
                raise InputError(f"'{name}' must hold {self.channels} finite numbers, one a channel, got {values}")
        if min(self.std) <= 0:
            raise InputError(f"'std' must be above 0, got {self.std}")
        if self.resize not in get_args(ResizeMode):
            raise InputError(f"'resize' must be one of {', '.join(get_args(ResizeMode))}, got {self.resize!r}")
        if not 0 < self.crop_pct <= 1:
            raise InputError(f"'crop_pct' must be in (0, 1], got {self.crop_pct}")
        if self.interpolation not in ("bilinear", "bicubic"):
            raise InputError(f"'interpolation' must be bilinear or bicubic, got {self.interpolation!r}")

    @classmethod
    def from_dict(cls, declared: Mapping[str, Any]) -> "Preprocessing":
        """Build from a plain mapping; a single number serves for ``size``, ``mean`` and ``std``.

        Raises:
            InputError: for an unknown key (the nearest is named) or a value that cannot be applied.
        """
        known = list(cls.__dataclass_fields__)
        for key in declared:
            if key not in known:
                near = get_close_matches(str(key), known, n=1)
                guess = f" Did you mean {near[0]!r}?" if near else ""
                raise InputError(f"preprocessing has no {key!r}.{guess} Known: {', '.join(known)}")
        values = dict(declared)
        mean, std = values.get("mean"), values.get("std")
        listed = [len(v) for v in (mean, std) if isinstance(v, list | tuple)]
        channels = int(values.get("channels", listed[0] if listed else 3))
        values["channels"] = channels
        if "size" in values:
            size = values["size"]
            values["size"] = (int(size),) * 2 if isinstance(size, int | float) else tuple(int(v) for v in size)
        for key, default in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            value = values.get(key)
            if value is None:
                values[key] = default[:channels]
            elif isinstance(value, int | float):
                values[key] = (float(value),) * channels
            else:
                values[key] = tuple(float(v) for v in value)
        return cls(**values)

    def apply(self, film: Film) -> Tensor:
        """Return the network's view of a film.

        Args:
            film: float32 pixels in [0, 1], grey or colour, of any size.

        Returns:
            float32 ``(channels, height, width)``: pixels in [0, 1], less ``mean``, over ``std``. A grey film is
            repeated to three channels after resizing; a colour film becomes grey by the ITU-R 601 luma.
        """
        pixels = torch.from_numpy(np.ascontiguousarray(film.pixels, dtype=np.float32))
        image = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
        if self.channels == 1 and image.shape[0] == 3:
            image = (image * torch.tensor(_LUMA)[:, None, None]).sum(0, keepdim=True)
        image = self._fit(image)
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (image.expand(self.channels, -1, -1) - mean) / std

    def placement(self, height: int, width: int) -> Placement:
        """Return where a film of ``height`` by ``width`` pixels comes to lie on the network's input."""
        rows, columns = self.size
        if self.resize == "pad":
            scale = min(rows / height, columns / width)
            fitted_rows, fitted_columns = max(1, round(height * scale)), max(1, round(width * scale))
            return Placement(fitted_rows, fitted_columns, (rows - fitted_rows) // 2, (columns - fitted_columns) // 2)
        cover_rows, cover_columns = (max(side, math.floor(side / self.crop_pct)) for side in self.size)
        if self.resize == "crop":
            # The side that decides is exact and the other rounds down, as torchvision's Resize does.
            if cover_rows * width >= cover_columns * height:
                cover_columns = max(columns, int(cover_rows * width / height))
            else:
                cover_rows = max(rows, int(cover_columns * height / width))
        top, left = round((cover_rows - rows) / 2), round((cover_columns - columns) / 2)
        return Placement(cover_rows, cover_columns, -top, -left)

    def _fit(self, image: Tensor) -> Tensor:
        """Take ``(c, h, w)`` in [0, 1] to ``(c, *size)`` in [0, 1]."""
        rows, columns = self.size
        place = self.placement(image.shape[1], image.shape[2])
        fitted = self._resize(image, place.height, place.width)
        # A negative margin cuts, a positive one is black.
        right, bottom = columns - place.left - place.width, rows - place.top - place.height
        return pad(fitted, (place.left, right, place.top, bottom))

    def _resize(self, image: Tensor, height: int, width: int) -> Tensor:
        if image.shape[1:] == (height, width):
            return image
        out = interpolate(
            image[None], (height, width), mode=self.interpolation, align_corners=False, antialias=self.antialias
        )
        return out[0].clamp(0, 1)  # bicubic overshoots at edges; an 8-bit picture would have been clipped too

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-writable values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def __str__(self) -> str:
        """Return one line of prose, for notes and tables."""
        mean, std = (", ".join(f"{v:.4g}" for v in values) for values in (self.mean, self.std))
        crop = f" {self.crop_pct:.3g}" if self.crop_pct < 1 else ""
        return (
            f"{self.channels}x{self.size[0]}x{self.size[1]}, {self.resize}{crop} {self.interpolation}, "
            f"mean {mean}, std {std}"
        )


class PilPreprocessing:
    """A user's own ``preprocess(picture) -> Tensor``, given an 8-bit ``L`` or ``RGB`` picture.

    Args:
        function: the user's callable; returns one ``(channels, height, width)`` tensor.
        source: where it came from, for messages and the manifest.

    Raises:
        TargetError: if it fails on a plain grey picture, or returns anything but such a tensor.
    """

    def __init__(self, function: "Callable[[Image.Image], Tensor]", source: str) -> None:
        self.function = function
        self.source = source
        ramp = np.linspace(0, 1, 96 * 80, dtype=np.float32).reshape(96, 80)
        probe = self.apply(Film(ramp))
        self.channels = int(probe.shape[0])
        self.size = (int(probe.shape[1]), int(probe.shape[2]))
        # A function cannot be hashed; what it does to a known picture can.
        self._probe = fingerprint_tensors({"probe": probe})

    def apply(self, film: Film) -> Tensor:
        """Return the user's tensor for a film, as float32."""
        try:
            image = self.function(film.to_pil())
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            raise TargetError(f"preprocess() of {self.source} failed: {type(error).__name__}: {text}") from error
        if not isinstance(image, Tensor) or image.ndim != 3:
            got = f"a tensor of shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
            raise TargetError(f"preprocess() of {self.source} must return a (channels, h, w) tensor, got {got}")
        return image.to(torch.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return what is known of it as JSON-writable values."""
        return {"kind": "preprocess()", "source": self.source, "channels": self.channels, "size": list(self.size)} | {
            "probe": self._probe
        }

    def __str__(self) -> str:
        """Return one line of prose, for notes and tables."""
        return f"{self.channels}x{self.size[0]}x{self.size[1]}, preprocess() of {self.source}"
