"""Encoded or raw images to RGB uint8 arrays: JPEG by libjpeg-turbo, all other formats by Pillow.

An animation gives its default image or, where it has none, its first frame; a file of several pages gives the first.
"""

import contextlib
import dataclasses
import io
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from mixer_jax.data import jpeg

# Examples are decoded and transformed by many threads at once; threads of OpenCV's own would only stand in their way.
cv2.setNumThreads(0)

# Of the files that are taken for images, in any case.
EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
MAX_PIXELS = 178_956_970  # half a GiB of RGB: from there on Pillow takes an image for an attack
Box = tuple[int, int, int, int]  # top, left, height, width

_JPEG = b"\xff\xd8\xff"
_OTHERS: tuple[type[ImageFile.ImageFile], ...] = (
    PngImagePlugin.PngImageFile,
    WebPImagePlugin.WebPImageFile,
    BmpImagePlugin.BmpImageFile,
    GifImagePlugin.GifImageFile,
    TiffImagePlugin.TiffImageFile,
    AvifImagePlugin.AvifImageFile,
)
_ORIENTATION = 0x0112  # EXIF's tag
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # by its value: what is stored so is to be turned so
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image),
}


class ImageError(ValueError):
    """An image cannot be decoded or is no RGB or grey uint8 array; the message says what was received."""


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How images are decoded.

    Attributes:
      exif_orientation: whether to turn an image as its EXIF tag says, which the tf.io decoders of the reference
        implementation, and so all published figures, do not.
      max_pixels: an image of more pixels is refused before it is decoded.
      refuse_damaged: whether a JPEG is refused that libjpeg decodes with a warning, its damage filled by guessing.
    """

    exif_orientation: bool = False
    max_pixels: int = MAX_PIXELS
    refuse_damaged: bool = False


class Picture:
    """The image of an example, decoded when it is asked for.

    An alpha channel is dropped, palettes are looked up, grey is repeated three times, CMYK is converted, and of 16-bit
    samples the high byte is kept.

    Attributes:
      damaged: whether it is a JPEG whose damage was filled by guessing, as far as it has been decoded. Without region.c
        (`data.jpeg`) that cannot be told.
    """

    def __init__(self, image: bytes | np.ndarray, decoding: Decoding = Decoding()):
        """Takes an image as an example has it.

        Args:
          image: encoded bytes, or uint8 (H, W), (H, W, 1) or (H, W, 3).
          decoding: how it is decoded.
        """
        self.damaged = False
        self._image = image
        self._decoding = decoding

    def rgb(self) -> np.ndarray:
        """Returns uint8 (H, W, 3), RGB; an RGB array is returned as it is.

        Raises:
          ImageError: the bytes are empty, cut short, no image or too large; or an array is of another dtype or shape.
        """
        if not isinstance(self._image, bytes):
            return _array_as_rgb(self._image)
        with _naming(self._image):
            return self._jpeg(self._image) if self._image.startswith(_JPEG) else self._other(self._image)

    def crop(self, choose_box: Callable[[int, int], Box]) -> np.ndarray:
        """Cuts a box out of the image, and of a JPEG decodes no more than that where it can.

        Args:
          choose_box: from the image's height and width, in pixels, to the box; called once.

        Returns:
          uint8 (height, width, 3), RGB; the same pixels as those of `rgb`.

        Raises:
          ImageError: as `rgb`; what is broken in a JPEG below the box may go unseen.
        """
        encoded = self._image if isinstance(self._image, bytes) else b""
        size = None if self._decoding.exif_orientation else jpeg.read_size(encoded)
        if size is None:
            image = self.rgb()
            top, left, height, width = choose_box(*image.shape[:2])
        else:
            self._check_size(*size)
            top, left, height, width = choose_box(*size)
            box = jpeg.decode_box(encoded, top, left, height, width)
            if box is not None:
                return box
            image = self.rgb()
        return image[top : top + height, left : left + width]

    def _jpeg(self, encoded: bytes) -> np.ndarray:
        size = jpeg.read_size(encoded)
        self._check_size(*(size or JpegImagePlugin.JpegImageFile(io.BytesIO(encoded)).size))
        if size is None:  # CMYK, cut short, or region.c is not built
            image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
            if image is None:
                raise ImageError("it is cut short or damaged")
        else:
            image, damaged = jpeg.decode_whole(encoded, *size)
            if image is None:
                raise ImageError("it is damaged")
            self.damaged |= damaged
            if damaged and self._decoding.refuse_damaged:
                raise ImageError("it is damaged, and config.data.damaged='refuse'")
        if self._decoding.exif_orientation:
            image = _turned(image, JpegImagePlugin.JpegImageFile(io.BytesIO(encoded)))
        return image

    def _other(self, encoded: bytes) -> np.ndarray:
        plugin = next((plugin for plugin in _OTHERS if _is_of(plugin, encoded)), None)
        if plugin is None:
            raise ImageError("it is of no known format")
        with plugin(io.BytesIO(encoded)) as opened:
            self._check_size(*opened.size)
            image = _loaded_as_rgb(opened)
            return _turned(image, opened) if self._decoding.exif_orientation else image

    def _check_size(self, one: int, other: int) -> None:
        if one * other > self._decoding.max_pixels:
            raise ImageError(
                f"it has {one:,} x {other:,} pixels; config.data.max_pixels={self._decoding.max_pixels:,} at most"
            )


def as_rgb(image: bytes | np.ndarray, decoding: Decoding = Decoding()) -> np.ndarray:
    """Turns an example's image, encoded or raw, grey or colour, into RGB; see `Picture`."""
    return Picture(image, decoding).rgb()


@contextlib.contextmanager
def _naming(encoded: bytes) -> Iterator[None]:
    """Turns whatever is raised inside into an ImageError that shows the file's first bytes."""
    try:
        yield
    except Exception as error:  # what decoders raise of damaged files has many types, MemoryError among them
        reason = str(error) if isinstance(error, ImageError) else f"it is cut short or damaged ({error})"
        reason = "the memory is too small for it" if isinstance(error, MemoryError) else reason
        shown = f"{len(encoded)} bytes beginning with {encoded[:16]!r}"
        raise ImageError(f"cannot decode an image from {shown}: {reason}") from error


def _array_as_rgb(image: object) -> np.ndarray:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        received = getattr(image, "dtype", type(image).__name__)
        raise ImageError(f"an image must be bytes or a uint8 array, received {received}")
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3) or image.size == 0:
        raise ImageError(f"an image array must be (H, W), (H, W, 1) or (H, W, 3), received {image.shape}")
    if channels == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return image


def _is_of(plugin: type[ImageFile.ImageFile], encoded: bytes) -> bool:
    accepts = Image.OPEN[str(plugin.format)][1]
    return accepts is not None and accepts(encoded[:16]) is True  # a text says why it is not supported


def _loaded_as_rgb(opened: ImageFile.ImageFile) -> np.ndarray:
    opened.load()
    if opened.mode.startswith("I;16"):
        return _array_as_rgb((np.asarray(opened) >> 8).astype(np.uint8))
    if opened.mode in ("I", "F"):
        raise ImageError("its samples have 32 bits; expected 8 or 16")
    opened.info.pop("transparency", None)  # of which Pillow warns where it is dropped
    return np.array(opened if opened.mode == "RGB" else opened.convert("RGB"))


def _turned(image: np.ndarray, opened: ImageFile.ImageFile) -> np.ndarray:
    """Turns an image as the EXIF data of its file say; a tag that cannot be read says nothing."""
    try:
        turn = _TURNS.get(opened.getexif().get(_ORIENTATION, 1))
    except Exception:  # as of damaged images
        turn = None
    return np.ascontiguousarray(turn(image)) if turn else image
