import io
import struct
import zlib

import numpy as np
import pytest
from film_crafting import chunk, encode, film, png
from PIL import Image

from mammi.data import read_film
from mammi.data.streams import check_j2k, check_jpeg, check_png, j2k_header, jpeg_size
from mammi.errors import ImageError

PICTURE = film(160, 200)
PNG = encode(PICTURE, "PNG")
JPEG = encode(PICTURE, "JPEG", quality=90)
SIGNATURE = PNG[:8]


def read(tmp_path, data):
    path = tmp_path / "film"
    path.write_bytes(data)
    return read_film(path)


def reason(tmp_path, data):
    with pytest.raises(ImageError) as caught:
        read(tmp_path, data)
    return str(caught.value)


def scan_end(jpeg):
    return jpeg.rindex(b"\xff\xd9")


def test_whole_files_have_nothing_to_say(tmp_path):
    for data in (PNG, JPEG, encode(PICTURE, "JPEG", progressive=True), encode(PICTURE, "JPEG", restart_marker_rows=1)):
        assert read(tmp_path, data).warnings == ()


@pytest.mark.parametrize("seed", range(40))
def test_whole_jpegs_of_every_make_raise_no_alarm(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 200, 2)
    picture = film(height, width, seed, noise=rng.choice([0, 3, 30]))
    if seed % 2:
        picture[-(height // 2) :] = (0, 128, 255)[seed % 3]  # flat ends look most like filler
    if seed % 5 == 0:
        picture = np.stack([picture, np.roll(picture, 5, 0), picture], axis=-1)
    options = {"quality": int(rng.choice([20, 75, 98])), "optimize": bool(seed % 3)}
    if seed % 4 == 0:
        options["restart_marker_blocks"] = int(rng.integers(1, 20))
    assert check_jpeg(encode(picture, "JPEG", **options)) == ("", ())


# ---- PNG


def test_png_cut_in_half(tmp_path):
    assert "its data ends early (image file is truncated)" in reason(tmp_path, PNG[: len(PNG) // 2])


def test_png_without_its_end_mark(tmp_path):
    shown = read(tmp_path, PNG[:-12])
    assert shown.warnings == ("file ends before its end mark (IEND)",)
    np.testing.assert_array_equal(np.round(shown.pixels * 255), PICTURE)


def test_png_with_a_wrong_checksum_of_its_picture_data(tmp_path):
    at = PNG.index(b"IDAT")
    (size,) = struct.unpack_from(">I", PNG, at - 4)
    wrong = PNG[: at + 4 + size] + b"\1\2\3\4" + PNG[at + 8 + size :]
    assert read(tmp_path, wrong).warnings == ("checksum of its IDAT chunk is wrong",)


def test_png_with_a_wrong_checksum_of_its_header(tmp_path):
    assert "its header is damaged" in reason(tmp_path, PNG[:29] + b"\0\0\0\0" + PNG[33:])


def test_png_with_a_flipped_bit(tmp_path):
    at = PNG.index(b"IDAT") + 5000
    flipped = PNG[:at] + bytes([PNG[at] ^ 16]) + PNG[at + 1 :]
    assert "decoding failed (OSError: broken data stream" in reason(tmp_path, flipped)


def test_png_whose_last_rows_are_missing_though_all_else_is_right(tmp_path):
    # Pillow returns the picture with three black rows, without a word
    assert "2% of the picture data is missing" in reason(tmp_path, png(PICTURE, 8, 0, rows=157))


def test_png_that_is_black_at_its_end_is_whole(tmp_path):
    picture = PICTURE.copy()
    picture[-30:] = 0
    assert read(tmp_path, encode(picture, "PNG")).warnings == ()
    assert read(tmp_path, encode(np.zeros((9, 7), np.uint16), "PNG")).warnings == ()
    assert read(tmp_path, encode(np.zeros((9, 7), bool), "PNG")).warnings == ()


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8), (13, 21)])
def test_interlaced_sizes_are_counted_pass_by_pass(size):
    # passes of PNG section 2.6 cut out of the picture, each row with its filter byte
    picture = np.zeros(size, np.uint8)
    passes = [picture[0::8, 0::8], picture[0::8, 4::8], picture[4::8, 0::4], picture[0::4, 2::4]]
    passes += [picture[2::4, 0::2], picture[0::2, 1::2], picture[1::2, :]]
    raw = b"".join(b"\0" + row.tobytes() for part in passes if part.shape[1] for row in part)
    header = struct.pack(">IIBBBBB", size[1], size[0], 8, 0, 0, 0, 1)
    for data, lost in ((raw, False), (raw[:-1], True)):
        whole = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
        assert bool(check_png(whole).lost) is lost


def test_png_with_something_after_its_end(tmp_path):
    assert read(tmp_path, PNG + b"xy" * 40).warnings == ("80 bytes follow the end of the picture",)


# ---- JPEG


def test_jpeg_cut_in_half(tmp_path):
    assert "ends early" in reason(tmp_path, JPEG[: len(JPEG) // 2])


def test_jpeg_without_its_end_mark(tmp_path):
    shown = read(tmp_path, JPEG[:-2])
    assert shown.warnings == ("file ends before its end mark (EOI)",)
    np.testing.assert_array_equal(shown.pixels, read(tmp_path, JPEG).pixels)


def test_progressive_jpeg_that_is_cut(tmp_path):
    data = encode(PICTURE, "JPEG", progressive=True)
    assert "its data ends early" in reason(tmp_path, data[: len(data) // 2])


def test_jpeg_cut_in_half_and_closed_again(tmp_path):
    # Pillow and libjpeg return a picture whose lower half is flat grey, without a word
    closed = JPEG[: len(JPEG) // 2] + b"\xff\xd9"
    with Image.open(io.BytesIO(closed)) as image:
        assert np.ptp(np.asarray(image)[-8:]) == 0
    assert "its picture data ends early and the rest is filler" in reason(tmp_path, closed)


def test_jpeg_with_a_piece_missing_inside(tmp_path):
    middle = len(JPEG) // 2
    assert "ends early and the rest is filler" in reason(tmp_path, JPEG[:middle] + JPEG[middle + 400 :])


def test_jpeg_whose_end_was_never_written(tmp_path):
    assert "filled with zeros" in reason(tmp_path, JPEG[: len(JPEG) // 2] + bytes(len(JPEG) // 2))


def test_jpeg_with_data_to_spare(tmp_path):
    end = scan_end(JPEG)
    spare = JPEG[:end] + b"\x31" * 40 + JPEG[end:]
    assert read(tmp_path, spare).warnings == ("picture data is left over: some of it is probably damaged",)


def test_jpeg_with_a_stray_marker(tmp_path):
    middle = len(JPEG) // 2
    assert "cannot be read" in reason(tmp_path, JPEG[:middle] + b"\xff\xc1" + JPEG[middle:])
    assert "stray marker ff02" in str(check_jpeg(JPEG[:middle] + b"\xff\x02" + JPEG[middle:]))


def test_jpeg_with_a_restart_interval_missing(tmp_path):
    data = encode(PICTURE, "JPEG", restart_marker_rows=1)
    first, second = data.index(b"\xff\xd2"), data.index(b"\xff\xd3")
    got = check_jpeg(data[:first] + data[second:])
    assert got.lost or any("restart markers are out of order" in text for text in got.odd)


def test_flipped_bits_are_found_more_often_than_not_missed_never_wrongly():
    """A lone flipped bit shifts the blocks after it; whatever the outcome, the check itself never fails."""
    start = JPEG.index(b"\xff\xda") + 10
    outcomes = []
    for at in range(start + 50, scan_end(JPEG) - 50, 997):
        flipped = JPEG[:at] + bytes([JPEG[at] ^ 8]) + JPEG[at + 1 :]
        try:
            with Image.open(io.BytesIO(flipped)) as image:
                image.load()
        except OSError:
            continue
        outcomes.append(check_jpeg(flipped))
    assert sum(bool(got.lost or got.odd) for got in outcomes) >= len(outcomes) / 4


# ---- TIFF


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_tiff_cut_in_half(tmp_path, compression):
    data = encode(PICTURE, "TIFF", compression=compression)
    assert "cannot be read" in reason(tmp_path, data[: len(data) // 2])


# ---- JPEG 2000

J2K = encode(PICTURE, "JPEG2000", no_jp2=True)


def test_j2k_header_and_jpeg_size_say_what_was_encoded():
    assert j2k_header(J2K) == (200, 160, 1, 8, False)
    assert j2k_header(encode(np.stack([PICTURE] * 3, -1).astype(np.uint8), "JPEG2000")) == (200, 160, 3, 8, False)
    assert j2k_header(b"no such thing") is None
    assert jpeg_size(JPEG) == (160, 200)
    assert jpeg_size(encode(PICTURE, "JPEG", progressive=True)) == (160, 200)
    assert jpeg_size(b"\xff\xd8") is None


@pytest.mark.parametrize("padding", [b"", b"\0", b"\xff"])
def test_j2k_whole(padding):
    assert check_j2k(J2K + padding) == ("", ())
    assert check_j2k(encode(PICTURE, "JPEG2000", no_jp2=True, tile_size=(64, 64)) + padding) == ("", ())


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_j2k_cut_is_found_though_the_decoder_shows_a_picture(keep):
    cut = J2K[: int(len(J2K) * keep)]
    assert check_j2k(cut).lost == "its JPEG 2000 stream ends early"
    assert check_j2k(cut + b"\xff\xd9").lost == "its JPEG 2000 stream ends early"


def test_j2k_without_end_mark_or_without_codestream():
    assert check_j2k(J2K[:-2]).odd == ("JPEG 2000 stream has no end mark (EOC)",)
    assert check_j2k(b"\0" * 100).lost == "it holds no JPEG 2000 codestream"
