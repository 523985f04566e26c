import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from film_crafting import chunk, encode, film, png, png_header_only
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from mammi.data import pixel_fingerprint, read_film
from mammi.data.raster import decode_raster
from mammi.errors import ImageError
from mammi.types import Film

GREY = film(20, 30)
SIDES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)


def write(tmp_path, data, name="film.png"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


@given(hnp.arrays(np.uint8, SIDES))
def test_8_bit_png_comes_back_exactly(values):
    film = decode_raster(encode(values, "PNG"))
    assert (film.bits, film.warnings, film.pixels.dtype) == (8, (), np.float32)
    np.testing.assert_array_equal(np.round(film.pixels * 255), values)


@given(
    hnp.arrays(np.uint16, SIDES), st.sampled_from([("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})])
)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_16_bit_grey_comes_back_exactly(values, how):
    kind, options = how
    film = decode_raster(encode(values, kind, **options))
    assert film.bits == 16
    np.testing.assert_array_equal(np.round(film.pixels * 65535), values)


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_16_bit_colour_and_alpha_png_keep_their_low_bytes(colour, channels):
    values = np.random.default_rng(3).integers(0, 65536, (9, 7, channels), dtype=np.uint16)
    film = decode_raster(png(values.reshape(9, -1), 16, colour))
    alpha = values[..., -1:] / 65535 if channels != 3 else 1.0
    expected = values[..., : 3 if channels >= 3 else 1] / 65535 * alpha
    assert film.bits == 16
    np.testing.assert_allclose(film.pixels, expected if channels >= 3 else expected[..., 0], atol=1e-6)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_16_bit_colour_tiff_keeps_its_low_bytes(compression):
    values = np.random.default_rng(4).integers(0, 65536, (5, 6, 3), dtype=np.uint16)
    data = tiff_rgb16(values, compression)
    film = decode_raster(data)
    assert film.bits == 16
    np.testing.assert_array_equal(np.round(film.pixels * 65535), values)


def tiff_rgb16(values, compression):
    """A one-strip little-endian TIFF, 16 bits x 3; Pillow cannot write one."""
    height, width, _ = values.shape
    raw = values.astype("<u2").tobytes()
    code, strip = {None: (1, raw), "tiff_adobe_deflate": (8, zlib.compress(raw)), "tiff_lzw": (5, lzw(raw))}[
        compression
    ]
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 0), (259, 3, 1, code), (262, 3, 1, 2), (273, 4, 1, 0)]
    tags += [(277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(strip)), (284, 3, 1, 1)]
    after = 8 + 2 + 12 * len(tags) + 4
    fixed = {258: after, 273: after + 6}
    body = b"".join(struct.pack("<HHII", tag, kind, count, fixed.get(tag, value)) for tag, kind, count, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + b"\0\0\0\0" + struct.pack("<HHH", 16, 16, 16) + strip


def lzw(raw):
    """TIFF's LZW without its table: a clear code before it could fill, every code 9 bits."""
    codes = []
    for at in range(0, len(raw), 200):
        codes += [256, *raw[at : at + 200]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def test_colour_stays_colour_and_grey_in_disguise_becomes_grey(tmp_path):
    colour = np.stack([GREY, GREY, 255 - GREY], axis=-1)
    assert read_film(write(tmp_path, encode(colour, "PNG"))).pixels.shape == (20, 30, 3)
    disguised = read_film(write(tmp_path, encode(np.stack([GREY] * 3, axis=-1), "PNG")))
    np.testing.assert_array_equal(disguised.pixels, read_film(write(tmp_path, encode(GREY, "PNG"))).pixels)


def test_one_bit_palette_and_content_over_suffix(tmp_path):
    mask = read_film(write(tmp_path, encode(GREY > 128, "PNG")))
    assert mask.bits == 1
    np.testing.assert_array_equal(mask.pixels, (GREY > 128).astype(np.float32))
    palette = Image.fromarray(GREY % 3, "P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    shown = read_film(write(tmp_path, encode(palette, "PNG"), "film.jpg"))
    np.testing.assert_array_equal(shown.pixels, np.array([[0, 0, 0], [1, 0, 0], [0, 0, 1]])[GREY % 3])


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_see_through_pixels_are_laid_on_black_and_named(tmp_path, mode):
    alpha = np.full_like(GREY, 255)
    opaque = np.dstack([GREY] * (1 if mode == "LA" else 3) + [alpha])
    film = read_film(write(tmp_path, encode(Image.fromarray(opaque, mode), "PNG")))
    assert film.warnings == ()
    opaque[3, 4, -1] = 51  # a fifth
    film = read_film(write(tmp_path, encode(Image.fromarray(opaque, mode), "PNG")))
    assert film.warnings == ("see-through pixels were laid on black",)
    assert film.pixels.shape == (20, 30)
    assert film.pixels[3, 4] == pytest.approx(GREY[3, 4] / 255 / 5, abs=1e-6)
    assert film.pixels[3, 5] == pytest.approx(GREY[3, 5] / 255)


def test_a_see_through_grey_level_counts_as_alpha(tmp_path):
    film = read_film(write(tmp_path, encode(GREY, "PNG", transparency=int(GREY[0, 0]))))
    assert film.pixels[0, 0] == 0
    assert "laid on black" in film.warnings[0]


def test_jpeg_grey_colour_and_cmyk(tmp_path):
    grey = read_film(write(tmp_path, encode(GREY, "JPEG", quality=95), "f.jpg"))
    np.testing.assert_allclose(grey.pixels, GREY / 255, atol=0.08)
    colour = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)
    assert read_film(write(tmp_path, encode(colour, "JPEG"), "f.jpg")).pixels.shape == (20, 30, 3)
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red ink
    shown = read_film(write(tmp_path, encode(cmyk, "JPEG"), "f.jpg")).pixels
    np.testing.assert_allclose(shown[8, 8], [1, 0, 0], atol=0.03)


@pytest.mark.parametrize(("kind", "name"), [("JPEG", "f.jpg"), ("PNG", "f.png"), ("TIFF", "f.tif")])
def test_orientation_is_carried_out(tmp_path, kind, name):
    values = np.zeros((16, 32), np.uint8)
    values[:, :16] = 255  # left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter turn clockwise
    turned = read_film(write(tmp_path, encode(values, kind, exif=exif), name)).pixels
    assert turned.shape == (32, 16)
    assert turned[:16].min() > 0.9
    assert turned[16:].max() < 0.1


def test_tiff_whose_zero_is_white_is_turned_over():
    values = np.array([[0, 65535], [1000, 2000]], np.uint16)
    plain = decode_raster(encode(values, "TIFF")).pixels
    turned = decode_raster(encode(values, "TIFF", tiffinfo={262: 0})).pixels
    np.testing.assert_allclose(turned, 1 - plain, atol=1e-7)
    assert turned[0, 0] == 1


def test_float_tiff_within_0_and_1_is_taken_as_it_is():
    values = np.array([[0.25, 0.5]], np.float32)
    film = decode_raster(encode(values, "TIFF"))
    assert (film.bits, film.warnings) == (32, ())
    np.testing.assert_array_equal(film.pixels, values)


def test_float_tiff_beyond_is_scaled_by_its_own_range_and_says_so():
    values = np.array([[-1000, 0, 1000, np.nan]], np.float32)
    film = decode_raster(encode(values, "TIFF"))
    assert film.pixels.tolist() == [[0, 0.5, 1, 0]]
    assert "1 pixels are NaN" in film.warnings[0]
    assert r"lowest (-1000) to its highest value (1000)" in film.warnings[1]
    with pytest.raises(ImageError, match="all its pixels are NaN"):
        decode_raster(encode(np.full((2, 2), np.nan, np.float32), "TIFF"))


def test_integer_tiff_is_scaled_by_its_own_range_and_says_so():
    film = decode_raster(encode(np.array([[-5, 0, 5]], np.int32), "TIFF"))
    assert film.pixels.tolist() == [[0, 0.5, 1]]
    assert "not stated" in film.warnings[0]


def test_pages_must_be_chosen(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "TIFF", save_all=True, append_images=[Image.fromarray(255 - GREY)])
    path = write(tmp_path, buffer.getvalue(), "two.tif")
    with pytest.raises(
        ImageError, match=r"'two\.tif' cannot be read: it holds 2 pages: choose one with frame=0 to frame=1"
    ):
        read_film(path)
    np.testing.assert_allclose(read_film(path, frame=1).pixels, (255 - GREY) / 255, atol=1e-6)
    for frame in (2, -1):
        with pytest.raises(ImageError, match=f"frame {frame} does not exist: it holds 2"):
            read_film(path, frame=frame)
    with pytest.raises(ImageError, match="frame 1 does not exist: it holds 1"):
        read_film(write(tmp_path, encode(GREY, "PNG")), frame=1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"hello", "none of PNG, JPEG, TIFF and DICOM"),
        (b"\x89PNG\r\n\x1a\n", "none of PNG, JPEG, TIFF and DICOM"),
        (b"GIF89a" + bytes(50), "none of PNG"),
        (b"II*\0" + b"\xff" * 60, "cannot be read"),
        (png_header_only(60000, 60000), "more memory than a film can need|more than the 120,000,000"),
        (png_header_only(12000, 12000), "12000 x 12000 pixels, more than the 120,000,000 a film may have"),
        (
            png(np.zeros((2, 4)), 16, 4).replace(struct.pack(">II", 2, 2), struct.pack(">II", 2**31 - 1, 2**31 - 1)),
            "pixels",
        ),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(tmp_path, data, reason):
    with pytest.raises(ImageError, match=reason) as caught:
        read_film(write(tmp_path, data))
    assert "\n" not in str(caught.value)
    assert "'film.png'" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ImageError, match=r"'no\.png' cannot be read: there is no such file"):
        read_film(tmp_path / "no.png")
    with pytest.raises(ImageError, match="it is a folder"):
        read_film(tmp_path)


def test_warnings_of_the_decoder_become_the_films(tmp_path, monkeypatch):
    import warnings

    from mammi.data import reading

    def warns(data, **options):
        warnings.warn("something\nodd", UserWarning, stacklevel=1)
        return decode_raster(data, **options)

    monkeypatch.setattr(reading, "decode_raster", warns)
    assert read_film(write(tmp_path, encode(GREY, "PNG"))).warnings == ("something odd",)


def test_damaged_exif_does_not_cost_the_film(tmp_path):
    data = encode(GREY, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\1\2")
    assert read_film(write(tmp_path, data, "f.jpg")).pixels.shape == GREY.shape


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", bytes(128) + b"DICM"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes_give_a_film_or_an_image_error(tmp_path, data, head):
    path = write(tmp_path, head + data)
    with contextlib.suppress(ImageError):
        read_film(path)


def test_animated_png_is_not_guessed():
    ihdr = struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0\1\2\0\3\4")
    control = struct.pack(">IIIIIHHBB", 0, 2, 2, 0, 0, 1, 1, 0, 0)
    second = struct.pack(">IIIIIHHBB", 1, 2, 2, 0, 0, 1, 1, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", control)
    )
    data += (
        chunk(b"IDAT", rows)
        + chunk(b"fcTL", second)
        + chunk(b"fdAT", struct.pack(">I", 2) + rows)
        + chunk(b"IEND", b"")
    )
    with pytest.raises(ImageError, match="2 pages"):
        decode_raster(data)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_film_of_256_levels_carries_them_and_is_exactly_these(tmp_path, mode):
    levels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    Image.fromarray(levels).convert(mode).save(tmp_path / "film.png")
    film = read_film(tmp_path / "film.png")
    assert (film.levels is not None) == (mode == "L")
    assert np.array_equal(film.pixels, (np.arange(256) / 255).astype(np.float32).reshape(8, 32))
    assert np.array_equal(np.asarray(film.to_pil()), levels)
    assert np.array_equal(np.asarray(Film(film.pixels).to_pil()), levels)
    assert pixel_fingerprint(film) == pixel_fingerprint(Film(film.pixels, bits=16))
    between = film.pixels.copy()
    between[0, 5] += np.float32(1e-4)
    assert pixel_fingerprint(Film(between)) != pixel_fingerprint(film)
