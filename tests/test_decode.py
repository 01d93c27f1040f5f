"""Decoding against what was encoded: modes, depths, orientations, damage."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from mixer_jax.data.decode import ImageError, as_rgb, decode_image


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(image, extension=".png"):
    """Encodes an RGB or grey image."""
    bgr = image[..., ::-1] if image.ndim == 3 else image
    return cv2.imencode(extension, np.ascontiguousarray(bgr))[1].tobytes()


def test_png_is_exact_and_rgb():
    image = noise(5, 7, 3)
    decoded = decode_image(encode(image))
    np.testing.assert_array_equal(decoded, image)
    assert decoded.dtype == np.uint8


def test_jpeg_is_close():
    image = np.zeros((16, 16, 3), np.uint8)
    image[..., 0] = 200  # red, so that swapped channels show
    assert np.abs(decode_image(encode(image, ".jpg")).astype(int) - image).max() < 8


def test_grey_is_repeated():
    grey = noise(6, 5)
    np.testing.assert_array_equal(decode_image(encode(grey)), np.stack([grey] * 3, axis=-1))


def test_16_bits_keep_the_high_byte():
    deep = np.random.default_rng(0).integers(0, 2**16, (4, 5, 3), dtype=np.uint16)
    np.testing.assert_array_equal(decode_image(encode(deep)), deep >> 8)


def test_alpha_is_dropped():
    image = noise(4, 5, 4)
    encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA))[1].tobytes()
    np.testing.assert_array_equal(decode_image(encoded), image[..., :3])


def test_cmyk():
    image = np.full((16, 16, 3), (200, 60, 20), np.uint8)
    image[8:] = 20, 120, 220
    file = io.BytesIO()
    Image.fromarray(image).convert("CMYK").save(file, "JPEG", quality=95)
    assert np.abs(decode_image(file.getvalue()).astype(int) - image).max() < 8


def test_palette():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 2, 8, 3, 0, 0, 0)  # 2x2 pixels, 8 bits, palette
    palette = bytes([255, 0, 0, 0, 255, 0, 1, 2, 3])
    rows = zlib.compress(bytes([0, 0, 1, 0, 2, 0]))  # each row: filter type, two indices
    chunks = [(b"IHDR", header), (b"PLTE", palette), (b"IDAT", rows), (b"IEND", b"")]
    encoded = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in chunks)
    expected = [[[255, 0, 0], [0, 255, 0]], [[1, 2, 3], [255, 0, 0]]]
    np.testing.assert_array_equal(decode_image(encoded), expected)


def test_exif_orientation_is_ignored_unless_asked_for():
    plain = encode(noise(8, 16, 3), ".jpg")
    # One directory with the one entry 0x0112 (orientation) = 6, a quarter turn.
    tiff = b"MM\x00\x2a" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    segment = b"Exif\x00\x00" + tiff
    turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
    np.testing.assert_array_equal(decode_image(turned), decode_image(plain))
    np.testing.assert_array_equal(decode_image(turned, exif_orientation=True), np.rot90(decode_image(plain), -1))


@pytest.mark.parametrize(
    "encoded", [b"", b"no image", encode(noise(64, 64, 3), ".jpg")[:600], encode(noise(9, 9, 3))[:99]]
)
def test_what_cannot_be_decoded(encoded):
    with pytest.raises(ImageError, match=f"{len(encoded)} bytes") as raised:
        decode_image(encoded)
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
