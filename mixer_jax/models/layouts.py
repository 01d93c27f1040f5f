"""The names and shapes that published weights have, beside those of this project's parameter tree.

This project's tree has the official names and shapes: arrays by "<module>/.../<leaf>", such as
"MixerBlock_0/token_mixing/Dense_0/kernel".
"""

import dataclasses
import re
from collections.abc import Iterable

import numpy as np

_NUMBER = r"([0-9]{1,9})(?![0-9])"  # one that has more digits numbers nothing


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one kind of file names and shapes the arrays of a model.

    Attributes:
      title: what messages call it.
      renames: (ours, theirs), replaced one after another in a name.
    """

    title: str
    renames: tuple[tuple[str, str], ...] = ()

    def key(self, name: str) -> str:
        """Returns the file's key of the array that this project's tree calls `name`."""
        for ours, theirs in self.renames:
            name = name.replace(ours, theirs)
        return name

    def blocks(self, keys: Iterable[str], block: str) -> set[int]:
        """Returns the numbers of the blocks among the keys of a file.

        Args:
          keys: of the file.
          block: what the names of a block's parameters begin with in this project's tree, before the number.
        """
        numbered = re.compile(re.escape(self.key(block)) + _NUMBER)
        return {int(found[1]) for key in keys if (found := numbered.match(key))}

    def is_written_to(self, ending: str) -> bool:
        """Returns whether files of such an ending, ".npz" or ".safetensors", are written in this layout."""
        return ending == ".npz" and not self.renames

    def keys(self, keys: Iterable[str]) -> dict[str, str]:
        """Returns the keys of a file, each under what `key` gives for its array."""
        return {key: key for key in keys}

    def from_file(self, name: str, array: np.ndarray) -> tuple[np.ndarray, str]:
        """Returns an array of a file in the shape of this project's tree, and what was changed, "" for nothing."""
        del name
        return array, ""

    def to_file(self, name: str, array: np.ndarray) -> np.ndarray:
        """Returns an array of this project's tree in the shape of the file's; the inverse of `from_file`."""
        del name
        return array


class OlderLayout(Layout):
    """The names that the official weights had before Flax's Linen interface (`load` of big_vision's mlp_mixer.py)."""

    def keys(self, keys: Iterable[str]) -> dict[str, str]:
        """Numbers the layer norms of a block from 0: at that time a module's number counted modules of any kind."""
        keys = list(keys)
        norm = re.compile(rf"(.*/LayerNorm_){_NUMBER}(/.*)")
        numbers: dict[str, set[int]] = {}
        for key in keys:
            if found := norm.fullmatch(key):
                numbers.setdefault(found[1], set()).add(int(found[2]))

        def renumbered(found):
            return f"{found[1]}{sorted(numbers[found[1]]).index(int(found[2]))}{found[3]}"

        return {norm.sub(renumbered, key): key for key in keys}

    def from_file(self, name: str, array: np.ndarray) -> tuple[np.ndarray, str]:
        """Drops the singleton axes that the arrays of the MLPs have."""
        if "_mixing/" in name and 1 in array.shape:
            return np.squeeze(array), "squeezed"
        return array, ""


class TimmLayout(Layout):
    """The state dict of timm's models: PyTorch's names and orders of axes."""

    def is_written_to(self, ending: str) -> bool:
        """Returns True for ".safetensors"."""
        return ending == ".safetensors"

    def from_file(self, name: str, array: np.ndarray) -> tuple[np.ndarray, str]:
        """Transposes weights, (out, in) or (out, in, height, width), to (in, out) or (height, width, in, out)."""
        if not name.endswith("/kernel"):
            return array, ""
        return np.ascontiguousarray(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T), "transposed"

    def to_file(self, name: str, array: np.ndarray) -> np.ndarray:
        """Transposes kernels back, to (out, in) or (out, in, height, width)."""
        if not name.endswith("/kernel"):
            return array
        return np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T)


OFFICIAL = Layout("official")
OLDER_MIXER = OlderLayout(
    "older official",
    renames=(
        ("stem/", "embedding/"),
        ("pre_head_layer_norm/", "Mixer/encoder_norm/"),
        ("MixerBlock_", "Mixer/encoderblock_"),
        ("_mixing/", "_mixing_phase_0/"),
        ("Dense_0/kernel", "kernel1"),
        ("Dense_0/bias", "bias1"),
        ("Dense_1/kernel", "kernel2"),
        ("Dense_1/bias", "bias2"),
    ),
)
TIMM_MIXER = TimmLayout(
    "timm",
    renames=(
        ("stem/", "stem.proj/"),
        ("pre_head_layer_norm/", "norm/"),
        ("MixerBlock_", "blocks/"),
        ("LayerNorm_0", "norm1"),
        ("LayerNorm_1", "norm2"),
        ("token_mixing", "mlp_tokens"),
        ("channel_mixing", "mlp_channels"),
        ("Dense_0", "fc1"),
        ("Dense_1", "fc2"),
        ("/kernel", "/weight"),
        ("/scale", "/weight"),
        ("/", "."),
    ),
)
