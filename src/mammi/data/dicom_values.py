"""DICOM's path from stored values to brightness: modality, value of interest, padding, palettes (PS3.4 N.2)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammi.data.display import lookup, scale_range, window
from mammi.errors import ImageError, InputError
from mammi.registry import import_extra

__all__ = ["grey_pixels", "padding_mask", "palette_pixels"]


def _group(ds: Any, index: int, name: str) -> Any:  # noqa: ANN401
    """Return the data set that holds a functional group's values for one frame; the file's own if there is none."""
    for groups, item in (("PerFrameFunctionalGroupsSequence", index), ("SharedFunctionalGroupsSequence", 0)):
        sequence = ds.get(groups)
        if sequence and item < len(sequence) and sequence[item].get(name):
            return sequence[item][name].value[0]
    return ds


def grey_pixels(ds: Any, index: int, stored: NDArray[Any], notes: list[str]) -> NDArray[np.float32]:  # noqa: ANN401
    """Take stored values through the modality and value-of-interest transformations to [0, 1]."""
    little = bool(ds.file_meta.TransferSyntaxUID.is_little_endian)
    values, full = _modality(ds, _group(ds, index, "PixelValueTransformationSequence"), stored, notes, little)
    voi = _group(ds, index, "FrameVOILUTSequence")
    if voi.get("VOILUTSequence"):
        first, table, bits = _table(voi.VOILUTSequence[0], signed=_negative(values), little=little)
        return scale_range(lookup(values, first, table), 0, 2**bits - 1)
    center, width = _number(voi, "WindowCenter", notes), _number(voi, "WindowWidth", notes)
    if center is not None and width is not None:
        function = str(voi.get("VOILUTFunction") or "LINEAR").strip().upper()
        if function == "LINEAR" and stored.dtype.kind == "f":
            # LINEAR counts whole grey levels (its "- 0.5" and "- 1"); of values between 0 and 1 it leaves two.
            function = "LINEAR_EXACT"
            notes.append("its LINEAR window was taken as LINEAR_EXACT, for its values are floating point")
        try:
            return window(values, center, width, function)
        except InputError as error:
            # A header may hold anything: its word is not repeated.
            known = function in ("LINEAR", "LINEAR_EXACT", "SIGMOID")
            notes.append(f"{error if known else 'the function of its window is not known'}: it was left out")
    if full is not None:
        return scale_range(values, *full)
    seen = np.isfinite(values)
    padding = padding_mask(ds, stored)
    if padding is not None:
        seen &= ~padding
    if not seen.any():
        raise ImageError("all its pixels are padding, NaN or infinite: there is no picture; leave it out")
    low, high = float(values[seen].min()), float(values[seen].max())
    notes.append(f"no window: shown from its lowest ({low:g}) to its highest value ({high:g})")
    return scale_range(np.where(seen, values, low), low, high)


def _modality(
    ds: Any,  # noqa: ANN401
    group: Any,  # noqa: ANN401
    stored: NDArray[Any],
    notes: list[str],
    little: bool,
) -> tuple[NDArray[Any], tuple[float, float] | None]:
    """Return values in the modality's unit, and up to 8 bits also the range those bits allow."""
    bits = int(ds.get("BitsStored") or ds.BitsAllocated)
    signed = stored.dtype.kind == "i"
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    if ds.get("ModalityLUTSequence"):
        first, table, lut_bits = _table(ds.ModalityLUTSequence[0], signed=signed, little=little)
        return lookup(stored, first, table), (0.0, 2.0**lut_bits - 1) if lut_bits <= 8 else None
    slope, intercept = _number(group, "RescaleSlope", notes), _number(group, "RescaleIntercept", notes)
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if slope == 0:
        notes.append("a rescale slope of 0 was left out")
        slope = 1.0
    full = sorted((low * slope + intercept, high * slope + intercept))
    values = stored if slope == 1 and intercept == 0 else stored.astype(np.float64) * slope + intercept
    return values, (full[0], full[1]) if bits <= 8 and stored.dtype.kind != "f" else None


def _negative(values: NDArray[Any]) -> bool:
    """Return whether a VOI LUT's first mapped value may be negative: PS3.3 C.11.2.1.1 leaves it to its input."""
    return bool(values.size and values.min() < 0)


def _table(item: Any, *, signed: bool, little: bool) -> tuple[int, NDArray[np.integer[Any]], int]:  # noqa: ANN401
    """Return a LUT's first mapped value, its entries and their bits (PS3.3 C.11.1.1, C.11.2.1.1)."""
    n_entries, first, bits = (int(value) for value in item.LUTDescriptor)
    n_entries = n_entries or 2**16  # 0 stands for 65536
    if signed and first >= 2**15:  # written as unsigned where the input is signed
        first -= 2**16
    data = item.LUTData
    if isinstance(data, bytes):
        # 8-bit entries are packed two to a word
        kind = np.uint8 if len(data) < 2 * n_entries else np.dtype("<u2" if little else ">u2")
        table = np.frombuffer(data, kind)[:n_entries]
    else:
        table = np.atleast_1d(np.asarray(data)).astype(np.int64)[:n_entries] & 0xFFFF
    if len(table) < n_entries:
        raise ImageError(f"a LUT of its header has {len(table)} entries, its descriptor promises {n_entries}")
    return first, np.asarray(table, np.int64), bits


def _number(ds: Any, name: str, notes: list[str]) -> float | None:  # noqa: ANN401
    """Return the first value of an element as a finite number; ``None`` if it is absent or no number."""
    try:
        value = ds.get(name)
        if value is None or value == "":
            return None
        number = float(value if np.isscalar(value) or not hasattr(value, "__len__") else value[0])
    except (TypeError, ValueError, IndexError):
        notes.append(f"its {name} is not a number and was left out")
        return None
    return number if np.isfinite(number) else None


def padding_mask(ds: Any, stored: NDArray[Any]) -> NDArray[np.bool_] | None:  # noqa: ANN401
    """Return where the picture is padding, PS3.3 C.7.5.1.1.2; ``None`` without any."""
    value = ds.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = ds.get("PixelPaddingRangeLimit")
    ends = sorted((value, limit if isinstance(limit, int) else value))
    padding = (stored >= ends[0]) & (stored <= ends[1])
    return padding if padding.any() else None


def palette_pixels(ds: Any, stored: NDArray[Any], notes: list[str]) -> tuple[NDArray[np.float32], int]:  # noqa: ANN401
    """Look a palette picture up, PS3.3 C.7.9."""
    colours: NDArray[Any] = import_extra("pydicom.pixels", "dicom").apply_color_lut(stored, ds)[..., :3]
    bits = 8 * colours.dtype.itemsize
    if bits == 16 and not (colours & 0xFF).any():  # 8-bit colours in the upper byte, as C.7.6.3.1.6 describes
        colours, bits = colours >> 8, 8
    elif bits == 16 and colours.max() <= 255:
        notes.append("its palette states 16 bits and uses 8")
        bits = 8
    return scale_range(colours, 0, 2**bits - 1), bits
