"""Which class an image is of by a file of labels, and how `prepare` numbers the classes."""

import json
import os

import pytest

from mixer_jax.errors import ConfigError
from mixer_jax.prepare import images as prepare
from tests.prepared import encoded, error_of, files_of, packed, run, write_files


class TestLabels:
    @pytest.fixture
    def flat(self, tmp_path):
        """Three images in one folder and one below it."""
        files = {"val_1.JPEG": 1, "val_2.JPEG": 2, "val_3.JPEG": 3, "more/val_4.png": 4}
        return write_files(tmp_path / "flat", {name: encoded(number) for name, number in files.items()})

    @pytest.mark.parametrize(
        "content",
        [
            b"path,label\nval_1.JPEG,cat\nval_2.JPEG,dog\nmore/val_4.png,cat\n",
            b"\xef\xbb\xbfLabel,id,Path\r\ncat,1,./val_1.JPEG\r\ndog,2,val_2.JPEG\r\n\r\ncat,3,more/val_4.png\r\n",
            b'val_1.JPEG, cat\nval_2.JPEG,"dog"\nmore/val_4,cat',
            b"ImageId,PredictionString\nval_1,cat 85 1 499 272 cat 1 2\nval_2,dog 1 1 1 1 \nmore/val_4,cat 1 2 3 4\n",
            b'{"path": "val_1.JPEG", "label": "cat"}\n\n{"label": "dog", "path": "val_2", "x": 1}\n'
            b'{"path": "more/val_4.png", "label": "cat"}\n',
        ],
        ids=["header", "columns", "none", "kaggle", "json"],
    )
    @pytest.mark.parametrize("form", ["folder", "zip"])
    def test_every_form_gives_the_same(self, flat, tmp_path, content, form):
        write_files(tmp_path, {"labels": content})
        source = flat if form == "folder" else packed(tmp_path / "in.zip", flat)
        report = run(source, tmp_path, labels=tmp_path / "labels", split="val")
        read = [("cat/more/val_4.png", 0), ("cat/val_1.JPEG", 0), ("dog/val_2.JPEG", 1)]
        assert files_of(tmp_path, "val") == read
        [(name, reason)] = report["skipped"].items()
        assert name == "val_3.JPEG"
        assert reason == f"--labels={tmp_path}/labels lacks it"

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "names no images; expected lines path,label"),
            (b"path,label\n", "names no images"),
            (
                b"gone.jpg,a\nval_1.JPEG,b\n",
                "1 of 2 paths, such as gone.jpg, are of no image in the source, .* more/val_4.png",
            ),
            (b"../flat/val_1.JPEG,a\n", "1 of 1 paths, such as ../flat/val_1.JPEG"),
            (b"file,class\nval_1.JPEG,a\n", "1 of 2 paths, such as file, are of no image"),
            (b"val_1.JPEG\n", "line 1 has 1 columns of 2"),
            (b"path,label\nval_1.JPEG,a,b\n", "line 2 has 3 columns of 2"),
            (b"val_1.JPEG,a\n./val_1.JPEG,a\n", "line 2 names val_1.JPEG again"),
            (b"val_1.JPEG,a\nval_1,a\n", "val_1 stands for an image that is named twice"),
            (b"val_1.JPEG,\n", "line 1 has the label ''"),
            (b"val_1.JPEG,\0\n", "is no text in UTF-8"),
            (b'val_1.JPEG,"a\n', "line 1 is no CSV"),
            pytest.param(b"val_1.JPEG," + b"x" * 200_000, "line 1 is no CSV", id="long"),
            (b'{"path": "val_1.JPEG"}', "line 1 is {'path': 'val_1.JPEG'}; expected"),
            (b'{"path": "val_1.JPEG", "label": true}', "line 1 is"),
            (b'{"path": "val_1.JPEG", "label": "\\ud800"}', "line 1 has the label"),
            (b'{"path": 3, "label": "a"}', "line 1 is"),
            (b'{"path"\n', "line 1 is no JSON"),
            pytest.param(b'{"a": ' * 100_000, "line 1 is no JSON that a run writes", id="deep"),
        ],
    )
    def test_what_does_not_fit_is_refused_in_a_short_line(self, flat, tmp_path, content, said):
        write_files(tmp_path, {"labels": content})
        with pytest.raises(ConfigError, match=said) as caught:
            run(flat, tmp_path / "out", labels=tmp_path / "labels")
        assert str(caught.value).startswith(f"--labels={tmp_path}/labels")
        assert len(str(caught.value)) < 500
        assert not list((tmp_path / "out").glob("*"))

    def test_an_ending_that_is_lacking_must_leave_one_image(self, flat, tmp_path):
        write_files(flat, {"val_1.png": encoded(9)})
        write_files(tmp_path, {"labels": b"val_1,a\n"})
        assert "val_1 stands for an image that is named twice, or for two" in error_of(
            flat, tmp_path, labels=tmp_path / "labels"
        )

    @pytest.mark.parametrize("make", [lambda _: None, os.mkdir, os.mkfifo])
    def test_a_file_of_labels_that_cannot_be_read(self, flat, tmp_path, make):
        make(tmp_path / "labels")
        assert "labels cannot be read: " in error_of(flat, tmp_path / "out", labels=tmp_path / "labels")

    def test_other_labels_are_another_data_set(self, flat, tmp_path):
        for number, content in enumerate([b"val_1.JPEG,a\n", b"val_1.JPEG,b\n", b"val_1.JPEG,a\n"]):
            write_files(tmp_path, {f"{number}.csv": content})
        run(flat, tmp_path, labels=tmp_path / "0.csv")
        assert "--labels is a file of SHA-256 " in error_of(flat, tmp_path, labels=tmp_path / "1.csv")
        run(flat, tmp_path, labels=tmp_path / "2.csv")  # the same by another path


class TestOrder:
    @pytest.mark.parametrize(
        ("order", "classes"),
        [
            ("name", ["0", "1", "10", "2"]),
            ("natural", ["0", "1", "2", "10"]),
            (b"2\nnone\n10\n1\n0\n", ["2", "none", "10", "1", "0"]),
        ],
    )
    def test_classes_are_numbered_so(self, tmp_path, order, classes):
        source = write_files(tmp_path / "in", {f"{n}/{n}.jpg": encoded(n) for n in (0, 1, 2, 10)})
        if isinstance(order, bytes):
            write_files(tmp_path, {"classes.txt": order})
            order = str(tmp_path / "classes.txt")
        report = run(source, tmp_path, class_order=order)
        assert files_of(tmp_path) == sorted((f"{n}/{n}.jpg", classes.index(str(n))) for n in (0, 1, 2, 10))
        assert report["classes"] == {name: {"train": int(name != "none")} for name in classes}

    def test_an_unknown_order_is_refused(self, tmp_path):
        source = write_files(tmp_path / "in", {"a/1.jpg": encoded(1)})
        assert "--class_order='nautral': did you mean 'natural'?" in error_of(source, tmp_path, class_order="nautral")

    def test_another_order_is_another_data_set(self, tmp_path):
        source = write_files(tmp_path / "in", {"a/1.jpg": encoded(1), "b/1.jpg": encoded(2)})
        write_files(tmp_path, {"ab": b"a\nb\n", "ba": b"b\na\n", "again": b"a\r\nb", "a": b"a\n"})
        assert "a lacks 1 of the classes of which there are images, such as 'b'" in error_of(
            source, tmp_path, class_order=str(tmp_path / "a")
        )
        run(source, tmp_path, class_order=str(tmp_path / "ab"))
        run(source, tmp_path, class_order=str(tmp_path / "again"))
        for order in ("name", str(tmp_path / "ba")):
            assert "--class_order is" in error_of(source, tmp_path, class_order=order)

    def test_a_data_set_of_an_older_version_is_of_the_default(self, tmp_path):
        source = write_files(tmp_path / "in", {"a/1.jpg": encoded(1)})
        report = run(source, tmp_path)
        path = tmp_path / "shapes" / prepare.VERSION / "prepare_plan.json"
        plan = json.loads(path.read_text())
        path.write_text(json.dumps({key: plan[key] for key in plan if key not in ("class_order", "labels")}))
        assert run(source, tmp_path) == report
        assert "--class_order is natural, was name" in error_of(source, tmp_path, class_order="natural")
