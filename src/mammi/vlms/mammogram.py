"""How a mammogram becomes the 1520 x 912 picture that Mammo-CLIP was trained on.

Source: the authors' ``src/preprocessing`` scripts and ``breastclip/data/datasets``: a film loses its border of five
pixels, is stretched to eight bits, cut to the breast, and resized without regard to its shape (OpenCV's ``INTER_AREA``,
written anew here: bit for bit the same on all sizes tried, but for a grey level in 10^5 pixels where sums are tied).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

__all__ = ["HEIGHT", "WIDTH", "cut_breast", "mammogram_view", "resize_area"]

HEIGHT, WIDTH = 1520, 912
_MEAN, _STD = 0.3089279, 0.25053555408335154
#: Grey levels up to here are background.
_BACKGROUND = 40
_BORDER = 5
#: OpenCV's fixed point: 11 bits for a weight.
_ONE = 2048

Grey = NDArray[np.uint8]


def mammogram_view(image: Image.Image) -> Tensor:
    """Return the model's view of a film.

    Args:
        image: an 8-bit picture; one of 1520 x 912 pixels is taken as prepared already, as the authors' pictures are.

    Returns:
        float32 ``(3, 1520, 912)``: scaled to [0, 1] by its own least and largest value, less the published mean, over
        the published deviation. A picture of one grey level, which upstream makes NaN, is all zeros before the mean.
    """
    grey: Grey = np.asarray(image.convert("L"))
    if grey.shape != (HEIGHT, WIDTH):
        grey = _prepared(grey)
    pixels = grey.astype(np.float32)
    pixels -= pixels.min()
    pixels /= max(pixels.max(), np.float32(1))
    view = torch.from_numpy((pixels - np.float32(_MEAN)) / np.float32(_STD))
    return view.expand(3, HEIGHT, WIDTH).clone()


def _prepared(grey: Grey) -> Grey:
    inside = grey[_BORDER:-_BORDER, _BORDER:-_BORDER]
    if inside.size == 0:  # too small to have a border
        inside = grey
    stretched = inside.astype(np.float64) - float(inside.min())
    stretched /= max(stretched.max(), 1.0)
    return resize_area(cut_breast((stretched * 255).astype(np.uint8)), HEIGHT, WIDTH)


def cut_breast(grey: Grey) -> Grey:
    """Cut a film to the widest run of columns, then to the highest run of rows, that are not plain background.

    Columns are judged by the middle four fifths of the rows, rows by the middle four fifths of the columns left. As
    published, a run that touches an edge counts for one less, and runs of the same length are all kept.

    Args:
        grey: ``(height, width)`` uint8.

    Returns:
        ``(h, w)`` uint8, a part of ``grey``.
    """
    marked = np.where(grey <= _BACKGROUND, 0, grey)
    middle, reach = len(marked) // 2, int(len(marked) * 0.4)
    columns = _longest(np.ptp(marked[middle - reach : middle + reach], axis=0) if reach else np.ones(grey.shape[1]))
    marked = marked[:, columns]
    middle, reach = marked.shape[1] // 2, int(marked.shape[1] * 0.4)
    rows = _longest(np.ptp(marked[:, middle - reach : middle + reach], axis=1) if reach else np.ones(len(grey)))
    return grey[rows][:, columns]


def _longest(varies: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return the places of the longest run of nonzero values; of all of them where none is nonzero."""
    places = np.arange(len(varies))
    plain = varies == 0
    before = np.maximum.accumulate(np.where(plain, places, 0))
    after = np.minimum.accumulate(np.where(plain, places, len(varies) - 1)[::-1])[::-1]
    length = after - before - 1
    return np.flatnonzero(length == length.max())


def resize_area(grey: Grey, height: int, width: int) -> Grey:
    """Resize by areas, as OpenCV's ``INTER_AREA`` does.

    Where neither side grows, a new pixel is the mean of the old ones under it, weighted by how much of each it covers.
    Where one grows, each new pixel is between two old ones on either axis, in fixed point.

    Args:
        grey: ``(h, w)`` uint8.
        height: of the result.
        width: of the result.

    Returns:
        ``(height, width)`` uint8.
    """
    h, w = grey.shape
    if h >= height and w >= width:
        means = _overlaps(h, height) @ grey.astype(np.float64) @ _overlaps(w, width).T
        halves = (h, w) == (2 * height, 2 * width)  # a shortcut there, that rounds halves up and not to even
        return (np.floor(means + 0.5) if halves else np.rint(means)).astype(np.uint8)
    first, second, near, far = _taps(w, width)
    wide = grey.astype(np.int64)
    wide = (wide[:, first] * near + wide[:, second] * far) >> 4
    first, second, near, far = _taps(h, height)
    high = ((wide[first] * near[:, None]) >> 16) + ((wide[second] * far[:, None]) >> 16)
    return ((high + 2) >> 2).astype(np.uint8)


def _overlaps(n_in: int, n_out: int) -> NDArray[np.float64]:
    """Return ``(n_out, n_in)``: which share of each new pixel lies over each old one."""
    edges, left = np.arange(n_out + 1) * (n_in / n_out), np.arange(n_in)
    lengths = np.minimum(edges[1:, None], left + 1) - np.maximum(edges[:-1, None], left)
    shares: NDArray[np.float64] = np.maximum(lengths, 0.0) * (n_out / n_in)
    return shares


def _taps(n_in: int, n_out: int) -> tuple[NDArray[np.int64], ...]:
    """Return, for each new pixel, the two old ones it lies between, and their weights in 2048ths."""
    inverse, place = n_out / n_in, np.arange(n_out)
    first = np.floor(place * (1 / inverse)).astype(np.int64)
    share = ((place + 1) - (first + 1) * inverse).astype(np.float32)
    share = np.where((share <= 0) | (first >= n_in - 1), np.float32(0), share - np.floor(share))
    second = np.minimum(first + 1, n_in - 1)
    near, far = (np.rint(part * _ONE).astype(np.int64) for part in (1 - share, share))
    return first, second, near, far
