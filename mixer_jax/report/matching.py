"""Which row of the published tables a run or an evaluation belongs to."""

from collections.abc import Mapping

from mixer_jax import paper
from mixer_jax.models import VARIANTS
from mixer_jax.report.records import Evaluation, TrainingRun

_PRETRAINING_SIZE = 224  # pixels
# config.data.source -> the paper's data set. The recipes call a large data set of one's own by the last.
_SOURCES = {"tfds:imagenet2012": "ImageNet", "tfds:imagenet21k": "ImageNet-21k", "tfds:large": "JFT-300M"}
_SPLITS = {"tfds:imagenet2012": ("train[:99%]", "train"), "tfds:imagenet21k": ("full[51200:]", "full")}
_PUBLISHED = {"imagenet1k": "ImageNet", "imagenet21k": "ImageNet-21k"}
_PUBLISHED_EPOCHS = 300
# What Table 2 does not print, (pixels, epochs) of its Mixers; the epochs are those of the same core-days in Table 3.
_OF_TABLE_2 = {"Mixer-L/16": (448, 300), "Mixer-H/14": (448, 14)}


# Keys of configs/evaluate.py that leave the protocol what it is: sizes, parts, and what the paper leaves open.
_FREE = {"image_size", "crop", "imagenet.real", "imagenet.v2", "avg5.data_sets", "finetune.dtype"}
_FREE |= {"vtab.tasks", "vtab.learning_rate", "finetune.resize"}


def setup_of(row: paper.Row) -> tuple[int, float] | None:
    """Returns pixels and epochs of a row, also where Table 2 does not print them; None where they are unknown."""
    if row.table == 2:
        return _OF_TABLE_2.get(row.model)
    return row.image_size, row.epochs


def has_evaluation(row: paper.Row, record: Evaluation) -> bool:
    """Returns whether an evaluation is one of the row's model, at the row's resolution, by the paper's protocol."""
    published, _, _ = record.source.partition("/")
    if published in _PUBLISHED:
        pretraining = _PUBLISHED[published]
        epochs = _PUBLISHED_EPOCHS if record.epochs is None else record.epochs
    else:
        pretraining, epochs = _SOURCES.get(record.source), record.epochs
    return (
        row.recipe is not None
        and record.changes.keys() <= _FREE
        and row.pretraining == pretraining
        and row.model == _model(record.model, record.image_size)
        and setup_of(row) == (record.image_size, epochs)
    )


def has_pretraining(row: paper.Row, run: TrainingRun) -> bool:
    """Returns whether a run is the pre-training of a row: its model, all of its data, its number of epochs."""
    config, data = run.config, run.config["data"]
    whole = data.get("split", "train") in _SPLITS.get(data["source"], ("train",))
    return (
        row.recipe is not None
        and row.pretraining == _SOURCES.get(data["source"])
        and row.model == _model(config["model"], data["image_size"])
        and setup_of(row)[1] == config.get("epochs")
        and whole
        and data["image_size"] == _PRETRAINING_SIZE
        and config.get("init_from") is None
        and config.get("steps") is None
    )


def _model(attributes: Mapping, image_size: int) -> str | None:
    """Returns the paper's name of a model, such as "Mixer-B/16"; None if a dimension is not the paper's."""
    name = attributes["name"]
    if name not in VARIANTS or image_size % _PRETRAINING_SIZE or attributes.get("untied_token_mixing"):
        return None
    grown = (image_size // _PRETRAINING_SIZE) ** 2  # Appendix C
    expected = VARIANTS[name] | {"tokens_mlp_dim": grown * VARIANTS[name]["tokens_mlp_dim"]}
    if any(attributes.get(key) not in (None, size) for key, size in expected.items()):
        return None
    size, patch_size = name.removeprefix("mixer_")[:1], name.removeprefix("mixer_")[1:]
    return f"Mixer-{size.upper()}/{patch_size}"
