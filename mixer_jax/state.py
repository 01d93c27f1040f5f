"""The training state: all that a checkpoint must hold, next to the config."""

from collections.abc import Callable

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from mixer_jax import mesh


class TrainState(flax.struct.PyTreeNode):
    """State after `step` updates.

    Attributes:
      step: int32 scalar, the number of updates done. The data, masks and learning rate of the next update follow
        from it and the seed.
      params: the model's parameters, float32.
      opt_state: state of the optax optimizer.
    """

    step: jax.Array
    params: dict
    opt_state: optax.OptState


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
