"""The report against hand-written records and runs, and the published tables against a transcription of their own."""

import csv
import importlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mixer_jax import paper
from mixer_jax.errors import ConfigError
from mixer_jax.models.mixer import VARIANTS
from mixer_jax.report import records, tables, text
from mixer_jax.report.matching import recipe_of

ROOT = Path(__file__).parents[1]
METRICS = {"imagenet/top1": 0.7512, "imagenet/top5": 0.91, "real/top1": 0.8111, "avg5/top1": 0.876}

# Of each column the number of printed cells, their sum, and the sum of each times the number of its row, from 1, which
# a cell in the wrong row changes.
SUMS = {
    (2, "imagenet"): (10, 872.51, 4842.78),
    (2, "real"): (6, 539.04, 3162.28),
    (2, "avg5"): (6, 569.35, 2856.48),
    (2, "vtab"): (7, 527.55, 3057.57),
    (2, "img_sec_core"): (9, 425, 1452),
    (2, "core_days"): (10, 52000, 440800),
    (3, "imagenet"): (26, 2101.01, 28946.97),
    (3, "real"): (26, 2230.58, 30578.61),
    (3, "avg5"): (21, 1944.44, 24765.05),
    (3, "img_sec_core"): (26, 34396, 371655),
    (3, "core_days"): (26, 10570, 208570),
}
# Table 3's Mixers, as printed: image size, epochs, ImNet, ReaL, Avg 5, img/s/core, thousands of core-days.
MIXERS = """
ImageNet      B/16 224 300 76.44 82.36 88.33 1384  0.01
ImageNet      L/16 224 300 71.76 77.08 87.25 419   0.04
ImageNet-21k  B/16 224 300 80.64 85.80 92.50 1384  0.15
ImageNet-21k  L/16 224 300 82.89 87.54 93.63 419   0.41
ImageNet-21k  L/16 448 300 83.91 87.75 93.86 105   0.41
JFT-300M      S/32 224 5   68.70 75.83 87.13 11489 0.01
JFT-300M      B/32 224 7   75.53 81.94 90.99 4208  0.05
JFT-300M      S/16 224 5   73.83 80.60 89.50 3994  0.03
JFT-300M      B/16 224 7   80.00 85.56 92.60 1384  0.08
JFT-300M      L/32 224 7   80.67 85.62 93.24 1314  0.12
JFT-300M      L/16 224 7   84.05 88.14 94.51 419   0.23
JFT-300M      L/16 224 14  84.82 88.48 94.77 419   0.45
JFT-300M      H/14 224 14  86.32 89.14 95.49 194   1.01
JFT-300M      L/16 448 14  86.78 89.72 95.13 105   0.45
"""


@pytest.mark.parametrize("table", [2, 3])
def test_the_columns_of_the_paper_add_up(table):
    rows = [row for row in paper.rows() if row.table == table]
    assert len(rows) == {2: 10, 3: 26}[table]
    for column in tables.HEADINGS:
        cells = [(i, getattr(row, column)) for i, row in enumerate(rows, start=1) if getattr(row, column) is not None]
        count, total, by_row = SUMS.get((table, column), (0, 0, 0))
        assert len(cells) == count, column
        assert sum(value for _, value in cells) == pytest.approx(total), column
        assert sum(i * value for i, value in cells) == pytest.approx(by_row), column


def test_every_mixer_of_table_3_is_as_printed():
    printed = [line.split() for line in MIXERS.strip().splitlines()]
    rows = [row for row in paper.rows() if row.table == 3 and recipe_of(row)]
    assert [(row.pretraining, row.model) for row in rows] == [(line[0], f"Mixer-{line[1]}") for line in printed]
    for row, line in zip(rows, printed, strict=True):
        ours = (row.image_size, row.epochs, row.imagenet, row.real, row.avg5, row.img_sec_core, row.core_days / 1000)
        assert ours == tuple(map(float, line[2:])), row
        assert row.extrapolated == (row.pretraining != "JFT-300M")
        assert row.vtab is None


@pytest.mark.parametrize(
    ("place", "model", "printed"),
    [
        (0, "HaloNet", (85.8, None, None, None, 120, 100)),
        (1, "Mixer-L/16", (84.15, 87.86, 93.91, 74.95, 105, 410)),
        (5, "Mixer-H/14", (87.94, 90.18, 95.71, 75.33, 40, 1010)),
        (7, "ViT-H/14", (88.55, 90.72, 95.97, 77.63, 15, 2300)),
        (8, "MPL", (90.0, 91.12, None, None, None, 20480)),
        (9, "ALIGN", (88.64, None, None, 79.99, 15, 14820)),
        (11, "ViT-B/16", (79.67, 84.97, 90.79, None, 861, 20)),
        (22, "BiT-R50x1", (73.69, 81.92, None, None, 2159, 80)),
        (32, "BiT-R200x3", (84.73, 89.58, None, None, 141, 1780)),
        (35, "ViT-L/16", (87.76, 90.54, 95.63, None, 32, 650)),
    ],
)
def test_other_rows_are_as_printed(place, model, printed):
    row = paper.rows()[place]
    assert row.model == model
    assert tuple(getattr(row, column) for column in tables.HEADINGS) == printed


def record(path, *, name="mixer_b16", image_size=224, source="tfds:imagenet2012", epochs=300.0, time=None, **changes):
    """Writes a record of `evaluate`."""
    model = {"name": name, **VARIANTS.get(name, {})}
    if "tokens_mlp_dim" in model:
        model["tokens_mlp_dim"] *= (image_size // 224) ** 2
    described = {
        "suite": "imagenet",
        "checkpoint": "runs/x/checkpoints/5",
        "model": model,
        "image_size": image_size,
        "pretraining": {"source": source, "epochs": epochs},
        "metrics": METRICS,
        "missing": {},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(described | changes))
    if time is not None:
        os.utime(path, (time, time))
    return path


def recipe(name):
    return importlib.import_module(f"configs.{name}").get_config()


def begin(workdir, name="mixer_b16_i1k", *, lines, **keys):
    """Writes the files of a run of a recipe, with changed keys, that is not finished."""
    config = recipe(name)
    config.update_from_flattened_dict(keys)
    (workdir / "checkpoints" / "1000").mkdir(parents=True)
    (workdir / "config.json").write_text(config.to_json_best_effort())
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return workdir


def train(workdir, name="mixer_b16_i1k", *, step=1000, core_days=9.5, metrics=None, time=None, **keys):
    """Writes the files of a finished run of a recipe, with changed keys."""
    metrics = {"eval/val/top1": 0.75, "eval/val/loss": 1.25} if metrics is None else metrics
    lines = [{"step": step - 1, "train/core_days": core_days / 2}, {"step": step, **metrics}]
    result = begin(workdir, name, lines=lines, **keys) / "result.json"
    result.write_text(json.dumps({"step": step, "core_days": core_days, "metrics": metrics}))
    if time is not None:
        os.utime(result, (time, time))
    return workdir


def report(folder):
    return tables.make(records.read(folder), folder)


def filled(made):
    """Returns {(table, pre-training, model, image size, epochs): ours} of the rows that hold something."""
    setups = ((line.row, line.ours) for line in made.lines if line.ours)
    return {(r.table, r.pretraining, r.model, r.image_size, r.epochs): pytest.approx(ours) for r, ours in setups}


def test_nothing_run_leaves_all_of_ours_empty(tmp_path):
    made = report(tmp_path)
    assert [line.row for line in made.lines] == list(paper.rows())
    assert filled(made) == {}
    assert made.others == made.notes == ()
    # 16 rows of Mixer; Mixer-L/16 at 448 pixels from ImageNet-21k is in both tables.
    assert len(made.not_run) == 15


def test_without_a_folder_it_says_so(tmp_path):
    with pytest.raises(ConfigError, match=rf"^--runs={tmp_path}/none is no folder; expected"):
        records.read(tmp_path / "none")


@pytest.mark.parametrize(
    ("described", "row"),
    [
        ({}, (3, "ImageNet", "Mixer-B/16", 224, 300)),
        ({"name": "mixer_l16", "source": "tfds:imagenet21k"}, (3, "ImageNet-21k", "Mixer-L/16", 224, 300)),
        ({"name": "mixer_l16", "source": "tfds:large", "epochs": 7.0}, (3, "JFT-300M", "Mixer-L/16", 224, 7)),
        ({"name": "mixer_l16", "source": "tfds:large", "epochs": 14.0}, (3, "JFT-300M", "Mixer-L/16", 224, 14)),
        (
            {"name": "mixer_l16", "source": "tfds:large", "epochs": 14.0, "image_size": 448},
            (3, "JFT-300M", "Mixer-L/16", 448, 14),
        ),
        (
            {"name": "mixer_h14", "source": "tfds:large", "epochs": 14.0, "image_size": 448},
            (2, "JFT-300M", "Mixer-H/14", None, None),
        ),
        ({"source": "imagenet1k/Mixer-B_16", "epochs": None}, (3, "ImageNet", "Mixer-B/16", 224, 300)),
        ({"source": "imagenet21k/Mixer-B_16", "epochs": None}, (3, "ImageNet-21k", "Mixer-B/16", 224, 300)),
    ],
)
def test_an_evaluation_fills_its_row(tmp_path, described, row):
    path = record(tmp_path / "deep" / "x" / "evaluation" / "imagenet.json", **described)
    made = report(tmp_path)
    assert filled(made) == {row: {"imagenet": 75.12, "real": 81.11, "avg5": 87.6}}
    # What no column is for is not dropped.
    assert [(other.where, other.result) for other in made.others] == [(str(path), "imagenet/top5 91.00")]


def test_448_pixels_from_imagenet21k_stand_in_both_tables(tmp_path):
    metrics = METRICS | {"vtab/top1": 0.7401}
    described = {"name": "mixer_l16", "image_size": 448, "source": "tfds:imagenet21k"}
    record(tmp_path / "evaluation" / "a.json", metrics=metrics, img_sec_core=101.5, **described)
    ours = {"imagenet": 75.12, "real": 81.11, "avg5": 87.6, "img_sec_core": 101.5}
    assert filled(report(tmp_path)) == {
        (2, "ImageNet-21k", "Mixer-L/16", None, None): ours | {"vtab": 74.01},
        (3, "ImageNet-21k", "Mixer-L/16", 448, 300): ours,
    }


@pytest.mark.parametrize(
    "described",
    [
        {"epochs": 90.0},
        {"epochs": None},
        {"source": "tfds:cifar10"},
        {"source": "tfds:large"},  # the paper's B/16 had 7 epochs of it
        {"source": "imagenet1k/Mixer-B_16", "epochs": 90.0},
        {"image_size": 448},
        {"image_size": 256},
        {"name": "mixer_s16"},
        {"name": "mixer", "model": {"name": "mixer", "hidden_dim": 768}},
        {"model": {"name": "mixer_b16", "hidden_dim": 512}},
        {"model": {"name": "mixer_b16", "untied_token_mixing": True}},
        # At 448 pixels by interpolation, where the paper's token mixing is four times as wide.
        {
            "source": "tfds:imagenet21k",
            "image_size": 448,
            "name": "mixer_l16",
            "model": {"name": "mixer_l16", "tokens_mlp_dim": 512},
        },
    ],
)
def test_an_evaluation_of_something_else_is_listed_whole(tmp_path, described):
    path = record(tmp_path / "evaluation" / "a.json", **described)
    made = report(tmp_path)
    assert filled(made) == {}
    (other,) = made.others
    assert other.where == str(path)
    assert other.result == "imagenet/top1 75.12, imagenet/top5 91.00, real/top1 81.11, avg5/top1 87.60"


def test_several_records_fill_one_row(tmp_path):
    record(tmp_path / "a" / "evaluation" / "imagenet.json", metrics={"imagenet/top1": 0.76, "real/top1": 0.82})
    record(tmp_path / "b" / "evaluation" / "avg5.json", suite="avg5", metrics={"avg5/top1": 0.88})
    made = report(tmp_path)
    assert list(filled(made).values()) == [{"imagenet": 76, "real": 82, "avg5": 88}]
    assert made.notes == ()


def test_another_protocol_fills_no_cell_and_is_said(tmp_path):
    path = tmp_path / "a" / "evaluation" / "imagenet-224.json"
    record(path, metrics={"imagenet/top1": 0.9})
    written = json.loads(path.read_text())
    path.write_text(json.dumps({**written, "changes": {"imagenet.split": "validation[:10]"}}))
    made = report(tmp_path)
    assert filled(made) == {}
    [other] = made.others
    assert other.result == "imagenet/top1 90.00 (with config.imagenet.split=validation[:10])"
    path.write_text(json.dumps({**written, "changes": {"crop": "resize", "vtab.learning_rate": "shared"}}))
    assert len(filled(report(tmp_path))) == 1


@pytest.mark.parametrize(("newer", "older"), [("a", "b"), ("b", "a")])
def test_the_newer_of_two_values_stands(tmp_path, newer, older):
    old = record(tmp_path / "evaluation" / f"{older}.json", metrics={"imagenet/top1": 0.75}, time=1000)
    new = record(tmp_path / "evaluation" / f"{newer}.json", metrics={"imagenet/top1": 0.74}, time=2000)
    made = report(tmp_path)
    assert list(filled(made).values()) == [{"imagenet": 74}]
    assert made.notes == (
        f"ImNet of Mixer-B/16, ImageNet, 300 epochs, 224 pixels: {new} (74.00) is newer than {old} (75.00), "
        "which is left out",
    )
    assert made.others == ()


def test_a_finished_pretraining_gives_core_days_alone(tmp_path):
    train(tmp_path / "a", "mixer_l16_jft")
    made = report(tmp_path)
    assert filled(made) == {
        (3, "JFT-300M", "Mixer-L/16", 224, 14): {"core_days": 9.5},
        (3, "JFT-300M", "Mixer-L/16", 448, 14): {"core_days": 9.5},
    }
    assert made.others == ()


def test_of_two_pretrainings_the_newer_stands_and_one_line_says_so(tmp_path):
    old = train(tmp_path / "a", "mixer_l16_jft", time=1000)
    new = train(tmp_path / "b", "mixer_l16_jft", core_days=7.0, time=2000)
    made = report(tmp_path)
    assert [line.ours["core_days"] for line in made.lines if line.ours] == [7, 7]
    assert made.notes == (
        f"core-days of Mixer-L/16, JFT-300M, 14 epochs: {new} (7.00) is newer than {old} (9.50), which is left out",
    )
    assert [other.where for other in made.others] == []


@pytest.mark.parametrize(
    "keys",
    [
        {"epochs": 7.0},
        {"steps": 1000},
        {"data.source": "synthetic:20"},
        {"data.split": "train[:10%]"},
        {"data.image_size": 448},
        {"init_from": "runs/x"},
        {"model.hidden_dim": 512},
        {"model.name": "mixer_b32"},
    ],
)
def test_another_training_is_another_run(tmp_path, keys):
    train(tmp_path / "a", **keys)
    made = report(tmp_path)
    assert filled(made) == {}
    assert [(other.where, other.result) for other in made.others] == [
        (str(tmp_path / "a"), "step 1,000: val/top1 75.00, val/loss 1.25")
    ]


@pytest.mark.parametrize(
    ("lines", "result"),
    [
        ([{"step": 900, "eval/val/top1": 0.7}, {"step": 950, "train/core_days": 1.0}], "step 950"),
        ([{"step": 900, "train/core_days": 1.0, "eval/val/top1": 0.7}], "step 900: val/top1 70.00"),
        ([], "step 0"),
    ],
)
def test_an_unfinished_run_is_named_and_counts_nowhere(tmp_path, lines, result):
    begin(tmp_path / "a", lines=lines)
    made = report(tmp_path)
    assert filled(made) == {}
    (other,) = made.others
    assert other.result == f"unfinished: {result}"


def test_the_digits_are_another_run(tmp_path):
    metrics = {"eval/test/top1": 0.9915492957746479, "eval/test/loss": None, "eval/test/examples": 355}
    train(tmp_path / "digits", "digits", step=1126, metrics=metrics)
    assert report(tmp_path).others == (
        tables.Other(
            where=str(tmp_path / "digits"),
            model="mixer",
            data="digits",
            image_size=8,
            length="100 epochs",
            result="step 1,126: test/top1 99.15, test/loss not finite, test/examples 355",
        ),
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"suite": "image', "is no JSON (Unterminated string"),
        (b"\xff\xfe\x00", "is no JSON ("),
        (b"[1, 2]", "holds list; expected a JSON object"),
        ({"suite": "imagnet"}, "suite='imagnet' is unknown; did you mean 'imagenet'?"),
        ({"model": {}}, "model.name is missing"),
        ({"image_size": "224"}, "image_size='224'; expected int"),
        ({"pretraining": {"epochs": 300.0}}, "pretraining.source is missing"),
        ({"pretraining": {"source": "digits", "epochs": "300"}}, "pretraining.epochs='300'; expected a number or null"),
        ({"metrics": {"imagenet/top1": 76.44}}, "metrics imagenet/top1=76.44; expected a share in [0, 1]"),
        ({"metrics": {"imagenet/top1": float("nan")}}, "metrics imagenet/top1=nan; expected a finite number"),
    ],
)
def test_a_damaged_record_is_named_and_the_rest_is_read(tmp_path, content, reason):
    damaged = tmp_path / "evaluation" / "a.json"
    whole = json.loads(record(tmp_path / "evaluation" / "b.json").read_text())
    damaged.write_bytes(content if isinstance(content, bytes) else json.dumps(whole | content).encode())
    made = report(tmp_path)
    assert len(filled(made)) == 1
    (note,) = made.notes
    assert note.startswith(f"{damaged}: {reason}")
    assert "\n" not in note


def test_damaged_runs_are_named_and_the_rest_is_read(tmp_path):
    cut = begin(tmp_path / "cut", lines=[{"step": 5, "eval/val/top1": 0.5}]) / "metrics.jsonl"
    cut.write_text(cut.read_text() + '{"step": 10\n{"st')
    (train(tmp_path / "config") / "config.json").write_text('{"model": {"name": "mixer_b16"}}')
    (train(tmp_path / "none") / "config.json").unlink()
    (train(tmp_path / "result") / "result.json").write_text('{"step": 1000}')
    train(tmp_path / "whole")
    made = report(tmp_path)
    assert filled(made) == {(3, "ImageNet", "Mixer-B/16", 224, 300): {"core_days": 9.5}}
    assert [other.result for other in made.others] == ["unfinished: step 5: val/top1 50.00"]
    about_config, about_cut, about_none, about_result = made.notes
    assert about_config == f"{tmp_path}/config: config.json is no run's: data.source is missing"
    assert about_cut.startswith(f"{cut}: left out what cannot be read: line 2 is no JSON (")
    assert about_cut.endswith(", and 1 more")
    assert about_none == f"{tmp_path}/none/metrics.jsonl: left out, because there is no config.json beside it"
    assert about_result == f"{tmp_path}/result: result.json metrics is missing"


def test_what_a_record_lacks_is_noted_until_another_has_it(tmp_path):
    missing = {"real": "real.json is not there:\nget it", "imagenet_v2": "not prepared"}
    path = record(tmp_path / "evaluation" / "a.json", metrics={"imagenet/top1": 0.7}, missing=missing)
    lacks_v2 = f"{path}: imagenet_v2 is missing: not prepared"
    assert report(tmp_path).notes == (f"{path}: real is missing: real.json is not there: get it", lacks_v2)
    record(tmp_path / "evaluation" / "b.json", metrics={"real/top1": 0.8})
    assert report(tmp_path).notes == (lacks_v2,)


def test_a_link_is_followed_once(tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    record(tmp_path / "elsewhere" / "evaluation" / "a.json", metrics={"imagenet/top1": 0.7})
    (runs / "linked").symlink_to(tmp_path / "elsewhere")
    (runs / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(runs)
    made = report(runs)
    assert list(filled(made).values()) == [{"imagenet": 70}]
    assert made.notes == ()


def commands(made):
    return {(recipe_of(item.row), item.epochs, item.image_size): item.commands for item in made.not_run}


def test_what_is_missing_has_its_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    by_row = commands(report(Path("runs")))
    evaluate = "python -m mixer_jax evaluate"
    assert by_row["mixer_l16_i21k", 300, 448] == (
        "python main.py --config=configs/mixer_l16_i21k.py",
        f"{evaluate} --suite=avg5 --checkpoint=runs/mixer_l16_i21k --config.image_size=448",
        f"{evaluate} --suite=vtab --checkpoint=runs/mixer_l16_i21k",
        f"{evaluate} --suite=imagenet --checkpoint=runs/mixer_l16_i21k/evaluation/avg5-448/imagenet/final",
    )
    # A work directory holds one config, so that the recipe's other number of epochs has its own.
    assert by_row["mixer_l16_jft", 7, 224] == (
        "python main.py --config=configs/mixer_l16_jft.py --config.data.num_classes=<classes> --config.epochs=7.0 "
        "--workdir=runs/mixer_l16_jft-epochs=7",
        f"{evaluate} --suite=avg5 --checkpoint=runs/mixer_l16_jft-epochs=7",
        f"{evaluate} --suite=imagenet --checkpoint=runs/mixer_l16_jft-epochs=7/evaluation/avg5-224/imagenet/final",
    )


def test_the_commands_train_what_the_rows_are(tmp_path):
    pretrain = {key: lines[0] for key, lines in commands(report(tmp_path)).items()}
    assert {name for name, _, _ in pretrain} == {
        path.stem for ending in ("i1k", "i21k", "jft") for path in (ROOT / "configs").glob(f"mixer_*_{ending}.py")
    }
    for (name, epochs, _), line in pretrain.items():
        config = recipe(re.search(r"--config=configs/(\w+)\.py", line)[1])
        given = re.search(r"--config\.epochs=([\d.]+)", line)
        assert (float(given[1]) if given else config.epochs) == epochs
        assert f"--workdir={tmp_path}/{name}" in line


def test_what_is_there_needs_no_command(tmp_path):
    train(tmp_path / "a", "mixer_l16_i1k")
    record(tmp_path / "a" / "evaluation" / "x.json", name="mixer_l16", metrics={"imagenet/top1": 0.7, "real/top1": 0.8})
    record(tmp_path / "b" / "evaluation" / "x.json")
    made = report(tmp_path)
    by_row = commands(made)
    checkpoint = tmp_path / "a" / "checkpoints" / "1000"
    assert by_row["mixer_l16_i1k", 300, 224] == (
        f"python -m mixer_jax evaluate --suite=avg5 --checkpoint={checkpoint}",
    )
    assert by_row["mixer_b16_i1k", 300, 224] == (
        f"python main.py --config=configs/mixer_b16_i1k.py --workdir={tmp_path}/mixer_b16_i1k",
    )
    weights = {(recipe_of(item.row), item.image_size): item.weights for item in made.not_run}
    assert weights["mixer_l16_i21k", 224] == "imagenet21k/Mixer-L_16"
    assert weights["mixer_l16_i1k", 224] is None  # there is a run
    assert weights["mixer_b16_i1k", 224] is None  # only its core-days are missing
    assert weights["mixer_l16_jft", 448] is None
    train(tmp_path / "c", "mixer_b16_i1k")
    assert ("mixer_b16_i1k", 300, 224) not in commands(report(tmp_path))


def table_after(markdown, heading):
    lines = markdown.partition(f"## {heading}")[2].splitlines()
    lines = lines[next(i for i, line in enumerate(lines) if line.startswith("|")) :]
    end = next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in lines[:end]]


def test_markdown_has_ours_right_of_the_papers(tmp_path):
    folder = tmp_path / "runs"
    train(folder / "a", "mixer_l16_i21k")
    described = {"name": "mixer_l16", "image_size": 448, "source": "tfds:imagenet21k"}
    record(folder / "a" / "evaluation" / "v.json", metrics={"vtab/top1": 0.7499}, img_sec_core=1234.5, **described)
    train(folder / "a|b", "digits")
    shown = text.markdown(report(folder))
    heading, rule, *rows = table_after(shown, "Table 2")
    shown_columns = ["ImNet", "ReaL", "Avg 5", "VTAB-1k", "img/s/core", "core-days"]
    assert heading == ["pre-training", "model", *(name for column in shown_columns for name in (column, "ours"))]
    assert len(rows) == 10
    mixer = ["ImageNet-21k", "Mixer-L/16", "84.15", "-", "87.86", "-", "93.91", "-", "74.95", "74.99"]
    assert rows[1] == [*mixer, "105", "1,234", "410", "9.5"]
    heading, rule, *rows = table_after(shown, "Table 3")
    assert len(rule) == len(heading) == 14
    assert len(rows) == 26
    mixer = ["ImageNet-21k", "Mixer-L/16", "448", "300", "83.91", "-", "87.75", "-", "93.86", "-"]
    assert rows[8] == [*mixer, "105", "1,234", "410‡", "9.5"]
    assert table_after(shown, "Other runs")[2][0] == str(folder / "a\\|b")
    assert "Mixer-L/16, ImageNet-21k, 300 epochs, 448 pixels: ImNet, ReaL, Avg 5\n" in shown
    assert "## Notes" not in shown


def test_csv_parses_back(tmp_path):
    record(tmp_path / "x,y" / "evaluation" / "a.json", missing={"real": 'a "b", c'}, metrics={"imagenet/top1": 0.7512})
    train(tmp_path / "digits", "digits")
    made = report(tmp_path)
    cells = list(csv.DictReader(io.StringIO(text.as_csv(made)), strict=True))
    by_section = {
        name: [row for row in cells if row["section"] == name] for name in ("2", "3", "other", "not run", "note")
    }
    assert [len(rows) for rows in by_section.values()] == [10, 26, 1, 15, 1]
    assert len(cells) == 53
    for row, line in zip(cells, made.lines, strict=False):
        for column in tables.HEADINGS:
            for whose, value in (("paper", getattr(line.row, column)), ("ours", line.ours.get(column))):
                cell = row[f"{column}_{whose}"]
                assert (float(cell) if cell else None) == (None if value is None else pytest.approx(value))
    first = by_section["3"][0]
    assert (first["model"], first["image_size"], first["imagenet_ours"]) == ("Mixer-B/16", "224", "75.12")
    assert by_section["note"][0]["detail"] == f'{tmp_path}/x,y/evaluation/a.json: real is missing: a "b", c'
    assert by_section["other"][0]["where"] == f"{tmp_path}/digits"
    assert [row["detail"] for row in by_section["not run"]] == ["\n".join(item.commands) for item in made.not_run]


def run_command(*arguments):
    command = [sys.executable, "-m", "mixer_jax", "report", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_writes_what_it_was_asked_for(tmp_path):
    folder, output = tmp_path / "runs", tmp_path / "report.csv"
    record(folder / "evaluation" / "a.json")
    result = run_command(f"--runs={folder}", "--format=csv", f"--output={output}")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert output.read_text() == text.as_csv(report(folder))


def test_the_command_ends_with_one_line_where_there_is_nothing(tmp_path):
    result = run_command(f"--runs={tmp_path}/none")
    assert result.returncode == 1
    assert result.stderr.startswith(f"mixer_jax report: --runs={tmp_path}/none is no folder")
    assert result.stderr.count("\n") == 1
