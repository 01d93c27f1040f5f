"""Runs one step of a run again, and shows the norms of every layer.

  python -m mixer_jax replay --workdir=<work directory of the run> --step=<number>

It begins at the nearest checkpoint before the step, or at the start if there is none, runs the steps in between, and
shows the metrics of the step and, layer by layer, the L2 norms of the parameters before it, of the gradient before
clipping, and of the update. The config is that of the checkpoint. On the same devices the metrics are those of the run
to the bit. The work directory is not changed, and may be in use by the run.
"""

from absl import flags

from mixer_jax.training.replay import replay

_WORKDIR = flags.DEFINE_string("workdir", None, "Work directory of the run.", required=True)
_STEP = flags.DEFINE_integer("step", None, "Number of the step to run again; the first is 1.", required=True)


def main() -> None:
    """Runs the step, and prints its metrics and a table of its layers."""
    metrics, layers = replay(_WORKDIR.value, _STEP.value)
    print(table(layers))
    print(f"step {_STEP.value}: " + ", ".join(f"{name} {value:.6g}" for name, value in metrics.items()))


def table(layers: dict[str, dict[str, float]]) -> str:
    """Returns the norms of the layers as text, a row a layer."""
    width = max(map(len, layers))
    lines = [f"{'layer':{width}}  {'parameters':>12}  {'gradients':>12}  {'updates':>12}  finite"]
    for layer, of in layers.items():
        norms = "  ".join(f"{of[kind]:12.5g}" for kind in ("parameters", "gradients", "updates"))
        lines.append(f"{layer:{width}}  {norms}  {'yes' if of['finite'] else 'NO'}")
    return "\n".join(lines)
