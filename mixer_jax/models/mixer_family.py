"""Mixer as a family of models: its variants, its files, and how it grows with the images."""

from collections.abc import Mapping
from typing import ClassVar, cast

import numpy as np

from mixer_jax.config import ranges
from mixer_jax.errors import ConfigError
from mixer_jax.models import resolution
from mixer_jax.models.family import Family, Published, Shapes
from mixer_jax.models.layouts import OFFICIAL, OLDER_MIXER, TIMM_MIXER, Layout
from mixer_jax.models.mixer import VARIANTS, Mixer

_DIMENSIONS = ("patch_size", "num_blocks", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim")

# The authors' files, gs://mixer_models, and where timm has the same weights. timm calls those of ImageNet alone "in21k
# fine-tuned to in1k"; by their accuracy they are not.
_TWINS = {
    "imagenet1k/Mixer-B_16": "timm/mixer_b16_224.goog_in21k_ft_in1k",
    "imagenet1k/Mixer-L_16": "timm/mixer_l16_224.goog_in21k_ft_in1k",
    "imagenet21k/Mixer-B_16": "timm/mixer_b16_224.goog_in21k",
    "imagenet21k/Mixer-L_16": "timm/mixer_l16_224.goog_in21k",
}
# Of "When Vision Transformers Outperform ResNets" (2106.01548) and "Surrogate Gap Minimization" (2203.08065).
_SHARPNESS_AWARE = (
    *("sam/Mixer-B_16", "sam/Mixer-B_32"),
    *("gsam/Mixer-S_8", "gsam/Mixer-S_16", "gsam/Mixer-S_32", "gsam/Mixer-B_16", "gsam/Mixer-B_32"),
)
# Trained by others, on pixels between 0 and 1.
_MIIL = ("timm/mixer_b16_224.miil_in21k", "timm/mixer_b16_224.miil_in21k_ft_in1k")


def _authors(name: str) -> Published:
    return Published(f"https://storage.googleapis.com/mixer_models/{name}.npz", _TWINS.get(name, ""))


def _timm(name: str) -> Published:
    twin = next((ours for ours, theirs in _TWINS.items() if theirs == name), "")
    pixels = (0.0, 1.0) if name in _MIIL else (-1.0, 1.0)
    return Published(f"https://huggingface.co/{name}/resolve/main/model.safetensors", twin, pixels)


class MixerFamily(Family):
    """The Mixers of the paper, and free configurations of them."""

    variants = VARIANTS
    titles: ClassVar = {name: f"Mixer-{name[6].upper()}/{name[7:]}" for name in VARIANTS}  # mixer_b16: Mixer-B/16
    layouts = (OFFICIAL, OLDER_MIXER, TIMM_MIXER)
    telling: ClassVar = {
        "stem/kernel": (4,),
        "MixerBlock_0/token_mixing/Dense_0/kernel": (2, 3),  # three: untied token mixing
        "MixerBlock_0/channel_mixing/Dense_0/kernel": (2,),
        "head/kernel": (2,),
    }
    block = "MixerBlock_"
    published: ClassVar = {
        **{name: _authors(name) for name in (*_TWINS, *_SHARPNESS_AWARE)},
        **{name: _timm(name) for name in (*_TWINS.values(), *_MIIL)},
    }
    pretrained: ClassVar = {"mixer_b16": "imagenet21k/Mixer-B_16", "mixer_l16": "imagenet21k/Mixer-L_16"}

    def __init__(self) -> None:
        super().__init__(Mixer, "mixer")

    def check(self, attributes: Mapping[str, object]) -> None:
        """Raises a ConfigError if a dimension is no positive integer, or larger than any that a machine holds."""
        for key in _DIMENSIONS:
            ranges.check_number(f"model.{key}", attributes[key])

    def identify(self, shapes: Shapes, num_blocks: int) -> dict[str, object]:
        """Returns a variant with what differs from it, or "mixer" with its dimensions; num_classes; untied or not."""
        tokens_kernel = shapes["MixerBlock_0/token_mixing/Dense_0/kernel"]
        dimensions = {
            "patch_size": shapes["stem/kernel"][0],
            "num_blocks": num_blocks,
            "hidden_dim": shapes["stem/kernel"][-1],
            "tokens_mlp_dim": tokens_kernel[-1],
            "channels_mlp_dim": shapes["MixerBlock_0/channel_mixing/Dense_0/kernel"][-1],
        }
        named: dict[str, object] = {"name": self.name, **dimensions}
        for variant, its in VARIANTS.items():
            differing = {key: value for key, value in dimensions.items() if value != its[key]}
            if differing.keys() <= {"tokens_mlp_dim"}:  # it grows with the resolution
                named = {"name": variant, **differing}
        untied = {"untied_token_mixing": True} if len(tokens_kernel) == 3 else {}
        return {**named, "num_classes": shapes["head/kernel"][-1] if "head/kernel" in shapes else None, **untied}

    def image_size(self, params: dict) -> int:
        """Returns the size that the token-mixing MLPs are for."""
        return resolution.image_size(params)

    def grown(self, name: str, attributes: Mapping[str, object], old: int, new: int) -> dict[str, object]:
        """Returns the width of the token-mixing MLPs at K times the size, K^2 times the old one (Appendix C)."""
        factor = resolution.growth(old, new)
        if factor == 1:
            return {}
        width = cast(int, self.complete(name, attributes)["tokens_mlp_dim"])  # what else it may be, `check` refuses
        return {"tokens_mlp_dim": factor**2 * width}

    def resized(self, params: dict, old: int, new: int, method: str) -> dict:
        """Returns the parameters with token-mixing MLPs for the new size; see `resolution.change`."""
        del old
        return resolution.change(params, new, method)

    def from_pixels(self, params: dict, low: float, high: float) -> dict:
        """Returns the parameters with the change of pixels folded into the stem: it has no padding, so this is exact.

        A pixel p in [low, high] is scale * x + shift of its x in [-1, 1].
        """
        scale, shift = (high - low) / 2, (high + low) / 2
        kernel = np.asarray(params["stem"]["kernel"], np.float64)
        stem = {"kernel": scale * kernel, "bias": params["stem"]["bias"] + shift * kernel.sum(axis=(0, 1, 2))}
        return {**params, "stem": {name: array.astype(np.float32) for name, array in stem.items()}}

    def check_written(self, layout: Layout, arrays: Mapping[str, np.ndarray]) -> None:
        """Raises a ConfigError for untied token mixing in timm's layout."""
        if layout is TIMM_MIXER and arrays["MixerBlock_0/token_mixing/Dense_0/kernel"].ndim == 3:
            raise ConfigError("timm has no untied token mixing; write a .npz file")
