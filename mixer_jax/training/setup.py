"""From a config to the training step and all that it needs but data."""

import dataclasses
import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from mixer_jax.config.extensions import is_extension
from mixer_jax.config.ranges import RANGES
from mixer_jax.errors import ConfigError
from mixer_jax.models import registry
from mixer_jax.runtime import hardware, mesh
from mixer_jax.steps import losses
from mixer_jax.steps import optimizer as optim
from mixer_jax.steps import state as state_lib
from mixer_jax.steps.train_step import make_train_step
from mixer_jax.steps.types import JittedTrainStep, TrainStep


@dataclasses.dataclass(frozen=True)
class Training:
    """What of a config's program needs no data.

    Attributes:
      mesh: the device mesh.
      total_steps: length of the training.
      model: the model.
      abstract_state: the state's shapes, types and shardings, as ShapeDtypeStructs.
      init: key -> state at step 0, jitted; no device holds more of it than its share.
      train_step: (state, batch) -> (state, metrics), jitted; the state is donated.
      abstract_batch: shapes, types and shardings of a global batch, as ShapeDtypeStructs.
    """

    mesh: jax.sharding.Mesh
    total_steps: int
    model: nn.Module
    abstract_state: state_lib.TrainState
    init: Callable[[jax.Array], state_lib.TrainState]
    train_step: JittedTrainStep
    abstract_batch: dict[str, jax.ShapeDtypeStruct]


def build_training(
    config: ConfigDict,
    device_mesh: jax.sharding.Mesh,
    *,
    num_examples: int,
    observe: Callable[[dict, dict, dict], dict] | None = None,
) -> Training:
    """Builds the objects of a config that need no data.

    Args:
      config: a recipe, with the keys of mixer_jax/config/base.py.
      device_mesh: where the training runs.
      num_examples: size of the training data.
      observe: adds to the metrics of the training step, as `train_step.make_train_step` says.

    Returns:
      The training.

    Raises:
      ConfigError: a value is wrong; the message names its key.
    """
    parts = _parts(config, device_mesh, num_examples=num_examples, observe=observe)
    if not RANGES["steps"].holds(parts.total_steps):
        raise ConfigError(
            f"config.epochs={config.epochs} of {num_examples:,} examples are {parts.total_steps:,} steps of "
            f"{config.batch_size}; expected {RANGES['steps']}"
        )
    init = state_lib.make_init(parts.model, parts.optimizer, image_size=config.data.image_size)
    abstract_state = state_lib.abstract(init, device_mesh)
    state_sharding = jax.tree.map(lambda x: x.sharding, abstract_state)
    return Training(
        mesh=device_mesh,
        total_steps=parts.total_steps,
        model=parts.model,
        abstract_state=abstract_state,
        init=jax.jit(init, out_shardings=state_sharding),
        train_step=jax.jit(
            parts.train_step, donate_argnums=0, out_shardings=(state_sharding, mesh.replicated(device_mesh))
        ),
        abstract_batch=_abstract_batch(config, device_mesh),
    )


def check_memory(training: Training, *, images: int = 0) -> None:
    """Raises a ConfigError where not even the state fits on the devices, before they are asked for it.

    Args:
      training: the training.
      images: of a batch, over all devices, where it is larger than the training's own.
    """
    device = training.mesh.local_devices[0]
    held = hardware.memory_of(device)
    batch = training.abstract_batch["image"]
    image_bytes = math.prod(batch.shape[1:]) * max(images, batch.shape[0]) // training.mesh.size
    state_bytes = sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(training.abstract_state)
    )
    if held is not None and state_bytes + image_bytes > held:
        raise ConfigError(
            f"config.model, config.batch_size, config.data.image_size: each device ({device.device_kind}) holds "
            f"{held / _GIB:,.1f} GiB; parameters and optimizer alone take {state_bytes / _GIB:,.1f} GiB of it, and a "
            f"batch {image_bytes / _GIB:,.1f} GiB; choose smaller ones, or a larger config.mesh.fsdp"
        )


def check_training(config: ConfigDict, device_mesh: jax.sharding.Mesh) -> None:
    """Raises a ConfigError for what is wrong with a training, whatever its data; arguments as in `build_training`."""
    _parts(config, device_mesh, num_examples=_MANY)


_GIB = 2**30
_MANY = 10**15  # more examples than there are: a length in epochs is then long enough


@dataclasses.dataclass(frozen=True)
class _Parts:
    """What a training is made of, before it lies on devices."""

    total_steps: int
    model: nn.Module
    optimizer: optax.GradientTransformation
    train_step: TrainStep


def _parts(
    config: ConfigDict,
    device_mesh: jax.sharding.Mesh,
    *,
    num_examples: int,
    observe: Callable[[dict, dict, dict], dict] | None = None,
) -> _Parts:
    """Makes the parts of a training; every value of the config that they are made of is checked."""
    mesh.check_batch_size("batch_size", config.batch_size, device_mesh, parts=config.accumulation_steps)
    total_steps = training_steps(
        steps=config.steps, epochs=config.epochs, batch_size=config.batch_size, num_examples=num_examples
    )
    model = registry.create_model(**config.model, num_classes=config.data.num_classes)
    _check_image_size(config, model)
    schedule = optim.create_schedule(**config.schedule, total_steps=total_steps)
    optimizer = optim.create_optimizer(**config.optimizer, schedule=schedule)
    train_step = make_train_step(
        model,
        optimizer,
        loss=losses.create_loss(**config.loss),
        schedule=schedule,
        seed=config.seed,
        mixup=config.mixup,
        nonfinite=config.nonfinite,
        accumulation_steps=config.accumulation_steps,
        gather=functools.partial(mesh.gather, device_mesh),
        observe=observe,
    )
    return _Parts(total_steps, model, optimizer, train_step)


def _check_image_size(config: ConfigDict, model: nn.Module) -> None:
    """Raises a ConfigError if the model does not take images of the config's size, with the model's own reason."""
    size = config.data.image_size
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    try:
        variables = jax.eval_shape(model.init, jax.random.key(0), image)
        if is_extension(config.model.name):
            _check_own_model(config, model, variables, image)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(
            f"config.data.image_size={size} is no size for config.model.name={config.model.name!r}: {error}"
        ) from error


def _check_own_model(config: ConfigDict, model: nn.Module, variables: dict, image: jax.ShapeDtypeStruct) -> None:
    """Raises a ConfigError if a model of the user's own has other variables than parameters, or other logits."""
    key, expected = f"config.model.name={config.model.name!r}", (1, config.data.num_classes)
    if set(variables) != {"params"}:
        raise ConfigError(f"{key} has the variables {', '.join(sorted(variables))}; expected params alone")
    logits = jax.eval_shape(model.apply, variables, image)
    if getattr(logits, "shape", None) != expected:
        raise ConfigError(f"{key} returns {logits!r:.80} of an image; expected logits of shape {expected}")


def _abstract_batch(config: ConfigDict, device_mesh: jax.sharding.Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    images, size = config.batch_size, config.data.image_size
    sharding = mesh.batch_sharding(device_mesh)
    return {
        "image": jax.ShapeDtypeStruct((images, size, size, 3), jnp.uint8, sharding=sharding),
        "label": jax.ShapeDtypeStruct((images,), jnp.int32, sharding=sharding),
        "replaced": jax.ShapeDtypeStruct((images,), jnp.bool_, sharding=sharding),
        "damaged": jax.ShapeDtypeStruct((images,), jnp.bool_, sharding=sharding),
    }


def training_steps(*, steps: int | None, epochs: float | None, batch_size: int, num_examples: int) -> int:
    """Returns the number of training steps that a config asks for.

    Args:
      steps: config.steps; takes precedence when it is set.
      epochs: config.epochs, passes over the training data; the last part of a step is left out.
      batch_size: examples of a step, over all devices.
      num_examples: size of the training data.

    Raises:
      ConfigError: neither is set, or the epochs are no step.
    """
    if steps is not None:
        return steps
    if epochs is None:
        raise ConfigError("config.steps and config.epochs are both None; set one of them")
    if (whole := int(epochs * num_examples / batch_size)) < 1:
        raise ConfigError(f"config.epochs={epochs} of {num_examples} examples is no step of {batch_size}; raise it")
    return whole
