"""Films made to harm: each a few bytes that ask for gigabytes, or lie about what follows. ``HOSTILE`` holds them all."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 0, interlace: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return SIGNATURE + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def zeros(size: int, *, raw: bool = False) -> bytes:
    """``size`` zero bytes (a whole number of MiB), deflated to a thousandth of them: one block, again and again."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = deflate.compress(bytes(2**20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    body = block * (size // 2**20) + b"\3\0"
    return body if raw else b"\x78\xda" + body + struct.pack(">HH", size % 65521, 1)  # Adler-32 of zeros


def small_idat(width: int = 8, height: int = 8) -> bytes:
    return chunk(b"IDAT", zlib.compress((b"\0" + bytes(range(1, width + 1))) * height))


def element(group: int, number: int, vr: bytes, value: bytes, *, length: int | None = None) -> bytes:
    """One element in Explicit VR Little Endian; ``length`` is what it claims."""
    size = len(value) if length is None else length
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return struct.pack("<HH2sHI", group, number, vr, 0, size) + value
    return struct.pack("<HH2sH", group, number, vr, size) + value


def even(text: str) -> bytes:
    return text.encode() + b"\0" * (len(text) % 2)


def dicom(syntax: str, *body: bytes, before_syntax: bytes = b"") -> bytes:
    meta = before_syntax + element(2, 0x10, b"UI", even(syntax))
    return bytes(128) + b"DICM" + element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta + b"".join(body)


def picture(rows: int, columns: int, bits: int = 8, frames: int | str | None = None, samples: int = 1) -> bytes:
    """The elements of group 0028, whatever they claim."""
    parts = [element(0x28, 0x02, b"US", struct.pack("<H", samples))]
    parts += [element(0x28, 0x04, b"CS", b"MONOCHROME2 " if samples == 1 else b"RGB ")]
    if samples != 1:
        parts += [element(0x28, 0x06, b"US", struct.pack("<H", 0))]
    if frames is not None:
        parts += [element(0x28, 0x08, b"IS", even(str(frames)))]
    numbers = ((0x10, rows), (0x11, columns), (0x100, bits), (0x101, bits), (0x102, bits - 1), (0x103, 0))
    return b"".join(parts) + b"".join(element(0x28, n, b"US", struct.pack("<H", v)) for n, v in numbers)


def fragments(*items: bytes) -> bytes:
    body = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in (b"", *items))
    return element(0x7FE0, 0x10, b"OB", body + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0), length=0xFFFFFFFF)


EXPLICIT, DEFLATED, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
J2K, JPEG, JPEG_LS = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.80"


def rle_bomb() -> bytes:
    """8 x 8 pixels whose one segment unpacks to 128 MiB."""
    header = struct.pack("<16I", 1, 64, *[0] * 14)
    return header + b"\x81\0" * 2**20


def j2k(width: int, height: int, components: int = 1) -> bytes:
    """The head of a JPEG 2000 codestream, and nothing behind it."""
    size = struct.pack(">HIIIIIIIIH", 0, width, height, 0, 0, width, height, 0, 0, components) + b"\7\1\1" * components
    cod = b"\xff\x52\x00\x0c\x00\x00\x00\x01\x00\x05\x04\x04\x00\x01"
    qcd = b"\xff\x5c\x00\x13\x40" + bytes([0x40] * 16)
    tile = b"\xff\x90\x00\x0a\x00\x00\x00\x00\x00\x10\x00\x01\xff\x93\x00\x00"
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(size) + 2) + size + cod + qcd + tile + b"\xff\xd9"


def jpeg(width: int, height: int, scans: int = 1) -> bytes:
    """A real JPEG whose frame header says another size, with its scan again and again."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(buffer, "JPEG", progressive=scans > 1)
    data = buffer.getvalue()
    at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    data = data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]
    start = data.find(b"\xff\xda")
    return data[:start] + data[start:-2] * scans + data[-2:]


def tiff(width: int, height: int, offset: int = 8, count: int = 1) -> bytes:
    """A one-strip grey TIFF; ``offset`` of the next page, so that pages can go in a circle."""
    tags = ((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1))
    tags += ((273, 4, count, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, width * height))
    return (
        b"II*\0\x08\0\0\0"
        + struct.pack("<H", len(tags))
        + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        + struct.pack("<I", offset)
    )


def nested(depth: int) -> bytes:
    """Sequences in sequences, of undefined length, none of them closed."""
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return (element(0x28, 0x3010, b"SQ", b"", length=0xFFFFFFFF) + item) * depth


#: Name, and what makes the bytes: made when asked for, so that collecting tests stays quick.
HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"<script>alert(1)</script>" * 40,
    "html named as a film": lambda: b"<!doctype html><title>x</title>",
    "png of 40,000 x 40,000": lambda: png(40_000, 40_000, small_idat()),
    "png of 2^31 x 2^31": lambda: png(2**31 - 1, 2**31 - 1, small_idat()),
    "png of 40,000 x 40,000, grey and alpha in 16 bits": lambda: png(40_000, 40_000, small_idat(), depth=16, colour=4),
    "png of no size": lambda: png(0, 0, small_idat()),
    "png whose picture data is missing": lambda: png(5_000, 5_000, small_idat(), colour=6, depth=16),
    "png, interlaced, whose picture data is missing": lambda: png(5_000, 5_000, small_idat(), colour=6, interlace=1),
    "png that inflates to 1 GiB": lambda: png(8, 8, chunk(b"IDAT", zeros(2**30))),
    "png with zTXt of 1 GiB": lambda: png(8, 8, chunk(b"zTXt", b"k\0\0" + zeros(2**30)), small_idat()),
    "png with zTXt of 1 GiB behind": lambda: png(8, 8, small_idat(), chunk(b"zTXt", b"k\0\0" + zeros(2**30))),
    "png with iTXt of 1 GiB": lambda: png(8, 8, chunk(b"iTXt", b"k\0\1\0\0\0" + zeros(2**30)), small_idat()),
    "png with iCCP of 1 GiB": lambda: png(8, 8, chunk(b"iCCP", b"k\0\0" + zeros(2**30)), small_idat()),
    "png with 200 texts of 1 MiB": lambda: png(8, 8, chunk(b"zTXt", b"k\0\0" + zeros(2**20)) * 200, small_idat()),
    "png of a million empty chunks": lambda: png(8, 8, chunk(b"IDAT", b"") * 10**6, small_idat()),
    "png whose chunk claims 2 GiB": lambda: SIGNATURE + struct.pack(">I", 2**31 - 1) + b"IHDR" + bytes(40),
    "png signature alone": lambda: SIGNATURE,
    "jpeg of 65,000 x 65,000": lambda: jpeg(65_000, 65_000),
    "jpeg of 5,000 x 5,000 without data": lambda: jpeg(5_000, 5_000),
    "jpeg of 5,000 scans": lambda: jpeg(2_000, 2_000, scans=5_000),
    "jpeg cut off": lambda: jpeg(8, 8)[:200],
    "tiff of 60,000 x 60,000": lambda: tiff(60_000, 60_000),
    "tiff of 5,000 x 5,000 without data": lambda: tiff(5_000, 5_000, offset=0),
    "tiff in a circle": lambda: tiff(8, 8),
    "tiff with a tag of 4 billion values": lambda: tiff(8, 8, offset=0, count=2**32 - 1),
    "dicom of 65,535 x 65,535": lambda: dicom(
        EXPLICIT, picture(65_535, 65_535), element(0x7FE0, 0x10, b"OW", bytes(64))
    ),
    "dicom of 5,000 x 5,000 without data": lambda: dicom(
        EXPLICIT, picture(5_000, 5_000, 16), element(0x7FE0, 0x10, b"OW", bytes(64))
    ),
    "dicom of 65,535 samples": lambda: dicom(
        EXPLICIT, picture(5_000, 5_000, samples=65_535), element(0x7FE0, 0x10, b"OW", bytes(64))
    ),
    "dicom of a billion frames": lambda: dicom(
        EXPLICIT, picture(8, 8, frames=10**9), element(0x7FE0, 0x10, b"OW", bytes(64))
    ),
    "dicom of minus one frames": lambda: dicom(
        EXPLICIT, picture(8, 8, frames=-1), element(0x7FE0, 0x10, b"OW", bytes(32))
    ),
    "dicom of frames in words": lambda: dicom(
        EXPLICIT, picture(8, 8, frames="<b>many</b>"), element(0x7FE0, 0x10, b"OW", bytes(64))
    ),
    "dicom whose value claims 4 GB": lambda: dicom(
        EXPLICIT, picture(8, 8), element(0x7FE0, 0x10, b"OW", bytes(9), length=2**32 - 2)
    ),
    "dicom that inflates to 2 GiB": lambda: dicom(DEFLATED, zeros(2**31, raw=True)),
    "dicom that inflates to 2 GiB, its syntax late": lambda: dicom(
        DEFLATED, zeros(2**31, raw=True), before_syntax=element(2, 1, b"OB", bytes(4_000))
    ),
    "dicom of sequences 100,000 deep": lambda: dicom(EXPLICIT, picture(8, 8), nested(100_000)),
    "dicom of sequences 100 deep": lambda: dicom(
        EXPLICIT, picture(8, 8), nested(100), element(0x7FE0, 0x10, b"OW", bytes(64))
    ),
    "dicom with RLE that unpacks to 128 MiB": lambda: dicom(RLE, picture(8, 8), fragments(rle_bomb())),
    "dicom with RLE of a billion frames": lambda: dicom(RLE, picture(8, 8, frames=10**9), fragments(rle_bomb()[:128])),
    "dicom with RLE cut off": lambda: dicom(RLE, picture(8, 8), fragments(rle_bomb()[:40])),
    "dicom with JPEG 2000 of another size": lambda: dicom(J2K, picture(8, 8), fragments(j2k(20_000, 20_000))),
    "dicom with JPEG 2000 of 16,384 components": lambda: dicom(
        J2K, picture(5_000, 5_000), fragments(j2k(5_000, 5_000, 16_384))
    ),
    "dicom with JPEG 2000 without data": lambda: dicom(J2K, picture(5_000, 5_000), fragments(j2k(5_000, 5_000))),
    "dicom with JPEG of another size": lambda: dicom(JPEG, picture(8, 8), fragments(jpeg(30_000, 30_000))),
    "dicom with JPEG of 5,000 scans": lambda: dicom(
        JPEG, picture(2_000, 2_000), fragments(jpeg(2_000, 2_000, scans=5_000))
    ),
    "dicom with JPEG-LS without data": lambda: dicom(
        JPEG_LS, picture(8, 8), fragments(b"\xff\xd8\xff\xf7\0\x0b" + bytes(20))
    ),
    "dicom mark alone": lambda: bytes(128) + b"DICM",
    "dicom with markup for a photometric": lambda: dicom(
        EXPLICIT,
        picture(8, 8).replace(element(0x28, 4, b"CS", b"MONOCHROME2 "), element(0x28, 4, b"CS", b"<script>" * 900)),
        element(0x7FE0, 0x10, b"OW", bytes(64)),
    ),
}
