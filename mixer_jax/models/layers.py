"""The layers that models have in common."""

import flax.linen as nn
import jax
import jax.numpy as jnp

# What the backward pass finds of a block's activations: all, the results of the matrix products, or the block's input
# alone. The rest it computes again.
REMAT = {
    "none": None,
    "dots": jax.checkpoint_policies.dots_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


class MlpBlock(nn.Module):
    """Dense, GELU (tanh form), Dense over the last axis, back to its input width.

    Dropout follows each activation of the pair, as in the MLP of vit_jax: the paper names dropout in Fig. 1
    without saying where it sits, and every published run sets it to 0 (Table 4).
    """

    mlp_dim: int
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Maps x (..., width) to the same shape."""
        width = x.shape[-1]
        x = nn.gelu(nn.Dense(self.mlp_dim, dtype=self.dtype)(x))  # jax.nn.gelu is the tanh form by default
        x = nn.Dropout(self.dropout)(x, deterministic=deterministic)
        x = nn.Dense(width, dtype=self.dtype)(x)
        return nn.Dropout(self.dropout)(x, deterministic=deterministic)


class StochasticDepth(nn.Module):
    """Drops a residual branch of each example with probability `rate`.

    As in the official code a kept branch is not rescaled by 1 / (1 - rate), and nothing changes at test time.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Maps the branch x (n, tokens, hidden_dim) to the same shape."""
        if deterministic or self.rate == 0.0:
            return x
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1.0 - self.rate, (x.shape[0], 1, 1))
        return x * keep.astype(x.dtype)


def check_images(shape: tuple[int, ...], patch_size: int) -> None:
    """Raises a ValueError unless the shape is (n, height, width, channels), both sizes multiples of the patch."""
    if len(shape) != 4:
        raise ValueError(f"images have shape {shape}; expected (n, height, width, channels)")
    height, width = shape[1:3]
    if height % patch_size or width % patch_size or not height or not width:
        nearest = [max(round(side / patch_size), 1) * patch_size for side in (height, width)]
        raise ValueError(
            f"image size {height}x{width} is no multiple of patch_size={patch_size}; "
            f"the nearest size that is: {nearest[0]}x{nearest[1]}"
        )
