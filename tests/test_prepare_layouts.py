"""What people have is prepared, or refused in the right words: layouts, labels, archives, odd entries, damage."""

import bz2
import gzip
import json
import lzma
import os
import tarfile
import zipfile

import cv2
import numpy as np
import pytest

from mixer_jax.commands.prepare import summary
from mixer_jax.data import sources
from mixer_jax.errors import ConfigError
from mixer_jax.prepare import labels as label_files
from mixer_jax.prepare.images import prepare


def png(number=0):
    image = np.random.default_rng(number).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return cv2.imencode(".png", image)[1].tobytes()


def write(folder, *names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))


def prepared(source, tmp_path, **options):
    """Returns the report, and of each split the classes of its images by the names of their files."""
    _, report = prepare(source, name="mine", data_dir=tmp_path / "data", **options)
    found = {}
    for split in report["splits"]:
        opened = sources.open_source(
            "tfds:mine", split=split, data_dir=str(tmp_path / "data"), num_classes=1, image_size=1
        )
        found[split] = sorted(opened.class_names[opened[n]["label"]] for n in range(len(opened)))
        names = list(opened.class_names)
    return report, found, names


def refused(source, tmp_path, **options):
    with pytest.raises(ConfigError) as raised:
        prepare(source, name="mine", data_dir=tmp_path / "data", **options)
    assert not (tmp_path / "data" / "mine").exists()
    return str(raised.value)


ODD = (
    "__MACOSX/a/._1.png",
    "train/@eaDir/1.png",
    "train/.hidden/1.png",
    "train/a/Thumbs.db",
    "train/a/__pycache__/1.png",
)


def with_odd_entries(folder):
    write(folder, "train/a/1.png", "train/b/2.png", "test/b/3.png", *ODD)
    (folder / "train" / "empty").mkdir()
    os.mkfifo(folder / "train" / "a" / "pipe.png")
    (folder / "train" / "b" / "loop").symlink_to(folder / "train")
    (folder / "train" / "a" / "lost.png").symlink_to("nowhere.png")
    return folder


def test_odd_entries_are_no_classes_and_stop_nothing(tmp_path):
    report, found, names = prepared(with_odd_entries(tmp_path / "in"), tmp_path)
    assert found == {"train": ["a", "b"], "test": ["b"]}
    assert names == ["a", "b"]
    assert {
        "__MACOSX": "__MACOSX is what a system has left behind",
        "train/a/Thumbs.db": "Thumbs.db is what a system has left behind",
        "train/a/lost.png": "it is a link to nowhere",
        "train/a/pipe.png": "it is no file of data",
        "train/b/loop": "it is a link to a folder that it lies in",
        "train/empty": "it is an empty folder",
    }.items() <= report["skipped"].items()
    assert f"left out: {len(report['skipped'])} files that are passed over, such as __MACOSX" in summary(report)


def test_the_same_folder_is_read_by_the_same_rule(tmp_path, caplog):
    folder = with_odd_entries(tmp_path / "in")
    opened = sources.open_source(f"folder:{folder}", split="train", data_dir=None, num_classes=1, image_size=1)
    assert list(opened.class_names) == ["a", "b"]
    assert [os.path.basename(opened.describe(n)) for n in range(len(opened))] == ["1.png", "2.png"]
    assert len([message for message in caplog.messages if "passed over" in message]) == 1
    with pytest.raises(ConfigError, match="config.data.num_classes=9, but folder:.* has 2 classes"):
        sources.open_with_classes(f"folder:{folder}", split="test", data_dir=None, num_classes=9, image_size=1)


@pytest.mark.parametrize("kind", ["tar", "gz", "xz", "bz2", "zip", "zip stored"])
def test_archives_of_all_kinds_hold_the_same(kind, tmp_path):
    write(tmp_path / "in", "train/a/1.png", "train/b/2.png", "test/b/3.png", *ODD)
    archive = tmp_path / f"images.{kind.partition(' ')[0]}"
    if archive.suffix == ".zip":
        way = zipfile.ZIP_STORED if "stored" in kind else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(archive, "w", way) as made:
            for path in sorted((tmp_path / "in").rglob("*.*")):
                if path.is_file():
                    made.write(path, path.relative_to(tmp_path))
            made.writestr("../in/train/a/outside.png", png(9))
    else:
        opener = {"tar": open, "gz": gzip.open, "xz": lzma.open, "bz2": bz2.open}[kind]
        with opener(archive, "wb") as file, tarfile.open(fileobj=file, mode="w") as made:
            made.add(tmp_path / "in", "in")
    report, found, names = prepared(archive, tmp_path)
    assert found == {"train": ["a", "b"], "test": ["b"]}
    assert names == ["a", "b"]
    assert (report["skipped"].get("../in/train/a/outside.png") is not None) == (archive.suffix == ".zip")
    assert not (tmp_path / "data" / "mine" / "1.0.0" / "prepare_work").exists()


def test_archives_that_cannot_be_unpacked(tmp_path):
    write(tmp_path / "in", *(f"a/{n}.png" for n in range(40)))
    for opener, name in ((gzip.open, "x.tar.gz"), (lzma.open, "x.tar.xz"), (bz2.open, "x.tar.bz2")):
        with opener(tmp_path / name, "wb") as file, tarfile.open(fileobj=file, mode="w") as made:
            made.add(tmp_path / "in", "in")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        made.write(tmp_path / "in" / "a" / "1.png", "a/1.png")
    for name in ("x.tar.gz", "x.tar.xz", "x.tar.bz2", "x.zip"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        assert "is cut short or damaged" in refused(tmp_path / name, tmp_path)
    with zipfile.ZipFile(tmp_path / "secret.zip", "w") as made:
        made.writestr("a/1.png", png())
    locked = bytearray((tmp_path / "secret.zip").read_bytes())
    locked[6] |= 1  # what says that a member is encrypted, before it and in the directory
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "secret.zip").write_bytes(locked)
    assert "encrypted" in refused(tmp_path / "secret.zip", tmp_path)
    os.mkfifo(tmp_path / "pipe.tar")
    assert "is no file or folder" in refused(tmp_path / "pipe.tar", tmp_path)


def test_tiny_imagenet(tmp_path):
    names = [
        "train/n01/images/n01_0.JPEG",
        "train/n02/images/n02_0.JPEG",
        "val/images/val_0.JPEG",
        "val/images/val_1.JPEG",
    ]
    write(tmp_path / "in", *names, "val/images/val_2.JPEG", "test/images/test_0.JPEG")
    table = "val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n"
    (tmp_path / "in" / "val" / "val_annotations.txt").write_text(table)
    report, found, classes = prepared(tmp_path / "in", tmp_path)
    assert found == {"train": ["n01", "n02"], "val": ["n01", "n02"]}
    assert classes == ["n01", "n02"]
    assert report["skipped"]["test/images/test_0.JPEG"] == "there is no label of it in test/val_annotations.txt"
    assert "val/images/val_2.JPEG" in report["skipped"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", "1.png,cat\nsub/2.png,dog\n"),
        ("labels.csv", "\ufeffpath,label\r\n./1.png,cat\r\nsub/2.png,dog\r\n"),
        ("LOC_val_solution.csv", "ImageId,PredictionString\n1,cat 1 2 3 4 cat 5 6 7 8\n2,dog 1 2 3 4\n"),
        ("labels.jsonl", '{"path": "1.png", "label": "cat"}\n{"path": "sub/2.png", "label": "dog"}\n'),
    ],
)
def test_labels_from_a_file(name, content, tmp_path):
    write(tmp_path / "in", "1.png", "sub/2.png", "sub/3.png")
    (tmp_path / name).write_text(content, encoding="utf-8")
    report, found, classes = prepared(tmp_path / "in", tmp_path, labels=tmp_path / name, split="val")
    assert found == {"val": ["cat", "dog"]}
    assert classes == ["cat", "dog"]
    assert report["skipped"] == {"sub/3.png": "it has no label in --labels"}


def test_labels_that_are_wrong_are_named(tmp_path):
    write(tmp_path / "in", "1.png")
    for content, message in (
        ("1.png,cat\nother.png,dog\n", "1 of 2 images are not in --source=.*such as other.png"),
        ("1.png\n", "cannot be read .IndexError"),
        ("", "is empty; expected a CSV"),
        ("1.png,\n", "'1.png' has an empty label"),
        ("1.png,a\n1.png,b\n", "'1.png' has the labels 'a' and 'b'"),
        ('{"path": 1}', "cannot be read .KeyError"),
        ("[" * 100_000, "cannot be read"),
        ("{" + '"a":{' * 100_000, "cannot be read"),
    ):
        (tmp_path / "labels").write_text(content)
        with pytest.raises(ConfigError, match=message):
            prepare(tmp_path / "in", name="mine", data_dir=tmp_path / "data", labels=tmp_path / "labels")
    with pytest.raises(ConfigError, match="there is no such file"):
        label_files.read(tmp_path / "absent")


def test_orders_of_classes(tmp_path):
    write(tmp_path / "in", *(f"{name}/1.png" for name in ("0", "1", "2", "10")))
    assert prepared(tmp_path / "in", tmp_path / "by name")[2] == ["0", "1", "10", "2"]
    assert prepared(tmp_path / "in", tmp_path / "natural", class_order="natural")[2] == ["0", "1", "2", "10"]
    (tmp_path / "classes.txt").write_text("10\n7\n2\n1\n0\n")
    order = str(tmp_path / "classes.txt")
    assert prepared(tmp_path / "in", tmp_path / "file", class_order=order)[2] == ["10", "7", "2", "1", "0"]
    # Another order is another data set; the same one is done.
    data_dir = tmp_path / "file" / "data"
    prepare(tmp_path / "in", name="mine", data_dir=data_dir, class_order=order)
    with pytest.raises(ConfigError, match="--class_order is natural, was"):
        prepare(tmp_path / "in", name="mine", data_dir=data_dir, class_order="natural")


def test_class_names_of_any_bytes_are_read_as_they_were(tmp_path):
    names = ["caf\udce9", "a\u2028b", "a\nb", "\ufeffx", ' "q" ']
    write(tmp_path / "in", *(f"train/{name}/1.png" for name in names))
    _, _, classes = prepared(tmp_path / "in", tmp_path)
    assert classes == sorted(names)
    opened = sources.open_source(f"folder:{tmp_path / 'in'}", split="train", data_dir=None, num_classes=1, image_size=1)
    assert list(opened.class_names) == sorted(names)


def test_places_that_cannot_be(tmp_path):
    write(tmp_path / "in", "a/1.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--data_dir: .*file/mine/1.0.0 cannot be made: Not a directory"):
        prepare(tmp_path / "in", name="mine", data_dir=tmp_path / "file")
    with pytest.raises(ConfigError, match="--data_dir=.* is no UTF-8; choose a folder of another name"):
        prepare(tmp_path / "in", name="mine", data_dir=tmp_path / os.fsdecode(b"caf\xe9"))
    folder, _ = prepare(tmp_path / "in", name="mine", data_dir=tmp_path / "data")
    for file in ("prepare_plan.json", "prepare_report.json"):
        whole = (folder / file).read_text()
        for content in ("", "[]", whole[:-9]):
            (folder / file).write_text(content)
            with pytest.raises(ConfigError, match=f"{file} is damaged .*; delete the folder, and prepare"):
                prepare(tmp_path / "in", name="mine", data_dir=tmp_path / "data")
        (folder / file).write_text(whole)


def test_damaged_jpegs_are_in_the_data_set_and_in_the_report(tmp_path, damaged_jpeg):
    write(tmp_path / "in", "a/1.png")
    (tmp_path / "in" / "a" / "2.jpg").write_bytes(damaged_jpeg)
    report, found, _ = prepared(tmp_path / "in", tmp_path)
    assert found == {"train": ["a", "a"]}
    assert report["damaged"] == ["train/a/2.jpg"]
    assert "damaged: 1 JPEGs, such as train/a/2.jpg; they are in" in summary(report)
    assert json.loads(next((tmp_path / "data").rglob("prepare_report.json")).read_text()) == report
