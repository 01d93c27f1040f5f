"""A family of models outside the package, as a user writes one: the proof that nothing in the package knows a Mixer."""

import flax.linen as nn
import jax.numpy as jnp

from mixer_jax.models.family import Family


class ToyModel(nn.Module):
    """Averages the image over cells, and classifies it with an MLP: no patches, no tokens, no blocks."""

    num_classes: int | None
    width: int
    cells: int = 2
    dropout: float = 0.0

    @nn.compact
    def __call__(self, images, *, train=False, intermediates=False):
        """Maps images (n, height, width, 3) to logits (n, classes)."""
        n, height, width, _ = images.shape
        if height % self.cells or width % self.cells:
            raise ValueError(f"{height}x{width} pixels do not divide into {self.cells}x{self.cells} cells")
        x = images.reshape(n, self.cells, height // self.cells, self.cells, width // self.cells, 3).mean(axis=(2, 4))
        x = nn.relu(nn.Dense(self.width, name="body")(x.reshape(n, -1)))
        x = nn.Dropout(self.dropout)(x, deterministic=not train)
        named = {"pre_logits": x}
        if self.num_classes is not None:
            x = named["logits"] = nn.Dense(self.num_classes, name="head")(x).astype(jnp.float32)
        return (x, named) if intermediates else x


class Toy(Family):
    """Toys with a number of cells that does not depend on the images, which may therefore have any size."""

    def __init__(self):
        super().__init__(ToyModel, "tests.toy_family:Toy")

    def grown(self, name, attributes, old, new):
        """Nothing has to change."""
        del name, attributes, old, new
        return {}

    def resized(self, params, old, new, method):
        """The parameters are for any size."""
        del old, new, method
        return params
