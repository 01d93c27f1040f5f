"""What training and evaluation do to one example, built from the keys of config.data."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import cv2
import numpy as np

from mixer_jax.config.checks import one_of
from mixer_jax.config.extensions import is_extension, resolve_function
from mixer_jax.data import crops
from mixer_jax.data.decode import Decoding, ImageError, Picture
from mixer_jax.data.randaugment import rand_augment
from mixer_jax.errors import ConfigError, RunError, in_short

_MAX_MAGNITUDE = 30  # the upper end of what the authors of RandAugment recommend
_RESIZED_CROPS = {"resize": crops.random_resize_crop, "resmall": crops.random_resmall_crop}
_TRAIN_CROPS: dict[str, Callable[..., np.ndarray]] = {
    "inception": crops.inception_crop,
    "pad": crops.pad_crop,
    "none": crops.resize_only,
    **_RESIZED_CROPS,
}
EVAL_CROPS = {"resize": crops.resize_crop, "resmall": crops.resmall_crop}


def decoding_of(data: Mapping) -> Decoding:
    """Returns how images are decoded.

    Args:
      data: config.data, of which these keys count: exif_orientation, whether to turn images as their EXIF tag says;
        max_pixels of an image, of which a larger one counts as undecodable; and damaged, "use" or "refuse", what
        becomes of JPEGs whose damage libjpeg fills by guessing.

    Raises:
      ConfigError: a value is of another kind.
    """
    exif_orientation, max_pixels, damaged = data["exif_orientation"], data["max_pixels"], data["damaged"]
    _check_switch("config.data.exif_orientation", exif_orientation)
    _check_integer("config.data.max_pixels", max_pixels, 1)
    one_of("config.data.damaged", damaged, ("use", "refuse"))
    return Decoding(exif_orientation, max_pixels, refuse_damaged=damaged == "refuse")


def make_train_transform(
    *,
    size: int,
    decoding: Decoding,
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
      decoding: how images are decoded.
      crop: config.data.train.crop, one of "inception", "pad", "resize", "resmall" and "none".
      resize: config.data.train.resize, in pixels, at least `size` for the crops "resize" and "resmall", which alone
        read it.
      flip: config.data.train.flip, whether to mirror left and right with probability 1/2.
      randaugment_layers: config.data.train.randaugment_layers, operations an image; 0 for none.
      randaugment_magnitude: config.data.train.randaugment_magnitude, from 0 to 30.
      transforms: config.data.train.transforms, "package.module:name" of functions (image, generator) -> image, both
        images uint8 (size, size, 3).

    Returns:
      (example, generator) -> {"image": uint8 (size, size, 3), "label": int32, "damaged": bool, see
      `decode.Picture`}; the "image" of an example is encoded, or uint8 (H, W), (H, W, 1) or (H, W, 3). It raises an
      ImageError if the image cannot be decoded or shown so. It can be pickled.

    Raises:
      ConfigError: an argument is not of the values above.
    """
    _check_integer("config.data.image_size", size, 1)
    one_of("config.data.train.crop", str(crop), _TRAIN_CROPS)
    if crop in _RESIZED_CROPS:
        _check_integer("config.data.train.resize", resize, size, " (config.data.image_size)")
    _check_switch("config.data.train.flip", flip)
    _check_integer("config.data.train.randaugment_layers", randaugment_layers, 0)
    magnitude = randaugment_magnitude
    if type(magnitude) not in (int, float) or not 0 <= magnitude <= _MAX_MAGNITUDE:
        key = "config.data.train.randaugment_magnitude"
        raise ConfigError(f"{key}={magnitude!r}; expected a number from 0 to {_MAX_MAGNITUDE}")
    return functools.partial(
        _train_example,
        decoding=decoding,
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
    decoding: Decoding,
    crop: str,
    sizes: tuple[int, ...],
    flip: bool,
    layers: int,
    magnitude: float,
    own: Mapping[str, Callable],
) -> dict[str, np.ndarray | np.int32 | np.bool_]:
    picture = Picture(example["image"], decoding)
    with _error_of_the_image("augmentation"):
        image = _TRAIN_CROPS[crop](picture, *sizes, rng)
        if flip:
            image = crops.horizontal_flip(image, rng)
        image = rand_augment(image, layers, magnitude, rng)
    image = _by_own(own, image, rng)
    return {
        "image": np.ascontiguousarray(image),
        "label": np.int32(example["label"]),
        "damaged": np.bool_(picture.damaged),
    }


def make_eval_transform(
    *, size: int, decoding: Decoding, crop: str, resize: int, transforms: Sequence[str] = ()
) -> Callable[[Mapping], dict]:
    """Builds what evaluation does to one example.

    Args:
      size: config.data.image_size, side of the result in pixels.
      decoding: how images are decoded.
      crop: config.data.evaluate.crop, "resize" for `crops.resize_crop` or "resmall" for `crops.resmall_crop`.
      resize: config.data.evaluate.resize, in pixels, at least `size`.
      transforms: config.data.evaluate.transforms, as in training, but called with an image alone.

    Returns:
      example -> {"image": uint8 (size, size, 3), "label": int32}, for examples and with errors as in
      `make_train_transform`.

    Raises:
      ConfigError: an argument is not of the values above.
    """
    _check_integer("config.data.image_size", size, 1)
    one_of("config.data.evaluate.crop", str(crop), EVAL_CROPS)
    _check_integer("config.data.evaluate.resize", resize, size, " (config.data.image_size)")
    own = _own("config.data.evaluate.transforms", transforms)
    return functools.partial(_eval_example, size=size, decoding=decoding, crop=crop, resize=resize, own=own)


def _eval_example(
    example: Mapping, *, size: int, decoding: Decoding, crop: str, resize: int, own: Mapping[str, Callable]
) -> dict[str, np.ndarray]:
    with _error_of_the_image("crop"):
        image = EVAL_CROPS[crop](Picture(example["image"], decoding).rgb(), resize, size)
    image = _by_own(own, image)
    return {"image": np.ascontiguousarray(image), "label": np.asarray(example["label"], np.int32)}


def _own(key: str, names: Sequence[str]) -> dict[str, Callable]:
    """Returns the functions of the user's own by the names that a config gives them."""
    if isinstance(names, str) or not all(is_extension(name) for name in names):
        raise ConfigError(f"{key}={names!r}; expected a tuple of package.module:name")
    return {name: resolve_function(key, name) for name in names}


@contextlib.contextmanager
def _error_of_the_image(what: str) -> Iterator[None]:
    """Turns what a transform raises of one image, such as one too large for the memory, into an ImageError."""
    try:
        yield
    except (cv2.error, MemoryError) as error:
        raise ImageError(f"{what}: {in_short(error)}") from error


def _by_own(own: Mapping[str, Callable], image: np.ndarray, *rng: np.random.Generator) -> np.ndarray:
    """Applies the transforms of the user's own; what one raises is an ImageError that names it."""
    for name, transform in own.items():
        try:
            transformed = transform(image, *rng)
        except Exception as error:
            raise ImageError(f"the transform {name}: {in_short(error)}") from error
        image = _checked(name, transformed, image)
    return image


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
