"""Decoding against what was encoded: modes, depths, orientations, damage."""

import io
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from mixer_jax.data import jpeg
from mixer_jax.data.decode import Decoding, ImageError, Picture, as_rgb


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(image, extension=".png"):
    """Encodes an RGB or grey image."""
    bgr = image[..., ::-1] if image.ndim == 3 else image
    return cv2.imencode(extension, np.ascontiguousarray(bgr))[1].tobytes()


def test_png_is_exact_and_rgb():
    image = noise(5, 7, 3)
    decoded = as_rgb(encode(image))
    np.testing.assert_array_equal(decoded, image)
    assert decoded.dtype == np.uint8


def test_jpeg_is_close():
    image = np.zeros((16, 16, 3), np.uint8)
    image[..., 0] = 200  # red, so that swapped channels show
    assert np.abs(as_rgb(encode(image, ".jpg")).astype(int) - image).max() < 8


def test_grey_is_repeated():
    grey = noise(6, 5)
    np.testing.assert_array_equal(as_rgb(encode(grey)), np.stack([grey] * 3, axis=-1))


def test_16_bits_keep_the_high_byte():
    deep = np.random.default_rng(0).integers(0, 2**16, (4, 5, 3), dtype=np.uint16)
    np.testing.assert_array_equal(as_rgb(encode(deep)), deep >> 8)


def test_alpha_is_dropped():
    image = noise(4, 5, 4)
    encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA))[1].tobytes()
    np.testing.assert_array_equal(as_rgb(encoded), image[..., :3])


def test_cmyk():
    image = np.full((16, 16, 3), (200, 60, 20), np.uint8)
    image[8:] = 20, 120, 220
    file = io.BytesIO()
    Image.fromarray(image).convert("CMYK").save(file, "JPEG", quality=95)
    assert np.abs(as_rgb(file.getvalue()).astype(int) - image).max() < 8


def test_palette():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 2, 8, 3, 0, 0, 0)  # 2x2 pixels, 8 bits, palette
    palette = bytes([255, 0, 0, 0, 255, 0, 1, 2, 3])
    rows = zlib.compress(bytes([0, 0, 1, 0, 2, 0]))  # each row: filter type, two indices
    chunks = [(b"IHDR", header), (b"PLTE", palette), (b"IDAT", rows), (b"IEND", b"")]
    encoded = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in chunks)
    expected = [[[255, 0, 0], [0, 255, 0]], [[1, 2, 3], [255, 0, 0]]]
    np.testing.assert_array_equal(as_rgb(encoded), expected)


def test_exif_orientation_is_ignored_unless_asked_for():
    plain = encode(noise(8, 16, 3), ".jpg")
    # One directory with the one entry 0x0112 (orientation) = 6, a quarter turn.
    tiff = b"MM\x00\x2a" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    segment = b"Exif\x00\x00" + tiff
    turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
    np.testing.assert_array_equal(as_rgb(turned), as_rgb(plain))
    np.testing.assert_array_equal(as_rgb(turned, Decoding(exif_orientation=True)), np.rot90(as_rgb(plain), -1))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1"])
def test_all_formats_are_read_as_by_pillow(kind, mode):
    image = Image.fromarray(noise(9, 11, 3)).convert("RGBA" if mode == "RGBA" else mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(noise(9, 11)))
    file = io.BytesIO()
    try:
        image.save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    except OSError:
        pytest.skip(f"{kind} has no mode {mode}")
    with Image.open(file) as opened:
        expected = np.asarray(opened.convert("RGB"))
    np.testing.assert_array_equal(as_rgb(file.getvalue()), expected)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_of_several_images_it_is_the_first(kind):
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 200)]
    file = io.BytesIO()
    frames[0].save(
        file, kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )
    np.testing.assert_array_equal(as_rgb(file.getvalue()), np.full((8, 8, 3), 10))


def test_of_an_animated_png_it_is_the_default_image():
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 100, 200)]
    file = io.BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:], default_image=True)
    np.testing.assert_array_equal(as_rgb(file.getvalue()), np.full((8, 8, 3), 10))


def test_16_bit_grey_keeps_the_high_byte_and_32_bits_are_refused():
    deep = np.random.default_rng(0).integers(0, 2**16, (4, 5), dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        file = io.BytesIO()
        Image.fromarray(deep).save(file, kind)
        np.testing.assert_array_equal(as_rgb(file.getvalue()), np.stack([deep >> 8] * 3, axis=-1))
    for wide in (deep.astype(np.int32), deep.astype(np.float32)):
        file = io.BytesIO()
        Image.fromarray(wide).save(file, "TIFF")
        with pytest.raises(ImageError, match="its samples have 32 bits; expected 8 or 16"):
            as_rgb(file.getvalue())


def bitmap(masks, bits, pixels):
    """A BMP of one row whose samples lie where the masks say."""
    row = b"".join(pixel.to_bytes(bits // 8, "little") for pixel in pixels)
    row += bytes(-len(row) % 4)
    header = struct.pack("<IiiHHIIiiII", 40, len(pixels), 1, 1, bits, 3, len(row), 0, 0, 0, 0)
    at = 14 + len(header) + 12
    return struct.pack("<2sIHHI", b"BM", at + len(row), 0, 0, at) + header + struct.pack("<3I", *masks) + row


def test_masked_bitmaps():
    five = bitmap((0x7C00, 0x03E0, 0x001F), 16, [0x7C00, 0x03E0, 0x001F, 0x7FFF])
    expected = [[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]]
    np.testing.assert_array_equal(as_rgb(five), expected)
    np.testing.assert_array_equal(as_rgb(bitmap((0xFF0000, 0xFF00, 0xFF), 32, [0x030201])), [[[3, 2, 1]]])
    with pytest.raises(ImageError, match="Unsupported BMP"):
        as_rgb(bitmap((0xF0000, 0xFF00, 0xFF), 32, [0x030201]))


def claiming(encoded, height, width):
    """A JPEG whose header claims a size."""
    at = encoded.index(b"\xff\xc0") + 5
    return encoded[:at] + struct.pack(">HH", height, width) + encoded[at + 4 :]


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded():
    small = encode(np.zeros((8, 8, 3), np.uint8), ".jpg")
    bombs = [claiming(small, 65_500, 65_500), claiming(small, 32_000, 32_000)]
    bombs.append(encode(np.zeros((8, 8, 3), np.uint8))[:16] + struct.pack(">IIBBBBB", 10**6, 10**6, 8, 2, 0, 0, 0))
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).convert("CMYK").save(file, "JPEG")
    bombs.append(claiming(file.getvalue(), 65_500, 65_500))
    tracemalloc.start()
    for bomb in bombs:
        for decode in (Picture(bomb).rgb, lambda bomb=bomb: Picture(bomb).crop(lambda *_: (0, 0, 1, 1))):
            with pytest.raises(ImageError, match=r"pixels; config.data.max_pixels=178,956,970 at most|checksum"):
                decode()
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()
    image = encode(noise(4, 6, 3))
    assert as_rgb(image, Decoding(max_pixels=24)).shape == (4, 6, 3)
    for encoded in (image, encode(noise(4, 6, 3), ".jpg")):
        with pytest.raises(ImageError, match=r"it has [46] x [46] pixels; config.data.max_pixels=23 at most"):
            as_rgb(encoded, Decoding(max_pixels=23))


@pytest.mark.skipif(not jpeg.REGION_IS_BUILT, reason="region.c is not built")
def test_a_jpeg_of_endless_scans_is_refused():
    progressive = cv2.imencode(".jpg", noise(64, 64, 3), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1))[1].tobytes()
    last = progressive.rindex(b"\xff\xda")
    endless = progressive[:-2] + progressive[last:-2] * 600 + progressive[-2:]
    with pytest.raises(ImageError, match="damaged"):
        as_rgb(endless)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientations_are_those_of_pillow(orientation, kind):
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(noise(8, 16, 3)).save(file, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(file) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    np.testing.assert_array_equal(as_rgb(file.getvalue(), Decoding(exif_orientation=True)), expected)


def test_damage_that_is_guessed_is_known(damaged_jpeg, capfd):
    picture = Picture(damaged_jpeg)
    assert picture.rgb().shape == (64, 64, 3)
    assert picture.damaged
    with pytest.raises(ImageError, match="it is damaged, and config.data.damaged='refuse'"):
        as_rgb(damaged_jpeg, Decoding(refuse_damaged=True))
    whole = Picture(encode(noise(64, 64, 3), ".jpg"))
    whole.rgb()
    assert not whole.damaged
    assert capfd.readouterr().err == ""  # libjpeg's own messages name no file


@pytest.mark.parametrize(
    "encoded", [b"", b"no image", encode(noise(64, 64, 3), ".jpg")[:600], encode(noise(9, 9, 3))[:99]]
)
def test_what_cannot_be_decoded(encoded):
    with pytest.raises(ImageError, match=f"{len(encoded)} bytes") as raised:
        as_rgb(encoded)
    assert repr(encoded[:8])[2:-1] in str(raised.value)


def test_arrays():
    grey, rgb = noise(3, 4), noise(3, 4, 3)
    assert as_rgb(rgb) is rgb
    for image in (grey, grey[..., None]):
        np.testing.assert_array_equal(as_rgb(image), np.stack([grey] * 3, axis=-1))
    np.testing.assert_array_equal(as_rgb(encode(rgb)), rgb)


@pytest.mark.parametrize(
    ("image", "received"),
    [
        (np.zeros((3, 4, 3), np.float32), "float32"),
        (np.zeros((3, 4, 2), np.uint8), r"\(3, 4, 2\)"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        (np.zeros((1, 3, 4, 3), np.uint8), r"\(1, 3, 4, 3\)"),
        (None, "NoneType"),
    ],
)
def test_arrays_that_are_no_images(image, received):
    with pytest.raises(ImageError, match=received):
        as_rgb(image)
