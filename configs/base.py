"""The base of all recipes, under the name that recipes of a checkout may import: `from configs import base`."""

from mixer_jax.config.base import get_config, with_mode

__all__ = ["get_config", "with_mode"]
