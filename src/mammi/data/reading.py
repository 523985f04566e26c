"""One file in, one ``Film`` out; anything that goes wrong is one ``ImageError`` of one line."""

import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from mammi.data.capture_warnings import caught_warnings
from mammi.data.dicom import decode_dicom
from mammi.data.raster import MAX_PIXELS, decode_raster
from mammi.errors import ImageError, MissingExtraError
from mammi.types import Film

__all__ = ["DICOM_SUFFIXES", "IMAGE_SUFFIXES", "is_dicom", "read_film", "read_film_bytes"]

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"}) | DICOM_SUFFIXES


def is_dicom(head: bytes) -> bool:
    """Return whether a file that starts with ``head`` (132 bytes or more) is DICOM: PS3.10 section 7.1."""
    return head[128:132] == b"DICM"


def read_film(path: str | Path, *, frame: int | None = None) -> Film:
    """Decode one image file: PNG, JPEG, TIFF or DICOM, told apart by content.

    ``mammi.data.raster`` and ``mammi.data.dicom`` state what is made of each kind of picture. What a library warns
    of while decoding, and damage that leaves the picture whole, is in ``Film.warnings``; Python's own warnings are
    not raised. Safe to call from several threads.

    Args:
        path: the file.
        frame: which picture of a file that holds several, from 0; ``None`` if it holds one.

    Returns:
        The film, float32 in [0, 1], ``(height, width)`` or ``(height, width, 3)``.

    Raises:
        ImageError: if there is no such file, it cannot be decoded, part of its picture is missing, or it holds
            several pictures and ``frame`` does not choose one. One line: the file's name, the reason, what to do.
        MissingExtraError: if the file is DICOM and pydicom is not installed.
    """
    path = Path(path)
    film, caught = _guarded(lambda: _decode_file(path, frame), f"Film {path.name!r}", _reason)
    notes = tuple(dict.fromkeys((*film.warnings, *(text.replace(str(path), path.name) for text in caught))))
    return replace(film, warnings=notes)


def read_film_bytes(data: bytes, *, frame: int | None = None, max_pixels: int = MAX_PIXELS) -> Film:
    """Decode one image file that lies in memory, as `read_film` does one on disk; nothing is written anywhere.

    Made for files from strangers: limits hold before anything of that size is allocated, and messages and warnings
    quote nothing of the header but what it says of the pixels.

    Args:
        data: the whole file.
        frame: as in `read_film`.
        max_pixels: films of more pixels are refused by their header.

    Raises:
        ImageError: as in `read_film`.
        MissingExtraError: if the file is DICOM and pydicom is not installed.
    """
    film, caught = _guarded(lambda: _decode_bytes(data, frame, max_pixels), "The film", partial(_reason, quote=False))
    odd = f"its decoder warned of it ({len(set(caught))} times)"
    return replace(film, warnings=(*film.warnings, odd)) if caught else film


def _guarded(decode: Callable[[], Film], what: str, reason: Callable[[Exception], str]) -> tuple[Film, list[str]]:
    """Return a film and what libraries warned of; turn anything that goes wrong into one ImageError."""
    try:
        with caught_warnings() as caught:
            return decode(), caught
    except MissingExtraError:
        raise
    except ImageError as error:
        raise ImageError(_message(what, str(error), caught)) from error
    # Decoders meet hostile bytes here and raise anything from struct.error to RecursionError; a run must outlive it.
    except Exception as error:
        raise ImageError(_message(what, reason(error), caught)) from error


def _decode_file(path: Path, frame: int | None) -> Film:
    if path.is_dir():
        raise ImageError("it is a folder: give a file")
    with path.open("rb") as file:
        head = file.read(132)
        if is_dicom(head):
            file.seek(0)
            return decode_dicom(file, frame=frame)
        if (
            path.suffix.lower() in DICOM_SUFFIXES
            and head
            and not head.startswith((b"\x89PNG", b"\xff\xd8", b"II", b"MM"))
        ):
            raise ImageError(
                "it has no 'DICM' mark at byte 128, so it is not a DICOM file or has lost its header: "
                "export it again as DICOM (Part 10), or leave it out"
            )
        return _decode_bytes(head + file.read(), frame, MAX_PIXELS)


def _decode_bytes(data: bytes, frame: int | None, max_pixels: int) -> Film:
    if not data:
        raise ImageError("it is empty (0 bytes): copy it again from its source")
    if is_dicom(data[:132]):
        return decode_dicom(io.BytesIO(data), frame=frame, max_pixels=max_pixels)
    return decode_raster(data, frame=frame, max_pixels=max_pixels)


def _reason(error: Exception, *, quote: bool = True) -> str:
    """Say in words what a decoder meant; in its own words too, which may quote the file, if ``quote``."""
    kind, text = type(error).__name__, " ".join(str(error).split())
    if isinstance(error, FileNotFoundError):
        return "there is no such file: check the path"
    if isinstance(error, PermissionError):
        return "it may not be read: check its permissions"
    if kind == "UnidentifiedImageError":
        return "its content is none of PNG, JPEG, TIFF and DICOM, or its header is damaged: convert it or leave it out"
    if isinstance(error, MemoryError) or kind == "DecompressionBombError":
        return "its header asks for more memory than a film can need: leave it out"
    if "truncated" in text:
        return f"its data ends early{f' ({text})' if quote else ''}: copy it again from its source"
    said = f"{kind}: {text[:200]}" if quote else kind
    return f"decoding failed ({said}): copy it again from its source, or leave it out"


def _message(what: str, reason: str, caught: list[str]) -> str:
    if "no pixel data" in reason and any("End of file" in text for text in caught):
        reason = "it is cut off: the file ends before or inside its pixel data; copy it again from its source"
    return f"{what} cannot be read: {reason[:600]}"  # a header may hold a word of a million letters
