"""Families of models: what the rest of the program asks of a model, and never knows by itself."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from mixer_jax.config import base, ranges
from mixer_jax.config.checks import one_of, suggest
from mixer_jax.errors import ConfigError, shown
from mixer_jax.models.layers import REMAT
from mixer_jax.models.layouts import OFFICIAL, Layout

_DTYPES = ("float32", "bfloat16")
_RATES = ("dropout", "stoch_depth")
# Keys that change how a model is trained or computed, and none of its parameters' shapes.
_OF_TRAINING = (*_RATES, "head_bias", "remat", "dtype")
Shapes = Mapping[str, tuple[int, ...]]  # of a parameter tree, by name: "MixerBlock_0/LayerNorm_0/bias"


@functools.cache
def _unchanged() -> dict[str, object]:
    """Returns what config.model holds where nobody has changed it."""
    return base.get_config().model.to_dict()


@dataclasses.dataclass(frozen=True)
class Published:
    """Weights that somebody has published.

    Attributes:
      address: of the file.
      twin: the name under which the same weights are published elsewhere; "" if they are not.
      pixels: the range of pixels that the model was trained on.
    """

    address: str
    twin: str = ""
    pixels: tuple[float, float] = (-1.0, 1.0)


class Family:
    """A kind of models, around the Flax module that it is made of.

    The module has the attribute `num_classes`, None for a model without a head; its other attributes are the keys of
    `config.model` that the family reads. `module(...)(images, train=False, intermediates=False)` maps float images
    (n, height, width, 3), scaled to [-1, 1], to float32 logits (n, num_classes), or without a head to what it pools;
    with `intermediates` to a pair of that and a dict with at least "pre_logits" (n, features). With `train`, it may
    draw from the random stream "dropout". It has parameters and no other variables.

    A family of one's own is a subclass, or nothing but a module (`Family(module)`): this class says of it all that a
    module can tell by itself.

    Attributes:
      module: the Flax module.
      name: what config.model.name calls a free configuration.
      variants: name of each published configuration -> its attributes.
      titles: variant -> what the papers call it, such as "Mixer-B/16".
      layouts: what kinds of weight files name the parameters.
      telling: names of parameters whose shapes tell all others' -> how many axes they may have; those of the head may
        be missing, and the first one tells files of this family from others. Empty: such files cannot be read.
      block: what names of a block's parameters begin with, before its number; "" if there are no blocks.
      pretraining_size: height and width of the images that the variants are for, in pixels.
      published: name of published weights -> where they are.
      pretrained: variant -> name of the published weights that it is fine-tuned from by default.
    """

    variants: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    titles: ClassVar[Mapping[str, str]] = {}
    layouts: ClassVar[tuple[Layout, ...]] = (OFFICIAL,)
    telling: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    block: ClassVar[str] = ""
    pretraining_size: ClassVar[int] = 224
    published: ClassVar[Mapping[str, Published]] = {}
    pretrained: ClassVar[Mapping[str, str]] = {}

    def __init__(self, module: type[nn.Module], name: str):
        self.module = module
        self.name = name

    def defaults(self) -> dict[str, object]:
        """Returns the attributes of the module with their defaults; `dataclasses.MISSING` where there is none."""
        fields = dataclasses.fields(self.module)
        return {field.name: field.default for field in fields if field.name not in ("name", "parent", "num_classes")}

    def complete(self, name: str, attributes: Mapping[str, object]) -> dict[str, object]:
        """Returns all attributes of a model: those that are given, else the variant's, else the defaults.

        Args:
          name: a variant, or the name of a free configuration.
          attributes: None, and what `config.model` has for other families and nobody changed, count as not given.

        Raises:
          ConfigError: an attribute is missing, or one is given that the family does not have.
        """
        completed = self.defaults() | dict(self.variants.get(name, {}))
        unchanged = _unchanged()
        for key, value in attributes.items():
            if key in completed:
                completed[key] = completed[key] if value is None else value
            elif key not in unchanged or value != unchanged[key]:
                raise ConfigError(
                    f"config.model.{key}={shown(value)} is no attribute of {name}; {suggest(key, completed)}"
                )
        for key, value in completed.items():
            if value is dataclasses.MISSING:
                needed = [other for other, default in self.defaults().items() if default is dataclasses.MISSING]
                raise ConfigError(
                    f"config.model.{key} is missing: a free configuration (config.model.name={name!r}) sets {needed}"
                )
        return completed

    def essential(self, name: str, attributes: Mapping[str, object]) -> dict[str, object]:
        """Returns {"name": ..., and what of the attributes shapes the parameters and differs from the variant's}."""
        usual = self.defaults() | dict(self.variants.get(name, {}))
        completed = self.complete(name, attributes)
        shaping = {k: value for k, value in completed.items() if self.shapes_parameters(k) and value != usual[k]}
        return {"name": name, **shaping}

    def shapes_parameters(self, key: str) -> bool:
        """Returns whether an attribute decides which parameters there are; the others are of training alone."""
        return key not in _OF_TRAINING

    def check(self, attributes: Mapping[str, object]) -> None:
        """Raises a ConfigError if a value of the complete attributes is wrong."""

    def create(self, name: str, num_classes: int | None, attributes: Mapping[str, object]) -> nn.Module:
        """Makes a model; arguments as in `complete`, and `dtype` may be a name.

        Raises:
          ConfigError: as `complete`, or a value is out of range.
        """
        completed = self.complete(name, attributes)
        if num_classes is not None and (type(num_classes) is not int or num_classes < 1):
            raise ConfigError(f"num_classes={shown(num_classes)}; expected a positive integer, or None for no head")
        for key in (*_RATES, "head_bias"):
            ranges.check_number(f"model.{key}", completed.get(key, 0.0))
        one_of("config.model.remat", completed.get("remat", "none"), REMAT)
        self.check(completed)
        if "dtype" in completed:
            dtype = completed["dtype"]
            dtype_name = one_of("config.model.dtype", getattr(dtype, "__name__", str(dtype)), _DTYPES)
            completed["dtype"] = jnp.dtype(dtype_name)
        return self.module(num_classes=num_classes, **completed)

    def identify(self, shapes: Shapes, num_blocks: int) -> dict[str, object]:
        """Returns the keyword arguments of `create_model` for the parameters of a file that says nothing else.

        Args:
          shapes: of the parameters in `telling`.
          num_blocks: how many blocks there are, 1 if `block` is empty.
        """
        raise NotImplementedError(f"{self.name} names no model by its parameters")

    def image_size(self, params: dict) -> int:
        """Returns the height and width, in pixels, of the images for which a file that says nothing else is made."""
        raise NotImplementedError(f"{self.name} tells no size of images by its parameters")

    def grown(self, name: str, attributes: Mapping[str, object], old: int, new: int) -> dict[str, object]:
        """Returns the attributes that a model for images of `old` pixels has to change at `new` pixels.

        Raises:
          ConfigError: its weights cannot go from the one to the other.
        """
        del attributes
        if old != new:
            raise ConfigError(f"{name}: weights for images of {old} pixels cannot become weights for {new} pixels")
        return {}

    def resized(self, params: dict, old: int, new: int, method: str) -> dict:
        """Returns parameters for images of `old` pixels as parameters for `new` pixels.

        Args:
          params: the parameter tree.
          old: height and width, in pixels.
          new: height and width, in pixels.
          method: one of `resolution.METHODS`.

        Raises:
          ConfigError: there is no such way from the one to the other.
        """
        del method
        self.grown(self.name, {}, old, new)
        return params

    def from_pixels(self, params: dict, low: float, high: float) -> dict:
        """Returns, of parameters for pixels in [low, high], those that do the same for pixels in [-1, 1].

        Raises:
          ConfigError: the parameters cannot say that.
        """
        del params
        raise ConfigError(f"{self.name}: weights for pixels in [{low:g}, {high:g}] cannot become weights for [-1, 1]")

    def check_written(self, layout: Layout, arrays: Mapping[str, np.ndarray]) -> None:
        """Raises a ConfigError if files of a layout have no place for these parameters."""

    def title(self, name: str, attributes: Mapping[str, object], image_size: int) -> str | None:
        """Returns what the papers call a model, or None if it differs from theirs.

        Args:
          name: config.model.name.
          attributes: the others of config.model.
          image_size: height and width of its images, in pixels.
        """
        if name not in self.titles:
            return None
        grown = self.grown(name, {}, self.pretraining_size, image_size)
        return self.titles[name] if self.essential(name, attributes) == self.essential(name, grown) else None
