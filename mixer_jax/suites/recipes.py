"""The paper's protocols of fine-tuning, as recipes: its five data sets, and the tasks of VTAB-1k.

As its section 3 and Appendix C and the ViT paper's Appendix B.1.1 say. What these do not state, and is chosen here:
the warm-up; for VTAB-1k 2,500 steps, which is what the ViT paper trains, the warm-up, which is Big Transfer's for small
data sets, and evaluation as in Table 2, resized to a square before the centre is cropped, but without a crop where one
could change the label, as in training.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from ml_collections import ConfigDict

from mixer_jax.config import base
from mixer_jax.config.checks import suggest
from mixer_jax.data.vtab import TASKS
from mixer_jax.errors import ConfigError
from mixer_jax.models import registry

PRETRAINING_SIZE = 224  # pixels


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


def for_task(name: str):
    """Returns the recipe for one of `TASKS`, without a model and without weights to start from."""
    task = TASKS[name]
    config = protocol(steps=2500, warmup_steps=100)
    config.data.source = f"vtab:{name}"
    config.data.num_classes = task.num_classes
    config.data.split = "train800val200"
    config.data.train.crop = "resize" if task.crop else "none"
    config.data.train.flip = task.flip
    config.data.evaluate.crop = "resize"
    config.sweep.learning_rates = (0.003, 0.01, 0.03)
    config.sweep.train_split = "train800"
    config.sweep.held_out_split = "val200"
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


def with_model(config: ConfigDict, model: Mapping[str, object], trained_size: int, image_size: int) -> None:
    """Sets the model that fine-tunes weights on images of a size, and the size.

    Args:
      config: changed in place.
      model: name and attributes of the weights' model, keys of config.model.
      trained_size: height and width of the images that the weights are for, in pixels.
      image_size: height and width of the images to fine-tune on, in pixels; the weights go there as their family does.

    Raises:
      ConfigError: they cannot.
    """
    attributes = {key: value for key, value in model.items() if key != "name"}
    family, name = registry.family(str(model["name"])), str(model["name"])
    grown = family.complete(name, attributes | family.grown(name, attributes, trained_size, image_size))
    with config.unlocked():  # a family of one's own has keys that the base config does not
        config.model.update({"name": name} | {key: grown[key] for key in grown if family.shapes_parameters(key)})
    config.data.image_size = image_size
    # The sizes are not stated; 256 to 224 is what evaluation crops.
    resize = image_size if config.data.train.crop == "none" else image_size * 8 // 7
    config.data.train.resize = config.data.evaluate.resize = resize


def from_pretraining(config, model: str, image_size: int) -> None:
    """Sets one of the paper's models, and the weights to start from: published ones, or those of the recipe's run."""
    config.init_from = registry.family(model).pretrained.get(model, f"runs/{model}_jft")
    with_model(config, {"name": model}, PRETRAINING_SIZE, image_size)


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
        elif word in registry.variants():
            model = word
        elif word.isdecimal() and int(word) and int(word) % PRETRAINING_SIZE == 0:
            image_size = int(word)
        elif word == "smoke":
            smoke = word
        else:
            known = [*names, *registry.variants(), "224", "448", "smoke"]
            raise ConfigError(f"config argument :{mode}: {word!r} is unknown; {suggest(word, known)}")
    return data_set, model, image_size, smoke
