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
from collections.abc import Iterable

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


DATA_SETS = {
    "imagenet": DataSet("tfds:imagenet2012", 1000, ("train",), "validation", 1, 20_000, 500),
    "cifar10": DataSet("tfds:cifar10", 10, ("train",), "test", 2, 10_000, 500),
    "cifar100": DataSet("tfds:cifar100", 100, ("train",), "test", 2, 10_000, 500),
    "pets": DataSet("tfds:oxford_iiit_pet", 37, ("train",), "test", 10, 500, 100),
    # The paper counts 2k training images, which are both of these.
    "flowers": DataSet("tfds:oxford_flowers102", 102, ("train", "validation"), "test", 10, 500, 100),
}


def get_config(mode: str = "imagenet"):
    """Returns the recipe; `mode` is described above, and may end in ",smoke" (`base.with_mode`)."""
    data_set, model, image_size, smoke = parse(mode, DATA_SETS, default="imagenet")
    config = for_data_set(data_set)
    from_pretraining(config, model, image_size or _PRETRAINING_SIZE)
    return base.with_mode(config, smoke)


def for_data_set(name: str):
    """Returns the recipe for one of `DATA_SETS`, without a model and without weights to start from."""
    data_set = DATA_SETS[name]
    kept = 100 - data_set.held_out

    config = protocol(data_set.steps, data_set.warmup_steps)
    config.data.source = data_set.source
    config.data.num_classes = data_set.num_classes
    config.data.split = "+".join(data_set.train)

    config.sweep.learning_rates = data_set.learning_rates
    config.sweep.train_split = "+".join(f"{split}[:{kept}%]" for split in data_set.train)
    config.sweep.held_out_split = "+".join(f"{split}[{kept}%:]" for split in data_set.train)
    config.eval.splits = {"test": data_set.test}
    return config


def protocol(steps: int, warmup_steps: int):
    """Returns what fine-tuning on all data sets has in common."""
    config = base.get_config()
    config.batch_size = 512
    config.steps = steps

    # As in Big Transfer (arXiv 1912.11370).
    config.data.train.crop = "resize"

    config.optimizer.name = "momentum"
    config.optimizer.momentum_dtype = "bfloat16"
    config.optimizer.weight_decay = 0.0
    config.schedule.learning_rate = 0.03  # without a sweep; of google-research/vision_transformer
    config.schedule.warmup_steps = warmup_steps
    config.schedule.decay = "cosine"
    config.schedule.end_factor = 0.0

    config.eval.every = steps  # the test images are for the end alone
    config.eval.batch_size = 512
    config.checkpoint.keep = 1
    return config


def with_model(config, attributes: dict, trained_size: int, image_size: int) -> None:
    """Sets the model that fine-tunes weights on images of a size, and the size.

    Args:
      config: changed in place.
      attributes: of the weights' model: keys of config.model, name and tokens_mlp_dim among them.
      trained_size: height and width of the images that the weights are for, in pixels.
      image_size: height and width of the images to fine-tune on, in pixels; K times as large, K whole.
    """
    config.model.update(attributes)
    config.model.tokens_mlp_dim = (image_size // trained_size) ** 2 * attributes["tokens_mlp_dim"]
    config.data.image_size = image_size
    # The sizes are not stated; 256 to 224 is what evaluation crops.
    resize = image_size if config.data.train.crop == "none" else image_size * 8 // 7
    config.data.train.resize = config.data.evaluate.resize = resize


def from_pretraining(config, model: str, image_size: int) -> None:
    """Sets one of the paper's models, and the weights to start from: published ones, or those of the recipe's run."""
    config.init_from = _PUBLISHED.get(model, f"runs/{model}_jft")
    with_model(config, {"name": model, **models.VARIANTS[model]}, _PRETRAINING_SIZE, image_size)


def parse(mode: str, names: Iterable[str], default: str) -> tuple[str, str, int | None, str]:
    """Takes a config argument apart.

    Args:
      mode: words between commas.
      names: the data sets.
      default: the data set where none is named.

    Returns:
      The data set, the model, the size of the images or None, and "smoke" or "".

    Raises:
      ConfigError: a word is unknown.
    """
    data_set, model, image_size, smoke = default, "mixer_b16", None, ""
    for word in mode.split(",") if mode else ():
        if word in names:
            data_set = word
        elif word in models.VARIANTS:
            model = word
        elif word.isdecimal() and int(word) and int(word) % _PRETRAINING_SIZE == 0:
            image_size = int(word)
        elif word == "smoke":
            smoke = word
        else:
            known = [*names, *models.VARIANTS, "224", "448", "smoke"]
            raise ConfigError(f"config argument :{mode}: {word!r} is unknown; {suggest(word, known)}")
    return data_set, model, image_size, smoke
