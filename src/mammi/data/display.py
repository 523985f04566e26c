"""From stored numbers to brightness: the grey-scale functions of DICOM and plain scaling, as pure functions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammi.errors import InputError

__all__ = ["brightness", "collapse_grey", "lookup", "scale_range", "window"]

Values = NDArray[Any]


def scale_range(values: Values, low: float, high: float) -> NDArray[np.float32]:
    """Map ``low`` to 0 and ``high`` to 1, linearly, and clip what lies outside.

    Args:
        values: any shape, any real dtype.
        low: the value shown black.
        high: the value shown white; when it is not above ``low`` there is nothing to tell apart and all is black.

    Returns:
        float32 in [0, 1], the shape of ``values``.

    Example:
        >>> scale_range(np.array([0, 5, 20]), 0, 10).tolist()
        [0.0, 0.5, 1.0]
    """
    if not high > low:
        return np.zeros(values.shape, np.float32)
    # float32 holds every 16-bit number exactly; 32-bit and floating sources need the wider type before subtraction.
    wide: NDArray[Any] = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    np.subtract(wide, low, out=wide)
    np.divide(wide, high - low, out=wide)
    return np.clip(wide, 0, 1, out=wide).astype(np.float32, copy=False)


def brightness(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return ``levels / 255`` as `scale_range` gives it, in one pass and without a copy in between."""
    shown: NDArray[np.float32] = np.divide(levels, np.float32(255), dtype=np.float32)
    return shown


def window(values: Values, center: float, width: float, function: str = "LINEAR") -> NDArray[np.float32]:
    r"""Apply a value-of-interest window, PS3.3 C.11.2.1.2.

    ``LINEAR`` (C.11.2.1.2.1): :math:`y = (x - (c - 0.5)) / (w - 1) + 0.5`;
    ``LINEAR_EXACT`` (C.11.2.1.3.2): :math:`y = (x - c) / w + 0.5`;
    ``SIGMOID`` (C.11.2.1.3.1): :math:`y = 1 / (1 + \exp(-4 (x - c) / w))`; the first two are clipped to [0, 1].

    Args:
        values: values after the modality transformation (for example Hounsfield units), any shape.
        center: the window's centre ``c``, in the unit of ``values``.
        width: the window's width ``w``; at least 1 for ``LINEAR``, above 0 for the others.
        function: ``"LINEAR"``, ``"LINEAR_EXACT"`` or ``"SIGMOID"``.

    Returns:
        float32 in [0, 1], the shape of ``values``.

    Raises:
        InputError: if the width is out of range, a number is not finite, or the function is not one of the three.

    Example:
        >>> window(np.array([-100, 39.5, 200]), center=40, width=101).tolist()
        [0.0, 0.5, 1.0]
    """
    if not (np.isfinite(center) and np.isfinite(width)):
        raise InputError(f"window centre and width must be finite, got {center} and {width}")
    smallest = 1 if function == "LINEAR" else 0
    if width < smallest or (width == 0 and function != "LINEAR"):
        bound = "at least 1" if function == "LINEAR" else "above 0"
        raise InputError(f"window width must be {bound} for {function}, got {width:g}")
    wide = values.astype(np.float64)
    if function == "LINEAR":
        if width == 1:  # the formula's limit: a step at c - 0.5
            return (wide > center - 0.5).astype(np.float32)
        shown = (wide - (center - 0.5)) / (width - 1) + 0.5
    elif function == "LINEAR_EXACT":
        shown = (wide - center) / width + 0.5
    elif function == "SIGMOID":
        # far outside the window the exponential would overflow; beyond 60 its result is 0 or 1 in float32 anyway
        shown = 1 / (1 + np.exp(np.clip(-4 * (wide - center) / width, -60, 60)))
    else:
        raise InputError(f"window function must be LINEAR, LINEAR_EXACT or SIGMOID, got {function!r}")
    return np.clip(shown, 0, 1).astype(np.float32)


def lookup(values: Values, first: int, table: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """Look values up in a table, PS3.3 C.11.1.1 and C.11.2.1.1.

    Args:
        values: any shape; integers, or floating values that are rounded to the nearest integer.
        first: the value that maps to the first entry; lower values map there too.
        table: the entries, ``(n_entries,)``; values beyond the last entry map to the last.

    Returns:
        Entries of ``table``, its dtype, the shape of ``values``.

    Example:
        >>> lookup(np.array([-9, 10, 11, 99]), 10, np.array([5, 6, 7])).tolist()
        [5, 5, 6, 7]
    """
    index = np.rint(values) if values.dtype.kind == "f" else values.astype(np.int64)
    found: NDArray[np.integer[Any]] = table[np.clip(index - first, 0, len(table) - 1).astype(np.int64)]
    return found


def collapse_grey(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return ``(height, width)`` for a colour picture whose three channels are identical, else ``pixels`` itself.

    Many archives store grey films as RGB; without this one film would have two fingerprints.
    """
    if pixels.ndim == 3 and (pixels[..., :1] == pixels[..., 1:]).all():
        return np.ascontiguousarray(pixels[..., 0])
    return pixels
