"""What a Mixer costs to compute, counted from its configuration."""

from mixer_jax.models.mixer import Mixer


def forward_flops(model: Mixer, image_size: int) -> int:
    """Returns the FLOPs of one image's forward pass: two for each multiply-add of its matrix products.

    A product of the stem, the MLPs and the head takes one multiply-add for each output and input; biases, LayerNorm,
    GELU and additions are left out, as usual. With untied token mixing the number is the same. A training step takes
    three times as much, because the gradients with respect to activations and to weights are one product each. (By
    convention the gradient with respect to the pixels is counted too, which nobody computes: less than 3 %, that of
    S/32.) What rematerialisation computes a second time comes on top.

    Args:
      model: the Mixer, with or without a head.
      image_size: height and width of the image, in pixels.
    """
    tokens = (image_size // model.patch_size) ** 2
    stem = tokens * model.patch_size**2 * 3 * model.hidden_dim
    token_mixing = 2 * model.hidden_dim * tokens * model.tokens_mlp_dim
    channel_mixing = 2 * tokens * model.hidden_dim * model.channels_mlp_dim
    head = model.hidden_dim * (model.num_classes or 0)
    return 2 * (stem + model.num_blocks * (token_mixing + channel_mixing) + head)
