"""One rule for a folder of images: what of an odd tree is an image, and the classes that `folder:` makes of it."""

import os
import re
import socket

import pytest

from mixer_jax.data import folders, image_folder, sources
from mixer_jax.errors import ConfigError
from tests.prepared import write_files

LEFT_BEHIND = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__pycache__", ".cache")


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """Splits of the classes cat and dog, of which only `train` has a dog, with all that may lie beside images."""
    root = tmp_path / "odd"
    files = ["train/cat/1.jpg", "train/cat/2.PNG", "train/dog/3.tiff", "val/cat/4.jpg"]
    others = [f"{folder}/5.jpg" for folder in LEFT_BEHIND]
    others += [f"{within}/{folder}/6.jpg" for folder in LEFT_BEHIND for within in ("train", "val/cat")]
    others += ["train/Thumbs.db", "train/cat/Thumbs.db", "train/cat/._1.jpg", "train/readme.txt", "train/text/8.txt"]
    write_files(root, dict.fromkeys([*files, *others], b""))
    (root / "train/empty").mkdir()
    (root / "train/empty.jpg").mkdir()
    (root / "train/loop").symlink_to("..")
    (root / "train/cat/loop").symlink_to(root)
    (root / "train/self").symlink_to("self")
    (root / "train/cat/lost.jpg").symlink_to("nowhere.jpg")
    (root / "train/hole").mkdir()
    os.mkfifo(root / "train/hole/pipe.jpg")
    monkeypatch.chdir(root / "train/hole")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket.jpg")  # the path of a socket must be short
    monkeypatch.setattr(image_folder.logger, "propagate", True)  # a command's logging may have turned it off
    return root


def opened(root, split="train", num_classes=2, **more):
    return sources.open_with_classes(
        f"folder:{root}", split=split, data_dir=None, num_classes=num_classes, image_size=8, **more
    )


def files_of(root, split="train", **more):
    source = opened(root, split, **more)
    files = [os.path.relpath(source.describe(index), root / split) for index in range(len(source))]
    return files, [int(source[index]["label"]) for index in range(len(source))]


def test_every_entry_is_an_image_or_passed_over_with_a_reason(odd):
    found = folders.find(odd / "train")
    assert found.files == ["cat/1.jpg", "cat/2.PNG", "dog/3.tiff"]
    assert found.passed_over == {
        **{name: f"{name} is what a system has left behind" for name in LEFT_BEHIND[:-1]},
        ".cache": "its name begins with a dot",
        "cat/._1.jpg": "its name begins with a dot",
        "Thumbs.db": "Thumbs.db is what a system has left behind",
        "cat/Thumbs.db": "Thumbs.db is what a system has left behind",
        "readme.txt": "its name is not that of an image",
        "text/8.txt": "its name is not that of an image",
        "empty": "it is an empty folder",
        "empty.jpg": "it is an empty folder",
        "loop": "it is a link to a folder that it lies in",
        "cat/loop": "it is a link to a folder that it lies in",
        "self": "it cannot be read: Too many levels of symbolic links",
        "cat/lost.jpg": "it is a link to nowhere",
        "hole/pipe.jpg": "it is no file of data",
        "hole/socket.jpg": "it is no file of data",
    }


def test_classes_are_the_folders_that_hold_images(odd, caplog):
    assert files_of(odd) == (["cat/1.jpg", "cat/2.PNG", "dog/3.tiff"], [0, 0, 1])
    [said] = caplog.messages
    assert re.search(r"odd/train: 20 entries are passed over, such as [^:]*: ", said)
    assert files_of(odd, "val") == (["cat/4.jpg"], [0])
    assert opened(odd, "val").class_names == ["cat", "dog"]


def test_the_number_of_classes_that_is_advised_is_the_right_one(odd):
    with pytest.raises(ConfigError, match=r"config\.data\.num_classes=7, but .* has 2 classes"):
        opened(odd, num_classes=7)


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path):
    write_files(tmp_path, {"elsewhere/1.jpg": b"", "in/train/cat/2.jpg": b""})
    (tmp_path / "in/train/dog").symlink_to("../../elsewhere")
    assert files_of(tmp_path / "in") == (["cat/2.jpg", "dog/1.jpg"], [0, 1])


@pytest.mark.parametrize(
    ("order", "classes"),
    [("name", ["0", "1", "10", "2"]), ("natural", ["0", "1", "2", "10"]), (b"10\n2\n1\n0\n", ["10", "2", "1", "0"])],
)
def test_classes_are_numbered_in_the_order_that_is_asked_for(tmp_path, order, classes):
    write_files(tmp_path / "in", {f"train/{name}/{name}.jpg": b"" for name in classes})
    if isinstance(order, bytes):
        write_files(tmp_path, {"classes.txt": order})
        order = str(tmp_path / "classes.txt")
    files = [f"{name}/{name}.jpg" for name in classes]
    assert files_of(tmp_path / "in", num_classes=4, class_order=order) == (files, [0, 1, 2, 3])


def test_one_image_at_another_depth_is_passed_over_and_named(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(image_folder.logger, "propagate", True)
    files = {f"train/{label}/{n}.jpg": b"" for label in ("cat", "dog") for n in range(50)}
    write_files(tmp_path, files | {"train/stray.jpg": b""})
    assert len(opened(tmp_path)) == 100
    [said] = caplog.messages
    assert said.endswith("train: 1 entry is passed over, such as stray.jpg: it does not lie at <class>/<image>")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["val/1.jpg", "val/2.jpg"], "2 of 2 images of split val, such as 1.jpg, do not lie at <class>/"),
        (["val/images/1.jpg", "val/val_annotations.txt"], "such as images/1.jpg.* reads Tiny ImageNet"),
        (["val/animal/cat/1.jpg"], "such as animal/cat/1.jpg, do not lie .*--labels=<file of path,label>"),
        (["cat/1.jpg", "dog/2.jpg", "bird/notes.txt"], "holds images at <class>/<image>, such as those in cat"),
        (["train/cat/1.jpg", "test/2.jpg"], "'val' is unknown; .*known: test, train"),
    ],
)
def test_other_layouts_are_refused_with_what_reads_them(tmp_path, files, said):
    write_files(tmp_path, dict.fromkeys(files, b""))
    with pytest.raises(ConfigError, match=said):
        opened(tmp_path, "val")
