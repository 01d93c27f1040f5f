"""Decoding a box of a JPEG gives the pixels of decoding all of it, for every kind; what is broken is refused."""

import concurrent.futures
import io

import cv2
import numpy as np
import pytest
from PIL import Image

from mixer_jax.data import jpeg
from mixer_jax.data.crops import inception_crop
from mixer_jax.data.decode import ImageError, Picture, as_rgb

SAMPLINGS = {
    name: getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{name}") for name in ("444", "422", "420", "440", "411")
} | {"grey": None}
SIZES = [(1, 1), (8, 8), (17, 33), (64, 48), (95, 131)]


def photo(height, width, seed=0):
    """Smooth colours with some noise, so that blocks, their borders and subsampled colour all matter."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.addWeighted(cv2.GaussianBlur(noise, (9, 9), 3), 0.8, noise, 0.2, 0)


def encode(height, width, sampling="420", quality=85, seed=0, *options):
    image = photo(height, width, seed)
    if sampling == "grey":
        image = image[..., 0]
    else:
        options = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLINGS[sampling], *options)
    return cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality, *options))[1].tobytes()


def cmyk(height, width):
    file = io.BytesIO()
    Image.fromarray(photo(height, width)).convert("CMYK").save(file, "JPEG")
    return file.getvalue()


def boxes(height, width, count=12):
    """The whole image, its single corner pixels, and random boxes."""
    yield 0, 0, height, width
    yield 0, 0, 1, 1
    yield height - 1, width - 1, 1, 1
    rng = np.random.default_rng(height * width)
    for _ in range(count):
        top, left = int(rng.integers(height)), int(rng.integers(width))
        yield top, left, int(rng.integers(1, height - top + 1)), int(rng.integers(1, width - left + 1))


def by_opencv(encoded):
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


def assert_boxes_are_those_of_the_whole(encoded, count=12):
    whole = by_opencv(encoded)
    np.testing.assert_array_equal(as_rgb(encoded), whole)
    for top, left, height, width in boxes(*whole.shape[:2], count):
        seen = []

        def choose(*size, box=(top, left, height, width), seen=seen):
            seen.append(size)
            return box

        box = Picture(encoded).crop(choose)
        np.testing.assert_array_equal(box, whole[top : top + height, left : left + width])
        assert seen == [whole.shape[:2]]


@pytest.fixture(autouse=True, params=["region.c", "whole"])
def way(request, monkeypatch):
    """Each test is for both ways of decoding a box."""
    if request.param == "whole":
        monkeypatch.setattr(jpeg, "_REGION", None)
    elif not jpeg.REGION_IS_BUILT:
        pytest.skip("region.c is not built: no C compiler, or no headers of libjpeg-turbo")
    return request.param


@pytest.mark.parametrize("quality", [20, 85, 100])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_boxes_are_those_of_the_whole(sampling, quality):
    for size in SIZES:
        assert_boxes_are_those_of_the_whole(encode(*size, sampling, quality))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_first_and_last_row_and_column(sampling):
    encoded = encode(40, 56, sampling)  # of subsampled colour, two and a half blocks by three and a half
    whole = by_opencv(encoded)
    np.testing.assert_array_equal(as_rgb(encoded), whole)
    for edge in range(1, 40):
        for box in ((0, 0, edge, 56), (edge, 0, 40 - edge, 56), (0, 0, 40, edge), (0, edge, 40, 56 - edge)):
            top, left, height, width = box
            received = Picture(encoded).crop(lambda *_, box=box: box)
            np.testing.assert_array_equal(received, whole[top : top + height, left : left + width])


@pytest.mark.parametrize(
    "encoded",
    [
        *(encode(64, 48, sampling) for sampling in SAMPLINGS),
        encode(64, 48, "420", 85, 0, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        encode(64, 48, "420", 85, 0, cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    ],
    ids=[*SAMPLINGS, "progressive", "restart markers"],
)
def test_region_c_decodes_what_is_common_by_itself(encoded, way, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("OpenCV decoded the whole image")

    assert_boxes_are_those_of_the_whole(encoded)
    if way == "region.c":
        assert jpeg.read_size(encoded) == (64, 48)
        monkeypatch.setattr("mixer_jax.data.decode.cv2.imdecode", refuse)
        assert Picture(encoded).crop(lambda height, width: (3, 4, height // 2, width // 2)).shape == (32, 24, 3)


def test_rows_below_the_box_are_not_decoded(way):
    encoded = encode(160, 160, "444", 95)
    broken = encoded[: len(encoded) // 2] + bytes(len(encoded) // 2 - 2) + encoded[-2:]
    if way == "region.c":
        box = Picture(broken).crop(lambda *_: (0, 0, 32, 160))
        np.testing.assert_array_equal(box, by_opencv(encoded)[:32])


@pytest.mark.parametrize(
    "encoded",
    [
        cmyk(40, 50),
        cv2.imencode(".png", photo(40, 50))[1].tobytes(),
        cv2.imencode(".webp", photo(40, 50))[1].tobytes(),
    ],
    ids=["CMYK", "PNG", "WebP"],
)
def test_other_kinds_are_decoded_whole(encoded):
    assert jpeg.read_size(encoded) is None
    assert_boxes_are_those_of_the_whole(encoded)


def test_what_stands_before_the_frame_and_behind_the_image():
    encoded = encode(64, 48)
    padding = b"\xff\xff"  # is allowed before a marker
    comment = b"\xff\xfe\x00\x08\xff\xc0ab\xff\xda"  # holds what looks like markers
    thumbnail = b"\xff\xe1" + (len(encoded) + 2).to_bytes(2, "big") + encoded
    for header in (padding, comment, thumbnail):
        assert_boxes_are_those_of_the_whole(encoded[:2] + header + encoded[2:])
    assert_boxes_are_those_of_the_whole(encoded + bytes(100))


@pytest.mark.parametrize("keep", [0, 1, 2, 3, 5, 100, 300, 2000])
def test_cut_short(keep):
    encoded = encode(160, 160, "444", 95)
    thumbnail = b"\xff\xe1" + (len(encoded) + 2).to_bytes(2, "big") + encoded  # has an end of its own
    for file in (encoded[:keep], encoded[:2] + thumbnail + encoded[2 : keep + 2]):
        with pytest.raises(ImageError, match=f"{len(file)} bytes"):
            Picture(file).crop(lambda *_: (0, 0, 8, 8))


def test_cut_anywhere_is_met_without_a_crash():
    encoded = encode(24, 24)
    for keep in range(len(encoded) - 2):
        with pytest.raises(ImageError):
            Picture(encoded[:keep]).crop(lambda *_: (0, 0, 8, 8))


def test_noise_in_the_bytes_is_met_without_a_crash():
    encoded = encode(32, 32)
    rng = np.random.default_rng(0)
    for _ in range(300):
        noisy = bytearray(encoded)
        for at in rng.integers(2, len(encoded), 3):
            noisy[at] = rng.integers(256)
        try:
            box = Picture(bytes(noisy)).crop(lambda height, width: (0, 0, min(height, 8), min(width, 8)))
        except ImageError:
            continue
        assert box.ndim == 3


def test_threads_do_not_share_pixels():
    files = [encode(64, 64, seed=seed) for seed in range(8)]
    expected = [inception_crop(Picture(as_rgb(file)), 32, np.random.default_rng(0)) for file in files]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        crops = pool.map(lambda n: inception_crop(Picture(files[n % 8]), 32, np.random.default_rng(0)), range(200))
        for n, crop in enumerate(crops):
            np.testing.assert_array_equal(crop, expected[n % 8])
