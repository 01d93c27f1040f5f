"""The paper's optimizer: clipping, Adam or momentum SGD, decoupled weight decay, a schedule with warm-up."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mixer_jax.config.checks import one_of
from mixer_jax.errors import ConfigError

Schedule = Callable[[int | jax.Array], jax.Array]

_DECAYS = {
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + jnp.cos(jnp.pi * progress)),
}


def create_schedule(
    *, learning_rate: float, warmup_steps: int, decay: str, end_factor: float, total_steps: int
) -> Schedule:
    """Makes the learning-rate schedule: linear warm-up from 0, then linear or cosine decay (section 3).

    With w = warmup_steps, T = total_steps, e = end_factor and d the decay of progress = clip((t - w) / (T - w), 0, 1),
    the rate at step t is learning_rate (e + (1 - e) d(progress)) min(1, t / w).

    Args:
      learning_rate: the peak, reached at step w.
      warmup_steps: w; 0 for none.
      decay: "linear" or "cosine".
      end_factor: e, the share of the peak that is left at step T.
      total_steps: T.

    Returns:
      A function of the step (int or traced integer) to the learning rate (float32 scalar).

    Raises:
      ConfigError: an unknown decay, or a warm-up that does not end before the training.
    """
    shape = _DECAYS[one_of("config.schedule.decay", decay, _DECAYS)]
    if warmup_steps >= total_steps:
        raise ConfigError(
            f"config.schedule.warmup_steps={warmup_steps} must be less than the {total_steps} "
            "training steps (config.steps or config.epochs)"
        )

    def schedule(step):
        step = jnp.asarray(step, jnp.float32)  # exact up to 2**24 steps
        progress = jnp.clip((step - warmup_steps) / (total_steps - warmup_steps), 0.0, 1.0)
        rate = learning_rate * (end_factor + (1.0 - end_factor) * shape(progress))
        return rate * jnp.minimum(1.0, step / warmup_steps) if warmup_steps else rate

    return schedule


def create_optimizer(
    *,
    name: str,
    b1: float,
    b2: float,
    momentum: float,
    momentum_dtype: str,
    weight_decay: float,
    clip_norm: float,
    schedule: Schedule,
) -> optax.GradientTransformation:
    """Makes the optimizer of sections 3 and 4.1: p -= lr(t) (direction(clip(g)) + weight_decay p).

    The gradient is clipped by its global norm first. Weight decay is decoupled, scaled by the learning rate, and
    acts on kernels alone, not on biases or LayerNorms.

    Args:
      name: "adam" (the direction is Adam's) or "momentum" (the direction is the trace m = momentum m + g).
      b1: decay of Adam's first moment.
      b2: decay of Adam's second moment.
      momentum: decay of the trace of momentum SGD.
      momentum_dtype: "float32" or "bfloat16", what the trace is rounded to between steps; bfloat16 in
        the official code.
      weight_decay: the paper's weight decay, before it is multiplied by the learning rate.
      clip_norm: largest global norm of the gradient; 0 does not clip.
      schedule: step -> learning rate.

    Returns:
      An optax transformation; its `update` takes (gradients, state, parameters).

    Raises:
      ConfigError: an unknown name.
    """
    one_of("config.optimizer.name", name, ("adam", "momentum"))
    one_of("config.optimizer.momentum_dtype", momentum_dtype, ("float32", "bfloat16"))
    if name == "adam":
        direction = optax.scale_by_adam(b1=b1, b2=b2)
    else:
        # Of NumPy's type, lest a bfloat16 trace makes the product with it bfloat16, too.
        direction = optax.trace(np.float32(momentum), accumulator_dtype=momentum_dtype)
    return optax.chain(
        optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        direction,
        optax.add_decayed_weights(weight_decay, mask=is_kernel) if weight_decay else optax.identity(),
        optax.scale_by_learning_rate(schedule),
    )


def leave_out(opt_state: optax.OptState) -> optax.OptState:
    """Returns the optimizer's state after a step without an update: the schedule goes on, all else is as before."""

    def is_schedule(node):
        return isinstance(node, optax.ScaleByScheduleState)

    def go_on(node):
        return node._replace(count=node.count + 1) if is_schedule(node) else node

    return jax.tree.map(go_on, opt_state, is_leaf=is_schedule)


def is_kernel(params: dict) -> dict:
    """Returns a tree like `params` with True where weight decay acts: at the leaves named `kernel`."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
