"""Crops of one image, with or without a resize, and the mirror: each from any size to a square.

All randomness comes from the NumPy generator that is passed in. The crops are those of google-research/big_vision
`pp/ops_image.py`, called the reference below, and so are the two ways to resize: to a square bilinearly without
antialiasing, to a shorter side by area averages. Both are on uint8, within one grey level of the exact value, as is the
reference, which truncates.
"""

import math

import cv2
import numpy as np

from mixer_jax.data.decode import Picture
from mixer_jax.data.resize import resize_area, resize_bilinear

_CROP_ATTEMPTS = 100  # default of tf.image.sample_distorted_bounding_box


def _sample_box(
    height: int, width: int, rng: np.random.Generator, area: tuple[float, float], aspect: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Samples top, left, height and width of a box as tf.image.sample_distorted_bounding_box does.

    The aspect ratio is uniform and, given the ratio, the height; the area and the ratio's logarithm are not.
    """
    smallest, largest = (fraction * height * width for fraction in area)
    for _ in range(_CROP_ATTEMPTS):
        ratio = rng.uniform(*aspect)  # width / height
        tallest = min(round(math.sqrt(largest / ratio)), height, int((width + 0.5) / ratio))
        shortest = min(round(math.sqrt(smallest / ratio)), tallest)
        box_height = int(rng.integers(shortest, tallest + 1))
        if box_height * round(box_height * ratio) < smallest:  # rounding may miss either bound by one row
            box_height += 1
        if box_height * round(box_height * ratio) > largest:
            box_height -= 1
        box_width = round(box_height * ratio)
        fits = 0 < box_height <= height and 0 < box_width <= width
        if fits and smallest <= box_height * box_width <= largest:
            # TensorFlow leaves out the last position at the bottom and at the right; so do we.
            top = int(rng.integers(max(height - box_height, 1)))
            left = int(rng.integers(max(width - box_width, 1)))
            return top, left, box_height, box_width
    return 0, 0, height, width


def inception_crop(
    picture: Picture,
    size: int,
    rng: np.random.Generator,
    area: tuple[float, float] = (0.05, 1.0),
    aspect: tuple[float, float] = (0.75, 1.33),
) -> np.ndarray:
    """Crops a random box and resizes it, bilinearly and without antialiasing, to a square.

    Args:
      picture: the image, of which only what the box needs is decoded.
      size: side of the result, in pixels.
      rng: source of the box.
      area: range of the box's area, as a fraction of the image's.
      aspect: range of the box's width / height; 1.33 and not 4/3 is the default of the reference.

    Returns:
      uint8 (size, size, 3), RGB; the whole image resized where no box fits, as in a very long one.

    Source: "Going deeper with convolutions" (arXiv 1409.4842), Section 6.
    """
    box = picture.crop(lambda height, width: _sample_box(height, width, rng, area, aspect))
    return resize_bilinear(box, size)


def resize_only(picture: Picture, size: int, _rng: np.random.Generator) -> np.ndarray:
    """Resizes to (size, size) without regard to the aspect ratio: the training "crop" without randomness."""
    return resize_bilinear(picture.rgb(), size)


def pad_crop(picture: Picture, size: int, rng: np.random.Generator) -> np.ndarray:
    """Pads with size // 8 zeros on each side and crops at random; for small images such as CIFAR's.

    Args:
      picture: the image; resized to (size, size) first.
      size: side of the result, in pixels.
      rng: source of the position.

    Returns:
      uint8 (size, size, 3), RGB.
    """
    pad = size // 8
    image = resize_bilinear(picture.rgb(), size)
    padded = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    top, left = rng.integers(2 * pad + 1, size=2)
    return padded[top : top + size, left : left + size]


def horizontal_flip(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirrors left and right with probability 1/2."""
    return cv2.flip(image, 1) if rng.random() < 0.5 else image


def central_box(height: int, width: int, size: int) -> tuple[int, int, int, int]:
    """Returns top, left, height and width of the square of `size` in the centre of (height, width).

    Where the centre falls between two pixels, it is the upper left one.

    Raises:
      ValueError: the square does not fit.
    """
    _check_crop(height, width, size)
    return (height - size) // 2, (width - size) // 2, size, size


def random_box(height: int, width: int, size: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Returns top, left, height and width of a square of `size` in (height, width); every position is as likely.

    Raises:
      ValueError: the square does not fit.
    """
    _check_crop(height, width, size)
    return int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1)), size, size


def _check_crop(height: int, width: int, size: int) -> None:
    if size > min(height, width):
        raise ValueError(f"cannot crop {size}x{size} from a {height}x{width} image")


def resize_crop(image: np.ndarray, resize: int, size: int) -> np.ndarray:
    """Resizes to a square without regard to the aspect ratio, then crops the centre.

    Args:
      image: uint8 (H, W, 3), RGB.
      resize: side of the square, in pixels; 256 for size 224 in the paper.
      size: side of the result, in pixels.

    Returns:
      uint8 (size, size, 3), RGB.

    Source: arXiv 2105.01601, Appendix C ("resize-crop").
    """
    return _cut(resize_bilinear(image, resize), *central_box(resize, resize, size))


def resmall_crop(image: np.ndarray, resize: int, size: int) -> np.ndarray:
    """Resizes so that the shorter side has a given length, then crops the centre.

    Args:
      image: uint8 (H, W, 3), RGB.
      resize: length of the shorter side, in pixels; 256 for size 224 in the paper.
      size: side of the result, in pixels.

    Returns:
      uint8 (size, size, 3), RGB.

    Source: arXiv 2105.01601, Appendix C ("resmall-crop").
    """
    resized = _resized_small(image, resize)
    return resize_area(image, *resized, box=central_box(*resized, size))


def random_resize_crop(picture: Picture, resize: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Resizes to a square without regard to the aspect ratio, then crops at random: fine-tuning's crop.

    Args:
      picture: the image.
      resize: side of the square, in pixels.
      size: side of the result, in pixels.
      rng: source of the position.

    Returns:
      uint8 (size, size, 3), RGB.

    Source: "Big Transfer" (arXiv 1912.11370), Section 2.2.
    """
    return _cut(resize_bilinear(picture.rgb(), resize), *random_box(resize, resize, size, rng))


def random_resmall_crop(picture: Picture, resize: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Resizes so that the shorter side has a given length, then crops at random; the rest is `random_resize_crop`'s."""
    image = picture.rgb()
    resized = _resized_small(image, resize)
    return resize_area(image, *resized, box=random_box(*resized, size, rng))


def _resized_small(image: np.ndarray, resize: int) -> tuple[int, int]:
    """Returns the height and width at which the shorter side of an image has a given length."""
    # Float32 and half to even, as in the reference, so that the longer side agrees with it to the pixel.
    factor = np.float32(resize) / np.float32(min(image.shape[:2]))
    height, width = (int(np.rint(np.float32(side) * factor)) for side in image.shape[:2])
    return height, width


def _cut(image: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    return image[top : top + height, left : left + width]
