"""Top-1 accuracy and loss over every example of a data set, each seen exactly once."""

from collections.abc import Callable, Iterable

import jax

from mixer_jax.steps.metrics import means
from mixer_jax.steps.types import Batch, EvalStep, Evaluator

METRICS = ("loss", "top1", "examples")  # what an evaluator returns


def accuracy(eval_step: EvalStep, batches: Callable[[], Iterable[Batch]], *, examples: int) -> Evaluator:
    """Makes an evaluator.

    Args:
      eval_step: (params, batch) -> sums of `metrics.classification_sums`, jitted.
      batches: makes an iterator of global batches on the device, padded and masked.
      examples: size of the data set.

    Returns:
      A function of the state to {"loss": nats an example, "top1": share in [0, 1], "examples": count}. Before every
      batch it asks `interrupted`, and if that says yes, it returns {}.

    Raises (the returned function):
      RuntimeError: the batches did not hold each example once.
    """

    def evaluate(state, interrupted):
        total = None
        for batch in batches():
            if interrupted():
                return {}
            sums = eval_step(state.params, batch)
            jax.block_until_ready(total)  # no more than two batches on the device, which an interruption waits for
            total = sums if total is None else jax.tree.map(jax.numpy.add, total, sums)
        result = means(jax.device_get(total))
        if result["examples"] != examples:
            raise RuntimeError(f"evaluated {result['examples']} examples of a data set of {examples}")
        return result

    return evaluate
