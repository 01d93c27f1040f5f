"""What people have, as `prepare` reads it: layouts of data sets, files of labels, archives, odd folders and names."""

import bz2
import io
import json
import lzma
import os
import struct
import tarfile
import zipfile

import pytest
from absl import flags
from absl.testing import flagsaver

from mixer_jax.commands import prepare as tool
from mixer_jax.data import sources
from mixer_jax.errors import ConfigError
from mixer_jax.prepare import images as prepare
from mixer_jax.prepare import tfrecord
from tests.prepared import encoded, error_of, examples, images, run, shard_bytes, write_files, write_tar

TINY = {
    "train/n1/images/n1_0.JPEG": 1,
    "train/n1/images/n1_1.JPEG": 2,
    "train/n2/images/n2_0.JPEG": 3,
    "val/images/val_0.JPEG": 4,
    "val/images/val_1.JPEG": 5,
    "test/images/test_0.JPEG": 6,
}
ANNOTATIONS = b"val_0.JPEG\tn2\t0\t32\t44\t62\nval_1.JPEG\tn1\t52\t55\t57\t59\n"


def tiny(folder):
    """A small Tiny ImageNet."""
    write_files(folder, {name: encoded(number) for name, number in TINY.items()})
    others = {"val/val_annotations.txt": ANNOTATIONS, "wnids.txt": b"n2\nn1\n", "train/n1/n1_boxes.txt": b""}
    return write_files(folder, others)


def zipped(path, files, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def packed(path, folder):
    """A folder as an archive of the form that the ending says."""
    files = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    if path.suffix == ".zip":
        return zipped(path, {"a/": b"", **files}, compression=zipfile.ZIP_DEFLATED)
    plain = write_tar(path.with_name("plain.tar"), folder).read_bytes()
    compress = {".xz": lzma.compress, ".bz2": bz2.compress, ".tar": bytes}[path.suffix]
    path.write_bytes(compress(plain))
    return path


def files_of(data_dir, split="train"):
    return sorted((name, label) for name, label, _ in examples(data_dir, split))


class TestTinyImageNet:
    @pytest.mark.parametrize("form", ["folder", "around.zip"])
    def test_it_is_read_as_it_is(self, tmp_path, form):
        source = tiny(tmp_path / "in" / ("tiny-imagenet-200" if "around" in form else ""))
        if form != "folder":
            source = packed(tmp_path / form, tmp_path / "in")
        report = run(source, tmp_path / "out")
        read = {(split, *one) for split in ("train", "val") for one in examples(tmp_path / "out", split)}
        assert read == {
            ("train", "n1/n1_0.JPEG", 0, encoded(1)),
            ("train", "n1/n1_1.JPEG", 0, encoded(2)),
            ("train", "n2/n2_0.JPEG", 1, encoded(3)),
            ("val", "n2/val_0.JPEG", 1, encoded(4)),
            ("val", "n1/val_1.JPEG", 0, encoded(5)),
        }
        assert report["splits"].keys() == {"train", "val"}
        [unlabelled] = [name for name, reason in report["skipped"].items() if "no file says" in reason]
        assert unlabelled.endswith("test/images/test_0.JPEG")
        assert len(report["skipped"]) == 3

    def test_its_validation_images_alone(self, tmp_path):
        run(tiny(tmp_path / "in") / "val", tmp_path, split="val")
        assert files_of(tmp_path, "val") == [("n1/val_1.JPEG", 0), ("n2/val_0.JPEG", 1)]

    def test_an_image_that_is_not_annotated_is_passed_over(self, tmp_path):
        write_files(tiny(tmp_path / "in"), {"val/images/more.JPEG": encoded(9)})
        assert "val/images/more.JPEG" in run(tmp_path / "in", tmp_path)["skipped"]

    @pytest.mark.parametrize(
        ("annotations", "said"),
        [
            (
                ANNOTATIONS + b"val_2.JPEG\tn1\n",
                "val_annotations.txt: 1 of 3 paths, such as val_2.JPEG, are of no image",
            ),
            (b"val_0.JPEG\n", "val_annotations.txt has the line 'val_0.JPEG'; expected <file> <class>"),
        ],
    )
    def test_annotations_that_do_not_fit_are_refused(self, tmp_path, annotations, said):
        write_files(tiny(tmp_path / "in"), {"val/val_annotations.txt": annotations})
        assert said in error_of(tmp_path / "in", tmp_path)


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
        assert reason == f"--labels={tmp_path}/labels does not name it"

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


class TestFolders:
    def test_odd_entries_are_passed_over_and_listed(self, tmp_path):
        source = write_files(
            tmp_path / "in",
            {
                "a/1.jpg": encoded(1),
                "b/2.JPG": encoded(2),
                "__MACOSX/a/1.jpg": encoded(3),
                "a/@eaDir/1.jpg": encoded(4),
                "a/Thumbs.db": b"",
                "c/notes.txt": b"",
            },
        )
        (source / "empty").mkdir()
        (source / "a" / "loop").symlink_to("..")
        (source / "a" / "self.jpg").symlink_to("self.jpg")
        (source / "a" / "lost.jpg").symlink_to("nowhere.jpg")
        os.mkfifo(source / "b" / "pipe.jpg")
        report = run(source, tmp_path)
        assert report["classes"] == {"a": {"train": 1}, "b": {"train": 1}}
        assert report["skipped"].keys() == {
            *("__MACOSX", "a/@eaDir", "a/Thumbs.db", "c/notes.txt", "empty"),
            *("a/loop", "a/self.jpg", "a/lost.jpg", "b/pipe.jpg"),
        }
        [line] = [line for line in tool.summary(report).splitlines() if "passed over" in line]
        assert line.startswith("9 entries are passed over, such as ")
        assert line.endswith("; all in prepare_report.json")

    def test_a_stray_among_many_is_named(self, tmp_path):
        files = {f"{label}/{i}.jpg": b"x" for label in "ab" for i in range(50)}
        for stray in ("stray.jpg", "a/more/stray.jpg", "z/z/z/stray.jpg"):
            source = write_files(tmp_path / stray.replace("/", "-"), files | {stray: b"x"})
            found = error_of(source, tmp_path / "out")
            assert f"1 of 101 images, such as {stray}, do not lie in 1 folders as the others do" in found

    @pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("nowhere"), lambda _: None])
    def test_a_source_that_is_neither_file_nor_folder(self, tmp_path, make):
        make(tmp_path / "in")
        assert f"--source={tmp_path}/in: " in error_of(tmp_path / "in", tmp_path / "out")

    def test_an_image_that_is_gone_when_it_is_read_stops_with_its_name(self, tmp_path, monkeypatch):
        source = write_files(tmp_path / "in", {"a/1.jpg": encoded(1)})
        plan = prepare._plan_shards
        monkeypatch.setattr(prepare, "_plan_shards", lambda *given: [os.remove(source / "a/1.jpg"), plan(*given)][1])
        assert f"--source: {source}/a/1.jpg cannot be read: No such file" in error_of(source, tmp_path)


class TestNames:
    NAMES = ("caf\udce9", "a\nb", "line\u2028separator", " spaces ", '"quoted"', "été")

    @pytest.mark.parametrize("form", ["folder", "in.tar", "in.tar.xz"])
    def test_class_names_of_any_bytes_are_read_again(self, tmp_path, form):
        source = write_files(tmp_path / "in", {f"{name}/1.jpg": encoded(n) for n, name in enumerate(self.NAMES)})
        source = source if form == "folder" else packed(tmp_path / form, source)
        report = run(source, tmp_path)
        opened = sources.open_with_classes(
            "tfds:shapes", split="train", data_dir=str(tmp_path), num_classes=len(self.NAMES), image_size=8
        )
        assert list(opened.class_names) == sorted(self.NAMES) == sorted(report["classes"])
        read = {
            (opened.class_names[int(one["label"])], one["image"]) for one in (opened[i] for i in range(len(opened)))
        }
        assert read == {(name, encoded(n)) for n, name in enumerate(self.NAMES)}
        assert json.loads((tmp_path / "shapes" / prepare.VERSION / "prepare_report.json").read_text()) == report

    def test_a_source_of_any_bytes_is_read_and_a_data_dir_is_refused(self, tmp_path):
        source = write_files(tmp_path / "caf\udce9", {"a/1.jpg": encoded(1)})
        assert run(source, tmp_path)["splits"]["train"]["examples"] == 1
        assert "--data_dir: " in error_of(source, tmp_path / "out\udce9")
        assert not (tmp_path / "out\udce9").exists()


class TestArchives:
    @pytest.mark.parametrize("ending", ["zip", "tar.xz", "tar.bz2"])
    def test_other_forms_give_the_same_bytes(self, tmp_path, ending):
        tree = write_files(tmp_path / "tree", images())
        run(tree, tmp_path / "plain")
        run(packed(tmp_path / f"in.{ending}", tree), tmp_path / "packed")
        assert shard_bytes(tmp_path / "packed") == shard_bytes(tmp_path / "plain")
        assert not (tmp_path / "packed" / "shapes" / prepare.VERSION / "prepare_work").exists()

    @pytest.mark.parametrize("ending", ["zip", "tar"])
    def test_names_that_lead_out_and_links_are_passed_over(self, tmp_path, ending):
        files = {"a/1.jpg": encoded(1), "../b/2.jpg": encoded(2), "a/../../c/3.jpg": encoded(3), "/d/4.jpg": encoded(4)}
        files |= {"__MACOSX/a/1.jpg": b"", "__MACOSX/val_annotations.txt": b"x"}
        source = tmp_path / f"in.{ending}"
        if ending == "zip":
            zipped(source, files)
            with zipfile.ZipFile(source, "a") as archive:
                link = zipfile.ZipInfo("a/link.jpg")
                link.external_attr = 0o120777 << 16
                archive.writestr(link, "1.jpg")
        else:
            with tarfile.open(source, "w") as archive:
                for name, content in files.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
                link = tarfile.TarInfo("a/link.jpg")
                link.type, link.linkname = tarfile.SYMTYPE, "1.jpg"
                archive.addfile(link)
        report = run(source, tmp_path / "out")
        assert files_of(tmp_path / "out") == [("a/1.jpg", 0), ("d/4.jpg", 1)]
        assert report["skipped"]["../b/2.jpg"] == "its name leads out of the archive"
        assert report["skipped"]["a/link.jpg"] == "it is a link in an archive"
        assert len(report["skipped"]) == 5
        assert not list(tmp_path.rglob("*.jpg"))

    @pytest.mark.parametrize("ending", ["zip", "tar.xz", "tar.bz2"])
    @pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
    def test_damaged_archives_are_refused(self, tmp_path, ending, damage):
        source = packed(tmp_path / f"in.{ending}", write_files(tmp_path / "tree", images()))
        content = bytearray(source.read_bytes())
        content[len(content) // 3] ^= 0xFF
        whole = source.read_bytes()
        source.write_bytes({"cut": whole[: len(whole) // 2], "changed": content, "empty": whole[:10]}[damage])
        found = error_of(source, tmp_path / "out")
        assert str(source) in found
        assert "damaged" in found
        assert not list((tmp_path / "out").glob("*"))

    def test_encrypted_archives_are_refused(self, tmp_path):
        content = bytearray(zipped(tmp_path / "in.zip", {"a/1.jpg": encoded(1)}).read_bytes())
        content[content.index(b"PK\x01\x02") + 8] |= 1
        (tmp_path / "in.zip").write_bytes(content)
        assert "a/1.jpg in " in (found := error_of(tmp_path / "in.zip", tmp_path / "out"))
        assert "in.zip is encrypted; unpack the archive" in found

    def test_a_zip_that_claims_more_than_the_disk_holds(self, tmp_path):
        content = bytearray(zipped(tmp_path / "in.zip", {"a/1.jpg": encoded(1)}).read_bytes())
        struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, 0xFFFFFFF0)
        (tmp_path / "in.zip").write_bytes(content)
        assert "in.zip" in error_of(tmp_path / "in.zip", tmp_path / "out")

    def test_an_image_behind_a_damaged_one_is_read(self, tmp_path):
        tree = write_files(tmp_path / "tree", {"a/1.jpg": b"\xff\xd8\xff no image", "a/2.jpg": encoded(2)})
        report = run(packed(tmp_path / "in.zip", tree), tmp_path)
        assert files_of(tmp_path) == [("a/2.jpg", 0)]
        assert report["unreadable"].keys() == {"train/a/1.jpg"}


class TestPlaces:
    """Where a data set is to go, or lies already."""

    @pytest.fixture
    def source(self, tmp_path):
        """A folder of one class."""
        return write_files(tmp_path / "in", {"a/1.jpg": encoded(1)})

    @pytest.mark.parametrize("place", ["", "shapes", f"shapes/{prepare.VERSION}"])
    def test_a_file_where_a_folder_is_expected(self, source, tmp_path, place):
        write_files(tmp_path, {f"out/{place}".rstrip("/"): b""})
        assert f"--data_dir: {tmp_path}/out/shapes/1.0.0 cannot be written in: " in error_of(source, tmp_path / "out")

    @pytest.mark.parametrize("name", ["prepare_plan.json", "prepare_report.json"])
    @pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", pytest.param(b"[" * 100_000, id="deep"), None])
    def test_damaged_files_of_a_data_set(self, source, tmp_path, name, content):
        run(source, tmp_path)
        path = tmp_path / "shapes" / prepare.VERSION / name
        path.unlink()
        if content is None:
            os.mkfifo(path)
        else:
            path.write_bytes(content)
        found = error_of(source, tmp_path)
        assert found.startswith(f"{path} ")
        assert found.endswith(f"delete {path.parent}, and prepare the data set again")

    @pytest.mark.parametrize(
        "content", [b"", b"[]", b"{}", b'{"name": "x", "version": "../../..", "splits": []}', b'{"splits": [3]}']
    )
    def test_a_source_whose_description_is_damaged(self, tmp_path, content):
        write_files(tmp_path, {"in/dataset_info.json": content})
        assert tfrecord.is_data_set(tmp_path / "in")
        with pytest.raises(ConfigError, match="dataset_info.json describes no data set of TFDS"):
            tfrecord.convert(tmp_path / "in", name="x", data_dir=tmp_path / "out")


def test_damaged_jpegs_are_kept_and_listed(tmp_path, damaged_jpeg):
    source = write_files(tmp_path / "in", {"a/1.jpg": damaged_jpeg, "a/2.jpg": encoded(2)})
    report = run(source, tmp_path)
    assert report["damaged"] == ["train/a/1.jpg"]
    assert {image for _, _, image in examples(tmp_path, "train")} == {damaged_jpeg, encoded(2)}
    assert report["classes"] == {"a": {"train": 2}}
    assert "kept: 1 JPEGs that are damaged and can be decoded, such as train/a/1.jpg" in tool.summary(report)


class TestFlags:
    """The command itself, in this process."""

    @staticmethod
    def run(source, data_dir, **more):
        values = {"source": str(source), "name": "shapes", "data_dir": str(data_dir), "workers": 1} | more
        with flagsaver.flagsaver(**values):
            flags.FLAGS.mark_as_parsed()
            tool.main()

    def test_labels_and_order_reach_the_data_set(self, tmp_path, capsys):
        source = write_files(tmp_path / "in", {f"{n}.jpg": encoded(n) for n in (2, 10)})
        write_files(tmp_path, {"labels.csv": b"2.jpg,2\n10.jpg,10\n"})
        self.run(source, tmp_path, labels=str(tmp_path / "labels.csv"), class_order="natural", split="val")
        assert files_of(tmp_path, "val") == [("10/10.jpg", 1), ("2/2.jpg", 0)]
        assert "val: 2 images" in capsys.readouterr().out

    @pytest.mark.parametrize("flag", ["source", "data_dir", "labels", "class_order"])
    @pytest.mark.parametrize("value", ["gs://a/b", "https://a.b/c.zip", "~nosuchuser/x", "x" * 300, "a\0b"])
    def test_what_is_no_local_path_is_refused(self, tmp_path, monkeypatch, flag, value):
        monkeypatch.chdir(tmp_path)
        write_files(tmp_path / "in", {"a/1.jpg": encoded(1)})
        with pytest.raises(ConfigError, match=f"^--{flag}=") as caught:
            self.run(**({"source": tmp_path / "in", "data_dir": tmp_path / "out"} | {flag: value}))
        assert len(str(caught.value)) < 300
        assert [path.name for path in tmp_path.iterdir()] == ["in"]

    def test_what_is_converted_keeps_its_own_labels(self, tmp_path):
        write_files(tmp_path, {"in/dataset_info.json": b"{}"})
        with pytest.raises(ConfigError, match="--labels and --class_order are for images"):
            self.run(tmp_path / "in", tmp_path / "out", class_order="natural")
