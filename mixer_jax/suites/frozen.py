"""Suites in which the model stays as it is: ImageNet's test sets, and few-shot linear probes."""

import functools
import re
from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from mixer_jax.data import class_names, sources, transforms
from mixer_jax.data import imagenet as imagenet_data
from mixer_jax.data.decode import Decoding
from mixer_jax.errors import ConfigError
from mixer_jax.evaluators import predictions, probes
from mixer_jax.runtime import mesh
from mixer_jax.steps.infer_steps import make_predict_step, make_represent_step
from mixer_jax.suites.record import Outcome, open_all
from mixer_jax.training.input import eval_batches
from mixer_jax.weights.trained import Trained


def imagenet(trained: Trained, config: ConfigDict) -> Outcome:
    """Evaluates a model on ImageNet's validation images with their own labels and ReaL's, and on ImageNet-v2.

    Args:
      trained: a model with ImageNet's head.
      config: with the keys of mixer_jax/suites/defaults.py.

    Returns:
      "imagenet/top1", "imagenet/top5", "imagenet/examples", and the same of "real" and "imagenet_v2"; what of it is not
      prepared is `missing`. Another data set in the place of ImageNet gives its name to the metrics, and is the only
      one.

    Raises:
      ConfigError: the data cannot be read so, or the model has no head or one of other classes.
    """
    num_classes = trained.require_head()
    shown = trained.eval_transform()
    shown |= {key: config[key] for key in ("crop", "resize") if config[key] is not None}

    asked = config.imagenet
    is_imagenet = asked.source.startswith("tfds:imagenet2012")
    title = "imagenet" if is_imagenet else re.split("[:/]", asked.source.rstrip("/"))[-1]
    openers: dict[str, Callable[[], sources.Source]] = {
        title: lambda: _open(
            asked.source, asked.split, trained, config, class_order=_class_order(trained, asked.source)
        )
    }
    if is_imagenet and asked.real:
        openers["real"] = lambda: imagenet_data.open_real(data_dir=config.data.data_dir)
    if is_imagenet and asked.v2:
        openers["imagenet_v2"] = lambda: _open(asked.v2, "test", trained, config)
    readable, missing = open_all(openers)
    for name, source in readable.items():
        if source.num_classes != num_classes:
            raise ConfigError(
                f"{trained.source} has a head of {num_classes} classes, and {name} has {source.num_classes}: fine-tune "
                "it first, or choose with config.imagenet.{source,real,v2} what it is evaluated on"
            )
    run = _Runner(trained, config, make_predict_step(trained.model(), loss=trained.loss), shown)
    metrics: dict[str, float] = {}
    for name, source in readable.items():
        seen, left_out = run.over(source, title=name)
        found = predictions.accuracies(seen["classes"], seen["label"])
        found |= {"undecodable": left_out} if left_out else {}
        metrics |= {f"{name}/{metric}": value for metric, value in found.items()}
    return Outcome(metrics, missing, shown["crop"])


def fewshot(trained: Trained, config: ConfigDict) -> Outcome:
    """Fits linear probes on frozen features (pre_logits), and tests them.

    Args:
      trained: a model, with any head or none.
      config: with the keys of mixer_jax/suites/defaults.py.

    Returns:
      "fewshot/<shots>/top1" and, of each seed, "fewshot/<shots>/seed_<seed>/top1"; "fewshot/examples". Nothing if the
      data set is not prepared.

    Raises:
      ConfigError: the data set cannot be read so, or is too small.
    """
    size, asked = trained.weights.image_size, config.fewshot
    shown = {"size": size, "crop": asked.crop, "resize": asked.resize or size * 8 // 7, "decoding": Decoding()}
    train_split, test_split = asked.train_split, asked.test_split
    opened, missing = open_all(
        {split: functools.partial(_open, asked.source, split, trained, config) for split in (train_split, test_split)}
    )
    if missing:
        return Outcome({}, {asked.source: missing[train_split]}, asked.crop)
    run = _Runner(trained, config, make_represent_step(trained.model()), shown)
    (pool, missing_of_pool), (test, missing_of_test) = (
        run.over(opened[split], title=f"{asked.source} {split}") for split in (train_split, test_split)
    )
    metrics = probes.accuracies(
        pool,
        test,
        num_classes=opened[train_split].num_classes,
        shots=asked.shots,
        seeds=asked.seeds,
        l2=asked.l2,
        constant=asked.constant,
    )
    if left_out := missing_of_pool + missing_of_test:
        metrics["undecodable"] = left_out
    return Outcome({f"fewshot/{name}": value for name, value in metrics.items()}, missing={}, crop=asked.crop)


class _Runner:
    """Shows all images of a source to a model."""

    def __init__(self, trained: Trained, config: ConfigDict, step: Callable, shown: dict):
        self._config = config
        self._mesh = mesh.create_mesh()
        everywhere = mesh.replicated(self._mesh)
        self._params = jax.device_put(trained.weights.params, everywhere)
        self._step = jax.jit(predictions.labelled(step), out_shardings=everywhere)
        self._transform = transforms.make_eval_transform(**shown)

    def over(self, source: sources.Source, *, title: str) -> tuple[dict[str, np.ndarray], int]:
        """Returns what `predictions.over` yields as a whole, and how many images could not be decoded."""
        batches = eval_batches(self._config, source, self._transform, self._mesh)
        seen = predictions.concatenated(predictions.over(self._step, self._params, batches, title=title))
        return seen, batches.left_out


def _open(
    name: str, split: str, trained: Trained, config: ConfigDict, *, class_order: str = class_names.BY_NAME
) -> sources.Source:
    return sources.open_source(
        name,
        split=split,
        data_dir=config.data.data_dir,
        num_classes=trained.weights.model["num_classes"] or 1,
        image_size=trained.weights.image_size,
        class_order=class_order,
    )


def _class_order(trained: Trained, source: str) -> str:
    """Returns how the classes of a folder are numbered for a model: as in its training, where that is known."""
    if trained.config is None or not source.startswith("folder:"):
        return class_names.BY_NAME
    return trained.config["data"]["class_order"]
