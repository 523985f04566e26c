"""How the places where a unit is strong overlap with the places where a concept is seen.

Network dissection (Bau, Zhou, Khosla, Oliva, Torralba, CVPR 2017, section 2) with the upsampling and the threshold of
its later implementations, which "TSI" in the MAMMI paper follows: maps are laid on a fixed grid first, and the
threshold is a quantile over the pixels of that grid.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mammi.errors import InputError

__all__ = [
    "QUANTILE",
    "SIDE",
    "Areas",
    "iou",
    "overlap",
    "strongest_pixels",
    "tail_size",
    "tail_threshold",
    "upsample",
]

#: Cells along each side of the grid on which maps and masks meet.
SIDE = 56
#: A unit is on where it exceeds this quantile of its own pixels: the strongest 1 %.
QUANTILE = 0.99
#: Upsampled values held at once: bounds memory (64 MB), not results.
_VALUES = 2**23


@dataclass(frozen=True)
class Areas:
    """Pixel counts over the films that have masks; the counts of two batches add up with ``+``.

    Attributes:
        both: int64, shape ``(n_units, n_concepts)``: pixels where the unit is above its threshold and the concept is.
        units: int64, shape ``(n_units,)``: pixels where the unit is above its threshold.
        concepts: int64, shape ``(n_concepts,)``: pixels where the concept is; 0 for a concept without a mask.
    """

    both: Tensor
    units: Tensor
    concepts: Tensor

    def __add__(self, other: "Areas") -> "Areas":
        if self.both.shape != other.both.shape:
            raise InputError(
                f"areas of {tuple(self.both.shape)} and {tuple(other.both.shape)} units and concepts do not add up"
            )
        return Areas(self.both + other.both, self.units + other.units, self.concepts + other.concepts)


def _weights(n_out: int, n_in: int) -> Tensor:
    """Return how much each of ``n_in`` cells gives to each of ``n_out``: a hat around each cell's centre."""
    centres = (torch.arange(n_out, dtype=torch.float64) + 0.5) * (n_in / n_out) - 0.5
    # Beyond the border there is no cell to give the rest of the weight: that is the zero padding.
    return (1 - (centres[:, None] - torch.arange(n_in, dtype=torch.float64)).abs()).clamp(min=0)


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    r"""Lay maps on another grid over the same field: bilinear between cell centres, zero outside.

    With :math:`c_i = (i + 1/2)\,n_{in}/n_{out} - 1/2` and :math:`w_{ij} = \max(0, 1 - |c_i - j|)` for rows and
    columns, :math:`h = W_{rows} F\,W_{columns}^T`.

    Args:
        maps: shape ``(..., height, width)``, floating.
        size: rows and columns of the result.

    Returns:
        float64, shape ``(..., *size)``. A map with a value NaN or infinite is NaN everywhere.

    Raises:
        InputError: if ``maps`` has no cell or is not floating.

    Notes:
        Inside, half a cell from the border, this is ``interpolate(mode="bilinear", align_corners=False)``; there the
        value fades to 0 where ``interpolate`` repeats the border. So does the published code. A unit that is negative
        everywhere is therefore strongest along the border.
    """
    if maps.ndim < 2 or not maps.is_floating_point() or 0 in maps.shape[-2:]:
        raise InputError(f"'maps' must be floating, (..., height, width), got {maps.dtype} {tuple(maps.shape)}")
    rows, columns = (_weights(n_out, n_in) for n_out, n_in in zip(size, maps.shape[-2:], strict=True))
    return rows @ maps.double() @ columns.T


def _tiles(maps: Tensor, size: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
    """Yield units in tiles, upsampled and flat: ``(n_films, n_units_of_the_tile, n_pixels)``."""
    if maps.ndim != 4:
        raise InputError(f"'maps' must be (n_films, n_units, height, width), got {tuple(maps.shape)}")
    step = max(1, _VALUES // max(1, len(maps) * math.prod(size)))
    for start in range(0, maps.shape[1], step):
        tile = slice(start, min(start + step, maps.shape[1]))
        yield tile, upsample(maps[:, tile], size).flatten(2)


def tail_size(n_pixels: int, quantile: float = QUANTILE) -> int:
    """Return how many of a unit's strongest pixels must be kept to know a quantile of ``n_pixels`` exactly.

    Enough for ``n_pixels`` is enough for fewer.

    Raises:
        InputError: if ``quantile`` is not in ``[0, 1)`` or there is no pixel.
    """
    if not 0 <= quantile < 1:
        raise InputError(f"'quantile' must be in [0, 1), got {quantile}")
    if n_pixels < 1:
        raise InputError(f"a quantile needs at least one pixel, got {n_pixels}")
    return n_pixels - int(quantile * (n_pixels - 1))


def strongest_pixels(maps: Tensor, size: tuple[int, int], keep: int, before: Tensor | None = None) -> Tensor:
    """Keep the strongest upsampled pixels of each unit, batch after batch.

    A quantile near 1 depends on no other pixel, so this is exact and holds one value in a hundred.

    Args:
        maps: the maps of a batch, shape ``(n_films, n_units, height, width)``, floating.
        size: rows and columns of the grid.
        keep: how many, see `tail_size`.
        before: what the batches before left.

    Returns:
        float64, shape ``(n_units, at most keep)``, in no order. NaN counts as the strongest.

    Raises:
        InputError: if ``maps`` has other axes.
    """
    kept = []
    for tile, pixels in _tiles(maps, size):
        values = pixels.movedim(1, 0).flatten(1)
        if before is not None:
            values = torch.cat([before[tile], values], dim=1)
        kept.append(values.topk(min(keep, values.shape[1]), dim=1, sorted=False).values)
    return torch.cat(kept) if kept else torch.empty(0, keep, dtype=torch.float64)


def tail_threshold(tail: Tensor, n_pixels: int, quantile: float = QUANTILE) -> Tensor:
    """Return the quantile of each unit's pixels from the strongest of them (linear between two pixels, float64).

    Args:
        tail: what `strongest_pixels` left of ``n_pixels`` pixels a unit, shape ``(n_units, n_kept)``.
        n_pixels: how many there were.
        quantile: in ``[0, 1)``.

    Returns:
        float64, shape ``(n_units,)``; NaN for a unit with a pixel that is NaN or infinite.

    Raises:
        InputError: if too few were kept, or an argument is out of range.
    """
    needed = tail_size(n_pixels, quantile)
    if tail.ndim != 2 or tail.shape[1] < needed:
        raise InputError(f"'tail' must be (n_units, {needed} or more) for {n_pixels} pixels, got {tuple(tail.shape)}")
    ordered = tail.sort(dim=1, descending=True).values
    below, above = ordered[:, needed - 1], ordered[:, max(needed - 2, 0)]
    place = quantile * (n_pixels - 1)
    line = below + (place - int(place)) * (above - below)
    return torch.where(torch.isfinite(ordered[:, 0]), line, torch.nan)


def overlap(maps: Tensor, masks: Tensor, thresholds: Tensor) -> Areas:
    """Count where units are on and where concepts are, over the films of a batch.

    Args:
        maps: shape ``(n_films, n_units, height, width)``, floating; upsampled here to the grid of the masks.
        masks: bool, shape ``(n_films, n_concepts, rows, columns)``: where each concept is.
        thresholds: shape ``(n_units,)``: a unit is on strictly above it; nowhere if it is NaN.

    Raises:
        InputError: if the shapes do not fit each other or ``masks`` is not bool.
    """
    if masks.ndim != 4 or masks.dtype != torch.bool or len(masks) != len(maps):
        raise InputError(
            f"'masks' must be bool, ({len(maps)} films, n_concepts, rows, columns), got {masks.dtype} "
            f"{tuple(masks.shape)}"
        )
    if maps.ndim == 4 and thresholds.shape != maps.shape[1:2]:
        raise InputError(f"'thresholds' must be ({maps.shape[1]},), one a unit, got {tuple(thresholds.shape)}")
    present = masks.flatten(2)
    # 0 and 1 in float32: a film's sums stay whole numbers below 2^24, and films are added as integers.
    columns = present.float().mT
    both = torch.zeros(len(thresholds), masks.shape[1], dtype=torch.int64)
    units = torch.zeros(len(thresholds), dtype=torch.int64)
    for tile, pixels in _tiles(maps, (masks.shape[2], masks.shape[3])):
        above = pixels > thresholds[tile, None]
        both[tile] = (above.float() @ columns).long().sum(dim=0)
        units[tile] = above.sum(dim=(0, 2))
    return Areas(both, units, present.sum(dim=(0, 2)))


def iou(areas: Areas) -> Tensor:
    r"""Return intersection over union, :math:`|B_k \cap c| / (|B_k| + |c| - |B_k \cap c|)` over all films together.

    Returns:
        float64 in [0, 1], shape ``(n_units, n_concepts)``; NaN for a concept without a mask.

    Example:
        >>> iou(Areas(torch.tensor([[2, 0]]), torch.tensor([3]), torch.tensor([4, 0])))
        tensor([[0.4000,    nan]], dtype=torch.float64)
    """
    union = areas.units[:, None] + areas.concepts - areas.both
    return torch.where(areas.concepts > 0, areas.both.double() / union.clamp(min=1), torch.nan)
