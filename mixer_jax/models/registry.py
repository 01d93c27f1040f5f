"""Models by name: `create("mixer_b16", num_classes=1000)`."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from mixer_jax.config.checks import one_of, suggest
from mixer_jax.errors import ConfigError
from mixer_jax.models.mixer import REMAT, VARIANTS, Mixer

__all__ = ["VARIANTS", "Mixer", "create"]

_DIMENSIONS = ("patch_size", "num_blocks", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim")
_ATTRIBUTES = tuple(key for key in Mixer.__dataclass_fields__ if key not in ("name", "parent", "num_classes"))
_RATES = ("dropout", "stoch_depth")
_DTYPES = ("float32", "bfloat16")


def create(name: str, num_classes: int | None, **overrides) -> nn.Module:
    """Makes a model from its name.

    Args:
      name: one of the paper's seven variants (`VARIANTS`, Table 1), such as "mixer_b16", or "mixer" for a free
        configuration whose five dimensions are all given.
      num_classes: width of the head, or None for a model without one.
      **overrides: attributes of `Mixer` to set; a dimension given as None keeps the variant's value. `dtype` may
        be a name.

    Returns:
      An unbound Flax module; `module.init(key, images)` makes its variables.

    Raises:
      ConfigError: the name or an override is unknown, a dimension is missing, or a value is out of range.
    """
    one_of("config.model.name", name, [*VARIANTS, "mixer"])
    attributes = dict(VARIANTS.get(name, {}))
    for key, value in overrides.items():
        if key not in _ATTRIBUTES:
            raise ConfigError(f"config.model.{key}={value!r} is no attribute of {name}; {suggest(key, _ATTRIBUTES)}")
        if value is not None:
            attributes[key] = value
    _check(name, num_classes, attributes)
    dtype = attributes.get("dtype", "float32")
    attributes["dtype"] = jnp.dtype(one_of("config.model.dtype", getattr(dtype, "__name__", str(dtype)), _DTYPES))
    return Mixer(num_classes=num_classes, **attributes)


def _check(name: str, num_classes: int | None, attributes: dict) -> None:
    for key in _DIMENSIONS:
        value = attributes.get(key)
        if value is None:
            raise ConfigError(
                f"config.model.{key} is missing: a free configuration (config.model.name={name!r}) sets {_DIMENSIONS}"
            )
        if type(value) is not int or value < 1:  # isinstance would let True pass
            raise ConfigError(f"config.model.{key}={value!r}; expected a positive integer")
    for key in _RATES:
        value = attributes.get(key, 0.0)
        if not isinstance(value, (int, float)) or not 0.0 <= value < 1.0:
            raise ConfigError(f"config.model.{key}={value!r}; expected a rate in [0, 1)")
    one_of("config.model.remat", attributes.get("remat", "none"), REMAT)
    if num_classes is not None and (type(num_classes) is not int or num_classes < 1):
        raise ConfigError(f"num_classes={num_classes!r}; expected a positive integer, or None for no head")


def attributes(shapes: Mapping[str, tuple[int, ...]], num_blocks: int | None = None) -> dict:
    """Returns the keyword arguments with which `models.create` makes the model of these shapes.

    Args:
      shapes: by name in the parameter tree; those of the stem, the head and the first block tell.
      num_blocks: the number of blocks; None counts those in `shapes`.

    Returns:
      The name of a variant with what differs from it, or "mixer" with its five dimensions; num_classes, None without a
      head; untied_token_mixing where it is.
    """
    tokens_kernel = shapes["MixerBlock_0/token_mixing/Dense_0/kernel"]
    dimensions = {
        "patch_size": shapes["stem/kernel"][0],
        "num_blocks": num_blocks or len({name.split("/")[0] for name in shapes if name.startswith("MixerBlock_")}),
        "hidden_dim": shapes["stem/kernel"][-1],
        "tokens_mlp_dim": tokens_kernel[-1],
        "channels_mlp_dim": shapes["MixerBlock_0/channel_mixing/Dense_0/kernel"][-1],
    }
    named = {"name": "mixer", **dimensions}
    for variant, its in VARIANTS.items():
        differing = {key: value for key, value in dimensions.items() if value != its[key]}
        if differing.keys() <= {"tokens_mlp_dim"}:  # it grows with the resolution
            named = {"name": variant, **differing}
    untied = {"untied_token_mixing": True} if len(tokens_kernel) == 3 else {}
    return {**named, "num_classes": shapes.get("head/kernel", (None,))[-1], **untied}
