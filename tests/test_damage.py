"""Damaged work directories and data sets: one line that names the file, and never a wait for what does not come."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest
from tiny_tfds import write

from mixer_jax.data.sources import open_source
from mixer_jax.errors import ConfigError, RunError
from mixer_jax.prepare import images
from mixer_jax.report import records
from mixer_jax.training import replay, run
from mixer_jax.weights.trained import load_trained
from mixer_jax.workdir import reading

DEEP = b"[" * 100_000 + b"]" * 100_000
NO_OBJECTS = {"list": b"[]", "null": b"null", "number": b"1e400", "deep": DEEP, "empty": b"", "bytes": b"\xff\xfe\xd8"}
FILES = {
    "fifo": os.mkfifo,
    "folder": os.mkdir,
    "loop": lambda path: os.symlink(path.name, path),
    "missing": os.fspath,  # nothing
}


def short_config():
    from configs import digits

    config = digits.get_config("smoke")
    config.data.source = "digits"
    config.model.num_blocks, config.model.hidden_dim = 1, 8
    config.model.tokens_mlp_dim = config.model.channels_mlp_dim = 8
    config.steps, config.eval.every, config.checkpoint.every, config.checkpoint.keep = 2, 2, 1, 2
    config.checkpoint.best = None
    config.eval.splits = {"test": "test"}
    config.batch_size = config.eval.batch_size = 64
    return config


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run with the checkpoints of its two steps."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    run.train(short_config(), workdir)
    return workdir


@pytest.fixture
def workdir(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def metadata_of(workdir, step=2):
    return workdir / "checkpoints" / str(step) / "run" / "metadata"


def refused(action, error=ConfigError):
    with pytest.raises(error) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("content", NO_OBJECTS)
def test_a_record_of_a_run_that_is_no_object_is_named_by_all_that_read_it(workdir, content):
    metadata_of(workdir).write_bytes(NO_OBJECTS[content])
    checkpoint = str(workdir / "checkpoints" / "2")
    assert checkpoint in refused(lambda: replay.replay(workdir, 2))
    assert checkpoint in refused(lambda: load_trained(workdir))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config", 3),
        ("config", {"data": []}),
        ("core_days", "1"),
        ("core_days", None),
        ("settings", []),
    ],
)
def test_a_record_with_other_contents_than_a_runs_is_damaged(workdir, key, value):
    record = json.loads(metadata_of(workdir).read_text())
    del record["sha256"]  # as of a checkpoint from before there were sums
    metadata_of(workdir).write_text(json.dumps(record | {key: value}))
    assert str(workdir / "checkpoints") in refused(lambda: replay.replay(workdir, 2))


def test_a_changed_letter_in_the_record_of_a_run_is_found_and_one_without_a_sum_is_read(workdir):
    text = metadata_of(workdir).read_text()
    assert '"seed": 0' in text
    metadata_of(workdir).write_text(text.replace('"seed": 0', '"seed": 1'))
    assert "is not what was saved: its sum is another" in refused(lambda: replay.replay(workdir, 2))
    assert "is not what was saved: its sum is another" in refused(lambda: load_trained(workdir))
    record = json.loads(text)
    del record["sha256"]
    metadata_of(workdir).write_text(json.dumps(record))
    assert load_trained(workdir).config["seed"] == 0


def test_training_goes_on_from_the_checkpoint_before_a_record_that_is_damaged(workdir, caplog):
    metadata_of(workdir).write_bytes(b"{}")
    with caplog.at_level("INFO", logger="mixer_jax"):
        assert run.train(short_config(), workdir).step == 2
    assert "it is now 2.damaged" in caplog.text
    assert "resuming from" in caplog.text
    assert (workdir / "checkpoints" / "2" / "state").is_dir()


@pytest.mark.parametrize("instead", ["fifo", "loop"])
def test_what_cannot_be_waited_for_in_a_checkpoint_is_named(workdir, instead):
    for file in (metadata_of(workdir), next((workdir / "checkpoints" / "2" / "state").rglob("*/manifest*"), None)):
        if file is None:
            continue
        kept = file.read_bytes()
        file.unlink()
        FILES[instead](file)
        for reader in (lambda: replay.replay(workdir, 2), lambda: load_trained(workdir)):
            assert str(workdir / "checkpoints" / "2") in refused(reader)
        file.unlink()
        file.write_bytes(kept)


@pytest.mark.parametrize("instead", [*FILES, *NO_OBJECTS])
def test_a_run_without_checkpoints_is_replayed_by_its_config_or_refused_by_that(workdir, instead):
    shutil.rmtree(workdir / "checkpoints")
    (workdir / "checkpoints").mkdir()
    config = workdir / "config.json"
    config.unlink()
    FILES[instead](config) if instead in FILES else config.write_bytes(NO_OBJECTS[instead])
    assert str(config) in refused(lambda: replay.replay(workdir, 1))


@pytest.mark.parametrize("instead", ["fifo", "folder", "loop"])
def test_metrics_that_are_no_file_are_refused_before_the_first_step(workdir, instead):
    shutil.rmtree(workdir / "checkpoints")
    (workdir / "metrics.jsonl").unlink()
    FILES[instead](workdir / "metrics.jsonl")
    assert str(workdir / "metrics.jsonl") in refused(lambda: run.train(short_config(), workdir), RunError)


def test_lines_of_metrics_that_are_none_are_left_out_when_a_run_resumes(workdir, caplog):
    shutil.rmtree(workdir / "checkpoints" / "2")
    with (workdir / "metrics.jsonl").open("ab") as file:
        lines = (
            b'{"step": 1e400}',
            b"[]",
            b"null",
            DEEP,
            b'{"step": "1"}',
            b"\xff\xfe",
            b'{"step": ' + b"9" * 5000 + b"}",
        )
        file.writelines(line + b"\n" for line in lines)
    with caplog.at_level("INFO", logger="mixer_jax"):
        run.train(short_config(), workdir)
    assert "left out 7 damaged lines" in caplog.text
    steps = [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)


@pytest.mark.parametrize("name", ["config.json", "result.json", "metrics.jsonl", "evaluation/imagenet-8.json"])
@pytest.mark.parametrize("instead", ["fifo", "folder", "loop", *NO_OBJECTS])
def test_the_report_says_what_it_cannot_read(workdir, name, instead):
    if name == "metrics.jsonl":
        (workdir / "result.json").unlink()
    path = workdir / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    FILES[instead](path) if instead in FILES else path.write_bytes(NO_OBJECTS[instead])
    if (name, instead) == ("metrics.jsonl", "empty") or (path.parent.name == "evaluation" and instead == "folder"):
        assert records.read(workdir.parent).problems == ()  # it holds nothing yet; a folder is no record
        return
    found = records.read(workdir.parent)
    described = name.rpartition("/")[2] if name != "result.json" else "result.json"
    if name == "config.json" and instead in ("folder", "loop", "fifo"):
        assert all("\n" not in problem for problem in found.problems)
        return
    [problem] = found.problems
    assert str(workdir) in problem
    assert described in problem
    assert "\n" not in problem


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400, "NaN"])
def test_numbers_that_no_float_holds_are_no_numbers_of_a_report(workdir, number):
    (workdir / "result.json").write_text(f'{{"step": 2, "metrics": {{"eval/test/top1": {number}}}, "core_days": 0.0}}')
    found = records.read(workdir.parent)
    assert [of.metrics for of in found.runs] == [{"eval/test/top1": None}]


def test_a_seal_covers_all_of_a_record():
    record = {"config": {"seed": 0, "rate": 0.1}, "names": ["é", "\udcff"], "none": None}
    sealed = json.loads(json.dumps(reading.sealed(record)))
    assert reading.check_seal(sealed) == record
    for changed in (sealed | {"none": 0}, sealed | {"more": 1}, sealed | {"config": {"seed": 0, "rate": 0.2}}):
        with pytest.raises(ValueError, match="its sum is another"):
            reading.check_seal(changed)


def prepared(folder, **options):
    """Prepares twelve images of two classes."""
    for number in range(12):
        of_class = folder / "images" / ("test" if number == 11 else "train") / ("one", "two")[number % 2]
        of_class.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)
        cv2.imwrite(str(of_class / f"{number}.png"), pixels)
    place = {"name": "mine", "data_dir": folder / "data", "split": None, "workers": 1}
    images.prepare(folder / "images", **place, **options)
    return folder / "data"


@pytest.fixture(scope="module")
def whole_data(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("tfds"), shard_mb=1)


@pytest.fixture
def data(whole_data, tmp_path):
    return shutil.copytree(whole_data, tmp_path / "data")


def opened(data_dir, split="train"):
    return open_source("tfds:mine", split=split, data_dir=str(data_dir), num_classes=2, image_size=8)


def test_a_data_set_of_tfds_itself_is_named_by_its_file_too(tmp_path):
    pixels = cv2.imencode(".png", np.zeros((28, 28), np.uint8))[1].tobytes()
    write(tmp_path, "mnist", {"train": [{"image": pixels, "label": 3}]})
    [path] = tmp_path.rglob("dataset_info.json")
    path.write_bytes(b"[]")
    said = refused(
        lambda: open_source("tfds:mnist", split="train", data_dir=str(tmp_path), num_classes=10, image_size=8)
    )
    assert f"{path} holds no JSON object" in said


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("instead", ["fifo", "folder", "loop", *NO_OBJECTS])
def test_what_describes_a_data_set_is_named_where_it_is_damaged(data, name, instead):
    [path] = data.rglob(name)
    path.unlink()
    FILES[instead](path) if instead in FILES else path.write_bytes(NO_OBJECTS[instead])
    said = refused(lambda: opened(data))
    assert name in said
    assert str(data) in said


def shard(data, split="train"):
    [path] = data.rglob(f"mine-{split}.array_record*")
    return path


@pytest.mark.parametrize("instead", [*FILES, "empty"])
def test_a_shard_that_is_none_is_named_when_the_data_set_is_opened(data, instead):
    path = shard(data)
    path.unlink()
    FILES[instead](path) if instead in FILES else path.write_bytes(b"")
    assert str(path) in refused(lambda: opened(data))
    assert len(opened(data, "test")) == 1  # the other split is whole


@pytest.mark.parametrize(
    "damage", [lambda old: old[: len(old) // 2], lambda old: old[:10], lambda old: b"x" * len(old)]
)
def test_a_shard_that_is_cut_short_or_overwritten_is_named_when_it_is_read(data, damage):
    path = shard(data)
    path.write_bytes(damage(path.read_bytes()))
    source = opened(data)
    said = refused(lambda: source[3], RunError)
    assert said.startswith(f"{path} cannot be read: it is damaged, or cut short")
    assert "example 3 of split 'train' of tfds:mine" in said


def test_the_shard_of_an_example_is_that_which_holds_it(tmp_path):
    data_dir = prepared(tmp_path, shard_mb=0.01)
    whole = [opened(data_dir)[index]["image"] for index in range(11)]
    shards = sorted(data_dir.rglob("mine-train.array_record*"))
    assert len(shards) > 2
    [of_train] = [
        split["shardLengths"]
        for split in json.loads(next(data_dir.rglob("dataset_info.json")).read_text())["splits"]
        if split["name"] == "train"
    ]
    first, second = map(int, of_train[:2])
    shards[1].write_bytes(shards[1].read_bytes()[:50])
    damaged = opened(data_dir)
    for index in range(11):
        if first <= index < first + second:
            assert refused(lambda index=index: damaged[index], RunError).startswith(str(shards[1]))
        else:
            assert damaged[index]["image"] == whole[index]


def test_a_config_of_a_checkpoint_that_is_none_is_refused_by_its_key(workdir):
    record = json.loads(metadata_of(workdir).read_text())
    del record["sha256"]
    record["config"]["data"]["image_size"] = "8"
    metadata_of(workdir).write_text(json.dumps(record))
    said = refused(lambda: load_trained(workdir))
    assert "holds no config of a run: config.data.image_size='8'; expected an integer" in said
