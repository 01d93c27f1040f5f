"""Starting a run from weights that another training left: `config.init_from`."""

import logging
from collections.abc import Callable

import jax
from flax.traverse_util import flatten_dict

from mixer_jax import rng
from mixer_jax.errors import ConfigError
from mixer_jax.steps.state import TrainState
from mixer_jax.weights.load import read_weights
from mixer_jax.weights.weights import Weights, attributes

logger = logging.getLogger("mixer_jax")


def initial_state(
    init: Callable[[jax.Array], TrainState], *, seed: int, init_from: str | None, image_size: int
) -> TrainState:
    """Returns the state at step 0 of a run.

    Args:
      init: key -> new state.
      seed: config.seed.
      init_from: config.init_from; None for a state that is all new.
      image_size: config.data.image_size, in pixels.

    Raises:
      ConfigError: as `start_from`.
    """
    state = init(rng.key(seed, "init"))
    return start_from(init_from, state, image_size=image_size) if init_from else state


def start_from(source: str, state: TrainState, *, image_size: int) -> TrainState:
    """Puts weights into a new state, all but its head; what became of every array is logged.

    Weights for images K times smaller are grown by the paper's rule (Appendix C, `models.resolution`).

    Args:
      source: config.init_from, as in `read_weights`.
      state: the state at step 0, with a new head and a new optimizer.
      image_size: height and width of the model's images, in pixels.

    Returns:
      The state with the other parameters replaced, on the same devices.

    Raises:
      ConfigError: the weights cannot be read, are for images of a size that is no divisor of `image_size`, or are those
        of another model than the config's.
    """
    try:
        read = read_weights(source)
        grown = read.at_resolution(image_size)
    except ConfigError as error:
        raise ConfigError(f"config.init_from={source!r}, config.data.image_size={image_size}: {error}") from error
    _check_model(grown, state.params, image_size)
    weights = grown.into(state.params, new_head=True)
    resolution = f"{read.image_size()} pixels"
    if read.image_size() != image_size:
        resolution += f", grown to {image_size} with block-diagonal token mixing"
    logger.info("new run from weights for %s, with a new head and a new optimizer: %s", resolution, weights.report())
    # The optimizer's state stays: it starts at zero whatever the parameters are.
    sharding = jax.tree.map(lambda x: x.sharding, state.params)
    return state.replace(params=jax.device_put(weights.params, sharding))


def _check_model(weights: Weights, params: dict, image_size: int) -> None:
    """Raises a ConfigError that names the keys by which the config's model differs from the weights'."""
    tied = {"untied_token_mixing": False}
    theirs = tied | weights.attributes()
    ours = tied | attributes({name: array.shape for name, array in flatten_dict(params, sep="/").items()})
    keys = [key for key in {**theirs, **ours} if key != "num_classes" and theirs.get(key) != ours.get(key)]
    if keys:
        needed = ", ".join(f"config.model.{key}={theirs.get(key)!r} ({ours.get(key)!r} here)" for key in keys)
        raise ConfigError(f"config.init_from={weights.source!r} at config.data.image_size={image_size} needs {needed}")
