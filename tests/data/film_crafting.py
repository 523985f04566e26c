"""Files that the tests of this room make themselves, byte by byte where that matters."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def film(height, width, seed=0, noise=12.0):
    """A smooth 8-bit picture with a little noise: no two rows alike, not black at the end."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    wave = 128 + 60 * np.sin(x / 17) + 40 * np.cos(y / 23)
    return (wave + rng.normal(0, noise, (height, width))).clip(1, 255).astype(np.uint8)


def encode(array_or_image, kind, **options):
    image = array_or_image if isinstance(array_or_image, Image.Image) else Image.fromarray(array_or_image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(samples, depth, colour, rows=None):
    """A PNG of any depth and colour type; ``samples`` (h, w * channels), ``rows``: how many to really write."""
    height = samples.shape[0]
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    lines = samples.astype(">u2" if depth == 16 else "u1")[:rows]
    data = b"".join(b"\0" + line.tobytes() for line in lines)
    header = struct.pack(">IIBBBBB", samples.shape[1] // channels, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def png_chunks(data):
    at, found = 8, []
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def png_header_only(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def dicom(pixels, **elements):
    """An Explicit VR Little Endian data set around ``pixels``; further elements by keyword, ``None`` removes one."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID
    ds.Modality = "CR"
    pixels = np.asarray(pixels)
    bits = 8 * pixels.dtype.itemsize
    ds.Rows, ds.Columns = pixels.shape[-2:] if elements.get("SamplesPerPixel", 1) == 1 else pixels.shape[-3:-1]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = bits
    if pixels.dtype.kind == "f":
        ds.FloatPixelData = pixels.tobytes()
    else:
        ds.BitsStored, ds.HighBit = bits, bits - 1
        ds.PixelRepresentation = int(pixels.dtype.kind == "i")
        ds.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
        ds["PixelData"].VR = "OW" if bits > 8 else "OB"
    for name, value in elements.items():
        if value is None:
            del ds[name]
        else:
            setattr(ds, name, value)
    if "BitsStored" in elements and "HighBit" not in elements:
        ds.HighBit = ds.BitsStored - 1
    return ds


def save_dicom(ds, path):
    ds.save_as(path, enforce_file_format=True)
    return path
