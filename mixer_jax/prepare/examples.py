"""Encoded images where they lie: each is a range of bytes of a file on disk, and nothing is extracted for it."""

from typing import NamedTuple

from mixer_jax.errors import ConfigError, readable


class Stored(NamedTuple):
    """What a source holds under a name: `size` bytes of the file `path` from `offset` on."""

    name: str  # relative to the source, with /
    path: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Returns its bytes; raises a ConfigError if they are not there any more."""
        return _read(self.path, self.offset, self.size)


class Example(NamedTuple):
    """An encoded image of a split and a class: `size` bytes of the file `path` from `offset` on."""

    split: str
    label: str
    file: str
    path: str
    offset: int
    size: int

    @property
    def name(self) -> str:
        """What TFDS calls file_name: the class and the name of the image's file."""
        return f"{self.label}/{self.file}"

    def read(self) -> bytes:
        """Returns the encoded image; raises a ConfigError if it is not there any more."""
        return _read(self.path, self.offset, self.size)


def _read(path: str, offset: int, size: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            content = file.read(size)
    except OSError as error:  # which may be the disk's fault: an image is not left out for it
        raise ConfigError(f"--source: {readable(path)} cannot be read: {error.strerror}; mend or remove it") from error
    if len(content) != size:
        raise ConfigError(f"--source: {readable(path)} has become shorter since it was listed; it must not change")
    return content
