"""What is published of the recipes' runs, to hold a plan against, and the sizes of their data sets."""

import dataclasses

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
      core_days: TPU v3 core-days, two cores a chip; Table 3 rounds to tens.
      inference_img_sec_core: images a second and TPU v3 core in inference, the best over batch sizes.
    """

    core_days: int
    inference_img_sec_core: int


# Table 3 (224 px), by recipe and epochs. Core-days on ImageNet and ImageNet-21k are extrapolated there.
_TABLE_3 = {
    ("mixer_b16_i1k", 300): Published(10, 1384),
    ("mixer_l16_i1k", 300): Published(40, 419),
    ("mixer_b16_i21k", 300): Published(150, 1384),
    ("mixer_l16_i21k", 300): Published(410, 419),
    ("mixer_s32_jft", 5): Published(10, 11489),
    ("mixer_b32_jft", 7): Published(50, 4208),
    ("mixer_s16_jft", 5): Published(30, 3994),
    ("mixer_b16_jft", 7): Published(80, 1384),
    ("mixer_l32_jft", 7): Published(120, 1314),
    ("mixer_l16_jft", 7): Published(230, 419),
    ("mixer_l16_jft", 14): Published(450, 419),
    ("mixer_h14_jft", 14): Published(1010, 194),
}


def of(recipe: str, epochs: float | None) -> Published | None:
    """Returns what the paper says of a recipe, such as "mixer_b16_i1k", trained for so many epochs."""
    return _TABLE_3.get((recipe, epochs))
