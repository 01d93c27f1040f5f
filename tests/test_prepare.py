"""The command prepare: every kind of input, read back by TFDS, killed at any moment, and what it refuses."""

import collections
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from mixer_jax import commands as command_line
from mixer_jax.commands import prepare as tool
from mixer_jax.data import sources
from mixer_jax.errors import ConfigError
from mixer_jax.prepare import images as prepare
from mixer_jax.prepare import tfrecord
from tests.prepared import (
    CLASSES,
    SMALL,
    by_class,
    encoded,
    error_of,
    examples,
    expected,
    images,
    run,
    shard_bytes,
    write_files,
    write_tar,
)

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tree(tmp_path):
    """A folder <class>/<image>."""
    return write_files(tmp_path / "tree", images())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a source, and the files of the data set that was prepared from it without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    source = write_files(folder / "tree", images())
    run(source, folder)
    return source, shard_bytes(folder)


class TestInputs:
    def test_a_folder_with_splits(self, tmp_path):
        splits = {"train": images(), "val": images(seed=1000)}
        for split, files in splits.items():
            write_files(tmp_path / "tree" / split, files)
        report = run(tmp_path / "tree", tmp_path)
        for split, files in splits.items():
            read = examples(tmp_path, split)
            assert set(read) == expected(files)
            assert len(read) == len(files)
        assert report["classes"] == {label: {"train": 7, "val": 7} for label in CLASSES}
        assert {split: of["examples"] for split, of in report["splits"].items()} == {"train": 21, "val": 21}
        builder = tfds.builder_from_directory(str(tmp_path / "shapes" / prepare.VERSION))
        assert builder.info.features["label"].names == CLASSES
        assert builder.info.splits["train"].num_shards > 3

    @pytest.mark.parametrize(
        ("kind", "split"),
        [
            ("folder", "train"),
            ("tar", "train"),
            ("tar around", "train"),
            ("tar.gz", "train"),
            ("tgz around", "train"),
            ("folder of tars", "full"),
            ("tar of tars", "full"),
            ("tgz of tars around", "full"),
        ],
    )
    def test_every_kind_gives_the_same_examples(self, tree, tmp_path, whole, kind, split):
        around = "images/of_shapes" if "around" in kind else ""
        inner = by_class(tree, tmp_path / "classes") if "of tars" in kind else tree
        suffix = next((suffix for suffix in ("tar.gz", "tgz", "tar") if kind.startswith(suffix)), None)
        source = write_tar(tmp_path / f"in.{suffix}", inner, around) if suffix else inner
        given = None if split == "full" or not around else split  # one folder around the classes could be a split's
        run(source, tmp_path, split=given)
        assert set(examples(tmp_path, split)) == expected(images())
        records = {name: content for name, content in shard_bytes(tmp_path).items() if "array_record" in name}
        unsplit = {name.replace("-train.", f"-{split}."): content for name, content in whole[1].items()}
        assert records == {name: content for name, content in unsplit.items() if "array_record" in name}
        assert not (tmp_path / "shapes" / prepare.VERSION / "prepare_work").exists()

    def test_the_source_of_the_trainer_reads_it(self, tree, tmp_path):
        run(tree, tmp_path)
        opened = [
            sources.open_with_classes("tfds:shapes", split=split, data_dir=str(tmp_path), num_classes=3, image_size=8)
            for split in ("train", "train[:10]", "train[10:]")
        ]
        read = [[(int(one["label"]), one["image"]) for one in (each[i] for i in range(len(each)))] for each in opened]
        assert collections.Counter(read[0]) == collections.Counter(
            (label, data) for _, label, data in expected(images())
        )
        assert read[0] == read[1] + read[2]
        assert [label for label, _ in read[0]] != sorted(label for label, _ in read[0])

    def test_a_slice_is_a_random_sample(self, tmp_path):
        image = encoded(0)
        write_files(tmp_path / "in", {f"{label}/{i}.jpg": image for label in "ab" for i in range(500)})
        run(tmp_path / "in", tmp_path)
        labels = [label for _, label, _ in examples(tmp_path, "train[:500]")]
        assert abs(sum(labels) - 250) < 56  # five standard deviations of a fair coin

    def test_workers_write_the_same_bytes(self, tmp_path, whole):
        source, without = whole
        run(source, tmp_path, workers=2)
        assert shard_bytes(tmp_path) == without

    def test_the_command_line(self, tree, tmp_path):
        write_files(tree, {"star/broken.jpg": b"no image", "notes.txt": b"text"})
        arguments = [f"--source={tree}", "--name=shapes", f"--data_dir={tmp_path}", "--shard_mb=0.002", "--workers=1"]
        process = subprocess.run(
            [sys.executable, "-m", "mixer_jax", "prepare", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "train: 21 images" in process.stdout
        assert "left out: 1 images that cannot be decoded, such as train/star/broken.jpg" in process.stdout
        assert (
            "1 entry is passed over, such as notes.txt: its name is not that of an image; all in prepare_report.json"
            in process.stdout
        )
        assert "%|" not in process.stderr  # no progress bar in a log
        assert set(examples(tmp_path, "train")) == expected(images())


class TestLeftOut:
    def test_images_that_cannot_be_decoded_are_listed(self, tmp_path):
        broken = {"circle/empty.jpg": b"", "star/text.png": b"no image", "square/cut.jpg": encoded(3)[:30]}
        write_files(tmp_path / "in", images() | broken)
        report = run(tmp_path / "in", tmp_path)
        assert set(examples(tmp_path, "train")) == expected(images())
        assert report["unreadable"].keys() == {f"train/{name}" for name in broken}
        assert "0 bytes" in report["unreadable"]["train/circle/empty.jpg"]
        assert report["classes"]["star"] == {"train": 7}
        written = json.loads((tmp_path / "shapes" / prepare.VERSION / "prepare_report.json").read_text())
        assert written == report
        assert "left out: 3 images that cannot be decoded" in tool.summary(report)

    def test_a_shard_of_which_nothing_is_left_can_be_read(self, tmp_path):
        write_files(tmp_path / "in", {f"a/{i}.jpg": b"no image" if i < 6 else encoded(i) for i in range(9)})
        run(tmp_path / "in", tmp_path, shard_mb=1e-9)
        assert len(examples(tmp_path, "train")) == 3

    def test_other_files_are_listed(self, tmp_path):
        others = {"a/._1.jpg": b"macOS", "a/notes.txt": b"", ".cache/b/1.jpg": b""}
        write_files(tmp_path / "in", {"a/1.jpg": encoded(1)} | others)
        (tmp_path / "in" / "a" / "link.jpg").symlink_to("1.jpg")
        archive = write_tar(tmp_path / "in.tar", tmp_path / "in")
        report = run(archive, tmp_path)
        assert report["skipped"].keys() == {*others, "a/link.jpg"}
        assert report["splits"]["train"]["examples"] == 1

    def test_a_split_without_any_readable_image_is_an_error(self, tmp_path):
        write_files(tmp_path / "in", {"train/a/1.jpg": encoded(1), "test/a/1.jpg": b"no image"})
        assert "none of the images of split test can be decoded" in error_of(tmp_path / "in", tmp_path)


KILLED = """
import os, pathlib, signal, sys
from mixer_jax.prepare import images as prepare
source, data_dir, moment = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
passed = 0
def killing(function):
    def replacement(*arguments):
        global passed
        passed += 1
        if passed == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return replacement
os.fsync = killing(os.fsync)
for name in ("replace", "rename"):
    setattr(pathlib.Path, name, killing(getattr(pathlib.Path, name)))
prepare.prepare(source, name="shapes", data_dir=data_dir, shard_mb=float(sys.argv[4]))
"""


class TestStopped:
    def test_killed_before_every_write_it_ends_with_the_same_bytes(self, tmp_path, whole):
        archive = write_tar(tmp_path / "in.tar.gz", whole[0])
        folder = tmp_path / "shapes" / prepare.VERSION
        # Each run is killed before the one or other of what it makes lasting, and the next goes on from there.
        ended, seen = 1, {}
        for attempt in range(40):
            command = [sys.executable, "-c", KILLED, archive, tmp_path, str((1, 3, 7, 6, 5)[attempt % 5]), str(SMALL)]
            ended = subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode
            now = {path.name: path.stat().st_mtime_ns for path in folder.glob("*array_record*")}
            assert seen.items() <= now.items()  # no shard is written twice
            seen = now
            if ended == 0:
                break
            assert ended == -signal.SIGKILL
        assert attempt > 4
        assert ended == 0
        assert shard_bytes(tmp_path) == whole[1]
        assert not (folder / "prepare_work").exists()

    def test_killed_with_workers_none_is_left_and_the_same_command_goes_on(self, tmp_path):
        image = encoded(0)
        source = write_files(tmp_path / "in", {f"{label}/{i}.jpg": image for label in "ab" for i in range(1500)})
        command = (
            f"from pathlib import Path; from mixer_jax.prepare import images; images.prepare(Path({str(source)!r}), "
        )
        command += f"name='shapes', data_dir=Path({str(tmp_path)!r}), shard_mb=0.02, workers=2)"
        process = subprocess.Popen([sys.executable, "-c", command], cwd=ROOT, stderr=subprocess.DEVNULL)
        folder = tmp_path / "shapes" / prepare.VERSION
        while process.poll() is None and len(list(folder.glob("*array_record*"))) < 3:
            time.sleep(0.002)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        workers = children.read_text().split() if children.exists() else []
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not (folder / "dataset_info.json").exists()
        with pytest.raises(ConfigError):
            sources.open_with_classes("tfds:shapes", split="train", data_dir=str(tmp_path), num_classes=2, image_size=8)
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{worker}/fd").exists() and running(worker) for worker in workers):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        run(source, tmp_path, shard_mb=0.02)
        run(source, tmp_path / "other", shard_mb=0.02)
        assert shard_bytes(tmp_path) == shard_bytes(tmp_path / "other")

    def test_again_when_it_is_whole_does_nothing(self, tmp_path, whole):
        reports = [run(whole[0], tmp_path) for _ in range(2)]
        assert reports[0] == reports[1]
        assert shard_bytes(tmp_path) == whole[1]

    def test_two_at_once_is_an_error(self, tree, tmp_path):
        folder = tmp_path / "shapes" / prepare.VERSION
        with prepare.workspace(folder, {}):
            assert "another process is preparing" in error_of(tree, tmp_path)


def running(pid):
    """Whether a process is neither gone nor a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def as_tfrecord(folder):
    """Rewrites a data set as TFRecord files, with the framing of the format and checksums that nobody reads."""
    for path in folder.glob("*array_record-*"):
        reader = array_record_module.ArrayRecordReader(str(path))
        records = reader.read(list(range(reader.num_records())))
        framed = b"".join(struct.pack("<Q", len(one)) + b"head" + one + b"tail" for one in records)
        path.with_name(path.name.replace("array_record", "tfrecord")).write_bytes(framed)
        path.unlink()
    info = json.loads((folder / "dataset_info.json").read_text())
    del info["fileFormat"]  # as TFDS wrote it before there were others
    (folder / "dataset_info.json").write_text(json.dumps(info))
    for path in folder.glob("prepare_*"):
        path.unlink()
    return folder


class TestTfrecord:
    @pytest.fixture
    def copy(self, tree, tmp_path):
        """The folder of a data set of TFRecord files."""
        run(tree, tmp_path)
        return as_tfrecord(tmp_path / "shapes" / prepare.VERSION)

    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_copy_is_converted(self, copy, tmp_path, whole, workers):
        folder, report = tfrecord.convert(copy, name="shapes", data_dir=tmp_path / "new", workers=workers)
        assert folder == tmp_path / "new" / "shapes" / prepare.VERSION
        assert report["splits"]["train"]["examples"] == 21
        assert set(examples(tmp_path / "new", "train")) == expected(images())
        new = shard_bytes(tmp_path / "new")
        assert new.keys() == whole[1].keys()
        assert {key for key in new if new[key] != whole[1][key]} <= {"dataset_info.json"}  # other spaces

    @pytest.mark.parametrize("change", ["cut", "lost", "fewer", "length"])
    def test_a_copy_that_is_not_whole_is_an_error(self, copy, tmp_path, change):
        path = sorted(copy.glob("*tfrecord-*"))[1]
        content = path.read_bytes()
        first = struct.unpack("<Q", content[:8])[0] + 16
        {
            "cut": lambda: path.write_bytes(content[:-1]),
            "lost": path.unlink,
            "fewer": lambda: path.write_bytes(content[first:]),
            "length": lambda: path.write_bytes(b"\xff" * 8 + content[8:]),
        }[change]()
        with pytest.raises(ConfigError, match=path.name):
            tfrecord.convert(copy, name="shapes", data_dir=tmp_path / "new")
        assert not (tmp_path / "new" / "shapes" / prepare.VERSION / "dataset_info.json").exists()

    def test_another_name_or_its_own_folder_is_an_error(self, copy, tmp_path):
        with pytest.raises(ConfigError, match="--name=forms: .*expected shapes"):
            tfrecord.convert(copy, name="forms", data_dir=tmp_path / "new")
        with pytest.raises(ConfigError, match="holds a data set from elsewhere; choose another"):
            tfrecord.convert(copy, name="shapes", data_dir=tmp_path)


class TestRefused:
    def test_no_such_path(self, tmp_path):
        assert f"--source={tmp_path}/absent: there is no such" in error_of(tmp_path / "absent", tmp_path)

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({}, "holds no images"),
            ({"a/notes.txt": b""}, "holds no images.*1 entry is passed over, such as a/notes.txt"),
            (
                {"1.jpg": b"x"},
                "images, such as 1.jpg, lie in 0 folders; .*; --labels=<file of path,label> reads any other$",
            ),
            (
                {"a/1.jpg": b"x", "train/a/1.jpg": b"x"},
                "1 of 2 images, such as a/1.jpg, do not lie in 2 folders as the others do",
            ),
            ({"a/b/c/1.jpg": b"x", "b/b/c/1.jpg": b"x"}, "lie in 3 folders.*--labels.*such as --source=.*/in/a/b$"),
            (
                {"train/a/b/1.jpg": b"x", "train/c/d/1.jpg": b"x"},
                "lie in 3 folders.*--labels.* --source=.*/in/train/a$",
            ),
            ({"a/images/1.jpg": b"x", "b/images/1.jpg": b"x"}, "folders called images alone.*Tiny ImageNet"),
            ({"my-split/a/1.jpg": b"x", "b/a/1.jpg": b"x"}, "the split name 'my-split'"),
        ],
    )
    def test_folders_that_are_no_classes(self, tmp_path, files, message):
        (tmp_path / "in").mkdir()
        write_files(tmp_path / "in", files)
        found = error_of(tmp_path / "in", tmp_path / "out")
        assert f"--source={tmp_path / 'in'}" in found
        assert re.search(message, found)
        assert not list((tmp_path / "out").glob("*"))

    @pytest.mark.parametrize("name", ["", "my-images", "1st", "_a", "a/b", "a:1.0.0", "é", "mnist"])
    def test_a_name_that_tfds_would_not_find(self, tree, tmp_path, name):
        assert f"--name={name!r}" in error_of(tree, tmp_path, name=name)

    @pytest.mark.parametrize("shard_mb", [0, -1, float("nan")])
    def test_a_size_of_shards(self, tree, tmp_path, shard_mb):
        assert f"--shard_mb={shard_mb}" in error_of(tree, tmp_path, shard_mb=shard_mb)

    def test_workers(self, tree, tmp_path):
        assert "--workers=0" in error_of(tree, tmp_path, workers=0)

    @pytest.mark.parametrize("kind", ["text", "cut", "damaged", "cut gz", "damaged inside"])
    def test_archives_that_cannot_be_read(self, tree, tmp_path, kind):
        if kind == "damaged inside":
            inner = by_class(tree, tmp_path / "classes")
            (inner / "square.tar").write_bytes((inner / "square.tar").read_bytes()[:3000])
            source = write_tar(tmp_path / "in.tar", inner)
        else:
            source = write_tar(tmp_path / ("in.tar.gz" if "gz" in kind else "in.tar"), tree)
            content = bytearray(source.read_bytes())
            if kind == "damaged":
                start = content.index(b"square/3") // 512 * 512
                content[start : start + 512] = b"\xff" * 512
            source.write_bytes({"text": b"text", "damaged": content}.get(kind, content[: len(content) // 2]))
        assert str(source) in error_of(source, tmp_path / "out")
        assert not list((tmp_path / "out").glob("*"))

    def test_compressed_archives_of_classes(self, tree, tmp_path):
        write_tar(tmp_path / "in" / "star.tar.gz", tree / "star")
        assert "star.tar.gz is compressed; unpack" in error_of(tmp_path / "in", tmp_path)
        assert "star.tar.gz in it is compressed" in error_of(write_tar(tmp_path / "in.tar", tmp_path / "in"), tmp_path)

    def test_the_same_image_twice(self, tree, tmp_path):
        with tarfile.open(tmp_path / "in.tar", "w") as archive:
            for _ in range(2):
                archive.add(tree / "star" / "0.jpg", "star/0.jpg")
        assert "star/0.jpg of split train twice" in error_of(tmp_path / "in.tar", tmp_path)

    def test_an_output_in_the_input(self, tree):
        assert f"--data_dir={tree / 'out'} lies in --source={tree}" in error_of(tree, tree / "out")

    def test_a_disk_that_is_full_is_an_error_and_the_same_command_goes_on(self, tree, tmp_path, whole):
        # Files may not grow beyond the limit, which the writer meets as it meets a full disk.
        command = f"ulimit -f 64; exec {sys.executable} -m mixer_jax prepare --source={tree} --name=shapes --workers=1"
        command = ["bash", "-c", f"{command} --shard_mb={SMALL} --data_dir={tmp_path}"]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert process.returncode == 1
        assert "has stopped: " in process.stderr
        assert "File too large" in process.stderr
        assert "Traceback" not in process.stderr
        run(tree, tmp_path)
        assert shard_bytes(tmp_path) == whole[1]

    @pytest.mark.parametrize("kind", ["folder", "tar.gz"])
    def test_too_little_room(self, tree, tmp_path, monkeypatch, kind):
        source = tree if kind == "folder" else write_tar(tmp_path / "in.tar.gz", tree)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 5, 4321))
        message = error_of(source, tmp_path)
        assert "4,321 are free" in message
        assert int(re.search(r"([\d,]+) bytes are needed", message)[1].replace(",", "")) > 10_000

    @pytest.mark.parametrize("state", ["half", "whole"])
    def test_another_input_or_other_options(self, tree, tmp_path, monkeypatch, state):
        with monkeypatch.context() as patched:
            if state == "half":
                patched.setattr(prepare, "_write_metadata", lambda *_: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    run(tree, tmp_path)
            else:
                run(tree, tmp_path)
        assert "--shard_mb is 0.003, was 0.002" in error_of(tree, tmp_path, shard_mb=0.003)
        assert "--split is test, was None" in error_of(tree, tmp_path, split="test")
        shutil.copytree(tree, tmp_path / "copy")
        os.utime(tmp_path / "copy" / "star" / "0.jpg", (1, 1))
        assert f"--source is {tmp_path / 'copy'}, was {tree}" in error_of(tmp_path / "copy", tmp_path)
        (tree / "star" / "new.jpg").write_bytes(encoded(77))
        message = error_of(tree, tmp_path)
        assert f"files of --source={tree} have changed" in message
        assert ("half prepared" in message) == (state == "half")

    def test_a_data_set_from_elsewhere(self, tree, tmp_path):
        folder = tmp_path / "shapes" / prepare.VERSION
        write_files(folder, {"dataset_info.json": b"{}"})
        assert f"{folder} holds a data set from elsewhere" in error_of(tree, tmp_path)

    def test_an_unknown_command(self):
        with pytest.raises(SystemExit) as ended:
            command_line.run(["mixer_jax", "prepair"], "mixer_jax")
        assert "command='prepair' is unknown; did you mean 'prepare'?" in str(ended.value)


def test_help_says_how_imagenet_is_prepared():
    process = subprocess.run(
        [sys.executable, "-m", "mixer_jax", "prepare", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert re.search(r"tfds build imagenet2012 --manual_dir=.* --file_format=array_record", process.stdout)
    assert "[tensorflow]" in process.stdout
    assert "--source" in process.stdout
