"""Encoded or raw images to RGB uint8 arrays."""

import cv2
import numpy as np

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")  # of the files that are taken for images, in any case


class ImageError(ValueError):
    """An image cannot be decoded or is no RGB or grey uint8 array; the message says what was received."""


# The EXIF orientation is ignored, as in the tf.io decoders of the reference implementation. OpenCV drops an
# alpha channel, looks up palettes, repeats grey three times and keeps the high byte of 16-bit samples.
_IMREAD_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


def decode_image(encoded: bytes) -> np.ndarray:
    """Decodes a JPEG, PNG or other image that OpenCV reads.

    Args:
      encoded: the bytes of an image file.

    Returns:
      uint8 (H, W, 3), RGB.

    Raises:
      ImageError: the bytes are empty, cut short, or no image.
    """
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), _IMREAD_FLAGS)
    except cv2.error:  # raised for empty input and absurd sizes; other failures return None
        image = None
    if image is None:
        raise ImageError(f"cannot decode an image from {len(encoded)} bytes beginning with {encoded[:16]!r}")
    return image


def as_rgb(image: bytes | np.ndarray) -> np.ndarray:
    """Turns an example's image, encoded or raw, grey or colour, into RGB.

    Args:
      image: encoded bytes, or uint8 (H, W), (H, W, 1) or (H, W, 3).

    Returns:
      uint8 (H, W, 3), RGB; grey values are repeated; an RGB array is returned as it is.

    Raises:
      ImageError: undecodable bytes, another type, dtype or shape, or no pixels.
    """
    if isinstance(image, bytes):
        return decode_image(image)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        received = getattr(image, "dtype", type(image).__name__)
        raise ImageError(f"an image must be bytes or a uint8 array, received {received}")
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3) or image.size == 0:
        raise ImageError(f"an image array must be (H, W), (H, W, 1) or (H, W, 3), received {image.shape}")
    if channels == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return image
