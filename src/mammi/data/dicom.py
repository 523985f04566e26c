"""DICOM: from a file to the picture a radiologist's viewer would show first.

The order is that of the standard (PS3.4 N.2): stored values, modality transformation, value of interest, brightness.

* **Modality** (PS3.3 C.11.1): the Modality LUT, else rescale slope and intercept.
* **Value of interest** (C.11.2): the first VOI LUT, else the first window with its function (LINEAR, LINEAR_EXACT,
  SIGMOID). Without either: up to 8 bits, the whole range that the bits allow, so that an 8-bit film equals its PNG;
  above, and for floating point, from this picture's lowest to its highest value, padding left out, with a warning.
* **Brightness**: MONOCHROME1 or a Presentation LUT Shape of INVERSE (C.11.6) is turned over, once: the two state the
  same thing. Padding (C.7.5.1.1.2) is black.
* Values in functional groups of enhanced multi-frame objects (C.7.6.16.2.9 and C.7.6.16.2.10) go before those above.
* **Colour**: palettes are looked up, YBR becomes RGB, each sample divided by the largest its bits allow; three
  identical channels become grey.

Overlays, presentation LUTs, ICC profiles and real-world values are not applied. Nothing is reduced to 8 bits.
"""

import re
import zlib
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mammi.data.dicom_values import grey_pixels, padding_mask, palette_pixels
from mammi.data.display import collapse_grey, scale_range
from mammi.data.raster import MAX_PIXELS
from mammi.data.streams import StreamCheck, check_j2k, check_jpeg, j2k_header, jpeg_size, refuse_many_scans
from mammi.errors import ImageError
from mammi.registry import import_extra
from mammi.types import Film

__all__ = ["decode_dicom", "read_tags"]

_DEFLATED = "1.2.840.10008.1.2.1.99"
_JPEG = "1.2.840.10008.1.2.4."
_JPEG_DCT = {_JPEG + "50", _JPEG + "51"}
_JPEG_OTHER = {_JPEG + "57", _JPEG + "70", _JPEG + "80", _JPEG + "81"}
_J2K = {_JPEG + end for end in ("90", "91", "92", "93", "201", "202", "203")}
#: A deflated data set may inflate to this many bytes at most where films may have MAX_PIXELS, less where they may have
#: fewer; 1 kB of zeros can claim a thousand times its size.
_MAX_INFLATED = 2**30


def decode_dicom(file: BinaryIO, *, frame: int | None = None, max_pixels: int = MAX_PIXELS) -> Film:
    """Decode one picture of a DICOM file, as the module's text lays down.

    Args:
        file: opened for reading, at its start.
        frame: which frame, from 0; needed when there are several.
        max_pixels: pictures of more pixels are refused by their header.

    Raises:
        ImageError: if there is no picture, it is damaged or too large, or several frames leave a choice.
        MissingExtraError: if pydicom is not installed.
        Exception: what pydicom and its decoders raise; ``read_film`` turns it into an ImageError.
    """
    pydicom = import_extra("pydicom", "dicom")
    ds = pydicom.dcmread(_BoundedInflation(file, _MAX_INFLATED * max_pixels // MAX_PIXELS))
    notes: list[str] = []
    index, n_frames = _frame(ds, frame, max_pixels)
    stored = _stored(ds, index, n_frames, notes)
    kind = str(ds.PhotometricInterpretation)
    if kind in ("MONOCHROME1", "MONOCHROME2"):
        pixels = grey_pixels(ds, index, stored, notes)
        inverse = kind == "MONOCHROME1" or ds.get("PresentationLUTShape") == "INVERSE"
        if inverse:
            pixels = 1 - pixels
        padding = padding_mask(ds, stored)
        if padding is not None:
            pixels[padding] = 0
        bits = int(ds.get("BitsStored") or ds.BitsAllocated)
        if stored.size and stored.min() != stored.max() and pixels.min() == pixels.max():
            notes.append("the window or LUT leaves one single brightness")
    elif kind == "PALETTE COLOR":
        pixels, bits = palette_pixels(ds, stored, notes)
    elif kind == "RGB" or kind.startswith("YBR_"):
        bits = int(ds.BitsStored)
        pixels = scale_range(stored, 0, 2**bits - 1)
    else:
        raise ImageError(f"its Photometric Interpretation {kind!r} is not known: convert it to MONOCHROME2 or RGB")
    return Film(np.ascontiguousarray(collapse_grey(pixels)), bits, tuple(notes))


def read_tags(file: BinaryIO, names: tuple[str, ...]) -> dict[str, str]:
    """Read elements of a DICOM header by keyword, without the pixels; those that are absent are ``""``.

    Raises:
        MissingExtraError: if pydicom is not installed.
        Exception: what pydicom raises for a damaged header.
    """
    pydicom = import_extra("pydicom", "dicom")
    bounded = _BoundedInflation(file, _MAX_INFLATED)
    ds = pydicom.dcmread(bounded, stop_before_pixels=True, specific_tags=list(names))
    values = {name: ds.get(name) for name in names}
    return {name: "" if value is None else str(value).strip() for name, value in values.items()}


class _BoundedInflation:
    """A file that makes sure, before pydicom inflates a deflated data set, that it inflates to a bounded size.

    Where a deflated data set starts is for pydicom to find out: its idea of a header that lies is the one that counts.
    It then reads all the rest in one go, and it does so for no other reason.
    """

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file = file
        self._limit = limit
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if size < 0:
            self._refuse_bomb(data)
        return data

    def _refuse_bomb(self, data: bytes) -> None:
        inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        for start in range(0, len(data), 2**16):
            piece = data[start : start + 2**16]
            while piece and size <= self._limit and not inflate.eof:
                size += len(inflate.decompress(piece, 2**20))
                piece = inflate.unconsumed_tail
        if size > self._limit:
            raise ImageError(
                f"its deflated data grows beyond {self._limit / 2**20:.0f} MiB, far more than a film needs: leave it out"
            )


def _frame(ds: Any, frame: int | None, max_pixels: int) -> tuple[int, int]:  # noqa: ANN401 - pydicom's Dataset, imported lazily
    """Return the frame to decode and how many there are, after looking whether there is a picture at all."""
    if not any(name in ds for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        kind = str(ds.get("Modality") or "no modality stated")
        # Codes of modalities are repeated; what else a header may hold there is not.
        if ds.get("Modality") and not re.fullmatch(r"[A-Z]{2,3}|RT[A-Z]{3,8}", kind):
            kind = "its modality is no code of one"
        raise ImageError(f"it holds no pixel data ({kind}): it is cut off or not an image object; leave it out")
    if "TransferSyntaxUID" not in ds.file_meta:
        raise ImageError("its header names no Transfer Syntax (0002,0010), so its pixel data cannot be understood")
    missing = [name for name in ("Rows", "Columns", "PhotometricInterpretation", "BitsAllocated") if not ds.get(name)]
    if missing:
        raise ImageError(f"its header lacks {', '.join(missing)}: export it again from its source")
    if int(ds.Rows) * int(ds.Columns) > max_pixels:
        raise ImageError(f"it is {ds.Columns} x {ds.Rows} pixels, more than the {max_pixels:,} a film may have")
    n_frames = int(ds.get("NumberOfFrames") or 1)
    if frame is None and n_frames > 1:
        raise ImageError(f"it holds {n_frames} frames: choose one with frame=0 to frame={n_frames - 1}")
    if frame is not None and not 0 <= frame < n_frames:
        raise ImageError(f"frame {frame} does not exist: it holds {n_frames}, counted from 0")
    return frame or 0, n_frames


def _stored(ds: Any, index: int, n_frames: int, notes: list[str]) -> NDArray[Any]:  # noqa: ANN401
    """Return one frame's stored values, colour as RGB, after checking its compressed stream."""
    syntax = ds.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        encaps = import_extra("pydicom.encaps", "dicom")
        stream: bytes = encaps.get_frame(ds.PixelData, index, number_of_frames=n_frames)
        _check_header(ds, str(syntax), stream)
        check = _check_stream(str(syntax), stream)
        if check.lost:
            raise ImageError(f"{check.lost}: copy it again from its source")
        notes.extend(check.odd)
    try:
        stored: NDArray[Any] = import_extra("pydicom.pixels", "dicom").pixel_array(ds, index=index)
    except RuntimeError as error:
        text = " ".join(str(error).split())
        if "missing dependencies" in text:
            need = text.partition("dependencies:")[2].strip()
            raise ImageError(f"no decoder for {syntax.name!r} is installed ({need}): install that package") from error
        reasons = text.partition("plugins:")[2].strip() or text
        raise ImageError(f"no decoder understands its {syntax.name!r} data ({reasons[:200]})") from error
    except ValueError as error:  # pydicom's word for too few bytes and for contradictions in the header
        raise ImageError(
            f"its pixel data and its header do not agree ({' '.join(str(error).split())[:240]})"
        ) from error
    colour = int(ds.get("SamplesPerPixel") or 1) == 3
    expected = (int(ds.Rows), int(ds.Columns), 3) if colour else (int(ds.Rows), int(ds.Columns))
    if stored.shape != expected:
        raise ImageError(f"its pixels decode to shape {stored.shape}, its header promises {expected}")
    return stored


def _check_header(ds: Any, syntax: str, stream: bytes) -> None:  # noqa: ANN401
    """Compare the compressed stream's own header with the file's, before a decoder allocates what it asks for."""
    size = (int(ds.Rows), int(ds.Columns))
    if syntax in _J2K:
        header = j2k_header(stream)
        if header is None:
            raise ImageError("it holds no JPEG 2000 codestream: copy it again from its source")
        got = (header.height, header.width)
        # OpenJPEG allocates every component that the stream announces: 16,384 of them are 2 TB for a large film.
        if header.components != int(ds.get("SamplesPerPixel") or 1):
            raise ImageError(
                f"its JPEG 2000 stream has {header.components} components, its header {ds.get('SamplesPerPixel')} "
                "samples a pixel: export it again from its source"
            )
        # A file that contradicts its own stream in the sign cannot be trusted: either reading looks plausible.
        if header.signed != bool(ds.get("PixelRepresentation")):
            words = ("unsigned", "signed")
            raise ImageError(
                f"its header says {words[not header.signed]} values, its JPEG 2000 stream {words[header.signed]}: "
                "the brightness cannot be trusted; export it again from its source"
            )
        if header.bits > int(ds.BitsAllocated):
            raise ImageError(f"its JPEG 2000 stream has {header.bits} bits, its header allocates {ds.BitsAllocated}")
    elif syntax in _JPEG_DCT | _JPEG_OTHER:
        found = jpeg_size(stream)
        if found is None:
            raise ImageError("its JPEG stream has no frame header: copy it again from its source")
        got = found
        refuse_many_scans(stream)
    else:
        return
    if got != size:
        raise ImageError(f"its stream is {got[1]} x {got[0]} pixels, its header says {size[1]} x {size[0]}")


def _check_stream(syntax: str, stream: bytes) -> StreamCheck:
    if syntax in _JPEG_DCT:
        return check_jpeg(stream)
    if syntax in _J2K:
        return check_j2k(stream)
    if syntax in _JPEG_OTHER and b"\xff\xd9" not in stream[-16:]:  # padding may follow the end mark
        return StreamCheck("its JPEG stream ends early")
    return StreamCheck()
