"""What training and evaluation do to one example, built from the keys of config.data."""

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mixer_jax.config.checks import one_of
from mixer_jax.config.extensions import is_extension, resolve_function
from mixer_jax.data import crops
from mixer_jax.data.decode import as_rgb
from mixer_jax.data.randaugment import rand_augment
from mixer_jax.errors import ConfigError, RunError

_MAX_MAGNITUDE = 30  # the upper end of what the authors of RandAugment recommend
_RESIZED_CROPS = {"resize": crops.random_resize_crop, "resmall": crops.random_resmall_crop}
_TRAIN_CROPS: dict[str, Callable[..., np.ndarray]] = {
    "inception": crops.inception_crop,
    "pad": crops.pad_crop,
    "none": crops.resize_only,
    **_RESIZED_CROPS,
}
EVAL_CROPS = {"resize": crops.resize_crop, "resmall": crops.resmall_crop}


def make_train_transform(
    *,
    size: int,
    exif_orientation: bool,
    crop: str,
    resize: int,
    flip: bool,
    randaugment_layers: int,
    randaugment_magnitude: float,
    transforms: Sequence[str] = (),
) -> Callable[[Mapping, np.random.Generator], dict]:
    """Builds what training does to one example: crop, flip, RandAugment, then transforms of the user's own.

    Args:
      size: config.data.image_size, side of the result in pixels.
      exif_orientation: config.data.exif_orientation, whether to turn images as their EXIF tag says first.
      crop: config.data.train.crop, one of "inception", "pad", "resize", "resmall" and "none".
      resize: config.data.train.resize, in pixels, at least `size` for the crops "resize" and "resmall", which alone
        read it.
      flip: config.data.train.flip, whether to mirror left and right with probability 1/2.
      randaugment_layers: config.data.train.randaugment_layers, operations an image; 0 for none.
      randaugment_magnitude: config.data.train.randaugment_magnitude, from 0 to 30.
      transforms: config.data.train.transforms, "package.module:name" of functions (image, generator) -> image, both
        images uint8 (size, size, 3).

    Returns:
      (example, generator) -> {"image": uint8 (size, size, 3), "label": int32}; the "image" of an example is
      encoded, or uint8 (H, W), (H, W, 1) or (H, W, 3). It can be pickled.

    Raises:
      ConfigError: an argument is not of the values above.
    """
    _check_integer("config.data.image_size", size, 1)
    one_of("config.data.train.crop", str(crop), _TRAIN_CROPS)
    if crop in _RESIZED_CROPS:
        _check_integer("config.data.train.resize", resize, size, " (config.data.image_size)")
    _check_switch("config.data.exif_orientation", exif_orientation)
    _check_switch("config.data.train.flip", flip)
    _check_integer("config.data.train.randaugment_layers", randaugment_layers, 0)
    magnitude = randaugment_magnitude
    if type(magnitude) not in (int, float) or not 0 <= magnitude <= _MAX_MAGNITUDE:
        key = "config.data.train.randaugment_magnitude"
        raise ConfigError(f"{key}={magnitude!r}; expected a number from 0 to {_MAX_MAGNITUDE}")
    return functools.partial(
        _train_example,
        exif_orientation=exif_orientation,
        crop=crop,
        sizes=(resize, size) if crop in _RESIZED_CROPS else (size,),
        flip=flip,
        layers=randaugment_layers,
        magnitude=magnitude,
        own=_own("config.data.train.transforms", transforms),
    )


def _train_example(
    example: Mapping,
    rng: np.random.Generator,
    *,
    exif_orientation: bool,
    crop: str,
    sizes: tuple[int, ...],
    flip: bool,
    layers: int,
    magnitude: float,
    own: Mapping[str, Callable],
) -> dict[str, np.ndarray | np.int32]:
    image = example["image"]
    if exif_orientation:
        image = as_rgb(image, exif_orientation=True)
    image = _TRAIN_CROPS[crop](image, *sizes, rng)
    if flip:
        image = crops.horizontal_flip(image, rng)
    image = rand_augment(image, layers, magnitude, rng)
    for name, transform in own.items():
        image = _checked(name, transform(image, rng), image)
    return {"image": np.ascontiguousarray(image), "label": np.int32(example["label"])}


def make_eval_transform(
    *, size: int, exif_orientation: bool, crop: str, resize: int, transforms: Sequence[str] = ()
) -> Callable[[Mapping], dict]:
    """Builds what evaluation does to one example.

    Args:
      size: config.data.image_size, side of the result in pixels.
      exif_orientation: as in `make_train_transform`.
      crop: config.data.evaluate.crop, "resize" for `crops.resize_crop` or "resmall" for `crops.resmall_crop`.
      resize: config.data.evaluate.resize, in pixels, at least `size`.
      transforms: config.data.evaluate.transforms, as in training, but called with an image alone.

    Returns:
      example -> {"image": uint8 (size, size, 3), "label": int32}, for examples as in `make_train_transform`.

    Raises:
      ConfigError: an argument is not of the values above.
    """
    _check_integer("config.data.image_size", size, 1)
    _check_switch("config.data.exif_orientation", exif_orientation)
    one_of("config.data.evaluate.crop", str(crop), EVAL_CROPS)
    _check_integer("config.data.evaluate.resize", resize, size, " (config.data.image_size)")
    own = _own("config.data.evaluate.transforms", transforms)
    return functools.partial(
        _eval_example, size=size, exif_orientation=exif_orientation, crop=crop, resize=resize, own=own
    )


def _eval_example(
    example: Mapping, *, size: int, exif_orientation: bool, crop: str, resize: int, own: Mapping[str, Callable]
) -> dict[str, np.ndarray]:
    image = EVAL_CROPS[crop](as_rgb(example["image"], exif_orientation=exif_orientation), resize, size)
    for name, transform in own.items():
        image = _checked(name, transform(image), image)
    return {"image": np.ascontiguousarray(image), "label": np.asarray(example["label"], np.int32)}


def _own(key: str, names: Sequence[str]) -> dict[str, Callable]:
    """Returns the functions of the user's own by the names that a config gives them."""
    if isinstance(names, str) or not all(is_extension(name) for name in names):
        raise ConfigError(f"{key}={names!r}; expected a tuple of package.module:name")
    return {name: resolve_function(key, name) for name in names}


def _checked(name: str, image: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Returns what a transform of the user's own made, or raises a RunError if it is no image of the same size."""
    received = (getattr(image, "dtype", type(image).__name__), getattr(image, "shape", None))
    if received != (before.dtype, before.shape):
        raise RunError(f"the transform {name} returned {received}; expected {(before.dtype, before.shape)}")
    return image


def _check_integer(key: str, value: int, least: int, why: str = "") -> None:
    if type(value) is not int or value < least:  # isinstance would let True pass
        raise ConfigError(f"{key}={value!r}; expected an integer of at least {least}{why}")


def _check_switch(key: str, value: bool) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{key}={value!r}; expected True or False")
