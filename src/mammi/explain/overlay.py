"""A film with one map on it, and in words what it shows: a picture that still says what it is when it is copied."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation, binary_erosion

from mammi.errors import InputError
from mammi.functional.pointing import SHARE, strongest
from mammi.types import Film, UnitId

__all__ = ["AGAINST", "FOR", "overlay"]

#: Longest side of a picture, in pixels.
SIDE = 512
#: Colours that all common kinds of colour vision tell apart (Okabe and Ito, 2008), and from grey.
FOR, AGAINST = (230, 159, 0), (86, 180, 233)
#: Opacity of the colour where the map is strongest.
OPACITY = 0.55
#: Narrower pictures would cut the words.
MIN_WIDTH = 256
_BACK, _TEXT, _QUIET = (18, 18, 20), (255, 255, 255), (200, 200, 205)
_MARGIN = 6
#: Room for words above and below the film.
_TOP, _BOTTOM = 54, 38


def overlay(
    film: Film,
    values: NDArray[np.floating],
    *,
    name: str,
    value: float,
    unit: UnitId | None = None,
    meaning: str = "activation",
    key: str = "orange: above 0, blue: below",
    share: float = SHARE,
    scale: float | None = None,
) -> bytes:
    """Draw where a map is strong on a film.

    The colour is orange where the map is above 0 and blue where it is below, the more opaque the larger; the line runs
    around the ``share`` of the film where the map is largest in size. What the network never saw is dark and hatched.
    A picture of a film is a picture of a patient: draw it only where pictures were asked for.

    Args:
        film: grey or colour, shown in grey.
        values: shape of the film, floating; NaN where it was not seen.
        name: the concept, written on the picture; smaller, then shortened, where it does not fit.
        value: what is said of the film, in words ``meaning``.
        unit: which unit, if it is a unit's map.
        meaning: what ``value`` is, for example ``"activation"`` or ``"contribution"``.
        key: what the colours stand for.
        share: of the film inside the line, in (0, 1).
        scale: the size of map that is drawn strongest, so that several pictures compare; its own largest by default.

    Returns:
        PNG, no side longer than 512 pixels, without metadata.

    Raises:
        InputError: if ``values`` does not have the film's shape, or an option is out of range.
    """
    if values.shape != film.pixels.shape[:2]:
        raise InputError(f"'values' must have the film's shape {film.pixels.shape[:2]}, got {values.shape}")
    if scale is not None and not scale > 0:
        raise InputError(f"'scale' must be above 0, got {scale}")
    sizes = np.abs(values)
    own = float(np.nanmax(sizes)) if np.isfinite(sizes).any() else 0.0
    on = strongest(sizes, share) & (sizes > 0)
    hidden = np.isnan(values)
    seen = "; hatched: not seen" if hidden.any() else ""
    height, width = _fit(film.pixels.shape, SIDE - _TOP - _BOTTOM)
    picture = Image.new("RGB", (max(width, MIN_WIDTH), _TOP + height + _BOTTOM), _BACK)
    layers = _coloured(film, values, on, hidden, scale or own or 1.0, (height, width))
    picture.paste(layers, ((picture.width - width) // 2, _TOP))
    lines = [
        (name, 20, 5, _TEXT),
        ((f"unit {unit}   " if unit is not None else "") + f"{meaning} {value:+.3g}", 14, 31, _TEXT),
        (f"{key}, strongest {max(own, 0):.3g}", 11, picture.height - 32, _QUIET),
        (f"line: strongest {share:.0%} of what was seen{seen}", 11, picture.height - 17, _QUIET),
    ]
    pen = ImageDraw.Draw(picture)
    for text, size, y, colour in lines:
        font, shown = _fitted(text, size, picture.width - 2 * _MARGIN)
        pen.text((_MARGIN, y), shown, fill=colour, font=font)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _fit(shape: tuple[int, ...], height: int) -> tuple[int, int]:
    """Return the size of a film that fits in ``height`` by `SIDE`, in its own proportions; small films grow."""
    scale = min(height / shape[0], SIDE / shape[1])
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _coloured(
    film: Film,
    values: NDArray[np.floating],
    on: NDArray[np.bool_],
    hidden: NDArray[np.bool_],
    scale: float,
    size: tuple[int, int],
) -> Image.Image:
    """Return the film in grey with the map's colour, its line, and what was not seen hatched."""
    height, width = size
    grey = film.to_pil().convert("L").resize((width, height), Image.Resampling.BILINEAR)
    down, right = (((np.arange(n) + 0.5) * of / n).astype(np.int64) for n, of in zip(size, values.shape, strict=True))
    at = np.ix_(down, right)
    here, line, dark = np.nan_to_num(values[at].astype(np.float64)), on[at], hidden[at]
    picture = np.repeat(np.asarray(grey, dtype=np.float64)[:, :, None], 3, axis=2)
    colour = np.where((here < 0)[:, :, None], np.array(AGAINST), np.array(FOR))
    opacity = (OPACITY * np.clip(np.abs(here) / scale, 0, 1))[:, :, None]
    picture += opacity * (colour - picture)
    for side in (here > 0, here < 0):
        rim = line & side
        edge = rim & ~binary_erosion(rim, border_value=1)
        picture[binary_dilation(edge, iterations=2) & ~dark] *= 0.45  # a dark seam: the line shows on bright bone too
        thick = binary_dilation(edge) & side
        picture[thick] = colour[thick]
    rows, columns = np.mgrid[:height, :width]
    picture[dark] *= 0.35
    picture[dark & ((rows + columns) % 12 < 2)] = 110
    return Image.fromarray(np.round(picture).astype(np.uint8))


def _fitted(text: str, size: int, width: int) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, str]:
    """Return a font and as much of a text as fits on one line: smaller first, down to 11 points, then shortened."""
    text = " ".join(text.split())
    font = ImageFont.load_default(size)
    while font.getlength(text) > width and size > 11:
        size -= 1
        font = ImageFont.load_default(size)
    shown = text
    while font.getlength(shown) > width and len(shown) > 1:
        shown = shown.removesuffix("...")[:-1] + "..."
    return font, shown
