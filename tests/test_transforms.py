"""The chains of training and of evaluation against their parts, in order, and what they refuse."""

import io
import math
import pickle

import cv2
import numpy as np
import pytest
from PIL import Image

from mixer_jax.data.crops import (
    horizontal_flip,
    inception_crop,
    random_resize_crop,
    random_resmall_crop,
    resize_crop,
    resmall_crop,
)
from mixer_jax.data.decode import Decoding, ImageError, Picture
from mixer_jax.data.randaugment import rand_augment
from mixer_jax.data.resize import resize_bilinear
from mixer_jax.data.transforms import decoding_of, make_eval_transform, make_train_transform
from mixer_jax.errors import ConfigError

TRAIN = {
    "size": 24,
    "decoding": Decoding(),
    "crop": "inception",
    "resize": 32,
    "flip": True,
    "randaugment_layers": 2,
    "randaugment_magnitude": 15,
}
EVALUATE = {"size": 24, "decoding": Decoding(), "crop": "resmall", "resize": 32}


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(image, extension=".png"):
    """Encodes an RGB or grey image."""
    bgr = image[..., ::-1] if image.ndim == 3 else image
    return cv2.imencode(extension, np.ascontiguousarray(bgr))[1].tobytes()


class TestTrainTransform:
    def test_crops_flips_and_augments_in_this_order(self):
        image = noise(40, 50, 3)
        for seed in range(8):
            rng = np.random.default_rng(seed)
            expected = rand_augment(horizontal_flip(inception_crop(Picture(image), 24, rng), rng), 2, 15, rng)
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
        np.testing.assert_array_equal(result["image"], function(Picture(image), 32, 24, np.random.default_rng(3)))

    def test_none_is_the_resized_image(self):
        plain = {"crop": "none", "flip": False, "randaugment_layers": 0}
        image = noise(40, 50, 3)
        result = make_train_transform(**TRAIN | plain)({"image": image, "label": 0}, np.random.default_rng(0))
        np.testing.assert_array_equal(result["image"], resize_bilinear(image, 24))

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


def test_exif_orientation_is_ignored_unless_asked_for():
    image = noise(8, 16, 3)
    file, quarter_turn = io.BytesIO(), Image.Exif()
    quarter_turn[0x0112] = 6
    Image.fromarray(image).save(file, "PNG", exif=quarter_turn)
    for exif_orientation, expected in ((False, image), (True, np.rot90(image, -1))):
        keys = {"decoding": Decoding(exif_orientation=exif_orientation)}
        ours, theirs = (
            [
                make_train_transform(**TRAIN | keys)({"image": stored, "label": 3}, np.random.default_rng(0)),
                make_eval_transform(**EVALUATE | keys)({"image": stored, "label": 3}),
            ]
            for stored in (file.getvalue(), np.ascontiguousarray(expected))
        )
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one["image"], other["image"])


def test_transforms_can_be_pickled():
    example = {"image": noise(40, 50, 3), "label": 1}
    for transform, rngs in (
        (make_train_transform(**TRAIN), lambda: [np.random.default_rng(0)]),
        (make_eval_transform(**EVALUATE), list),
    ):
        copy = pickle.loads(pickle.dumps(transform))
        np.testing.assert_array_equal(copy(example, *rngs())["image"], transform(example, *rngs())["image"])


def test_decoding_is_that_of_the_keys():
    keys = {"exif_orientation": True, "max_pixels": 20, "damaged": "refuse"}
    assert decoding_of(keys) == Decoding(exif_orientation=True, max_pixels=20, refuse_damaged=True)
    for key, value in (("exif_orientation", "yes"), ("max_pixels", 0), ("max_pixels", 1e6), ("damaged", "count")):
        with pytest.raises(ConfigError, match=f"config.data.{key}={value!r}"):
            decoding_of(keys | {key: value})


def divides_by_zero(*_):
    raise ZeroDivisionError("division by zero")


def test_what_a_transform_raises_of_an_image_is_that_images_error(monkeypatch):
    def too_large(*_, **__):
        raise MemoryError

    example = {"image": noise(40, 50, 3), "label": 0}
    own = {"transforms": ("tests.test_transforms:divides_by_zero",)}
    with pytest.raises(ImageError, match="the transform .*divides_by_zero: ZeroDivisionError: division by zero"):
        make_train_transform(**TRAIN | own)(example, np.random.default_rng(0))
    with pytest.raises(ImageError, match="the transform .*divides_by_zero: ZeroDivisionError: division by zero"):
        make_eval_transform(**EVALUATE | own)(example)
    monkeypatch.setattr("mixer_jax.data.resize.cv2.resize", too_large)
    with pytest.raises(ImageError, match="augmentation: MemoryError"):
        make_train_transform(**TRAIN)(example, np.random.default_rng(0))
    with pytest.raises(ImageError, match="crop: MemoryError"):
        make_eval_transform(**EVALUATE)(example)


def test_a_damaged_jpeg_is_marked_or_refused(damaged_jpeg):
    example = {"image": damaged_jpeg, "label": 0}
    whole = {"crop": "none"}
    assert make_train_transform(**TRAIN | whole)(example, np.random.default_rng(0))["damaged"]
    whole_one = {"image": encode(noise(64, 64, 3), ".jpg"), "label": 0}
    assert not make_train_transform(**TRAIN | whole)(whole_one, np.random.default_rng(0))["damaged"]
    refusing = {"decoding": Decoding(refuse_damaged=True)}
    with pytest.raises(ImageError, match="it is damaged, and config.data.damaged='refuse'"):
        make_train_transform(**TRAIN | whole | refusing)(example, np.random.default_rng(0))
    with pytest.raises(ImageError, match="it is damaged, and config.data.damaged='refuse'"):
        make_eval_transform(**EVALUATE | refusing)(example)
