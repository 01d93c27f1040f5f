"""Converts weights between the official .npz files, timm's state dicts and this project's checkpoints.

  python -m mixer_jax convert --source=<source> --target=<file> [--resolution=<pixels>]

The source is one of

  * the name of published weights: imagenet1k/Mixer-B_16, imagenet1k/Mixer-L_16, imagenet21k/Mixer-B_16,
    imagenet21k/Mixer-L_16, sam/Mixer-B_16 and others, and timm's, such as timm/mixer_b16_224.goog_in21k. They are
    downloaded once, and checked by SHA-256 afterwards;
  * a .npz file with the official names, or the older ones, also as a training checkpoint;
  * a state dict of timm's mixer_* models, also within a training checkpoint: .safetensors, or what torch.save writes,
    .pth, .pt, .bin, .ckpt or .pth.tar, which is read without PyTorch and without running any code in it;
  * a work directory of this project, for its newest checkpoint, or one checkpoint, <workdir>/checkpoints/<step>; the
    optimizer's state stays behind.

The target is a .npz file, in the official layout, or a .safetensors file, which timm loads. What became of every array
is printed; arrays that do not make one whole Mixer are refused.

A training checkpoint may hold several sets of weights. Moving averages (model_ema, state_dict_ema) are taken if there
are any, which is said; --part=state_dict takes others.

--resolution makes weights for larger images, to fine-tune on them: at K times the size, the token-mixing MLPs become
block-diagonal, K^2 copies of the old ones, each of which mixes a part of the image (Appendix C of the paper). Sizes
that are no multiple need --method=interpolate, which is not in the paper.

timm's models compute GELU in its erf form, this project, as the official code, in the tanh form. For the same logits,
give timm's models act_layer=timm.layers.GELUTanh.
"""

from absl import flags

from mixer_jax.config import ranges
from mixer_jax.config.paths import local_path
from mixer_jax.models import resolution
from mixer_jax.weights.load import load_weights, save_weights

_SOURCE = flags.DEFINE_string(
    "source", None, "Name of published weights, file, work directory or checkpoint.", required=True
)
_TARGET = flags.DEFINE_string(
    "target", None, "File to write: .npz (official layout) or .safetensors (timm's).", required=True
)
_PART = flags.DEFINE_string(
    "part", None, "Which weights of a file with several sets, by the first word of their keys: state_dict, model_ema."
)
_RESOLUTION = flags.DEFINE_integer(
    "resolution",
    None,
    "Height and width, in pixels, of the images that the target is for.",
    lower_bound=1,
    upper_bound=int(ranges.SIZE.most),
)
_METHOD = flags.DEFINE_enum(
    "method", resolution.METHODS[0], resolution.METHODS, "How --resolution changes the token-mixing weights."
)
_CACHE_DIR = flags.DEFINE_string("cache_dir", None, "Where downloads are kept; default: ~/.cache/mixer_jax.")


def main() -> None:
    """Converts the weights, and says what became of each array."""
    cache_dir = local_path("--cache_dir", _CACHE_DIR.value) if _CACHE_DIR.value else None
    weights = load_weights(_SOURCE.value, part=_PART.value, cache_dir=cache_dir)
    if _RESOLUTION.value is not None:
        weights = weights.at_resolution(_RESOLUTION.value, _METHOD.value)
    target = local_path("--target", _TARGET.value)
    save_weights(target, weights)
    print(weights.report())
    described = ", ".join(f"{key}={value}" for key, value in weights.model.items())
    print(f"wrote {target}: {described}, {weights.image_size} pixels")
