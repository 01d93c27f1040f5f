"""Fine-tuning of the paper's models, as its section 3 and Appendix C and the ViT paper's Appendix B.1.1 say.

    python main.py --config=configs/finetune.py:cifar10
    python main.py --config=configs/finetune.py:imagenet,mixer_l16,448 --config.init_from=imagenet1k/Mixer-L_16
    python -m mixer_jax sweep --config=configs/finetune.py:pets,mixer_s32 --config.init_from=runs/mixer_s32_jft

The config argument names, in any order, a data set (imagenet, cifar10, cifar100, pets or flowers), a model (mixer_b16
if none) and the height and width of the images in pixels (224 if none; a multiple of it grows the pre-trained weights).
They start from `config.init_from`: without it from the weights published for ImageNet-21k, or for the models of which
none were published from where the pre-training recipe leaves its own, runs/<model>_jft.

`main.py` trains on all of the training images with one learning rate; `sweep` chooses it from the paper's grid first.

Hardware: TPU v3; any with more time or a smaller batch.
Accuracy, in the paper, Table 3: on ImageNet from ImageNet-21k 80.64 top-1 with mixer_b16, 82.89 with mixer_l16, 83.91
with mixer_l16 at 448 pixels; the mean of the five data sets is 92.50, 93.63 and 93.86. On CIFAR-10, published with the
weights in google-research/vision_transformer for its somewhat different fine-tuning: 96.82 with mixer_b16, 98.34 with
mixer_l16. Not measured here yet.
"""

from mixer_jax.config import base
from mixer_jax.suites import recipes


def get_config(mode: str = "imagenet"):
    """Returns the recipe; `mode` is described above, and may end in ",smoke" (`base.with_mode`)."""
    data_set, model, image_size, smoke = recipes.parse(mode, recipes.DATA_SETS, default="imagenet")
    config = recipes.for_data_set(data_set)
    recipes.from_pretraining(config, model, image_size or recipes.PRETRAINING_SIZE)
    return base.with_mode(config, smoke)
