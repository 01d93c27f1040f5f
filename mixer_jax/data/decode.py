"""Encoded or raw images to RGB uint8 arrays."""

from collections.abc import Callable

import cv2
import numpy as np

from mixer_jax.data import jpeg

# Examples are decoded and transformed by many threads at once; threads of OpenCV's own would only stand in their way.
cv2.setNumThreads(0)

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")  # of the files that are taken for images, in any case


class ImageError(ValueError):
    """An image cannot be decoded or is no RGB or grey uint8 array; the message says what was received."""


def decode_image(encoded: bytes, *, exif_orientation: bool = False) -> np.ndarray:
    """Decodes a JPEG, PNG or other image that OpenCV reads.

    An alpha channel is dropped, palettes are looked up, grey is repeated three times, CMYK is converted, and of 16-bit
    samples the high byte is kept.

    Args:
      encoded: the bytes of an image file.
      exif_orientation: whether to turn the image as its EXIF tag says, which the tf.io decoders of the reference
        implementation, and so all published figures, do not.

    Returns:
      uint8 (H, W, 3), RGB.

    Raises:
      ImageError: the bytes are empty, cut short, or no image.
    """
    flags = cv2.IMREAD_COLOR_RGB if exif_orientation else cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error:  # raised for empty input and absurd sizes; other failures return None
        image = None
    if image is None:
        raise ImageError(f"cannot decode an image from {len(encoded)} bytes beginning with {encoded[:16]!r}")
    return image


def as_rgb(image: bytes | np.ndarray, *, exif_orientation: bool = False) -> np.ndarray:
    """Turns an example's image, encoded or raw, grey or colour, into RGB.

    Args:
      image: encoded bytes, or uint8 (H, W), (H, W, 1) or (H, W, 3).
      exif_orientation: as in `decode_image`.

    Returns:
      uint8 (H, W, 3), RGB; grey values are repeated; an RGB array is returned as it is.

    Raises:
      ImageError: undecodable bytes, another type, dtype or shape, or no pixels.
    """
    if isinstance(image, bytes):
        return decode_image(image, exif_orientation=exif_orientation)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        received = getattr(image, "dtype", type(image).__name__)
        raise ImageError(f"an image must be bytes or a uint8 array, received {received}")
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3) or image.size == 0:
        raise ImageError(f"an image array must be (H, W), (H, W, 1) or (H, W, 3), received {image.shape}")
    if channels == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return image


def decode_crop(image: bytes | np.ndarray, choose_box: Callable[[int, int], tuple[int, int, int, int]]) -> np.ndarray:
    """Cuts a box out of an image, and of a JPEG decodes no more than that where it can.

    Args:
      image: as in `as_rgb`.
      choose_box: from the image's height and width to the box: its top, left, height and width; called once.

    Returns:
      uint8 (height, width, 3), RGB; the same pixels as those of `as_rgb`.

    Raises:
      ImageError: as in `as_rgb`; what is broken in a JPEG below the box may go unseen.
    """
    size = jpeg.read_size(image) if isinstance(image, bytes) else None
    if size is None or not isinstance(image, bytes):
        image = as_rgb(image)
        top, left, height, width = choose_box(*image.shape[:2])
    else:
        top, left, height, width = choose_box(*size)
        box = jpeg.decode_box(image, top, left, height, width)
        if box is not None:
            return box
        image = decode_image(image)
    return image[top : top + height, left : left + width]
