"""The commands that fill the missing cells of a row."""

from collections.abc import Collection
from pathlib import Path

from mixer_jax import paper
from mixer_jax.models import registry
from mixer_jax.report.matching import recipe_of, setup_of
from mixer_jax.report.records import TrainingRun
from mixer_jax.workdir import layout

# Column -> --suite that fills it. ReaL needs the model that avg5 fine-tunes on ImageNet, besides.
_SUITES = {"imagenet": "avg5", "real": "avg5", "avg5": "avg5", "vtab": "vtab"}


def that_fill(row: paper.Row, missing: Collection[str], pretrained: TrainingRun | None, runs: Path) -> list[str]:
    """Returns the commands that fill cells of a row of Mixer, one after the other.

    Args:
      row: the row.
      missing: columns, as attributes of `paper.Row`; of img_sec_core there is no record to make.
      pretrained: the finished run that pre-trained the row's model, if there is one.
      runs: the folder of the work directories.
    """
    workdir = _workdir(row, runs)
    commands = [] if pretrained else [_pretrain(row, workdir)]
    checkpoint = _checkpoint(pretrained) if pretrained else workdir
    suites = dict.fromkeys(_SUITES[column] for column in missing if column in _SUITES)
    commands += [_evaluate(row, suite, checkpoint) for suite in suites]
    if "real" in missing:
        fine_tuned = (pretrained.path if pretrained else workdir) / f"evaluation/avg5-{setup_of(row)[0]}/imagenet/final"
        commands.append(f"python -m mixer_jax evaluate --suite=imagenet --checkpoint={fine_tuned}")
    return commands


def published_weights(row: paper.Row) -> str | None:
    """Returns the name of the weights that the authors published of a row's pre-training, if they did."""
    folder = {"ImageNet": "imagenet1k", "ImageNet-21k": "imagenet21k"}.get(row.pretraining)
    name = f"{folder}/{row.model.replace('/', '_')}"
    return name if name in registry.published() else None


def _pretrain(row: paper.Row, workdir: Path) -> str:
    command = f"python main.py --config=configs/{_recipe(row)}.py"
    if row.pretraining == "JFT-300M":
        command += " --config.data.num_classes=<classes>"
    if _differs_in_epochs(row):
        command += f" --config.epochs={float(setup_of(row)[1])}"
    if workdir != Path("runs") / _recipe(row):  # the default
        command += f" --workdir={workdir}"
    return command


def _evaluate(row: paper.Row, suite: str, checkpoint: Path) -> str:
    image_size, _ = setup_of(row)
    # The suite vtab fine-tunes at 448 pixels where the images are large, by default.
    larger = image_size != paper.PRETRAINING_SIZE and suite == "avg5"
    grown = f" --config.image_size={image_size}" if larger else ""
    return f"python -m mixer_jax evaluate --suite={suite} --checkpoint={checkpoint}{grown}"


def _workdir(row: paper.Row, runs: Path) -> Path:
    # A work directory holds one config: the recipe's other number of epochs needs another.
    return runs / (f"{_recipe(row)}-epochs={setup_of(row)[1]}" if _differs_in_epochs(row) else _recipe(row))


def _differs_in_epochs(row: paper.Row) -> bool:
    """Returns whether the row was trained for other epochs than its recipe says, which are the most in the paper."""
    of_recipe = [setup_of(other)[1] for other in paper.rows() if recipe_of(other) == recipe_of(row)]
    return setup_of(row)[1] != max(of_recipe)


def _recipe(row: paper.Row) -> str:
    recipe = recipe_of(row)
    assert recipe is not None  # a row of Mixer
    return recipe


def _checkpoint(run: TrainingRun) -> Path:
    checkpoint = layout.checkpoints_folder(run.path) / str(run.step)
    return checkpoint if checkpoint.is_dir() else run.path
