"""Top-1 accuracy and loss over every example of a data set, each seen exactly once."""

import jax
from ml_collections import ConfigDict

from mixer_jax.evaluators.evaluator import Context, Evaluator
from mixer_jax.evaluators.examples import EvalBatches
from mixer_jax.runtime import mesh
from mixer_jax.steps import losses
from mixer_jax.steps.infer_steps import make_eval_step
from mixer_jax.steps.metrics import means
from mixer_jax.steps.types import EvalStep

_METRICS = ("top1", "loss", "examples", "undecodable")


def metric_names(config: ConfigDict) -> list[str]:
    """Returns the metrics of a config's splits, as "<split>/<metric>"."""
    return [f"{split}/{metric}" for split in config.eval.splits for metric in _METRICS]


def make(context: Context) -> dict[str, Evaluator]:
    """Makes an evaluator of each of config.eval.splits, which are splits of the training's data set."""
    config = context.config
    eval_step = jax.jit(
        make_eval_step(context.model, loss=losses.create_loss(config.loss.name), gather=context.gather),
        out_shardings=mesh.replicated(context.mesh),
    )
    opened = {name: context.open_source(config.data.source, split) for name, split in config.eval.splits.items()}
    return {name: accuracy(eval_step, context.batches(source)) for name, source in opened.items()}


def accuracy(eval_step: EvalStep, batches: EvalBatches) -> Evaluator:
    """Makes an evaluator.

    Args:
      eval_step: (params, batch) -> sums of `metrics.classification_sums`, jitted.
      batches: the batches of a data set.

    Returns:
      An evaluator with the metrics "top1" (share in [0, 1]), "loss" (nats an example), "examples" (a count) and
      "undecodable", how many more examples the data set has, whose images cannot be decoded.

    Raises (when it measures):
      UndecodableError: images cannot be decoded, and are not skipped.
      RuntimeError: the batches did not hold each example once.
    """

    def measure(state, interrupted):
        total = None
        for batch in batches():
            if interrupted():
                return {}
            sums = eval_step(state.params, batch)
            jax.block_until_ready(total)  # no more than two batches on the device, which an interruption waits for
            total = sums if total is None else jax.tree.map(jax.numpy.add, total, sums)
        result = means(jax.device_get(total))
        if result["examples"] + batches.left_out != batches.examples:
            raise RuntimeError(f"evaluated {result['examples']} examples of a data set of {batches.examples}")
        return {**result, "undecodable": batches.left_out}

    return Evaluator(_METRICS, measure)
