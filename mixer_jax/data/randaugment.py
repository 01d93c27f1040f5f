"""RandAugment (arXiv 1909.13719) with the operations and magnitudes of the official MLP-Mixer code.

Every operation maps a uint8 (H, W, 3) RGB image to another and leaves its input as it is; one without effect
may return the input itself. The results are those of google-research/big_vision `pp/archive/autoaugment.py`,
called the reference below, oddities included, because its accuracies were reached with them. As there,
arithmetic is in float32 and truncates to uint8.

Not all operations grow with the magnitude: 0 is far from the identity (it posterizes to one bit and solarizes
everything), and at 20 posterize does nothing.
"""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np

MAX_LEVEL = 10  # the arguments below are stated for this magnitude; larger ones extrapolate
FILL = 128  # grey of the pixels that an operation uncovers or cuts out

_VALUES = np.arange(256, dtype=np.uint8)
# Nine taps that add up to 13; kept in integers, see sharpness().
_SMOOTH_KERNEL = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32)
# tf.image.rgb_to_grayscale weighs by 0.2989, 0.587 and 0.114 in [0, 1], comes back with the factor 255.5 and truncates.
# The weighted sums stay integers below 2**24, which float32 holds, so that all processors agree: matrix products of
# fractions are rounded otherwise with each, and a truncated value then differs by one.
_GREY_WEIGHTS = np.array([2989, 5870, 1140], np.float32)
_GREY_SCALE = np.float32(255.5 / 255 / 10_000)


def _blend(degenerate: np.ndarray, image: np.ndarray, factor: float) -> np.ndarray:
    """Interpolates (factor < 1) from degenerate to image, or extrapolates past it (factor > 1), and clips."""
    if factor == 0:
        return degenerate
    if factor == 1:
        return image
    degenerate = degenerate.astype(np.float32)
    blended = degenerate + np.float32(factor) * (image - degenerate)
    return np.clip(blended, 0, 255).astype(np.uint8)


def _warp(image: np.ndarray, matrix: Sequence[Sequence[float | np.floating]]) -> np.ndarray:
    """Sets each output pixel (x, y) to the input pixel nearest to matrix @ (x, y, 1), or to FILL outside.

    cv2.warpAffine would do it in one call, but rounds coordinates halfway between two pixels to even, the
    reference away from zero; they are frequent: with a slope of 0.3, in every tenth row.
    """
    height, width = image.shape[:2]
    x = np.arange(width, dtype=np.float32)  # (W,)
    y = np.arange(height, dtype=np.float32)[:, None]  # (H, 1)
    sources = []
    for a, b, c in np.asarray(matrix, np.float32):
        source = a * x + b * y + c  # (H, W)
        sources.append(np.trunc(source + np.copysign(np.float32(0.5), source)))
    map_x, map_y = sources
    border, fill = cv2.BORDER_CONSTANT, (FILL, FILL, FILL)
    return cv2.remap(image, map_x, map_y, cv2.INTER_NEAREST, borderMode=border, borderValue=fill)


def autocontrast(image: np.ndarray) -> np.ndarray:
    """Stretches each channel linearly to 0..255; a channel of a single value stays."""
    # One axis at a time: over both at once NumPy is ten times slower.
    low = image.min(axis=0).min(axis=0).astype(np.float32)  # (3,)
    high = image.max(axis=0).max(axis=0).astype(np.float32)  # (3,)
    flat = high <= low
    scale = np.float32(255) / np.where(flat, 1, high - low)
    table = np.clip(_VALUES[:, None] * scale - low * scale, 0, 255).astype(np.uint8)  # (256, 3)
    table[:, flat] = _VALUES[:, None]
    return cv2.LUT(image, table[:, None])


def equalize(image: np.ndarray) -> np.ndarray:
    """Spreads the histogram of each channel evenly, by the integer arithmetic of PIL."""
    return cv2.LUT(image, np.stack([_equalize_table(image, c) for c in range(3)], axis=-1)[:, None])


def _equalize_table(image: np.ndarray, channel: int) -> np.ndarray:
    """Returns the look-up table, uint8 (256,), that equalizes one channel."""
    histogram = cv2.calcHist([image], [channel], None, [256], [0, 256]).ravel().astype(np.int64)
    # Pixels per output value, not counting the brightest ones. It is 0 for a channel of one value, or of too
    # few pixels, which stays as it is.
    step = (histogram.sum() - histogram[histogram > 0][-1]) // 255
    if step == 0:
        return _VALUES
    darker = np.cumsum(histogram) - histogram  # pixels strictly darker than each value
    return np.minimum((darker + step // 2) // step, 255).astype(np.uint8)


def invert(image: np.ndarray) -> np.ndarray:
    """Turns each value v into 255 - v."""
    return cv2.bitwise_not(image)


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Rotates about the centre of the image, anticlockwise for positive degrees."""
    height, width = image.shape[:2]
    angle = np.float32(math.radians(degrees))
    # In float64 and rounded: NumPy's float32 functions are approximations that differ between processors.
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    x, y = np.float32(width - 1), np.float32(height - 1)
    return _warp(
        image,
        [
            [cos, -sin, (x - (cos * x - sin * y)) / 2],
            [sin, cos, (y - (sin * x + cos * y)) / 2],
        ],
    )


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
    """Keeps the `bits` high bits of each value."""
    # The reference shifts by 8 - bits in uint8, so modulo 256, and TensorFlow shifts by 7 at most: 0 bits
    # (magnitude 0) keep one, and so would more than 8.
    shift = min((8 - bits) % 256, 7)
    return cv2.LUT(image, _VALUES >> shift << shift)


def solarize(image: np.ndarray, threshold: int) -> np.ndarray:
    """Inverts the values from `threshold` on."""
    # The reference compares in uint8, where the threshold wraps: 256 (magnitude 10) is 0 and inverts the
    # image, 384 (magnitude 15) is 128; see google-research/big_vision issue 110.
    return cv2.LUT(image, np.where(threshold % 256 > _VALUES, _VALUES, 255 - _VALUES))


def solarize_add(image: np.ndarray, addition: int) -> np.ndarray:
    """Adds `addition` to the values below 128, and clips."""
    added = np.clip(_VALUES.astype(np.int64) + addition, 0, 255).astype(np.uint8)
    return cv2.LUT(image, np.where(_VALUES < 128, added, _VALUES))


def color(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends the image with its grey version (factor 0)."""
    grey = (image.astype(np.float32) @ _GREY_WEIGHTS * _GREY_SCALE).astype(np.uint8)
    return _blend(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), image, factor)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends the image with a grey image (factor 0) whose value depends on the size of the image alone."""
    # Meant is the mean brightness, but the reference adds up the histogram's counts, not count times value,
    # and gets pixels / 256: 196 at 224x224, and white from 256x256 on.
    mean = np.uint8(min(image.shape[0] * image.shape[1] / 256, 255))
    return cv2.LUT(image, _blend(np.full_like(_VALUES, mean), _VALUES, factor))


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends the image with black (factor 0)."""
    return cv2.LUT(image, _blend(np.zeros_like(_VALUES), _VALUES, factor))


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends the image with a smoothed one (factor 0); the outermost pixels stay."""
    # Sums of integers are exact in float32, and the division rounds correctly: a plain area stays as it is.
    # The reference weighs by rounded 1 / 13 and 5 / 13, and may come out one grey level lower.
    smooth = (cv2.filter2D(image, cv2.CV_32F, _SMOOTH_KERNEL) / 13).astype(np.uint8)
    degenerate = image.copy()
    degenerate[1:-1, 1:-1] = smooth[1:-1, 1:-1]
    return _blend(degenerate, image, factor)


def shear_x(image: np.ndarray, slope: float) -> np.ndarray:
    """Shifts each row to the left by slope times its index."""
    return _warp(image, [[1, slope, 0], [0, 1, 0]])


def shear_y(image: np.ndarray, slope: float) -> np.ndarray:
    """Shifts each column up by slope times its index."""
    return _warp(image, [[1, 0, 0], [slope, 1, 0]])


def translate_x(image: np.ndarray, pixels: float) -> np.ndarray:
    """Shifts the image to the left."""
    return _warp(image, [[1, 0, pixels], [0, 1, 0]])


def translate_y(image: np.ndarray, pixels: float) -> np.ndarray:
    """Shifts the image up."""
    return _warp(image, [[1, 0, 0], [0, 1, pixels]])


def cutout(image: np.ndarray, radius: int, center_y: float, center_x: float) -> np.ndarray:
    """Fills a square of side 2 * radius, clipped by the image; its centre is in fractions of the image."""
    y, x = int(center_y * image.shape[0]), int(center_x * image.shape[1])
    image = image.copy()
    image[max(0, y - radius) : y + radius, max(0, x - radius) : x + radius] = FILL
    return image


def _nothing(_level: float, _rng: np.random.Generator) -> tuple:
    return ()


def _integer(scale: int) -> Callable:
    return lambda level, _rng: (int(level / MAX_LEVEL * scale),)


def _enhancement(level: float, _rng: np.random.Generator) -> tuple[float]:
    return (level / MAX_LEVEL * 1.8 + 0.1,)


def _signed(scale: float) -> Callable:
    return lambda level, rng: (level / MAX_LEVEL * (scale if rng.random() < 0.5 else -scale),)


def _square(scale: int) -> Callable:
    return lambda level, rng: (int(level / MAX_LEVEL * scale), rng.random(), rng.random())


# Name -> (operation, its arguments from the level and, where they are random, the generator).
OPS: dict[str, tuple[Callable[..., np.ndarray], Callable[[float, np.random.Generator], tuple]]] = {
    "AutoContrast": (autocontrast, _nothing),
    "Equalize": (equalize, _nothing),
    "Invert": (invert, _nothing),
    "Rotate": (rotate, _signed(30)),  # degrees
    "Posterize": (posterize, _integer(4)),  # bits
    "Solarize": (solarize, _integer(256)),
    "Color": (color, _enhancement),
    "Contrast": (contrast, _enhancement),
    "Brightness": (brightness, _enhancement),
    "Sharpness": (sharpness, _enhancement),
    "ShearX": (shear_x, _signed(0.3)),
    "ShearY": (shear_y, _signed(0.3)),
    "TranslateX": (translate_x, _signed(100)),  # pixels, whatever the size of the image
    "TranslateY": (translate_y, _signed(100)),
    "Cutout": (cutout, _square(40)),  # pixels
    "SolarizeAdd": (solarize_add, _integer(110)),
}
_NAMES = tuple(OPS)


def rand_augment(image: np.ndarray, layers: int, magnitude: float, rng: np.random.Generator) -> np.ndarray:
    """Applies `layers` operations in turn, each drawn uniformly from the 16 and always applied.

    Args:
      image: uint8 (H, W, 3), RGB.
      layers: number of operations; the paper always uses 2.
      magnitude: strength of all operations, on a scale where MAX_LEVEL is 10; the paper uses 0 to 20.
      rng: source of the choices, signs and positions.

    Returns:
      uint8 (H, W, 3), RGB.

    Source: arXiv 2105.01601, Appendix B and Table 4; arXiv 1909.13719, Section 3.
    """
    for _ in range(layers):
        operation, arguments = OPS[_NAMES[rng.integers(len(_NAMES))]]
        image = operation(image, *arguments(magnitude, rng))
    return image
