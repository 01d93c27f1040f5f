"""Decoding a JPEG, or only the box of it that a crop needs; the pixels are, bit for bit, those of decoding all of it.

libjpeg-turbo can do this, and no Python package hands it on: region.c does, which is built where a C compiler and
libjpeg-turbo's headers are found when the project is installed. Elsewhere OpenCV decodes images whole, and does not
tell which are damaged.
"""

import ctypes
from pathlib import Path

import numpy as np


def _library() -> ctypes.CDLL | None:
    for path in sorted(Path(__file__).parent.glob("_region.*")):
        try:
            library = ctypes.CDLL(str(path))
        except OSError:  # such as built with another libjpeg than the one of this machine
            continue
        library.read_size.argtypes = [ctypes.c_char_p, ctypes.c_ulong, ctypes.c_void_p]
        library.decode_region.argtypes = [ctypes.c_char_p, ctypes.c_ulong, *[ctypes.c_uint] * 4, ctypes.c_void_p]
        return library
    return None


_REGION = _library()
REGION_IS_BUILT = _REGION is not None


def read_size(encoded: bytes) -> tuple[int, int] | None:
    """Reads the header of a JPEG.

    Args:
      encoded: the bytes of an image file.

    Returns:
      Height and width in pixels; None for what `decode_box` leaves to others: other formats, CMYK, files cut short,
      and everything where region.c is not built.
    """
    size = (ctypes.c_uint * 2)()
    if _REGION is None or _REGION.read_size(encoded, len(encoded), size):
        return None
    return size[0], size[1]


def decode_box(encoded: bytes, top: int, left: int, height: int, width: int) -> np.ndarray | None:
    """Decodes a box of a JPEG of which `read_size` told the size.

    Args:
      encoded: the bytes of the file.
      top: first row of the box.
      left: its first column.
      height: its rows, in pixels.
      width: its columns, in pixels.

    Returns:
      uint8 (height, width, 3), RGB; None where the decoder has anything to say about the file.
    """
    pixels, damaged = _decode(encoded, top, left, height, width)
    return None if damaged else pixels


def decode_whole(encoded: bytes, height: int, width: int) -> tuple[np.ndarray | None, bool]:
    """Decodes a JPEG of which `read_size` told the size.

    Args:
      encoded: the bytes of the file.
      height: its rows, in pixels.
      width: its columns, in pixels.

    Returns:
      uint8 (height, width, 3), RGB, or None if it cannot be decoded; and whether libjpeg warned of damage, in the place
      of which it then has guessed pixels.
    """
    return _decode(encoded, 0, 0, height, width)


def _decode(encoded: bytes, *box: int) -> tuple[np.ndarray | None, bool]:
    assert _REGION is not None  # `read_size` has told a size
    pixels = np.empty((*box[2:], 3), np.uint8)
    result = _REGION.decode_region(encoded, len(encoded), *box, pixels.ctypes.data)
    return (None if result == 1 else pixels), result == 2
