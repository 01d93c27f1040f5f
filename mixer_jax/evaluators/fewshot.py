"""Few-shot accuracy during training: linear probes on the model's features, as config.eval.fewshot says."""

import jax
from ml_collections import ConfigDict

from mixer_jax.errors import ConfigError
from mixer_jax.evaluators import predictions, probes
from mixer_jax.evaluators.evaluator import Context, Evaluator
from mixer_jax.runtime import mesh
from mixer_jax.steps.infer_steps import make_represent_step

_NAME = "fewshot"


def metric_names(config: ConfigDict) -> list[str]:
    """Returns the metrics, as "fewshot/<metric>"."""
    return [f"{_NAME}/{metric}" for metric in _metrics(config)]


def _metrics(config: ConfigDict) -> list[str]:
    asked = config.eval.fewshot
    of_seeds = [f"{shots}/seed_{seed}/top1" for shots in asked.shots for seed in asked.seeds]
    return ["examples", "undecodable", *of_seeds, *(f"{shots}/top1" for shots in asked.shots)]


def make(context: Context) -> dict[str, Evaluator]:
    """Makes the evaluator; the data sets are those of config.eval.fewshot, by default the training's own."""
    config, asked = context.config, context.config.eval.fewshot
    if asked.test_split is None and not config.eval.splits:
        raise ConfigError(
            "config.eval.fewshot.test_split=None and config.eval.splits is empty: name the split to test on"
        )
    source = asked.source or config.data.source
    train_split = asked.train_split or config.data.split
    test_split = asked.test_split or next(iter(config.eval.splits.values()))
    pool, test = (context.open_source(source, split) for split in (train_split, test_split))
    step = jax.jit(
        predictions.labelled(make_represent_step(context.model, gather=context.gather)),
        out_shardings=mesh.replicated(context.mesh),
    )

    def features(state, data_set, split, interrupted):
        parts = []
        batches = context.batches(data_set)
        for part in predictions.over(step, state.params, batches, title=f"{source} {split}"):
            parts.append(part)
            if interrupted():
                return None, 0
        return predictions.concatenated(parts), batches.left_out

    def measure(state, interrupted):
        pooled, missing = features(state, pool, train_split, interrupted)
        tested, missing_too = features(state, test, test_split, interrupted) if pooled else (None, 0)
        if not tested:
            return {}
        scores = probes.accuracies(
            pooled,
            tested,
            num_classes=pool.num_classes,
            shots=asked.shots,
            seeds=asked.seeds,
            l2=asked.l2,
            constant=asked.constant,
        )
        return {**scores, "undecodable": missing + missing_too}

    return {_NAME: Evaluator(tuple(_metrics(config)), measure)}
