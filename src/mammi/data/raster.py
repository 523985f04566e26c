"""PNG, JPEG and TIFF: from bytes to a ``Film``, at the depth they were stored in.

What is made of each kind of picture:

* grey stays grey; colour whose three channels are identical becomes grey; palettes are looked up;
* 8 bits are divided by 255, 12-bit TIFF by 4095, 16 bits by 65535, in colour too (Pillow alone would drop to 8 bits);
* floating-point TIFF within [0, 1] is taken as it is, any other (and 32-bit integers) from its lowest to its highest
  value, with a warning;
* see-through pixels are laid on black, with a warning;
* TIFF whose 0 is white (``PhotometricInterpretation`` 0) is turned over; an EXIF orientation is carried out.
"""

import io
import struct
import sys
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mammi.data.display import brightness, collapse_grey, scale_range
from mammi.data.streams import StreamCheck, check_jpeg, check_png, close_jpeg, refuse_many_scans
from mammi.errors import ImageError
from mammi.types import Film

__all__ = ["MAX_PIXELS", "decode_raster"]

#: Films of more pixels are refused before any is decoded: a film has 5 to 30 million, a hostile header billions.
MAX_PIXELS = 120_000_000
_FORMATS = ("PNG", "JPEG", "TIFF")  # by the JPEG reader also MPO; no format that runs programs
_PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC = 0x0112, 258, 262


def decode_raster(data: bytes, *, frame: int | None = None, max_pixels: int = MAX_PIXELS) -> Film:
    """Decode the bytes of a PNG, JPEG or TIFF file, whatever the file is called.

    Args:
        data: the whole file.
        frame: page of a multi-page TIFF or picture of an animated PNG, from 0; needed when there are several.
        max_pixels: pictures of more pixels are refused by their header.

    Returns:
        The film; ``warnings`` names oddities of the file.

    Raises:
        ImageError: if the file is damaged, too large, or several pages leave a choice.
        Exception: whatever Pillow raises for bytes it does not understand; ``read_film`` turns it into an ImageError.
    """
    if data.startswith(_PNG) and len(data) > 33:
        width, height = struct.unpack_from(">II", data, 16)
        _refuse_large(width, height, max_pixels)
    if data.startswith(b"\xff\xd8"):
        refuse_many_scans(data)
    if data.startswith(_PNG) and len(data) > 33 and data[24] == 16 and data[25] == 4:
        film = _grey16_with_alpha(data)
        return _with_check(film, check_png(data))
    notes: list[str] = []
    source = close_jpeg(data) if data.startswith(b"\xff\xd8") else data
    with Image.open(io.BytesIO(source), formats=_FORMATS) as opened:
        image: Image.Image = opened
        _seek(image, frame)
        _refuse_large(*image.size, max_pixels)  # pages may differ in size
        photometric_0 = image.format == "TIFF" and _tiff_tag(image, _PHOTOMETRIC) == 0
        bits = _bits(image)
        low = _low_bytes(data, frame) if bits == 16 and image.mode in ("RGB", "RGBA") else None
        image.load()
        check = check_jpeg(data) if data.startswith(b"\xff\xd8") else StreamCheck()
        if check.lost:
            raise ImageError(check.lost)
        image = _upright(image, notes)
        levels = None
        if low is not None:
            wide = np.asarray(image).astype(np.uint16) << 8 | low
            pixels = _lay_on_black(scale_range(wide, 0, 65535), notes)
        elif image.mode == "L" and not image.has_transparency_data:  # what nearly every film is
            levels = np.asarray(image)
            pixels = brightness(levels)
        else:
            pixels = _pixels(image, bits, notes)
        if photometric_0 and image.mode not in ("1", "L", "P"):  # Pillow turns over only up to 8 bits
            pixels = 1 - pixels
    film = Film(np.ascontiguousarray(collapse_grey(pixels)), bits, tuple(notes), levels)
    if data.startswith(_PNG):
        check = check_png(data, last_row_black=not film.pixels[-1].any())
    return _with_check(film, check)


def _refuse_large(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(f"it is {width} x {height} pixels, more than the {max_pixels:,} a film may have")


def _with_check(film: Film, check: StreamCheck) -> Film:
    if check.lost:
        raise ImageError(check.lost)
    return replace(film, warnings=film.warnings + check.odd) if check.odd else film


def _seek(image: Image.Image, frame: int | None) -> None:
    """Go to ``frame``, or make sure that there is nothing to choose."""
    # An MPO is a JPEG with further views (mostly a thumbnail) behind the first: the first is the film.
    n_frames = 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
    if frame is None and n_frames > 1:
        raise ImageError(f"it holds {n_frames} pages: choose one with frame=0 to frame={n_frames - 1}")
    if frame is not None and not 0 <= frame < n_frames:
        raise ImageError(f"frame {frame} does not exist: it holds {n_frames}, counted from 0")
    if frame:
        image.seek(frame)


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    """Carry out an EXIF orientation (Pillow has done so for TIFF)."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # noqa: BLE001 - EXIF is written by cameras; damage there says nothing about the picture
        notes.append(f"its EXIF data is damaged and was left out ({type(error).__name__})")
        return image


def _tiff_tag(image: Image.Image, tag: int) -> Any:  # noqa: ANN401 - TIFF tags hold anything
    return image.tag_v2.get(tag) if hasattr(image, "tag_v2") else None


def _bits(image: Image.Image) -> int:
    """Return the bits per sample stored, which Pillow's mode does not tell for 16-bit colour and 12-bit grey."""
    stored = _tiff_tag(image, _BITS_PER_SAMPLE)
    if stored:
        return int(max(stored))
    tiles = getattr(image, "tile", None)
    rawmode = tiles[0][3] if tiles else ""
    if "16" in str(rawmode) or image.mode.startswith("I;16"):
        return 16
    return {"1": 1, "I": 16, "F": 32}.get(image.mode, 8)


def _low_bytes(data: bytes, frame: int | None) -> NDArray[np.uint16]:
    """Return the low bytes of a 16-bit colour picture.

    Pillow keeps the high byte of each sample only. Decoded once more with the byte order exchanged, the low bytes
    stand where the high ones were.
    """
    native = ";16B" if sys.byteorder == "little" else ";16L"
    swap = {";16B": ";16L", ";16L": ";16B", ";16N": native}
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        _seek(image, frame)
        tiles = []
        for name, extents, offset, args in image.tile:
            rawmode = args if isinstance(args, str) else str(args[0] if args else "")
            ending = rawmode[-4:]
            if ending not in swap:
                raise ImageError(f"16-bit colour stored as {rawmode!r} would lose half its bits: save it as 16-bit PNG")
            turned = rawmode[:-4] + swap[ending]
            tiles.append((name, extents, offset, turned if isinstance(args, str) else (turned, *(args or ())[1:])))
        image.tile = [type(image.tile[0])(*tile) for tile in tiles]
        return np.asarray(_upright(image, [])).astype(np.uint16)


def _grey16_with_alpha(data: bytes) -> Film:
    """Decode a 16-bit grey PNG with alpha, which Pillow would drop to 8 bits.

    Its pixel is four bytes, like that of 8-bit RGBA, so with the header saying so the four channels come out as the
    high and low bytes of grey and of alpha.
    """
    header = b"IHDR" + data[16:24] + b"\x08\x06" + data[26:29]
    relabelled = data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
    with Image.open(io.BytesIO(relabelled), formats=("PNG",)) as image:
        parts = np.asarray(image).astype(np.uint16)
    notes: list[str] = []
    pair = scale_range(parts[..., 0::2] << 8 | parts[..., 1::2], 0, 65535)
    return Film(_lay_on_black(pair, notes)[..., 0], 16, tuple(notes))


def _pixels(image: Image.Image, bits: int, notes: list[str]) -> NDArray[np.float32]:
    """Return the picture as float32 in [0, 1], (h, w) or (h, w, 3)."""
    mode = image.mode
    if mode.startswith("I;16"):
        if image.info.get("transparency") is not None:
            notes.append("a see-through grey level is shown as it is")
        return scale_range(np.asarray(image), 0, 2**bits - 1)
    if mode in ("I", "F"):
        return _number_pixels(np.asarray(image), notes)
    if mode in ("LA", "La", "PA", "RGBa") or image.has_transparency_data:
        image = image.convert("LA" if mode in ("1", "L", "LA", "La") else "RGBA")
    elif mode == "1":
        image = image.convert("L")
    elif mode not in ("L", "RGB"):
        image = image.convert("RGB")
    pixels = scale_range(np.asarray(image), 0, 255)
    if image.mode in ("LA", "RGBA"):
        pixels = _lay_on_black(pixels, notes)
        return pixels[..., 0] if image.mode == "LA" else pixels
    return pixels


def _lay_on_black(pixels: NDArray[np.float32], notes: list[str]) -> NDArray[np.float32]:
    """Take the alpha channel (the last of 2 or 4) away by laying the picture on black."""
    if pixels.shape[-1] == 3:
        return pixels
    alpha = pixels[..., -1:]
    if (alpha < 1).any():
        notes.append("see-through pixels were laid on black")
    return pixels[..., :-1] * alpha


def _number_pixels(values: NDArray[Any], notes: list[str]) -> NDArray[np.float32]:
    """Scale 32-bit integers and floating point, whose black and white are not stated anywhere."""
    finite = np.isfinite(values)
    if not finite.any():
        raise ImageError("all its pixels are NaN or infinite")
    if not finite.all():
        notes.append(f"{int((~finite).sum())} pixels are NaN or infinite and shown black")
    low, high = float(values[finite].min()), float(values[finite].max())
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    else:
        notes.append(f"black and white are not stated: shown from its lowest ({low:g}) to its highest value ({high:g})")
    return scale_range(np.where(finite, values, low), low, high)
