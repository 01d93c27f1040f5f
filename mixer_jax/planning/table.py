"""Plans as tables to read, and as records to keep."""

import dataclasses

from mixer_jax import paper
from mixer_jax.planning.plan import Plan

_GIB = 2**30


def record(plan: Plan, published: paper.Row | None = None) -> dict:
    """Returns a plan as a JSON object: its attributes, and what follows from them."""
    derived = ("img_sec_core", "bound_seconds", "hours", "core_days")
    return (
        dataclasses.asdict(plan)
        | {"fits": plan.fits}
        | {name: getattr(plan, name) if plan.fits else None for name in derived}
        | {"paper": _of_paper(published) if published else None}
    )


def _of_paper(row: paper.Row) -> dict:
    return {"core_days": row.core_days, "inference_img_sec_core": row.img_sec_core}


def describe(plan: Plan, published: paper.Row | None = None) -> str:
    """Returns a plan as a table, beside what the paper says."""
    rows = [
        ("slice", f"{plan.topology}: {plan.chips:,} chips of {plan.device}, {plan.cores:,} cores"),
        ("batch", f"{plan.batch_size:,} images, {plan.batch_per_core:,} a core"),
        ("parameters", f"{plan.parameters:,}"),
        ("memory a core", f"{_gib(plan.memory_bytes)} of {_gib(plan.usable_bytes)} usable"),
    ]
    rows += _of_step(plan, published) if plan.fits else [("", f"{_gib(_excess(plan))} too much: it does not fit")]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def compare(plans: list[tuple[dict, Plan]]) -> str:
    """Returns plans that differ in some keys as the lines of a table."""
    header = ("keys", "images a core", "memory a core", "ms a step", "img/sec/core", "of roofline")
    lines = [header, *(_line(keys, plan) for keys, plan in plans)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _of_step(plan: Plan, published: paper.Row | None) -> list[tuple[str, str]]:
    compiled = plan.step
    assert plan.traffic_seconds is not None  # of a step that fits
    bound_by = "FLOPs" if plan.compute_seconds > plan.traffic_seconds else "memory traffic"
    of_paper = f"; the paper: {published.core_days:,} of TPU v3" if published else ""
    rows = [
        ("  state", _gib(compiled.state_bytes)),
        ("  batch", _gib(compiled.batch_bytes)),
        ("  activations, gradients", _gib(compiled.temporary_bytes)),
        ("  program", _gib(compiled.program_bytes)),
        ("a step, on a core", f"{1e3 * compiled.seconds:,.1f} ms, as the compiler estimates"),
        ("  FLOPs", f"{compiled.flops / 1e12:,.3f} T; needed: {plan.model_flops / 1e12:,.3f} T"),
        ("  bytes", f"{compiled.bytes / 1e9:,.2f} GB"),
        ("  roofline", f"{1e3 * plan.bound_seconds:,.1f} ms, bound by {bound_by}: {_share(plan)} of it"),
        ("  img/sec/core", f"{plan.img_sec_core:,.0f}"),
        ("the run", f"{plan.steps:,} steps, {plan.hours:,.1f} hours"),
        ("  core-days", f"{plan.core_days:,.1f}{of_paper}"),
    ]
    if published:
        rows.append(("  the paper's inference", f"{published.img_sec_core:,} img/sec/core of TPU v3"))
    return rows


def _line(keys: dict, plan: Plan) -> tuple[str, ...]:
    of_keys = " ".join(f"--config.{key}={value}" for key, value in keys.items())
    memory = _gib(plan.memory_bytes)
    if not plan.fits:
        return of_keys, f"{plan.batch_per_core:,}", memory, "does not fit", "", ""
    milliseconds, rate = f"{1e3 * plan.step.seconds:,.1f}", f"{plan.img_sec_core:,.0f}"
    return of_keys, f"{plan.batch_per_core:,}", memory, milliseconds, rate, _share(plan)


def _excess(plan: Plan) -> int:
    return plan.memory_bytes - plan.usable_bytes


def _share(plan: Plan) -> str:
    return f"{plan.bound_seconds / plan.step.seconds:.0%}"


def _gib(size: int) -> str:
    return f"{size / _GIB:,.2f} GiB"
