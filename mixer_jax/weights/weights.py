"""The parameters of a whole model with a record of where each array came from, and what can be made of them."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable

import flax.linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from mixer_jax.errors import ConfigError
from mixer_jax.models import registry
from mixer_jax.models.family import Family
from mixer_jax.models.resolution import METHODS
from mixer_jax.weights.contents import shown

_MOST_LISTED = 20  # entries of one group that are left over; of more, one line says how many


@dataclasses.dataclass(frozen=True)
class Entry:
    """What became of one array.

    Attributes:
      name: its name in the parameter tree; None if it was left over.
      key: its key in the file; None if it is newly initialised.
      shape: its shape after the changes; None of what is no array.
      changes: what was done to it, such as "renamed", "squeezed", "transposed", "cast from float16".
    """

    name: str | None
    key: str | None
    shape: tuple[int, ...] | None
    changes: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        """The first word of its key, such as "optimizer"."""
        return re.split(r"[./]", self.key or "")[0]

    def __str__(self):
        if self.key is None:
            return f"newly initialised: {self.name} {self.shape}"
        done = ", ".join(change for change in self.changes if change != "renamed")
        done = f": {done}" if done else ""
        if self.name is None:
            return f"left over: {shown(self.key)} {'(no array)' if self.shape is None else self.shape}{done}"
        renamed = f" <- {shown(self.key)}" if self.key != self.name else ""
        return f"{self.name} {self.shape}{renamed}{done}"


@dataclasses.dataclass(frozen=True)
class Weights:
    """The parameters of a whole model.

    Attributes:
      params: the parameter tree, float32 NumPy arrays.
      model: the keyword arguments with which `registry.create_model` makes the model that they fit.
      image_size: height and width, in pixels, of the square images that they are for.
      source: the file that they came from.
      layout: what its layout is called.
      entries: what became of each array, in the order of the tree; what was left over comes last.
      part: what the file calls this set of weights, its keys' prefix; "" where they have none.
      beside: what it calls the other sets that it holds.
    """

    params: dict = dataclasses.field(repr=False)
    model: dict
    image_size: int
    source: str
    layout: str
    entries: tuple[Entry, ...] = dataclasses.field(repr=False)
    part: str = ""
    beside: tuple[str, ...] = ()

    @property
    def family(self) -> Family:
        """The family of the model."""
        return registry.family(self.model["name"])

    @property
    def attributes(self) -> dict:
        """What shapes the parameters, beside the model's name and its head."""
        return {key: value for key, value in self.model.items() if key not in ("name", "num_classes")}

    def create_model(self, **overrides) -> nn.Module:
        """Makes the model that these parameters fit, with attributes such as dtype or dropout overridden."""
        return registry.create_model(**self.model | overrides)

    def at_resolution(self, image_size: int, method: str = "block_diagonal") -> "Weights":
        """Returns the weights for images of another size.

        Args:
          image_size: height and width of the new images, in pixels.
          method: one of `resolution.METHODS`: the paper's rule, or interpolation, which is not in the paper.

        Raises:
          ConfigError: the model's weights cannot go there so.
        """
        params = self.family.resized(self.params, self.image_size, image_size, method)
        grown = {}
        if method == METHODS[0]:
            grown = self.family.grown(self.model["name"], self.attributes, self.image_size, image_size)
        essential = self.family.essential(self.model["name"], self.attributes | grown)
        model = {**essential, "num_classes": self.model["num_classes"]}
        shapes = {name: array.shape for name, array in flatten_dict(params, sep="/").items()}

        def changed(entry):
            shape = shapes.get(entry.name, entry.shape)
            done = () if shape == entry.shape else (f"{method} from {entry.shape}",)
            return dataclasses.replace(entry, shape=shape, changes=entry.changes + done)

        entries = tuple(changed(entry) for entry in self.entries)
        return dataclasses.replace(self, params=params, model=model, image_size=image_size, entries=entries)

    def from_pixels(self, low: float, high: float) -> "Weights":
        """Returns, of weights for pixels between `low` and `high`, those that do the same for pixels in [-1, 1]."""
        if (low, high) == (-1.0, 1.0):
            return self
        flat = flatten_dict(self.params, sep="/")
        changed = self.family.from_pixels(self.params, low, high)
        new = flatten_dict(changed, sep="/")
        done = (f"rescaled from pixels in [{low:g}, {high:g}]",)
        entries = tuple(
            dataclasses.replace(entry, changes=entry.changes + done)
            if entry.name and new[entry.name] is not flat[entry.name]
            else entry
            for entry in self.entries
        )
        return dataclasses.replace(self, params=changed, entries=entries)

    def into(self, init_params: dict, *, new_head: bool = False) -> "Weights":
        """Fits the weights into a model.

        Args:
          init_params: the model's initial parameters, a tree of arrays; only the head's values are used, if at all.
          new_head: whether the model starts with its own initial head, as fine-tuning does.

        Returns:
          Weights with exactly the arrays of `init_params`. A head that the model has no use for is left over.

        Raises:
          ConfigError: an array of the model is missing or has another shape, or the model has no place for one; the
            message names the first such key and both shapes.
        """
        ours, target = flatten_dict(self.params, sep="/"), flatten_dict(init_params, sep="/")
        entries = {entry.name: entry for entry in self.entries if entry.name}
        params, fitted, left_over = {}, [], [entry for entry in self.entries if not entry.name]
        for name in in_order({*ours, *target}):
            here, there = (tuple(tree[name].shape) if name in tree else None for tree in (ours, target))
            if name.startswith("head/") and (new_head or not there):
                if here:
                    left_over.append(dataclasses.replace(entries[name], name=None))
                if there:
                    params[name] = target[name]
                    fitted.append(Entry(name, None, there))
            elif here != there:
                raise ConfigError(self._misfit(name, here, there))
            else:
                params[name] = ours[name]
                fitted.append(entries[name])
        head = next((array for name, array in params.items() if name.startswith("head/")), None)
        model = {**self.model, "num_classes": None if head is None else head.shape[-1]}
        return dataclasses.replace(
            self, params=unflatten_dict(params, sep="/"), model=model, entries=(*fitted, *left_over)
        )

    def _misfit(self, name: str, here: tuple | None, there: tuple | None) -> str:
        has = f"has shape {here}" if here else "is missing"
        needed = f"the model needs {there}" if there else "the model has no such array"
        hint = "; weights for another image size: Weights.at_resolution, convert --resolution" if here and there else ""
        return f"{self.source}: {name} {has}; {needed}{hint}"

    def report(self) -> str:
        """Returns what became of every array: a line each, or one for all that differ in the block's number alone."""
        loaded = [entry for entry in self.entries if entry.name and entry.key]
        counts = [f"{len(loaded)} arrays loaded"]
        kinds = dict.fromkeys(change.split(" from ")[0] for entry in loaded for change in entry.changes)
        for kind in kinds:
            counts.append(f"{sum(any(done.startswith(kind) for done in entry.changes) for entry in loaded)} {kind}")
        counts.append(f"{sum(entry.key is None for entry in self.entries)} newly initialised")
        counts.append(f"{sum(entry.name is None for entry in self.entries)} left over")
        blocks = "|".join(re.escape(layout.key(self.family.block)) for layout in self.family.layouts)
        beside = Counter(entry.group for entry in self.entries if entry.name is None)
        lines: dict[str, int] = {}
        for entry in self.entries:
            if entry.name is None and beside[entry.group] > _MOST_LISTED:
                line = f"left over: {beside[entry.group]:,} entries of {shown(entry.group)}"
                lines[line] = 1
                continue
            line = re.sub(rf"({blocks})\d+", r"\1*", str(entry)) if self.family.block else str(entry)
            lines[line] = lines.get(line, 0) + 1
        listed = [f"  {line}{f' ({count} times)' if count > 1 else ''}" for line, count in lines.items()]
        part = f", {shown(self.part)}" if self.part else ""
        return "\n".join([f"{self.source}{part}, {self.layout} layout: {', '.join(counts)}", *listed])


def in_order(names: Iterable[str]) -> list[str]:
    """Returns names of arrays sorted, with MixerBlock_2 before MixerBlock_10."""
    return sorted(names, key=lambda name: [int(x) if x.isdecimal() else x for x in re.split(r"(\d+)", name)])
