"""Named random streams: every draw is a function of (seed, stream, step), never of what was drawn before."""

import hashlib
import zlib

import jax
import jax.numpy as jnp
import numpy as np

_IMPLEMENTATION = "threefry2x32"  # whatever JAX's default is: the numbers of a run follow from its seed


def key(seed: int, stream: str, step: int | jax.Array = 0) -> jax.Array:
    """Returns the random key of a stream at a step, for draws on the device.

    Args:
      seed: config.seed, in [0, 2**32).
      stream: name of what is drawn, such as "dropout"; streams are independent of each other.
      step: training step; may be traced.

    Returns:
      A scalar of JAX's typed keys.
    """
    of_stream = jax.random.fold_in(jax.random.key(seed, impl=_IMPLEMENTATION), zlib.crc32(stream.encode()))
    return jax.random.fold_in(of_stream, step)


def keys_of_examples(key: jax.Array, count: int) -> jax.Array:
    """Returns a key for each example of a batch, (count,): a function of `key` and of the example's place alone."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(count))


def integer(seed: int, stream: str, index: int = 0) -> int:
    """Returns the 128-bit integer of a stream at an index, to seed what draws on the host.

    Args:
      seed: config.seed.
      stream: name of what is drawn, such as "order".
      index: step, epoch, or position in the sequence of examples.
    """
    # Hashing keeps neighbours apart: with seed + index, (0, 1) and (1, 0) would be the same stream.
    digest = hashlib.blake2b(f"{seed}/{stream}/{index}".encode(), digest_size=16).digest()
    return int.from_bytes(digest, "little")


def generator(seed: int, stream: str, index: int = 0) -> np.random.Generator:
    """Returns NumPy's generator of a stream at an index, for draws on the host; arguments as in `integer`."""
    return np.random.Generator(np.random.Philox(key=integer(seed, stream, index)))
