"""Plans a training on TPUs without having them.

  python -m mixer_jax plan --config=configs/mixer_l16_i21k.py --topology=v3:4x4

The training step is compiled ahead of time for a slice of TPU v2, v3, v4, v5e, v5p or v6e. The table says what memory
it needs, what it computes and moves, the time that the compiler estimates, what the chip would need at its peaks (the
roofline), and what the whole run costs, beside the paper's figures. Where the step does not fit, it says which keys
would make it fit; each of them has been compiled. To compile a step of Mixer-B/16 takes half a minute on one CPU core.

Chips are counted along each axis of the slice: v3:4x4 is a v3-32, with two cores a chip. A core is what JAX calls a
device: two a chip of v2 and v3, one of the others.

The estimate leaves out input, evaluation, and the exchange of gradients between chips.

It needs libtpu, the compiler for TPUs: pip install -e '.[plan]'.
"""

import importlib.metadata
import json
import logging
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from mixer_jax import paper
from mixer_jax.config import ranges
from mixer_jax.errors import ConfigError
from mixer_jax.models import registry
from mixer_jax.planning import alternatives, table, topology
from mixer_jax.planning.plan import Plan, make_plan
from mixer_jax.training.input import open_split

_CONFIG = config_flags.DEFINE_config_file("config", None, "Recipe, such as configs/mixer_b16_i1k.py.")
flags.mark_flag_as_required("config")
_TOPOLOGY = flags.DEFINE_string(
    "topology", None, "Generation and chips of the slice, such as v3:4x4 or v4:2x2x2.", required=True
)
_EXAMPLES = flags.DEFINE_integer(
    "examples", None, "Size of the training data; default: as published of the recipes' data sets, else as it is here."
)
_SWEEP = flags.DEFINE_bool("sweep", False, "Try batch sizes from 8 to 1,024 images a core instead.")
_JSON = flags.DEFINE_bool("json", False, "Print JSON.")

logger = logging.getLogger("mixer_jax")


def main() -> None:
    """Prints the plan."""
    config = _CONFIG.value
    ranges.check(config)
    on = topology.create_slice(_TOPOLOGY.value)
    num_examples = _num_examples(config)

    def planner(config):
        logger.info("compiling %d images for %d devices", config.batch_size, len(on.devices))
        return make_plan(config, on, num_examples=num_examples)

    described, text = (_sweep if _SWEEP.value else _plan)(config, len(on.devices), planner)
    print(json.dumps(_versions() | described, indent=2) if _JSON.value else text)


def _plan(config: ConfigDict, cores: int, planner: alternatives.Planner) -> tuple[dict, str]:
    plan = planner(config)
    recipe = Path(config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0]).stem
    model = registry.title(config.model.to_dict(), config.data.image_size)
    published = paper.pretraining(model, config.data.source, config.epochs)
    described, text = {"config": recipe} | table.record(plan, published), table.describe(plan, published)
    if plan.fits:
        return described, text
    fitting = alternatives.that_fit(config, cores, planner)
    text += "\n\n" + (f"it fits with\n{table.compare(fitting)}" if fitting else "no value of other keys makes it fit")
    return described | {"that_fit": _records(fitting)}, text


def _sweep(config: ConfigDict, cores: int, planner: alternatives.Planner) -> tuple[dict, str]:
    plans = list(alternatives.by_batch_size(config, cores, planner))
    rates = {plan.batch_per_core: plan.img_sec_core for _, plan in plans if plan.fits}
    fastest = f"\nfastest: {max(rates, key=rates.__getitem__):,} images a core" if rates else ""
    return {"sweep": _records(plans)}, table.compare(plans) + fastest


def _records(plans: list[tuple[dict, Plan]]) -> list[dict]:
    return [{"keys": keys} | table.record(plan) for keys, plan in plans]


def _num_examples(config: ConfigDict) -> int:
    """Returns the size of the training data, which need not be on this machine."""
    if _EXAMPLES.value is not None:
        if _EXAMPLES.value < 1:
            raise ConfigError(f"--examples={_EXAMPLES.value}; expected a positive number")
        return _EXAMPLES.value
    if config.steps is not None:
        return config.steps * config.batch_size
    known = paper.EXAMPLES.get((config.data.source, config.data.split))
    if known:
        return known
    try:
        return len(open_split(config, config.data.split))
    except ConfigError as error:
        raise ConfigError(f"{error}. Without the data, give its size: --examples=<training images>") from error


def _versions() -> dict[str, str]:
    return {library: importlib.metadata.version(library) for library in ("jax", "libtpu")}
