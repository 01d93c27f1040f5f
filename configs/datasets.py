"""What recipes on one data set share, under the name that recipes of a checkout may import."""

from mixer_jax.config.datasets import imagenet, imagenet21k, large

__all__ = ["imagenet", "imagenet21k", "large"]
