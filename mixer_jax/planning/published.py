"""What is published of the recipes' runs, to hold a plan against, and the sizes of their data sets."""

import dataclasses

from mixer_jax import paper

# Examples by (config.data.source, config.data.split), where the data set is not at hand: ILSVRC-2012, ImageNet-21k
# (fall 2011) as image-net.org counts them, and JFT-300M as the ViT paper does (arXiv 2010.11929, section 4.1).
EXAMPLES = {
    ("tfds:imagenet2012", "train[:99%]"): 1_268_355,
    ("tfds:imagenet21k", "full[51200:]"): 14_145_922,
    ("tfds:large", "train"): 303_000_000,
}


@dataclasses.dataclass(frozen=True)
class Published:
    """A published pre-training.

    Attributes:
      core_days: TPU v3 core-days, two cores a chip; Table 3 rounds to tens, and extrapolates those on ImageNet and
        ImageNet-21k.
      inference_img_sec_core: images a second and TPU v3 core in inference, the best over batch sizes.
    """

    core_days: int
    inference_img_sec_core: int


# Table 3 at 224 pixels, by recipe and epochs.
_TABLE_3 = {
    (row.recipe, row.epochs): Published(row.core_days, row.img_sec_core)
    for row in paper.rows()
    if row.table == 3 and row.image_size == 224 and row.recipe
}


def of(recipe: str, epochs: float | None) -> Published | None:
    """Returns what the paper says of a recipe, such as "mixer_b16_i1k", trained for so many epochs."""
    return _TABLE_3.get((recipe, epochs))
