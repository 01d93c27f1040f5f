"""Measures how fast a model trains and infers, on synthetic images; `benchmark data` measures the input.

  python -m mixer_jax benchmark --config=configs/mixer_b16_i1k.py

Every key of the config that changes the model or the training step counts, such as --config.model.dtype=float32 or
--config.data.image_size=448; the data set, the batch size and the length of the training do not. It needs no more
than JAX, Flax, optax and ml-collections.

The batch size is swept, and the best is what the paper calls throughput. A row shows the median of --rounds runs of
--seconds each, after one that is not counted, and the slowest and fastest of them. A core is a JAX device: half a
chip of TPU v2 and v3, a GPU, or all CPU cores together. FLOPs are those of the matrix products, counted from the
configuration, against the published peak of the device, or where it is unknown of a matrix product measured first.
Memory is the most that a device reports, or where it does not, what the compiled program says that it needs.
"""

import json
import math

import jax
from absl import flags
from ml_collections import config_flags

from mixer_jax.benchmark import model as model_speed
from mixer_jax.errors import ConfigError

_CONFIG = config_flags.DEFINE_config_file("config", None, "Recipe to measure, such as configs/mixer_b16_i1k.py.")
_BATCH_SIZES = flags.DEFINE_list(
    "batch_sizes", None, "Images of a step and core, in this order; by default 8, 16, ..., while they become faster."
)
_SECONDS = flags.DEFINE_float("seconds", 1.0, "Seconds that each run takes at least.", lower_bound=0)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Runs of each batch size.", lower_bound=1)
_JSON = flags.DEFINE_bool("json", False, "Print JSON instead of a table.")
flags.mark_flag_as_required("config")
flags.register_validator("seconds", math.isfinite, "expected a finite number")


def main() -> None:
    """Measures, and prints the result."""
    jax.config.update("jax_enable_compilation_cache", False)  # the time to compile is not that to load
    report = model_speed.measure(
        _CONFIG.value, batch_sizes=_sizes(_BATCH_SIZES.value), seconds=_SECONDS.value, rounds=_ROUNDS.value
    )
    print(json.dumps(report, indent=2) if _JSON.value else model_speed.as_text(report))


def _sizes(values: list[str] | None) -> list[int] | None:
    if values is None:
        return None
    if not values or not all(value.isdecimal() and int(value) for value in values):
        raise ConfigError(f"--batch_sizes={','.join(values)}; expected positive numbers, such as 32,64,128")
    return [int(value) for value in values]
