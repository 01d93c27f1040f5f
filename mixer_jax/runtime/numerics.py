"""JAX's own settings that change numbers: those that the design needs fixed are, and the others are recorded."""

import contextlib
from collections.abc import Iterator

import jax

_RECORDED = ("jax_default_matmul_precision",)


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """A context, or a decorator, in which random numbers and types do not depend on JAX's settings.

    Keys are threefry's, in the form whose numbers do not depend on how arrays are cut over devices; nothing is computed
    in 64 bits; types are promoted as usual, and not refused. The settings of the environment and of the calling program
    are as before outside.
    """
    with (
        jax.default_prng_impl("threefry2x32"),
        jax.threefry_partitionable(True),
        jax.enable_x64(False),
        jax.numpy_dtype_promotion("standard"),
    ):
        yield


def settings() -> dict[str, object]:
    """Returns the settings that are the user's to choose and change a run's numbers, by name; JSON can hold them."""
    return {name: getattr(jax.config, name) for name in _RECORDED}
