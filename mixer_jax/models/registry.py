"""Models and their families by name: `create_model("mixer_b16", num_classes=1000)`."""

from collections.abc import Callable, Mapping
from typing import cast

import flax.linen as nn

from mixer_jax.config.checks import suggest
from mixer_jax.config.extensions import is_extension, resolve
from mixer_jax.errors import ConfigError, shown
from mixer_jax.models.family import Family, Published
from mixer_jax.models.mixer_family import MixerFamily

FAMILIES: tuple[Family, ...] = (MixerFamily(),)


def variants() -> list[str]:
    """Returns the names of all published configurations."""
    return [name for family in FAMILIES for name in family.variants]


def published() -> dict[str, Published]:
    """Returns all published weights by name."""
    return {name: found for family in FAMILIES for name, found in family.published.items()}


def family(name: str) -> Family:
    """Returns the family that a model's name belongs to.

    Args:
      name: config.model.name: a variant, a family's own name for its free configurations, or "package.module:name" of a
        Flax module or a `Family` (a subclass or an object of it).

    Raises:
      ConfigError: no family has such a model.
    """
    if is_extension(name):
        return _extension(name)
    for known in FAMILIES:
        if name == known.name or name in known.variants:
            return known
    names = [*variants(), *(known.name for known in FAMILIES)]
    hint = suggest(str(name), names)
    raise ConfigError(f"config.model.name={shown(name)} is unknown; {hint}, or package.module:name")


def create_model(name: str, num_classes: int | None, **attributes: object) -> nn.Module:
    """Makes a model from its name.

    Args:
      name: as in `family`, such as "mixer_b16", one of the paper's seven (Table 1), or "mixer" for a free configuration
        whose five dimensions are all given.
      num_classes: width of the head, or None for a model without one.
      **attributes: of the family's module, such as those of `Mixer`; one given as None keeps the variant's value.
        `dtype` may be a name.

    Returns:
      An unbound Flax module; `module.init(key, images)` makes its variables.

    Raises:
      ConfigError: the name or an attribute is unknown, a dimension is missing, or a value is out of range.
    """
    return family(name).create(name, num_classes, attributes)


def essential(model: Mapping[str, object]) -> dict[str, object]:
    """Returns what of a config.model shapes the parameters: its name, and what differs from that variant."""
    attributes = {key: value for key, value in model.items() if key != "name"}
    return family(str(model["name"])).essential(str(model["name"]), attributes)


def compute_dtype(model: Mapping[str, object]) -> str:
    """Returns the type that a config.model computes in; "float32" where its family has no choice."""
    return str(model["dtype"]) if "dtype" in family(str(model["name"])).defaults() else "float32"


def title(model: Mapping[str, object], image_size: int) -> str | None:
    """Returns what the papers call the model of a config.model, such as "Mixer-B/16", or None if it is none of theirs.

    Args:
      model: name and attributes.
      image_size: height and width of its images, in pixels.
    """
    name, attributes = str(model["name"]), {key: value for key, value in model.items() if key != "name"}
    if is_extension(name):  # in a record of a run, which shall not import anything
        return None
    try:
        return family(name).title(name, attributes, image_size)
    except ConfigError:
        return None


def variant_of(title: str) -> str | None:
    """Returns the variant that the papers call so, or None if no family has it: "Mixer-B/16" -> "mixer_b16"."""
    return next((name for known in FAMILIES for name in known.titles if known.titles[name] == title), None)


def _extension(name: str) -> Family:
    found = resolve("config.model.name", name)
    if isinstance(found, Family):
        return found
    if isinstance(found, type) and issubclass(found, Family):
        try:
            return cast(Callable[[], Family], found)()
        except TypeError as error:
            raise ConfigError(f"config.model.name={name!r} cannot be made without arguments: {error}") from error
    if isinstance(found, type) and issubclass(found, nn.Module):
        return Family(found, name)
    raise ConfigError(f"config.model.name={name!r} is {found!r}; expected a Flax module or a mixer_jax Family")
