"""Starting a run from weights that another training left: `config.init_from`."""

import logging
from collections.abc import Callable, Mapping

import jax

from mixer_jax import rng
from mixer_jax.errors import ConfigError
from mixer_jax.models import registry
from mixer_jax.steps.state import TrainState
from mixer_jax.weights.load import load_weights
from mixer_jax.weights.weights import Weights

logger = logging.getLogger("mixer_jax")


def initial_state(init: Callable[[jax.Array], TrainState], config: Mapping) -> TrainState:
    """Returns the state at step 0 of a run.

    Args:
      init: key -> new state.
      config: the run's config, of whose keys seed, init_from, model and data.image_size count.

    Raises:
      ConfigError: as `start_from`.
    """
    state = init(rng.key(config["seed"], "init"))
    return start_from(config["init_from"], state, config) if config["init_from"] else state


def start_from(source: str, state: TrainState, config: Mapping) -> TrainState:
    """Puts weights into a new state, all but its head; what became of every array is logged.

    Weights for images of another size are changed as their family does: those of a Mixer for images K times smaller are
    grown by the paper's rule (Appendix C, `models.resolution`).

    Args:
      source: config.init_from, as in `load_weights`.
      state: the state at step 0, with a new head and a new optimizer.
      config: the run's config.

    Returns:
      The state with the other parameters replaced, on the same devices.

    Raises:
      ConfigError: the weights cannot be read, are for images of a size that does not become data.image_size, or are
        those of another model than the config's.
    """
    image_size = config["data"]["image_size"]
    try:
        read = load_weights(source)
        grown = read.at_resolution(image_size)
    except ConfigError as error:
        raise ConfigError(f"config.init_from={source!r}, config.data.image_size={image_size}: {error}") from error
    _check_model(grown, config)
    weights = grown.into(state.params, new_head=True)
    resolution = f"{read.image_size} pixels"
    if read.image_size != image_size:
        resolution += f", grown to {image_size} by the rule of {read.family.name}"
    logger.info("new run from weights for %s, with a new head and a new optimizer: %s", resolution, weights.report())
    # The optimizer's state stays: it starts at zero whatever the parameters are.
    sharding = jax.tree.map(lambda x: x.sharding, state.params)
    return state.replace(params=jax.device_put(weights.params, sharding))


def _check_model(weights: Weights, config: Mapping) -> None:
    """Raises a ConfigError that names the keys by which the config's model differs from the weights'."""
    ours = {**config["model"]}
    name = ours.pop("name")
    family, theirs = registry.family(name), weights.family
    needed = []
    if family.module is not theirs.module:
        needed = [f"config.model.name={weights.model['name']!r} ({name!r} here)"]
    else:
        here, there = family.complete(name, ours), theirs.complete(weights.model["name"], weights.attributes)
        needed = [
            f"config.model.{key}={there[key]!r} ({here[key]!r} here)"
            for key in there
            if there[key] != here[key] and family.shapes_parameters(key)
        ]
    if needed:
        raise ConfigError(
            f"config.init_from={weights.source!r} at config.data.image_size={config['data']['image_size']} needs "
            f"{', '.join(needed)}"
        )
