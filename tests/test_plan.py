"""Planning: its arithmetic by hand, the compiled step where any compiler tells it, and the plans that the docs keep.

What needs the compiler for TPUs is skipped without it: pip install -e '.[plan]'.
"""

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from test_configs import IMAGES, TABLE_4, recipe

from configs import mixer_b16_i1k
from mixer_jax import paper
from mixer_jax.errors import ConfigError
from mixer_jax.models import registry
from mixer_jax.planning import alternatives, table, topology
from mixer_jax.planning.compilation import Compiled, compile_step, needed_bytes, share_bytes
from mixer_jax.planning.plan import Plan, changed, with_all_parts
from mixer_jax.report.matching import recipe_of
from mixer_jax.runtime import mesh
from mixer_jax.training.setup import build_training

ROOT = Path(__file__).parents[1]
RECORDS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "docs" / "plans").glob("*.json"))}
GIB = 2**30
needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: pip install -e '.[plan]'"
)

STEP = Compiled(
    state_bytes=3 * GIB,
    batch_bytes=GIB,
    temporary_bytes=2 * GIB,
    program_bytes=GIB // 2,
    flops=3e12,
    bytes=9e9,
    seconds=0.05,
)
PLAN = Plan(
    topology="v3:4x4",
    device="TPU v3",
    chips=16,
    cores=32,
    batch_size=1024,
    batch_per_core=32,
    parameters=1_000_000,
    steps=108_000,
    usable_bytes=15 * GIB,
    memory_bytes=STEP.memory_bytes,
    compiled=STEP,
    model_flops=2.46e12,
    compute_seconds=0.04,
    traffic_seconds=0.02,
)
TOO_LARGE = dataclasses.replace(PLAN, memory_bytes=20 * GIB, compiled=None, traffic_seconds=None)


def test_a_run_costs_its_steps():
    assert STEP.memory_bytes == 6.5 * GIB
    assert PLAN.img_sec_core == pytest.approx(640)  # 32 / 0.05
    assert PLAN.hours == pytest.approx(1.5)  # 108,000 x 0.05 s = 5,400 s
    assert PLAN.core_days == pytest.approx(2)  # 1.5 h on 32 cores = 48 h
    assert PLAN.bound_seconds == 0.04


def test_the_table_says_what_was_computed():
    text = table.describe(PLAN, paper.pretraining("Mixer-B/16", "tfds:imagenet2012", 300.0))
    for shown in (
        "16 chips of TPU v3, 32 cores",
        "1,024 images, 32 a core",
        "6.50 GiB of 15.00 GiB usable",
        "50.0 ms",
        "3.000 T; needed: 2.460 T",
        "40.0 ms, bound by FLOPs: 80% of it",
        "108,000 steps, 1.5 hours",
        "2.0; the paper: 10 of TPU v3",
        "1,384 img/sec/core",
    ):
        assert shown in text


def test_what_does_not_fit_is_said_with_how_much():
    assert "5.00 GiB too much: it does not fit" in table.describe(TOO_LARGE)
    record = table.record(TOO_LARGE)
    assert not record["fits"]
    assert record["hours"] is None
    assert record["compiled"] is None
    line = table.compare([({"model.remat": "full", "mesh.fsdp": 4}, TOO_LARGE)]).splitlines()[1]
    assert line.split("  ")[0] == "--config.model.remat=full --config.mesh.fsdp=4"
    assert line.endswith("does not fit")


def test_a_record_survives_json():
    record = table.record(PLAN, paper.pretraining("Mixer-H/14", "tfds:large", 14.0))
    assert json.loads(json.dumps(record)) == record
    assert record["compiled"]["flops"] == 3e12
    assert record["paper"] == {"core_days": 1010, "inference_img_sec_core": 194}


@pytest.mark.parametrize("name", TABLE_4)
def test_every_recipe_has_published_figures_and_a_size(name):
    config = recipe(name)
    model, source = registry.title(config.model.to_dict(), config.data.image_size), config.data.source
    row = paper.pretraining(model, source, config.epochs)
    assert row.core_days >= 10
    assert recipe_of(row) == name
    assert paper.EXAMPLES[config.data.source, config.data.split] == IMAGES[name.rpartition("_")[2]]
    assert paper.pretraining(model, source, 1.0) is None


@pytest.mark.parametrize("name", ["v7:2x2", "v3", "v3:4", "v3:4x4x4", "v3:64x64", "v3:0x2", "v3-128", "v4:2x2", ""])
def test_unknown_slices_are_refused_with_those_that_exist(name):
    with pytest.raises(
        ConfigError, match=rf"--topology={name} is unknown; known: v2:2x2 to v2:16x16, v3:2x2 to v3:32x32"
    ):
        topology.create_slice(name)


def test_without_libtpu_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda _: None)  # where it is installed
    with pytest.raises(ConfigError, match=r"pip install -e '.\[plan\]'"):
        topology.create_slice("v3:4x4")


@pytest.mark.parametrize(
    ("message", "needed"),
    [
        (
            "Ran out of memory in memory space hbm. Used 20.31G of 15.48G hbm. Exceeded hbm capacity by 4.83G.",
            20.31 * GIB,
        ),
        (
            "Ran out of memory on HBM, the total memory required for HLO temporaries (49.53G) exceeds ...",
            50.53 * GIB,
        ),
    ],
)
def test_the_compilers_refusals_are_read(message, needed):
    assert needed_bytes(message, inputs=GIB) == int(needed)


def test_a_refusal_in_other_words_is_shown():
    with pytest.raises(RuntimeError, match="in other words: Memory is short"):
        needed_bytes("Memory is short", inputs=GIB)


def on_this_machine():
    return topology.Slice("cpu", jax.devices(), usable_bytes=GIB)


def test_parts_of_a_batch_cost_what_the_whole_does(tiny_config):
    tiny_config.batch_size = 16 * jax.device_count()
    tiny_config.model.num_blocks = 1  # compiles faster, and so it does without:
    tiny_config.mixup = tiny_config.model.dropout = tiny_config.model.stoch_depth = 0.0
    training = build_training(tiny_config, mesh.create_mesh(), num_examples=1442)
    whole = compile_step(training)
    assert whole.state_bytes == share_bytes(training.abstract_state)
    assert whole.batch_bytes == pytest.approx(share_bytes(training.abstract_batch), abs=64)
    in_parts = with_all_parts(whole, changed(tiny_config, {"accumulation_steps": 4}), on_this_machine())
    assert in_parts.flops == pytest.approx(whole.flops, rel=0.05)
    assert in_parts.bytes == pytest.approx(whole.bytes, rel=0.1)
    assert in_parts.temporary_bytes == whole.temporary_bytes


@pytest.mark.skipif(jax.device_count() == 1, reason="one device has nothing to share")
def test_fsdp_divides_the_state_of_a_recipe():
    cores = jax.device_count()
    whole, share = (
        build_training(mixer_b16_i1k.get_config(), mesh.create_mesh(fsdp=n), num_examples=IMAGES["i1k"]).abstract_state
        for n in (1, cores)
    )
    assert share_bytes(share) == pytest.approx(share_bytes(whole) / cores, rel=0.1)


def planner(memory):
    """Plans by a formula of the config instead of a compiler: the search is the same."""

    def plan(config):
        fits = memory(config) <= 1
        return dataclasses.replace(PLAN if fits else TOO_LARGE, batch_per_core=config.batch_size // 128)

    return plan


@pytest.mark.parametrize(
    ("memory", "keys"),
    [
        # Activations alone: all keys but fsdp help, and the mildest value of each is kept.
        (
            lambda c: (
                3 / c.accumulation_steps * c.batch_size / 4096 * {"none": 1, "dots": 0.5, "full": 0.2}[c.model.remat]
            ),
            [{"model.remat": "full"}, {"accumulation_steps": 4}, {"batch_size": 1024}],
        ),
        # State alone.
        (lambda c: 7 / c.mesh.fsdp, [{"mesh.fsdp": 8}]),
        # Both, each of which is too large: all keys together.
        (
            lambda c: 2 / c.mesh.fsdp + 2 / c.accumulation_steps,
            [{"model.remat": "full", "accumulation_steps": 16, "mesh.fsdp": 128}],
        ),
        (lambda _: 2, []),
    ],
)
def test_what_would_make_it_fit(memory, keys):
    config = mixer_b16_i1k.get_config()
    found = alternatives.that_fit(config, 128, planner(memory))
    assert [key for key, _ in found] == keys
    assert all(plan.fits for _, plan in found)


def test_the_sweep_ends_where_memory_does():
    config = mixer_b16_i1k.get_config()
    swept = list(alternatives.by_batch_size(config, 128, planner(lambda c: c.batch_size / 128 / 60)))
    assert [plan.batch_per_core for _, plan in swept] == [8, 16, 32, 64]
    assert [plan.fits for _, plan in swept] == [True, True, True, False]
    assert swept[0][0] == {"batch_size": 1024}


def test_every_recipe_has_a_kept_plan():
    assert set(RECORDS) == set(TABLE_4)


@pytest.mark.parametrize("name", RECORDS)
def test_a_kept_plan_fits_and_stands_in_the_docs(name):
    record = RECORDS[name]
    seconds = record["compiled"]["seconds"]
    assert record["config"] == name
    assert record["device"] == "TPU v3"
    assert record["memory_bytes"] <= record["usable_bytes"] < 16 * GIB
    assert record["core_days"] == pytest.approx(record["cores"] * record["steps"] * seconds / 86_400)
    row = (
        f"| `{name}` | `{record['topology']}` | {record['cores']} | {record['batch_per_core']} "
        f"| {record['memory_bytes'] / GIB:.2f} | {1e3 * seconds:.1f} | {record['img_sec_core']:,.0f} "
        f"| {record['bound_seconds'] / seconds:.0%} | {record['hours']:.1f} | {record['core_days']:.1f} "
        f"| {record['paper']['core_days']:,} |"
    )
    assert row in (ROOT / "docs" / "planning.md").read_text()


@needs_libtpu
def test_a_kept_plan_comes_out_again():
    record = RECORDS["mixer_s32_jft"]
    command = [sys.executable, "-m", "mixer_jax", "plan", "--config=configs/mixer_s32_jft.py", "--json"]
    result = subprocess.run(
        [*command, f"--topology={record['topology']}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    plan = json.loads(result.stdout)
    # Versions of the compiler differ.
    for name in ("memory_bytes", "img_sec_core", "core_days"):
        assert plan[name] == pytest.approx(record[name], rel=0.1)
    for name in ("parameters", "steps", "cores", "model_flops", "usable_bytes", "paper"):
        assert plan[name] == record[name]
