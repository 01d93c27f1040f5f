"""The training state: all that a checkpoint must hold, next to the config."""

import dataclasses
import zlib
from collections.abc import Callable

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mixer_jax.runtime import mesh


class TrainState(flax.struct.PyTreeNode):
    """State after `step` updates.

    Attributes:
      step: int32 scalar, the number of updates done. The data, masks and learning rate of the next update follow
        from it and the seed.
      params: the model's parameters, float32.
      opt_state: state of the optax optimizer.
      skipped: int32 scalar, how many of the updates were left out, because the loss or the gradient was not finite.
    """

    step: jax.Array
    params: dict
    opt_state: optax.OptState
    skipped: jax.Array = dataclasses.field(default_factory=lambda: jnp.int32(0))


def make_init(
    model: nn.Module, optimizer: optax.GradientTransformation, *, image_size: int
) -> Callable[[jax.Array], TrainState]:
    """Makes the function from a random key to the state at step 0.

    Args:
      model: the model.
      optimizer: the optax optimizer.
      image_size: height and width of the images, in pixels.
    """

    def init(key):
        params = model.init(key, jnp.zeros((1, image_size, image_size, 3)))["params"]
        return TrainState(step=jnp.int32(0), params=params, opt_state=optimizer.init(params))

    return init


def abstract(init: Callable[[jax.Array], TrainState], device_mesh: jax.sharding.Mesh) -> TrainState:
    """Returns the state that `init` would make on a mesh, as ShapeDtypeStructs with shardings, without making it."""
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        mesh.state_sharding(device_mesh, shapes),
    )


@jax.jit
def fingerprint(state: TrainState) -> jax.Array:
    """Returns a sum over all bits of a state, to tell whether it comes back from a file as it was.

    Each element's bits, as an integer, times an odd number that depends on its place are added modulo 2**32. So a
    changed bit always changes the sum, and the order of adding, hence how the state lies on the devices, never does.

    Args:
      state: any tree of arrays of 1, 2 or 4 bytes an element.

    Returns:
      uint32 scalar.
    """
    total = jnp.uint32(0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        bits = jax.lax.bitcast_convert_type(leaf, f"uint{8 * leaf.dtype.itemsize}").astype(jnp.uint32)
        place = jnp.full(leaf.shape, _place_of(path), jnp.uint32)
        for axis in range(leaf.ndim):
            place = place * leaf.shape[axis] + jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
        total += (bits * (2 * place + 1)).sum(dtype=jnp.uint32)
    return total


def fingerprint_of_arrays(tree: dict) -> int:
    """Returns the `fingerprint` of a tree of NumPy arrays, without a device."""
    total = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        bits = np.ascontiguousarray(leaf).reshape(-1).view(f"uint{8 * leaf.dtype.itemsize}").astype(np.uint32)
        place = np.arange(leaf.size, dtype=np.uint32) + np.uint32(_place_of(path) * leaf.size % 2**32)
        total += int((bits * (2 * place + 1)).sum(dtype=np.uint32))  # modulo 2**32, as all arithmetic of uint32 arrays
    return total % 2**32


def _place_of(path: tuple) -> int:
    """Returns the number that the places of a leaf's elements begin with."""
    return zlib.crc32(jax.tree_util.keystr(path).encode())
