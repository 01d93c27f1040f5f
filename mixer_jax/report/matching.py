"""Which row of the published tables a run or an evaluation belongs to."""

from mixer_jax import paper
from mixer_jax.models import registry
from mixer_jax.report.records import Evaluation, TrainingRun

_RECIPE_ENDINGS = {"ImageNet": "i1k", "ImageNet-21k": "i21k", "JFT-300M": "jft"}
# Keys of mixer_jax/suites/defaults.py that leave the protocol what it is: sizes, parts, and what the paper leaves open.
_FREE = {"image_size", "crop", "imagenet.real", "imagenet.v2", "avg5.data_sets", "finetune.dtype"}
_FREE |= {"vtab.tasks", "vtab.learning_rate", "finetune.resize"}


def recipe_of(row: paper.Row) -> str | None:
    """Returns the recipe that pre-trains a row, such as "mixer_b16_i1k"; None where no family has its model."""
    variant = registry.variant_of(row.model)
    return f"{variant}_{_RECIPE_ENDINGS[row.pretraining]}" if variant else None


def setup_of(row: paper.Row) -> tuple[int, float]:
    """Returns pixels and epochs of a row that has a recipe; the paper's Mixers have both."""
    setup = paper.setup_of(row)
    assert setup is not None
    image_size, epochs = setup
    assert image_size is not None
    assert epochs is not None
    return image_size, epochs


def has_evaluation(row: paper.Row, record: Evaluation) -> bool:
    """Returns whether an evaluation is one of the row's model, at the row's resolution, by the paper's protocol."""
    published, _, _ = record.source.partition("/")
    pretraining: str | None
    epochs: float | None
    if published in paper.PUBLISHED_WEIGHTS:
        pretraining = paper.PUBLISHED_WEIGHTS[published]
        epochs = paper.PUBLISHED_EPOCHS if record.epochs is None else record.epochs
    else:
        pretraining, epochs = paper.DATA_SETS.get(record.source), record.epochs
    return (
        recipe_of(row) is not None
        and record.changes.keys() <= _FREE
        and row.pretraining == pretraining
        and row.model == registry.title(record.model, record.image_size)
        and paper.setup_of(row) == (record.image_size, epochs)
    )


def has_pretraining(row: paper.Row, run: TrainingRun) -> bool:
    """Returns whether a run is the pre-training of a row: its model, all of its data, its number of epochs."""
    config, data = run.config, run.config["data"]
    whole = data.get("split", "train") in paper.WHOLE_SPLITS.get(data["source"], ("train",))
    return (
        recipe_of(row) is not None
        and row.pretraining == paper.DATA_SETS.get(data["source"])
        and row.model == registry.title(config["model"], data["image_size"])
        and setup_of(row)[1] == config.get("epochs")
        and whole
        and data["image_size"] == paper.PRETRAINING_SIZE
        and config.get("init_from") is None
        and config.get("steps") is None
    )
