"""Decoding, crops and transform chains against slow references, closed forms and golden values."""

import io
import math
import pickle
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from mixer_jax.config import ConfigError
from mixer_jax.data import transforms
from mixer_jax.data.decode import ImageError, as_rgb, decode_image
from mixer_jax.data.randaugment import rand_augment
from mixer_jax.data.transforms import (
    central_crop,
    horizontal_flip,
    inception_crop,
    make_eval_transform,
    make_train_transform,
    pad_crop,
    random_resize_crop,
    random_resmall_crop,
    resize_crop,
    resize_image,
    resmall_crop,
)

TRAIN = {
    "size": 24,
    "exif_orientation": False,
    "crop": "inception",
    "resize": 32,
    "flip": True,
    "randaugment_layers": 2,
    "randaugment_magnitude": 15,
}
EVALUATE = {"size": 24, "exif_orientation": False, "crop": "resmall", "resize": 32}


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(image, extension=".png"):
    """Encodes an RGB or grey image."""
    bgr = image[..., ::-1] if image.ndim == 3 else image
    return cv2.imencode(extension, np.ascontiguousarray(bgr))[1].tobytes()


def slow_bilinear(image, height, width):
    """Interpolation between the four nearest pixel centres, without antialiasing, in float64."""
    result = np.zeros((height, width, 3))
    for y, x in np.ndindex(height, width):
        down = min(max((y + 0.5) * image.shape[0] / height - 0.5, 0), image.shape[0] - 1)
        across = min(max((x + 0.5) * image.shape[1] / width - 0.5, 0), image.shape[1] - 1)
        top, left = int(down), int(across)
        bottom, right = min(top + 1, image.shape[0] - 1), min(left + 1, image.shape[1] - 1)
        upper = image[top, left] * (left + 1 - across) + image[top, right] * (across - left)
        lower = image[bottom, left] * (left + 1 - across) + image[bottom, right] * (across - left)
        result[y, x] = upper * (top + 1 - down) + lower * (down - top)
    return result


def area_weights(size, result):
    """(result, size) shares of each input pixel in each output pixel."""
    edges = np.arange(result + 1) * size / result
    overlap = np.minimum(edges[1:, None], np.arange(size) + 1) - np.maximum(edges[:-1, None], np.arange(size))
    return np.maximum(overlap, 0) * result / size


def slow_area(image, height, width):
    rows, columns = area_weights(image.shape[0], height), area_weights(image.shape[1], width)
    return np.einsum("yh,hwc,xw->yxc", rows, image.astype(float), columns)


class TestDecode:
    def test_png_is_exact_and_rgb(self):
        image = noise(5, 7, 3)
        decoded = decode_image(encode(image))
        np.testing.assert_array_equal(decoded, image)
        assert decoded.dtype == np.uint8

    def test_jpeg_is_close(self):
        image = np.zeros((16, 16, 3), np.uint8)
        image[..., 0] = 200  # red, so that swapped channels show
        assert np.abs(decode_image(encode(image, ".jpg")).astype(int) - image).max() < 8

    def test_grey_is_repeated(self):
        grey = noise(6, 5)
        np.testing.assert_array_equal(decode_image(encode(grey)), np.stack([grey] * 3, axis=-1))

    def test_16_bits_keep_the_high_byte(self):
        deep = np.random.default_rng(0).integers(0, 2**16, (4, 5, 3), dtype=np.uint16)
        np.testing.assert_array_equal(decode_image(encode(deep)), deep >> 8)

    def test_alpha_is_dropped(self):
        image = noise(4, 5, 4)
        encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA))[1].tobytes()
        np.testing.assert_array_equal(decode_image(encoded), image[..., :3])

    def test_cmyk(self):
        image = np.full((16, 16, 3), (200, 60, 20), np.uint8)
        image[8:] = 20, 120, 220
        file = io.BytesIO()
        Image.fromarray(image).convert("CMYK").save(file, "JPEG", quality=95)
        assert np.abs(decode_image(file.getvalue()).astype(int) - image).max() < 8

    def test_palette(self):
        def chunk(kind, data):
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        header = struct.pack(">IIBBBBB", 2, 2, 8, 3, 0, 0, 0)  # 2x2 pixels, 8 bits, palette
        palette = bytes([255, 0, 0, 0, 255, 0, 1, 2, 3])
        rows = zlib.compress(bytes([0, 0, 1, 0, 2, 0]))  # each row: filter type, two indices
        chunks = [(b"IHDR", header), (b"PLTE", palette), (b"IDAT", rows), (b"IEND", b"")]
        encoded = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in chunks)
        expected = [[[255, 0, 0], [0, 255, 0]], [[1, 2, 3], [255, 0, 0]]]
        np.testing.assert_array_equal(decode_image(encoded), expected)

    def test_exif_orientation_is_ignored_unless_asked_for(self):
        plain = encode(noise(8, 16, 3), ".jpg")
        # One directory with the one entry 0x0112 (orientation) = 6, a quarter turn.
        tiff = b"MM\x00\x2a" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
        segment = b"Exif\x00\x00" + tiff
        turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
        np.testing.assert_array_equal(decode_image(turned), decode_image(plain))
        np.testing.assert_array_equal(decode_image(turned, exif_orientation=True), np.rot90(decode_image(plain), -1))
        for exif_orientation, expected in ((False, plain), (True, encode(np.rot90(decode_image(plain), -1)))):
            keys = {"exif_orientation": exif_orientation}
            ours, theirs = (
                [
                    make_train_transform(**TRAIN | keys)({"image": image, "label": 3}, np.random.default_rng(0)),
                    make_eval_transform(**EVALUATE | keys)({"image": image, "label": 3}),
                ]
                for image in (turned, expected)
            )
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(one["image"], other["image"])

    @pytest.mark.parametrize(
        "encoded", [b"", b"no image", encode(noise(64, 64, 3), ".jpg")[:600], encode(noise(9, 9, 3))[:99]]
    )
    def test_what_cannot_be_decoded(self, encoded):
        with pytest.raises(ImageError, match=f"{len(encoded)} bytes") as raised:
            decode_image(encoded)
        assert repr(encoded[:8])[2:-1] in str(raised.value)

    def test_arrays(self):
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
    def test_arrays_that_are_no_images(self, image, received):
        with pytest.raises(ImageError, match=received):
            as_rgb(image)


class TestInceptionCrop:
    def sample(self, height=375, width=500, area=(0.05, 1.0), aspect=(0.75, 1.33), count=4000):
        rng = np.random.default_rng(0)
        return np.array([transforms._sample_box(height, width, rng, area, aspect) for _ in range(count)])

    def test_boxes_keep_area_aspect_and_bounds(self):
        top, left, height, width = self.sample().T
        area = height * width / (375 * 500)
        assert area.min() >= 0.05
        assert area.min() < 0.055
        assert area.max() <= 1
        assert area.max() > 0.95
        # The width is rounded, so the ratio is only known to half a pixel.
        assert ((width + 0.5) / height).min() >= 0.75
        assert ((width - 0.5) / height).max() <= 1.33
        # The last position is never drawn, unless it is the only one.
        assert ((top < 375 - height) | (height == 375) & (top == 0)).all()
        assert ((left < 500 - width) | (width == 500) & (left == 0)).all()

    def test_aspect_and_height_are_uniform(self):
        _, _, height, width = self.sample().T
        ratio = width / height
        for share in (0.25, 0.5, 0.75):
            assert np.quantile(ratio, share) == pytest.approx(0.75 + share * 0.58, abs=0.015)
        least = np.sqrt(0.05 * 375 * 500 / ratio)
        most = np.minimum(375, 500 / ratio)  # the area is then at most 1
        place = (height - least) / (most - least)
        for share in (0.25, 0.5, 0.75):
            assert np.quantile(place, share) == pytest.approx(share, abs=0.03)

    def test_positions_are_uniform(self):
        top, left, height, width = self.sample(area=(0.1, 0.2)).T
        for place in (top / (375 - height), left / (500 - width)):
            counts = np.histogram(place, bins=10, range=(0, 1))[0]
            assert np.abs(counts - 400).max() < 4 * math.sqrt(400)

    def test_other_ranges(self):
        _, _, height, width = self.sample(area=(0.3, 0.4), aspect=(2.0, 2.5), count=500).T
        area = height * width / (375 * 500)
        assert area.min() >= 0.3
        assert area.max() <= 0.4
        assert ((width + 0.5) / height).min() >= 2
        assert ((width - 0.5) / height).max() <= 2.5

    @pytest.mark.parametrize(("height", "width"), [(1000, 10), (10, 1000), (1, 1), (1, 50)])
    def test_whole_image_where_no_box_fits(self, height, width):
        assert (self.sample(height, width, area=(0.5, 1.0), count=20) == [0, 0, height, width]).all()

    def test_crop_is_the_resized_box(self):
        image = noise(37, 50, 3)
        for seed in range(5):
            box = np.random.default_rng(seed)
            top, left, height, width = transforms._sample_box(37, 50, box, (0.05, 1.0), (0.75, 1.33))
            expected = slow_bilinear(image[top : top + height, left : left + width], 24, 24)
            crop = inception_crop(image, 24, np.random.default_rng(seed))
            assert crop.dtype == np.uint8
            assert np.abs(crop - expected).max() < 1  # OpenCV's weights have 11 bits

    def test_golden_value(self):
        # A change here changes every training run: find out why before you update it.
        rng = np.random.default_rng(0)
        image = cv2.GaussianBlur(noise(375, 500, 3), (9, 9), 3)
        crops = [inception_crop(image, 64, rng) for _ in range(4)]
        assert zlib.crc32(np.stack(crops).tobytes()) == 1384523290


class TestResize:
    def test_area_average_of_whole_blocks(self):
        image = noise(12, 20, 3)
        means = image.reshape(4, 3, 5, 4, 3).mean(axis=(1, 3))  # (4 rows of 3, 5 columns of 4, 3)
        assert np.abs(resize_image(image, 4, 5) - means).max() <= 0.5

    @pytest.mark.parametrize("shape", [(7, 11), (10, 4), (13, 9)])
    def test_shrinking_is_the_area_average(self, shape):
        image = noise(13, 11, 3)
        assert np.abs(resize_image(image, *shape) - slow_area(image, *shape)).max() <= 0.51

    @pytest.mark.parametrize("shape", [(26, 22), (20, 17), (13, 30)])
    def test_growing_is_bilinear(self, shape):
        image = noise(13, 11, 3)
        assert np.abs(resize_image(image, *shape) - slow_bilinear(image, *shape)).max() < 1

    def test_one_side_shrinks_and_one_grows(self):
        image = noise(6, 30, 3)
        expected = slow_bilinear(slow_area(image, 6, 10), 9, 10)
        assert np.abs(resize_image(image, 9, 10) - expected).max() < 1.5  # two roundings

    def test_right_size_is_unchanged(self):
        image = noise(9, 8, 3)
        assert resize_image(image, 9, 8) is image
        np.testing.assert_array_equal(resize_crop(noise(9, 9, 3), 9, 9), noise(9, 9, 3))
        np.testing.assert_array_equal(resmall_crop(noise(9, 9, 3), 9, 9), noise(9, 9, 3))


class TestEvalCrops:
    @pytest.mark.parametrize(("shape", "top", "left"), [((10, 12), 2, 3), ((11, 13), 2, 3), ((6, 7), 0, 0)])
    def test_central_crop_rounds_the_offset_down(self, shape, top, left):
        image = noise(*shape, 3)
        np.testing.assert_array_equal(central_crop(image, 6), image[top : top + 6, left : left + 6])

    def test_central_crop_needs_a_larger_image(self):
        with pytest.raises(ValueError, match="7x7 from a 6x9"):
            central_crop(noise(6, 9, 3), 7)

    def test_resize_crop_ignores_the_aspect_ratio(self):
        image = noise(60, 90, 3)
        square = slow_area(image, 32, 32)
        assert np.abs(resize_crop(image, 32, 24) - square[4:28, 4:28]).max() <= 0.51

    @pytest.mark.parametrize(
        ("shape", "resized"),
        [
            ((375, 500), (256, 341)),  # 341.33
            ((500, 375), (341, 256)),
            ((333, 500), (256, 384)),  # 384.38
            ((256, 256), (256, 256)),
            ((512, 513), (256, 256)),  # 256.5: half to even
            ((512, 515), (256, 258)),  # 257.5: half to even
            ((100, 150), (256, 384)),  # enlarged
        ],
    )
    def test_resmall_crop(self, shape, resized):
        image = noise(*shape, 3)
        top, left = ((side - 224) // 2 for side in resized)
        expected = resize_image(image, *resized)[top : top + 224, left : left + 224]
        np.testing.assert_array_equal(resmall_crop(image, 256, 224), expected)


class TestTrainCrops:
    def test_pad_crop_draws_every_position_alike(self):
        image = noise(16, 16, 3)
        padded = np.zeros((20, 20, 3), np.uint8)
        padded[2:18, 2:18] = image
        windows = [padded[y : y + 16, x : x + 16].tobytes() for y in range(5) for x in range(5)]
        rng = np.random.default_rng(0)
        counts = np.zeros(25)
        for _ in range(5000):
            counts[windows.index(pad_crop(image, 16, rng).tobytes())] += 1
        assert np.abs(counts - 200).max() < 4 * math.sqrt(200)

    def test_pad_crop_resizes_other_images(self):
        image = noise(40, 20, 3)
        resized = resize_image(image, 16, 16)
        crops = [pad_crop(x, 16, np.random.default_rng(1)) for x in (image, resized)]
        np.testing.assert_array_equal(*crops)

    @pytest.mark.parametrize(
        ("crop", "resized"),
        [(random_resize_crop, (20, 20)), (random_resmall_crop, (20, 22))],
        ids=["resize", "resmall"],
    )
    def test_resized_crops_draw_every_position_alike(self, crop, resized):
        image = noise(40, 44, 3)
        whole = resize_image(image, *resized)
        positions = [(y, x) for y in range(resized[0] - 15) for x in range(resized[1] - 15)]
        windows = [whole[y : y + 16, x : x + 16].tobytes() for y, x in positions]
        rng = np.random.default_rng(0)
        counts = np.zeros(len(windows))
        for _ in range(200 * len(windows)):
            counts[windows.index(crop(image, 20, 16, rng).tobytes())] += 1
        assert np.abs(counts - 200).max() < 4 * math.sqrt(200)

    def test_flip(self):
        image = noise(5, 6, 3)
        rng = np.random.default_rng(0)
        flips = 0
        for _ in range(4000):
            flipped = horizontal_flip(image, rng)
            mirrored = (flipped == image[:, ::-1]).all()
            assert mirrored or (flipped == image).all()
            flips += mirrored
        assert abs(flips - 2000) < 4 * math.sqrt(1000)


class TestTrainTransform:
    def test_crops_flips_and_augments_in_this_order(self):
        image = noise(40, 50, 3)
        for seed in range(8):
            rng = np.random.default_rng(seed)
            expected = rand_augment(horizontal_flip(inception_crop(image, 24, rng), rng), 2, 15, rng)
            result = make_train_transform(**TRAIN)({"image": image, "label": 3}, np.random.default_rng(seed))
            np.testing.assert_array_equal(result["image"], expected)
            assert result["label"] == 3
            assert result["label"].dtype == np.int32

    @pytest.mark.parametrize("crop", ["inception", "pad", "resize", "resmall", "none"])
    def test_same_image_however_it_is_stored(self, crop):
        transform = make_train_transform(**TRAIN | {"crop": crop})
        grey = noise(40, 50)
        stored = [encode(grey), grey, grey[..., None], np.stack([grey] * 3, axis=-1)]
        results = [transform({"image": x, "label": 0}, np.random.default_rng(4))["image"] for x in stored]
        for image in results:
            assert image.shape == (24, 24, 3)
            assert image.dtype == np.uint8
            assert image.flags.c_contiguous
            np.testing.assert_array_equal(image, results[0])

    @pytest.mark.parametrize(("crop", "function"), [("resize", random_resize_crop), ("resmall", random_resmall_crop)])
    def test_resized_crops(self, crop, function):
        plain = {"crop": crop, "flip": False, "randaugment_layers": 0}
        image = noise(40, 50, 3)
        result = make_train_transform(**TRAIN | plain)({"image": image, "label": 0}, np.random.default_rng(3))
        np.testing.assert_array_equal(result["image"], function(image, 32, 24, np.random.default_rng(3)))

    def test_none_is_the_resized_image(self):
        plain = {"crop": "none", "flip": False, "randaugment_layers": 0}
        image = noise(40, 50, 3)
        result = make_train_transform(**TRAIN | plain)({"image": image, "label": 0}, np.random.default_rng(0))
        np.testing.assert_array_equal(result["image"], resize_image(image, 24, 24))

    def test_equal_seeds_give_equal_images(self):
        transform = make_train_transform(**TRAIN)
        example = {"image": noise(375, 500, 3), "label": 0}
        images = [transform(example, np.random.default_rng(s))["image"].tobytes() for s in (0, 0, 1, 2)]
        assert images[0] == images[1]
        assert len(set(images)) == 3

    def test_example_is_left_as_it_is(self):
        image = noise(24, 24, 3)
        transform = make_train_transform(**TRAIN | {"crop": "none"})
        for seed in range(20):
            transform({"image": image, "label": 0}, np.random.default_rng(seed))
        np.testing.assert_array_equal(image, noise(24, 24, 3))

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("size", 0, "data.image_size=0;.* at least 1"),
            ("size", 24.0, "data.image_size=24.0"),
            ("crop", "inceptoin", "data.train.crop='inceptoin'.*'inception'"),
            ("crop", None, "data.train.crop='None'.*'none'"),
            ("flip", 1, "data.train.flip=1; expected True or False"),
            ("exif_orientation", "yes", "data.exif_orientation='yes'; expected True or False"),
            ("randaugment_layers", -1, "data.train.randaugment_layers=-1;.* at least 0"),
            ("randaugment_layers", True, "data.train.randaugment_layers=True"),
            ("randaugment_magnitude", 31, "data.train.randaugment_magnitude=31;.* 0 to 30"),
            ("randaugment_magnitude", math.nan, "data.train.randaugment_magnitude=nan"),
            ("randaugment_magnitude", "15", "data.train.randaugment_magnitude='15'"),
        ],
    )
    def test_wrong_arguments(self, key, value, message):
        with pytest.raises(ConfigError, match=message):
            make_train_transform(**TRAIN | {key: value})

    def test_only_the_crops_that_resize_need_a_size_to_crop_from(self):
        make_train_transform(**TRAIN | {"resize": 23})
        with pytest.raises(ConfigError, match="data.train.resize=23;.* at least 24"):
            make_train_transform(**TRAIN | {"crop": "resmall", "resize": 23})


class TestEvalTransform:
    @pytest.mark.parametrize(("crop", "function"), [("resize", resize_crop), ("resmall", resmall_crop)])
    def test_crops(self, crop, function):
        image = noise(40, 50, 3)
        result = make_eval_transform(**EVALUATE | {"crop": crop})({"image": encode(image), "label": 7})
        np.testing.assert_array_equal(result["image"], function(image, 32, 24))
        assert result["image"].flags.c_contiguous
        assert result["label"] == 7
        assert result["label"].dtype == np.int32

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("size", -1, "data.image_size=-1"),
            ("crop", "resmal", "data.evaluate.crop='resmal'.*'resmall'"),
            ("resize", 23, "data.evaluate.resize=23;.* at least 24"),
            ("resize", None, "data.evaluate.resize=None"),
        ],
    )
    def test_wrong_arguments(self, key, value, message):
        with pytest.raises(ConfigError, match=message):
            make_eval_transform(**EVALUATE | {key: value})


def test_transforms_can_be_pickled():
    example = {"image": noise(40, 50, 3), "label": 1}
    for transform, rngs in (
        (make_train_transform(**TRAIN), lambda: [np.random.default_rng(0)]),
        (make_eval_transform(**EVALUATE), list),
    ):
        copy = pickle.loads(pickle.dumps(transform))
        np.testing.assert_array_equal(copy(example, *rngs())["image"], transform(example, *rngs())["image"])
