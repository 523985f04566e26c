"""Damage that decoders pass over in silence: what the bytes of a PNG, JPEG or JPEG 2000 stream say about themselves.

Pillow, libjpeg and OpenJPEG return a picture for many damaged files: a PNG whose checksums are wrong or whose last
rows are missing (they come out black), a JPEG that ran out of data (the rest comes out mid-grey). A network responds
to such filler as it does to anatomy, so these checks run on every file that decodes.

Each check returns ``(lost, odd)``: ``lost`` says why part of the picture is missing (the film is refused) or is empty;
``odd`` lists what is wrong with the file though its picture is, as far as can be known, whole.
"""

import io
import re
import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from mammi.errors import ImageError

__all__ = [
    "StreamCheck",
    "check_j2k",
    "check_jpeg",
    "check_png",
    "close_jpeg",
    "j2k_header",
    "jpeg_size",
    "refuse_many_scans",
]

#: Any 64 bytes without 0xFF serve: they only have to be picture data that a decoder would go on reading.
_MORE_DATA = bytes((37 * i + 11) % 251 for i in range(64))
#: The end of entropy-coded data: a marker other than a stuffed 0xFF00, a restart marker or a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_MAX_SCANS = 100
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")


class StreamCheck(NamedTuple):
    """What a stream says about itself: why picture data is missing (or ``""``), and lesser oddities."""

    lost: str = ""
    odd: tuple[str, ...] = ()


def check_png(data: bytes, *, last_row_black: bool = True) -> StreamCheck:
    """Check chunk checksums, the end chunk and the amount of picture data of a PNG (RFC 2083) that decoded.

    Pillow checks neither the checksum of IDAT nor that IEND is there, and fills rows that are missing with zeros.

    Args:
        data: the whole file, starting with the PNG signature.
        last_row_black: whether the decoded picture ends in zeros. Only then can rows be missing, and only then is
            the picture data inflated a second time to count it.
    """
    odd: list[str] = []
    idat: list[bytes] = []
    header = b""
    at, ended = 8, False
    while at + 12 <= len(data) and not ended:
        (size,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        checksum = data[at + 8 + size : at + 12 + size]
        if len(checksum) < 4:
            break
        if zlib.crc32(kind + body) != int.from_bytes(checksum, "big"):
            odd.append(f"checksum of its {kind.decode('latin-1')} chunk is wrong")
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            idat.append(body)
        ended = kind == b"IEND"
        at += 12 + size
    if not ended:
        odd.append("file ends before its end mark (IEND)")
    elif at < len(data):
        odd.append(f"{len(data) - at} bytes follow the end of the picture")
    interlaced = len(header) >= 13 and header[12] == 1
    if len(header) >= 13 and (last_row_black or interlaced):
        expected = _png_bytes(header)
        got = _inflated_bytes(idat, expected)
        if got < expected:
            return StreamCheck(f"{1 - got / expected:.0%} of the picture data is missing", tuple(dict.fromkeys(odd)))
    return StreamCheck("", tuple(dict.fromkeys(odd)))


def _inflated_bytes(parts: list[bytes], enough: int) -> int:
    """Return to how many bytes a zlib stream inflates, counted up to ``enough``, a mebibyte at a time."""
    inflate, size = zlib.decompressobj(), 0
    for part in parts:
        pending = part
        while pending and size < enough and not inflate.eof:
            size += len(inflate.decompress(pending, 2**20))
            pending = inflate.unconsumed_tail
    return min(size, enough)


def _png_bytes(header: bytes) -> int:
    """Return the size of the inflated picture data that an IHDR promises: a filter byte and the samples of each row."""
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", header[:13])
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
    if not interlace:
        return int(height * (1 + (width * bits + 7) // 8))
    total = 0
    for x0, y0, dx, dy in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        columns, rows = max(0, -(-(width - x0) // dx)), max(0, -(-(height - y0) // dy))
        if columns:
            total += rows * (1 + (columns * bits + 7) // 8)
    return int(total)


def check_jpeg(data: bytes) -> StreamCheck:
    """Look for the damage that libjpeg warns of and Pillow hides: data that ran out, data left over, stray markers.

    libjpeg does not stop at damaged data. When the data of a scan ends early it fills up with mid-grey; when some
    is left over it skips it. Both are found by decoding variants of the file at an eighth of its size: with more data
    put before the end mark (a whole picture does not change, one that ran out does) and without the last two bytes
    (a whole picture becomes incomplete, one with data to spare does not). Restart markers must count 0 to 7 in turn.

    What this cannot find: a changed bit after which the decoder falls into step again. Only a checksum kept
    elsewhere finds that. Progressive files and files of several scans are checked for their end mark only.

    Args:
        data: a JPEG file or a JPEG stream from a DICOM file (which may be padded with one zero byte), that decodes.
    """
    odd: list[str] = []
    if data.find(b"\xff\xd9", _jpeg_scan(data)[0]) < 0:  # a thumbnail before the scan has an end mark of its own
        if len(data) >= 64 and not data[-64:].strip(b"\0"):
            return StreamCheck("its end is filled with zeros")
        odd.append("file ends before its end mark (EOI)")
        data = close_jpeg(data)
    start, baseline = _jpeg_scan(data)
    if not baseline:
        return StreamCheck("", tuple(odd))
    found = _MARKER.search(data, start)
    stop = found.start() if found else len(data)
    if found and found.group() != b"\xff\xd9":
        if found.group() == b"\xff\xda" or _is_segment(data, stop):  # further scans, or tables for them
            return StreamCheck("", tuple(odd))
        odd.append(f"stray marker {found.group().hex()} inside the picture data")
    if any(match[1][0] & 7 != i % 8 for i, match in enumerate(_RESTART.finditer(data, start, stop))):
        odd.append("restart markers are out of order: part of the picture data is missing or displaced")
    if _decoded(data) != _decoded(data[:stop] + _MORE_DATA + b"\xff\xd9"):
        return StreamCheck("its picture data ends early and the rest is filler", tuple(odd))
    if _decoded(data[: stop - 2]) is not None:
        odd.append("picture data is left over: some of it is probably damaged")
    return StreamCheck("", tuple(odd))


def close_jpeg(data: bytes) -> bytes:
    """Return a JPEG without end mark with one, if ``check_jpeg`` can then tell whether its picture is whole.

    Pillow refuses most files that lack the mark only. A cut progressive file would decode to a blurred picture, so
    those (and files of several scans) are left as they are, for Pillow to refuse.
    """
    start, baseline = _jpeg_scan(data)
    return data + b"\xff\xd9" if baseline and data.find(b"\xff\xd9", start) < 0 else data


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return (height, width) from the frame header of a JPEG or JPEG-LS stream; ``None`` if it has none."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return height, width
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def refuse_many_scans(data: bytes) -> None:
    """Raise ImageError for a JPEG of more scans than any encoder writes.

    A progressive JPEG has some ten; each is a pass over the whole picture, and an empty one is a dozen bytes long.
    """
    if data.count(b"\xff\xda") > _MAX_SCANS:
        raise ImageError(f"its JPEG stream has more than {_MAX_SCANS} scans, each a pass over all of it: leave it out")


def _jpeg_scan(data: bytes) -> tuple[int, bool]:
    """Return where the first scan's data starts, and whether it is the only scan of a sequential Huffman JPEG."""
    at, components, sequential = 2, 0, False
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        (size,) = struct.unpack_from(">H", data, at + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 10 <= len(data):
            sequential, components = marker in (0xC0, 0xC1), data[at + 9]
        if marker == 0xDA:
            return at + 2 + size, sequential and at + 5 <= len(data) and data[at + 4] == components
        at += 2 + size
    return len(data), False


def _is_segment(data: bytes, at: int) -> bool:
    """Return whether a table or comment segment starts at ``at`` and is followed by another marker."""
    if (data[at + 1] not in (0xC4, 0xDB, 0xDC, 0xDD, 0xFE) and not 0xE0 <= data[at + 1] <= 0xEF) or at + 4 > len(data):
        return False
    (size,) = struct.unpack_from(">H", data, at + 2)
    return data[at + 2 + size : at + 3 + size] == b"\xff"


def _decoded(data: bytes) -> bytes | None:
    """Return the picture's bytes at an eighth of its size, or ``None`` if it does not decode."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            image.draft(image.mode, (1, 1))
            return np.asarray(image).tobytes()
    except (OSError, SyntaxError, ValueError):
        return None


class J2kHeader(NamedTuple):
    """What the SIZ segment of a JPEG 2000 codestream says (ISO/IEC 15444-1 A.5.1)."""

    width: int
    height: int
    components: int
    bits: int
    signed: bool


def j2k_header(data: bytes) -> J2kHeader | None:
    """Read the SIZ segment of a JPEG 2000 or HTJ2K codestream (bare or in a JP2 box); ``None`` if there is none."""
    at = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0 or len(data) < at + 43:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", data, at + 8)
    (components,) = struct.unpack_from(">H", data, at + 40)
    precision = data[at + 42]
    return J2kHeader(right - left, bottom - top, components, (precision & 0x7F) + 1, precision >= 0x80)


def check_j2k(data: bytes) -> StreamCheck:
    """Check that the tile-parts a JPEG 2000 codestream announces are there, and its end mark (ISO/IEC 15444-1 A.4).

    OpenJPEG decodes what there is of a truncated stream and leaves the rest blurred or empty.
    """
    at = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0:
        return StreamCheck("it holds no JPEG 2000 codestream")
    at += 2
    while at + 4 <= len(data):
        marker, size = struct.unpack_from(">HH", data, at)
        if marker == 0xFFD9:
            return StreamCheck()
        if marker == 0xFF90:  # SOT: Isot(2) Psot(4); a length of 0 means "to the end"
            if at + 12 > len(data):
                break
            (size,) = struct.unpack_from(">I", data, at + 6)
            if size == 0:
                whole = b"\xff\xd9" in data[-16:]  # padding may follow the end mark
                return StreamCheck("" if whole else "its JPEG 2000 stream ends early")
            at += size
        else:
            at += 2 + size
    if at + 2 <= len(data) and data[at : at + 2] == b"\xff\xd9":
        return StreamCheck()
    if at > len(data) or at == 0:
        return StreamCheck("its JPEG 2000 stream ends early")
    return StreamCheck("", ("JPEG 2000 stream has no end mark (EOC)",))
