"""Resizing uint8 images as the reference implementation does, bilinearly or by area averages."""

import cv2
import numpy as np


def resize_bilinear(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes to a square, bilinearly and without antialiasing, as `tf.image.resize` does by default.

    Args:
      image: uint8 (H, W, 3).
      size: side of the result, in pixels.

    Returns:
      uint8 (size, size, 3); the image itself where it has that size.
    """
    if image.shape[:2] == (size, size):
        return image
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)


def resize_area(image: np.ndarray, height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """Resizes by area averages, as `tf.image.resize(method="area")` does, and cuts out a box.

    A pixel of the result is the mean of what it covers of the image: where that grows, its pixels are repeated.

    Args:
      image: uint8 (H, W, 3).
      height: of the resized image, in pixels.
      width: of the resized image, in pixels.
      box: top, left, height and width of what is cut out of the resized image.

    Returns:
      uint8 (box height, box width, 3).
    """
    top, left, box_height, box_width = box
    if height <= image.shape[0] and width <= image.shape[1]:
        if image.shape[:2] != (height, width):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        return image[top : top + box_height, left : left + box_width]
    # Of an image that grows, only the box is made: the whole may be thousands of times the image.
    rows, vertical = _averages(image.shape[0], height, top, box_height)
    columns, horizontal = _averages(image.shape[1], width, left, box_width)
    means = np.einsum("yi,xj,ijc->yxc", vertical, horizontal, image[rows, columns], optimize=True)
    return np.rint(means).astype(np.uint8)


def _averages(old: int, new: int, start: int, count: int) -> tuple[slice, np.ndarray]:
    """Returns which pixels of a side `count` pixels from `start` on cover when it goes from `old` to `new`, and how.

    Returns:
      The pixels of the old side, and float64 (count, pixels), the share of each in each new one.
    """
    edges = np.arange(start, start + count + 1) * (old / new)
    seen = slice(int(edges[0]), min(old, int(np.ceil(edges[-1]))))
    pixels = np.arange(seen.start, seen.stop)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares = np.maximum(covered, 0)
    return seen, shares / shares.sum(axis=1, keepdims=True)
