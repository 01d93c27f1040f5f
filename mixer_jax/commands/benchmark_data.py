r"""Measures how fast the input pipeline of a recipe is by itself.

  python -m mixer_jax benchmark data --config=configs/mixer_b16_i1k.py --config.data.source=folder:photos \
    --config.data.split=train --config.data.num_classes=253

It holds images of the training split in memory, and times batches of them, without RandAugment and with it, as threads
of one process and as worker processes. Where TensorFlow is installed, a tf.data pipeline that does the same crop,
resize and flip by decode_and_crop_jpeg is measured in the same turns. The last table says how many images a second
accelerators take at most, when they train the recipe's model at their peak, and how many CPU cores that would be.
"""

import json
import math

from absl import flags
from ml_collections import config_flags

from mixer_jax.benchmark import input as input_pipeline
from mixer_jax.errors import ConfigError
from mixer_jax.runtime import hardware

_CONFIG = config_flags.DEFINE_config_file("config", None, "Recipe whose input is measured.")
_THREADS = flags.DEFINE_list("threads", None, "Numbers of threads; default: powers of 2 up to the cores.")
_WORKERS = flags.DEFINE_list("workers", None, "Numbers of worker processes; default: powers of 2 up to the cores.")
_SECONDS = flags.DEFINE_float("seconds", 2.0, "Seconds that each measurement takes.", lower_bound=0.01)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Measurements of each kind, taken in turns.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images of a batch.", lower_bound=1)
_IMAGES = flags.DEFINE_integer("images", 512, "Images of the data set to use; they are held in memory.", lower_bound=1)
_JSON = flags.DEFINE_bool("json", False, "Print JSON instead of tables.")
flags.mark_flag_as_required("config")
flags.register_validator("seconds", math.isfinite, "expected a finite number")


def main() -> None:
    """Measures, and prints the result."""
    threads, workers = _counts("threads", _THREADS.value), _counts("workers", _WORKERS.value)
    report = input_pipeline.measure(
        _CONFIG.value,
        processes=[*((0, count) for count in threads), *((count, 1) for count in workers)],
        seconds=_SECONDS.value,
        rounds=_ROUNDS.value,
        batch_size=_BATCH_SIZE.value,
        images=_IMAGES.value,
    )
    print(json.dumps(report, indent=2) if _JSON.value else input_pipeline.as_text(report))


def _counts(flag: str, values: list[str] | None) -> list[int]:
    if values is None:
        return [2**power for power in range(10) if 2**power <= hardware.cpu_cores()]
    if not all(value.isdecimal() and int(value) for value in values):
        raise ConfigError(f"--{flag}={','.join(values)}; expected positive numbers, such as 1,2,4, or none at all")
    return [int(value) for value in values]
