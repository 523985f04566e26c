"""Finding films that are the same picture under two names."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mammi.data.display import brightness
from mammi.types import Film

__all__ = ["identical_pixels", "pixel_fingerprint"]


def pixel_fingerprint(film: Film) -> str:
    """Return the SHA-256 over shape and pixels of a film, 64 hex digits.

    Two files share it exactly when they show the same picture, whatever their format, name and header.

    Example:
        >>> picture = np.zeros((2, 3), np.float32)
        >>> pixel_fingerprint(Film(picture)) == pixel_fingerprint(Film(picture.copy(), bits=16))
        True
    """
    digest = hashlib.sha256(f"{film.pixels.shape}|".encode())
    levels = film.levels if film.levels is not None else _levels(film.pixels)
    if levels is not None:  # a quarter of the bytes, and most films have no more levels than that
        digest.update(np.ascontiguousarray(levels).data)
    else:
        # "+ 0" turns a negative zero into zero: equal numbers, equal bytes; "<f4" gives one answer on every machine
        digest.update(np.ascontiguousarray(film.pixels + np.float32(0), "<f4").data)
    return digest.hexdigest()


def _levels(pixels: NDArray[np.float32]) -> NDArray[np.uint8] | None:
    """Return a picture in 8 bits if it is one, whatever its file was."""
    with np.errstate(invalid="ignore"):  # what is no number is no level, and is found unequal below
        levels = np.rint(pixels * 255).astype(np.uint8)
    return levels if np.array_equal(brightness(levels), pixels) else None


def identical_pixels(fingerprints: Sequence[str | None]) -> list[list[int]]:
    """Return the groups of rows that share a fingerprint.

    Args:
        fingerprints: one a film; ``None`` for a film that could not be read, which equals nothing.

    Returns:
        Lists of two or more rows, each rising, ordered by their first row.

    Example:
        >>> identical_pixels(["a", "b", "a", None, None])
        [[0, 2]]
    """
    groups: dict[str, list[int]] = {}
    for row, fingerprint in enumerate(fingerprints):
        if fingerprint is not None:
            groups.setdefault(fingerprint, []).append(row)
    return [rows for rows in groups.values() if len(rows) > 1]
