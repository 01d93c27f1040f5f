"""MLP-Mixer: token-mixing and channel-mixing MLPs over image patches (arXiv 2105.01601, Eq. 1 and Listing 1).

The parameter tree has the names and shapes of the official JAX model, so published weights load by name:
`stem`, `MixerBlock_i/{LayerNorm_0, token_mixing/Dense_{0,1}, LayerNorm_1, channel_mixing/Dense_{0,1}}`,
`pre_head_layer_norm`, `head`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mixer_jax.models.layers import REMAT, MlpBlock, StochasticDepth, check_images

# Table 1 of the paper. S (tokens) follows from the image; D_C = 4 C and D_S = C / 2 throughout.
_SIZES = {
    "s": {"num_blocks": 8, "hidden_dim": 512, "tokens_mlp_dim": 256, "channels_mlp_dim": 2048},
    "b": {"num_blocks": 12, "hidden_dim": 768, "tokens_mlp_dim": 384, "channels_mlp_dim": 3072},
    "l": {"num_blocks": 24, "hidden_dim": 1024, "tokens_mlp_dim": 512, "channels_mlp_dim": 4096},
    "h": {"num_blocks": 32, "hidden_dim": 1280, "tokens_mlp_dim": 640, "channels_mlp_dim": 5120},
}
VARIANTS = {
    f"mixer_{size}{patch_size}": {"patch_size": patch_size, **_SIZES[size]}
    for size, patch_size in [("s", 32), ("s", 16), ("b", 32), ("b", 16), ("l", 32), ("l", 16), ("h", 14)]
}


class MixerBlock(nn.Module):
    """One layer of Eq. (1): a token-mixing MLP, then a channel-mixing MLP, both pre-norm and residual.

    `drop_rates` are the stochastic-depth rates of the two MLPs. With `untied_token_mixing` each channel has a
    token-mixing MLP of its own (Appendix A.1): the kernels gain a leading axis of hidden_dim.
    """

    tokens_mlp_dim: int
    channels_mlp_dim: int
    drop_rates: tuple[float, float] = (0.0, 0.0)
    dropout: float = 0.0
    untied_token_mixing: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Maps x (n, tokens, hidden_dim) to the same shape."""
        TokenMlp = MlpBlock
        if self.untied_token_mixing:
            TokenMlp = nn.vmap(
                MlpBlock,
                in_axes=(1, None),
                out_axes=1,
                variable_axes={"params": 0},
                split_rngs={"params": True, "dropout": True},
            )
        y = nn.LayerNorm(dtype=self.dtype)(x)
        y = jnp.swapaxes(y, 1, 2)  # (n, tokens, channels) -> (n, channels, tokens)
        y = TokenMlp(self.tokens_mlp_dim, self.dropout, self.dtype, name="token_mixing")(y, deterministic)
        y = jnp.swapaxes(y, 1, 2)  # (n, channels, tokens) -> (n, tokens, channels)
        x = x + StochasticDepth(self.drop_rates[0])(y, deterministic)
        y = nn.LayerNorm(dtype=self.dtype)(x)
        y = MlpBlock(self.channels_mlp_dim, self.dropout, self.dtype, name="channel_mixing")(y, deterministic)
        return x + StochasticDepth(self.drop_rates[1])(y, deterministic)


class Mixer(nn.Module):
    """MLP-Mixer classifier.

    Parameters are float32; `dtype` is the type of the computation, with LayerNorm statistics in float32.

    Attributes:
      num_classes: width of the head; None leaves the head out, and pre_logits are returned.
      patch_size: side of a square patch, in pixels.
      num_blocks: number of Mixer layers.
      hidden_dim: channels C of a token.
      tokens_mlp_dim: hidden width D_S of the token-mixing MLPs.
      channels_mlp_dim: hidden width D_C of the channel-mixing MLPs.
      dropout: dropout rate inside the MLPs.
      stoch_depth: stochastic-depth rate of the last MLP; it grows linearly from 0 at the first of the
        2 num_blocks MLPs (Appendix B).
      untied_token_mixing: a token-mixing MLP for each channel instead of one for all (Appendix A.1).
      head_bias: initial value of the head's bias; its kernel starts at 0.
      remat: which activations of the blocks are computed again in the backward pass instead of kept: "none", all but
        the results of matrix products ("dots"), or all ("full"); it trades time for memory and changes nothing else.
      dtype: compute dtype of all but the head, whose logits are float32.
    """

    num_classes: int | None
    patch_size: int
    num_blocks: int
    hidden_dim: int
    tokens_mlp_dim: int
    channels_mlp_dim: int
    dropout: float = 0.0
    stoch_depth: float = 0.0
    untied_token_mixing: bool = False
    head_bias: float = 0.0
    remat: str = "none"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, intermediates: bool = False):
        """Classifies images.

        Args:
          images: float (n, height, width, channels), scaled to [-1, 1]; height and width are multiples of
            patch_size.
          train: whether dropout and stochastic depth act; they draw from the rng stream "dropout".
          intermediates: whether to return the named activations, too.

        Returns:
          logits float32 (n, num_classes), or without a head pre_logits (n, hidden_dim) in `dtype`. With
          `intermediates` a pair of that and a dict: "stem" (n, tokens, hidden_dim), "block_0" ... of the same
          shape, "pre_logits" and, with a head, "logits".

        Raises:
          ValueError: the images are no batch of four axes, or their size is no multiple of patch_size.
        """
        check_images(images.shape, self.patch_size)
        named = {}
        patch = (self.patch_size, self.patch_size)
        x = nn.Conv(self.hidden_dim, patch, strides=patch, padding="VALID", dtype=self.dtype, name="stem")(images)
        n, h, w, c = x.shape
        x = x.reshape(n, h * w, c)  # raster order
        named["stem"] = x
        Block = MixerBlock
        if self.remat != "none":
            Block = nn.remat(MixerBlock, policy=REMAT[self.remat], static_argnums=2)  # self, x, deterministic
        for i in range(self.num_blocks):
            last = max(2 * self.num_blocks - 1, 1)
            x = named[f"block_{i}"] = Block(
                tokens_mlp_dim=self.tokens_mlp_dim,
                channels_mlp_dim=self.channels_mlp_dim,
                drop_rates=(self.stoch_depth * 2 * i / last, self.stoch_depth * (2 * i + 1) / last),
                dropout=self.dropout,
                untied_token_mixing=self.untied_token_mixing,
                dtype=self.dtype,
                name=f"MixerBlock_{i}",  # whatever nn.remat calls the class
            )(x, not train)
        x = nn.LayerNorm(dtype=self.dtype, name="pre_head_layer_norm")(x)
        x = named["pre_logits"] = jnp.mean(x, axis=1)  # (n, tokens, c) -> (n, c)
        if self.num_classes is not None:
            x = named["logits"] = nn.Dense(
                self.num_classes,
                kernel_init=nn.initializers.zeros,
                bias_init=nn.initializers.constant(self.head_bias),
                dtype=jnp.float32,  # around a bias of -10, bfloat16 has steps of 1/16, and classes tie
                name="head",
            )(x)
        return (x, named) if intermediates else x
