"""Other values of keys, each of them compiled: what makes a training fit, and which batch is the fastest."""

from collections.abc import Callable, Iterator

from ml_collections import ConfigDict

from mixer_jax.models import registry
from mixer_jax.models.layers import REMAT
from mixer_jax.planning.plan import Plan, changed

Planner = Callable[[ConfigDict], Plan]


def that_fit(config: ConfigDict, cores: int, planner: Planner) -> list[tuple[dict, Plan]]:
    """Looks for what makes a training fit that does not.

    Of each key the mildest value is kept that suffices alone; where no key does, all of them at their strongest.

    Args:
      config: what does not fit.
      cores: devices of the slice.
      planner: config -> plan.

    Returns:
      Pairs of the keys to change, by dotted name, and the plan with them; empty if nothing helps.
    """
    ladders = _ladders(config, cores)
    found = [fit for key, values in ladders.items() if (fit := _mildest(config, key, values, planner))]
    if not found and ladders:
        # The batch stays: the other keys change nothing of what is computed.
        strongest = {key: values[-1] for key, values in ladders.items() if key != "batch_size"}
        plan = planner(changed(config, strongest))
        found = [(strongest, plan)] if plan.fits else []
    return found


def by_batch_size(config: ConfigDict, cores: int, planner: Planner) -> Iterator[tuple[dict, Plan]]:
    """Yields plans with 8, 16, ... 1024 images a core, up to the first that does not fit, and the keys that they take.

    The learning-rate schedule is left as it is: each is for speed and memory, not for a training.
    """
    for batch_per_core in (8, 16, 32, 64, 128, 256, 512, 1024):
        keys = {"batch_size": batch_per_core * cores}
        plan = planner(changed(config, keys | {"steps": config.schedule.warmup_steps + 1}))
        yield keys, plan
        if not plan.fits:
            return


def _ladders(config: ConfigDict, cores: int) -> dict[str, list]:
    """Returns by key the values to try, mildest first."""
    part = config.batch_size // cores // config.accumulation_steps
    remat = list(REMAT)
    kept = config.model.remat if "remat" in registry.family(config.model.name).defaults() else remat[-1]
    halvings = [2**n for n in range(1, 13)]
    ladders = {
        "model.remat": remat[remat.index(kept) + 1 :],
        # A part of one image a core leaves the matrix units idle.
        "accumulation_steps": [config.accumulation_steps * n for n in halvings if part % n == 0 and part // n > 1],
        "mesh.fsdp": [config.mesh.fsdp * n for n in halvings if cores % (config.mesh.fsdp * n) == 0],
        "batch_size": [config.batch_size // n for n in halvings if part % n == 0],
    }
    return {key: values for key, values in ladders.items() if values}


def _mildest(config: ConfigDict, key: str, values: list, planner: Planner) -> tuple[dict, Plan] | None:
    """Returns the first value that fits, with its plan, or None if not even the last does."""
    strongest = planner(changed(config, {key: values[-1]}))
    if not strongest.fits:
        return None
    for value in values[:-1]:
        plan = planner(changed(config, {key: value}))
        if plan.fits:
            return {key: value}, plan
    return {key: values[-1]}, strongest
