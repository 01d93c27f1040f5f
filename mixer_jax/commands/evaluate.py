"""Evaluates a trained model as the paper does.

  python -m mixer_jax evaluate --checkpoint=<checkpoint> --suite=<suite> [--workdir=<folder>] [--config.<key>=<value>]

The checkpoint is a work directory, one checkpoint, <workdir>/checkpoints/<step>, a file or the name of published
weights. The suites:

  * imagenet: the model with its head on ImageNet's validation images, with their own labels and with those of ReaL,
    and on ImageNet-v2;
  * fewshot: linear probes on the model's features, 1, 5, 10 and 25 images of each class, on any data set;
  * avg5: the model fine-tuned on ImageNet, CIFAR-10, CIFAR-100, Pets and Flowers, and the mean;
  * vtab: the model fine-tuned on the 19 tasks of VTAB-1k, and the means of its groups and of all.

avg5 and vtab choose the learning rate on held-out training images, train with it on all and test once. Their runs go
to <workdir>/<suite>-<pixels>/<data set>; stopped, the same command goes on. Data sets that are not prepared on this
machine are left out, and listed with the command that prepares them. What came of a suite is printed, and kept in
<workdir>/<suite>-<pixels>.json for `python -m mixer_jax report`. By default <workdir> is evaluation/ in the
checkpoint's own work directory, or else runs/<name of the weights>/evaluation.

It runs on the devices of one host. Every choice that the paper leaves open is a key of mixer_jax/suites/defaults.py,
such as --config.vtab.learning_rate=shared.
"""

import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from mixer_jax.config.paths import local_path
from mixer_jax.models import registry
from mixer_jax.runtime import numerics
from mixer_jax.suites import choices, finetuned, frozen, record
from mixer_jax.suites import defaults as default_config
from mixer_jax.weights import trained
from mixer_jax.workdir import layout

_FROZEN = {"imagenet": frozen.imagenet, "fewshot": frozen.fewshot}
_FINE_TUNED = {"avg5": finetuned.avg5, "vtab": finetuned.vtab}

DEFAULT_CONFIG = default_config.__file__
_CONFIG = config_flags.DEFINE_config_file("config", None, "The choices; by default mixer_jax/suites/defaults.py.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Work directory, checkpoint, file, or name of published weights.", required=True
)
_SUITE = flags.DEFINE_enum("suite", None, [*_FROZEN, *_FINE_TUNED], "What is evaluated.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where runs and results go; see above.")


def main() -> None:
    """Evaluates the model, prints a table, and writes the result."""
    model, config, suite = trained.load_trained(_CHECKPOINT.value), _CONFIG.value, _SUITE.value
    workdir = local_path("--workdir", _WORKDIR.value) if _WORKDIR.value else _default_workdir(model)
    choices.check(suite, config)
    with numerics.pinned():
        outcome = _FROZEN[suite](model, config) if suite in _FROZEN else _FINE_TUNED[suite](model, config, workdir)
    if outcome.signal:
        print(f"interrupted in {workdir}; the same command goes on")
        sys.exit(128 + outcome.signal)
    print(outcome.table())
    if not outcome.metrics:
        sys.exit(1)
    path = workdir / f"{suite}-{outcome.image_size or model.weights.image_size}.json"
    record.write(path, suite, model, outcome, choices.changes(config))
    print(f"\nwrote {path}")


def _default_workdir(model: trained.Trained) -> Path:
    if model.workdir:
        return model.workdir / layout.EVALUATION
    name = model.source.replace("/", "_") if model.source in registry.published() else Path(model.source).stem
    return Path("runs") / name / layout.EVALUATION
