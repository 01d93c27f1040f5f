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

import dataclasses

from configs import base
from mixer_jax import models
from mixer_jax.config import ConfigError, suggest

_PRETRAINING_SIZE = 224  # pixels
_PUBLISHED = {"mixer_b16": "imagenet21k/Mixer-B_16", "mixer_l16": "imagenet21k/Mixer-L_16"}


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set and how long it is fine-tuned on.

    Attributes:
      source: config.data.source; the TFDS data set.
      num_classes: number of classes.
      train: splits that make up the training images.
      test: split that is tested on.
      held_out: percentage of each training split, the last, on which a sweep chooses the learning rate.
      steps: training steps.
      warmup_steps: steps of them until the learning rate is at its peak; as in google-research/big_vision, because the
        papers do not say.
      learning_rates: the grid.
    """

    source: str
    num_classes: int
    train: tuple[str, ...]
    test: str
    held_out: int
    steps: int
    warmup_steps: int
    learning_rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.06)  # the ViT paper's with the change of section 3


_DATA_SETS = {
    "imagenet": DataSet("tfds:imagenet2012", 1000, ("train",), "validation", 1, 20_000, 500),
    "cifar10": DataSet("tfds:cifar10", 10, ("train",), "test", 2, 10_000, 500),
    "cifar100": DataSet("tfds:cifar100", 100, ("train",), "test", 2, 10_000, 500),
    "pets": DataSet("tfds:oxford_iiit_pet", 37, ("train",), "test", 10, 500, 100),
    # The paper counts 2k training images, which are both of these.
    "flowers": DataSet("tfds:oxford_flowers102", 102, ("train", "validation"), "test", 10, 500, 100),
}


def get_config(mode: str = "imagenet"):
    """Returns the recipe; `mode` is described above, and may end in ",smoke" (`base.with_mode`)."""
    data_set, model, image_size, smoke = _parse(mode)
    factor = image_size // _PRETRAINING_SIZE
    kept = 100 - data_set.held_out

    config = base.get_config()
    config.init_from = _PUBLISHED.get(model, f"runs/{model}_jft")
    config.batch_size = 512
    config.steps = data_set.steps

    config.data.source = data_set.source
    config.data.num_classes = data_set.num_classes
    config.data.split = "+".join(data_set.train)
    config.data.image_size = image_size
    # As in Big Transfer (arXiv 1912.11370). The sizes are not stated; 256 to 224 is what evaluation crops.
    config.data.train.crop = "resize"
    config.data.train.resize = config.data.evaluate.resize = image_size * 8 // 7

    config.model.name = model
    config.model.tokens_mlp_dim = factor**2 * models.VARIANTS[model]["tokens_mlp_dim"]

    config.optimizer.name = "momentum"
    config.optimizer.momentum_dtype = "bfloat16"
    config.optimizer.weight_decay = 0.0
    config.schedule.learning_rate = 0.03  # without a sweep; of google-research/vision_transformer
    config.schedule.warmup_steps = data_set.warmup_steps
    config.schedule.decay = "cosine"
    config.schedule.end_factor = 0.0

    config.sweep.learning_rates = data_set.learning_rates
    config.sweep.train_split = "+".join(f"{split}[:{kept}%]" for split in data_set.train)
    config.sweep.held_out_split = "+".join(f"{split}[{kept}%:]" for split in data_set.train)

    config.eval.every = data_set.steps  # the test images are for the end alone
    config.eval.batch_size = 512
    config.eval.splits = {"test": data_set.test}
    config.checkpoint.keep = 1
    return base.with_mode(config, smoke)


def _parse(mode: str) -> tuple[DataSet, str, int, str]:
    """Returns the data set, the model, the size of the images, and "smoke" or "", of a config argument."""
    data_set, model, image_size, smoke = "imagenet", "mixer_b16", _PRETRAINING_SIZE, ""
    for word in mode.split(",") if mode else ():
        if word in _DATA_SETS:
            data_set = word
        elif word in models.VARIANTS:
            model = word
        elif word.isdecimal() and int(word) and int(word) % _PRETRAINING_SIZE == 0:
            image_size = int(word)
        elif word == "smoke":
            smoke = word
        else:
            known = [*_DATA_SETS, *models.VARIANTS, "224", "448", "smoke"]
            raise ConfigError(f"config argument :{mode}: {word!r} is unknown; {suggest(word, known)}")
    return _DATA_SETS[data_set], model, image_size, smoke
