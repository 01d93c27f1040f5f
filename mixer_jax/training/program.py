"""From a config to the objects that it describes."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

from ml_collections import ConfigDict

from mixer_jax.config import ranges
from mixer_jax.data import sources
from mixer_jax.evaluators import registry as evaluator_registry
from mixer_jax.evaluators.evaluator import Context, Evaluator
from mixer_jax.runtime import mesh
from mixer_jax.steps.types import Batch
from mixer_jax.training import input as input_pipeline
from mixer_jax.training.setup import Training, build_training, check_memory, check_training


@dataclasses.dataclass(frozen=True)
class Program(Training):
    """What a config describes, ready to run.

    Attributes:
      sources: the training's data set, by name of the split that is read.
      train_batches: step -> iterator of the global batches from that step on.
      evaluators: by what they are called in the metrics.
    """

    sources: dict[str, sources.Source]
    train_batches: Callable[[int], Iterator[Batch]]
    evaluators: dict[str, Evaluator]


def build_program(config: ConfigDict, observe: Callable[[dict, dict, dict], dict] | None = None) -> Program:
    """Builds all objects of a config. What can be checked without data is checked before any is opened.

    Args:
      config: a recipe, with the keys of mixer_jax/config/base.py.
      observe: adds to the metrics of the training step, as `train_step.make_train_step` says.

    Returns:
      The program.

    Raises:
      ConfigError: a value is wrong; the message names its key.
    """
    ranges.check(config)
    device_mesh = mesh.create_mesh(fsdp=config.mesh.fsdp)
    check_training(config, device_mesh)
    chosen = evaluator_registry.choose(config)
    train_batches = input_pipeline.make_train_batches(config, device_mesh)
    eval_batches = input_pipeline.make_eval_batches(config, device_mesh)

    opened: dict[tuple[str, str], sources.Source] = {}

    def open_source(source: str, split: str) -> sources.Source:
        if (source, split) not in opened:
            opened[source, split] = input_pipeline.open_split(config, split, source=source)
        return opened[source, split]

    own = config.data.source
    for split in [config.data.split, *config.eval.splits.values()]:
        open_source(own, split)
    source = open_source(own, config.data.split)
    training = build_training(config, device_mesh, num_examples=len(source), observe=observe)
    check_memory(training, images=config.eval.batch_size)
    context = Context(
        config=config,
        model=training.model,
        mesh=device_mesh,
        gather=functools.partial(mesh.gather, device_mesh),
        open_source=open_source,
        batches=eval_batches,
    )
    evaluators = evaluator_registry.make(chosen, context)
    return Program(
        **vars(training),
        sources={split: opened_source for (name, split), opened_source in opened.items() if name == own},
        train_batches=functools.partial(train_batches, source, training.total_steps),
        evaluators=evaluators,
    )
