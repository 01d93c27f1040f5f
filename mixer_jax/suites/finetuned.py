"""Suites in which the model is fine-tuned on each of several data sets: the paper's Avg. 5, and VTAB-1k.

On each, a sweep chooses the learning rate on held-out training images, trains with it on all of them, and tests once.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from mixer_jax.data.sources import Source
from mixer_jax.data.vtab import GROUPS, TASKS
from mixer_jax.errors import ConfigError
from mixer_jax.suites import recipes as protocols
from mixer_jax.suites.record import Outcome, open_all
from mixer_jax.training import sweep
from mixer_jax.training.input import open_split
from mixer_jax.weights.trained import Trained

logger = logging.getLogger("mixer_jax")


def avg5(trained: Trained, config: ConfigDict, workdir: Path) -> Outcome:
    """Fine-tunes a model on ImageNet, CIFAR-10, CIFAR-100, Pets and Flowers (the paper's section 3.1).

    Args:
      trained: the pre-trained model, whose head is not used.
      config: with the keys of mixer_jax/suites/defaults.py.
      workdir: where the sweeps go, in <workdir>/<data set>/; those that are done are not done again.

    Returns:
      "<data set>/top1" of each; "avg5/top1", their plain mean, only if there are all five.

    Raises:
      ConfigError: a size is no multiple of the model's, or data cannot be read.
    """
    size = config.image_size or trained.weights.image_size
    recipes = {}
    for name in config.avg5.data_sets:
        recipe = protocols.for_data_set(name)
        recipes[name] = _adapted(recipe, trained, config, size)
    scores, missing, signal = _fine_tune(recipes, workdir, shared_rate=False)
    metrics = {f"{name}/top1": score for name, score in scores.items()}
    if scores.keys() == protocols.DATA_SETS.keys():
        metrics["avg5/top1"] = float(np.mean(list(scores.values())))
    return Outcome(metrics, missing, config.crop or "resmall", size, signal)


def vtab(trained: Trained, config: ConfigDict, workdir: Path) -> Outcome:
    """Fine-tunes a model on the tasks of VTAB-1k.

    Args:
      trained: the pre-trained model, whose head is not used.
      config: with the keys of mixer_jax/suites/defaults.py.
      workdir: where the sweeps go, in <workdir>/<task>/; those that are done are not done again.

    Returns:
      "vtab/<task>/top1" of each; the mean of a group, "vtab/<group>/top1", only if there are all of its tasks, and
      "vtab/top1" only if there are all 19.

    Raises:
      ConfigError: a size is no multiple of the model's, or data cannot be read.
    """
    small = config.vtab.small_size or trained.weights.image_size
    large = config.vtab.large_size or 2 * small
    recipes = {}
    for name in config.vtab.tasks:
        size = small if TASKS[name].small else large
        recipes[name] = _adapted(protocols.for_task(name), trained, config, size)
    shared_rate = config.vtab.learning_rate == "shared"
    scores, missing, signal = _fine_tune(recipes, workdir, shared_rate=shared_rate)
    metrics = {f"vtab/{name}/top1": score for name, score in scores.items()}
    for group in GROUPS:
        metrics |= _mean(f"vtab/{group}/top1", [name for name, task in TASKS.items() if task.group == group], scores)
    metrics |= _mean("vtab/top1", list(TASKS), scores)
    return Outcome(metrics, missing, config.crop or "resize", large, signal)


def _mean(metric: str, names: list[str], scores: dict[str, float]) -> dict[str, float]:
    """Returns the mean of some scores under the name of a metric, or nothing if one of them is lacking."""
    return {metric: float(np.mean([scores[name] for name in names]))} if set(names) <= scores.keys() else {}


def _adapted(recipe: ConfigDict, trained: Trained, config: ConfigDict, image_size: int) -> ConfigDict:
    """Returns the recipe of a data set for a model and a size, with what the evaluation's config says otherwise."""
    model = {key: value for key, value in trained.weights.model.items() if key != "num_classes"}
    try:
        protocols.with_model(recipe, model, trained.weights.image_size, image_size)
    except ConfigError as error:
        raise ConfigError(
            f"{trained.source} at {image_size} pixels: {error}; or choose another config.image_size (avg5) or "
            "config.vtab.{small,large}_size (vtab; large ones are twice as large as small ones by default)"
        ) from error
    if recipe.data.train.crop != "none":
        recipe.data.train.resize = recipe.data.evaluate.resize = round(image_size * config.finetune.resize)
    if config.crop is not None:
        recipe.data.evaluate.crop = config.crop
    recipe.init_from = trained.source
    if "dtype" in trained.weights.family.defaults():
        recipe.model.dtype = config.finetune.dtype
    for key in ("data_dir", "workers", "threads", "prefetch"):
        recipe.data[key] = config.data[key]
    recipe.eval.batch_size, recipe.eval.undecodable = config.eval.batch_size, config.eval.undecodable
    if config.finetune.batch_size is not None:
        recipe.batch_size = config.finetune.batch_size
    if config.finetune.steps is not None:
        recipe.steps = recipe.eval.every = config.finetune.steps
    if config.finetune.warmup_steps is not None:
        recipe.schedule.warmup_steps = config.finetune.warmup_steps
    if config.finetune.learning_rates:
        recipe.sweep.learning_rates = config.finetune.learning_rates
    return recipe


def _fine_tune(
    recipes: dict[str, ConfigDict], workdir: Path, *, shared_rate: bool
) -> tuple[dict[str, float], dict[str, str], int | None]:
    """Runs the sweeps of the data sets that are prepared.

    Args:
      recipes: by name of the data set.
      workdir: where they go.
      shared_rate: whether all have the learning rate that is best for the mean of their held-out accuracies.

    Returns:
      Test accuracy by name, what is missing, and the signal that interrupted this, or None.
    """
    opened, missing = open_all({name: _opener(recipe) for name, recipe in recipes.items()})
    trials: dict[str, dict[float, float]] = {}
    scores: dict[str, float] = {}

    def finish(name: str, rate: float) -> int | None:
        result = sweep.train_final(recipes[name], rate, trials[name], workdir / name)
        if not result.signal:
            scores[name] = result.metrics["eval/test/top1"]
        return result.signal

    for name in opened:
        logger.info("fine-tuning on %s", name)
        trials[name], signal = sweep.try_rates(recipes[name], workdir / name)
        if not signal and not shared_rate:
            signal = finish(name, sweep.best_rate(trials[name]))
        if signal:
            return scores, missing, signal
    if shared_rate and opened:
        rates = next(iter(trials.values()))
        means = {rate: float(np.mean([of_task[rate] for of_task in trials.values()])) for rate in rates}
        for name in opened:
            if signal := finish(name, sweep.best_rate(means)):
                return scores, missing, signal
    return scores, missing, None


def _opener(recipe: ConfigDict) -> Callable[[], Source]:
    return lambda: open_split(recipe, recipe.data.split)
