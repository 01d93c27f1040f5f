"""Crops of one image, with or without a resize, and the mirror: each from any size to a square.

Images are uint8 (H, W, 3) RGB arrays, or encoded where only a box of them is needed; all randomness comes from the
NumPy generator that is passed in. The crops are those of google-research/big_vision `pp/ops_image.py`, called the
reference below. Resizing is OpenCV's on uint8, within one grey level of the exact value, as is the reference, which
truncates.
"""

import math

import cv2
import numpy as np

from mixer_jax.data.decode import as_rgb, decode_crop

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
    image: bytes | np.ndarray,
    size: int,
    rng: np.random.Generator,
    area: tuple[float, float] = (0.05, 1.0),
    aspect: tuple[float, float] = (0.75, 1.33),
) -> np.ndarray:
    """Crops a random box and resizes it, bilinearly and without antialiasing, to a square.

    Args:
      image: encoded, of which only what the box needs is decoded, or uint8 (H, W), (H, W, 1) or (H, W, 3).
      size: side of the result, in pixels.
      rng: source of the box.
      area: range of the box's area, as a fraction of the image's.
      aspect: range of the box's width / height; 1.33 and not 4/3 is the default of the reference.

    Returns:
      uint8 (size, size, 3), RGB; the whole image resized where no box fits, as in a very long one.

    Source: "Going deeper with convolutions" (arXiv 1409.4842), Section 6.
    """
    box = decode_crop(image, lambda height, width: _sample_box(height, width, rng, area, aspect))
    return cv2.resize(box, (size, size), interpolation=cv2.INTER_LINEAR)


def resize_image(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes by area averages along a side that shrinks, bilinearly along one that grows.

    Args:
      image: uint8 (H, W, 3), RGB.
      height: of the result, in pixels.
      width: of the result, in pixels.

    Returns:
      uint8 (height, width, 3), RGB; the image itself where it has that size.
    """
    # In two steps, because cv2.INTER_AREA is bilinear, with aliasing, as soon as one of the sides grows.
    shrunk = min(image.shape[0], height), min(image.shape[1], width)
    if image.shape[:2] != shrunk:
        image = cv2.resize(image, shrunk[::-1], interpolation=cv2.INTER_AREA)
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


def resize_only(image: bytes | np.ndarray, size: int, _rng: np.random.Generator) -> np.ndarray:
    """Resizes to (size, size) without regard to the aspect ratio: the training "crop" without randomness."""
    return resize_image(as_rgb(image), size, size)


def pad_crop(image: bytes | np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Pads with size // 8 zeros on each side and crops at random; for small images such as CIFAR's.

    Args:
      image: as in `inception_crop`; resized to (size, size) first.
      size: side of the result, in pixels.
      rng: source of the position.

    Returns:
      uint8 (size, size, 3), RGB.
    """
    pad = size // 8
    image = resize_image(as_rgb(image), size, size)
    padded = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    top, left = rng.integers(2 * pad + 1, size=2)
    return padded[top : top + size, left : left + size]


def horizontal_flip(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirrors left and right with probability 1/2."""
    return cv2.flip(image, 1) if rng.random() < 0.5 else image


def central_crop(image: np.ndarray, size: int) -> np.ndarray:
    """Cuts (size, size) out of the centre; where that falls between two pixels, the upper left one."""
    _check_crop(image, size)
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def random_crop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Cuts (size, size) out of the image; every position is as likely as any other."""
    _check_crop(image, size)
    top, left = (int(rng.integers(side - size + 1)) for side in image.shape[:2])
    return image[top : top + size, left : left + size]


def _check_crop(image: np.ndarray, size: int) -> None:
    if size > min(image.shape[:2]):
        raise ValueError(f"cannot crop {size}x{size} from a {image.shape[0]}x{image.shape[1]} image")


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
    return central_crop(resize_image(image, resize, resize), size)


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
    return central_crop(_resize_small(image, resize), size)


def _resize_small(image: np.ndarray, resize: int) -> np.ndarray:
    # Float32 and half to even, as in the reference, so that the longer side agrees with it to the pixel.
    factor = np.float32(resize) / np.float32(min(image.shape[:2]))
    height, width = (int(np.rint(np.float32(side) * factor)) for side in image.shape[:2])
    return resize_image(image, height, width)


def random_resize_crop(image: bytes | np.ndarray, resize: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Resizes to a square without regard to the aspect ratio, then crops at random: fine-tuning's crop.

    Args:
      image: as in `inception_crop`.
      resize: side of the square, in pixels.
      size: side of the result, in pixels.
      rng: source of the position.

    Returns:
      uint8 (size, size, 3), RGB.

    Source: "Big Transfer" (arXiv 1912.11370), Section 2.2.
    """
    return random_crop(resize_image(as_rgb(image), resize, resize), size, rng)


def random_resmall_crop(image: bytes | np.ndarray, resize: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Resizes so that the shorter side has a given length, then crops at random; the rest is `random_resize_crop`'s."""
    return random_crop(_resize_small(as_rgb(image), resize), size, rng)
