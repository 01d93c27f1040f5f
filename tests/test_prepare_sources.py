"""What people have, as `prepare` reads it: layouts of data sets, files of labels, archives, odd folders and names."""

import io
import json
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
from tests.prepared import encoded, error_of, examples, files_of, images, packed, run, shard_bytes, write_files, zipped

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

    def test_a_zip_that_claims_more_than_it_holds(self, tmp_path):
        content = bytearray(zipped(tmp_path / "in.zip", {"a/1.jpg": encoded(1)}).read_bytes())
        struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, 0xFFFFFFF0)
        (tmp_path / "in.zip").write_bytes(content)
        found = error_of(tmp_path / "in.zip", tmp_path / "out")
        assert "in.zip is cut short or damaged" in found or "bytes are needed" in found

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

    def test_a_disk_that_is_full_from_the_beginning(self, source, tmp_path, file_size_limit):
        with file_size_limit(100):  # as a full disk would, it shows where a file is written
            found = error_of(source, tmp_path / "out")
        assert f"--data_dir: writing to {tmp_path}/out/shapes/1.0.0 has stopped: " in found
        assert "File too large" in found
        assert not list((tmp_path / "out").iterdir())
        assert run(source, tmp_path / "out")["splits"]["train"]["examples"] == 1

    def test_what_somebody_else_has_put_there_stays(self, tmp_path):
        folder = write_files(tmp_path / "out/shapes" / prepare.VERSION, {"notes.txt": b"mine"})
        write_files(tmp_path, {"in/1.jpg": encoded(1)})
        assert "lie in 0 folders" in error_of(tmp_path / "in", tmp_path / "out")
        assert [path.name for path in folder.iterdir()] == ["notes.txt"]

    @pytest.mark.parametrize("name", ["prepare_plan.json", "prepare_report.json"])
    @pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", pytest.param(b"[" * 9**6, id="deep"), None])
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
        ("name", "said"),
        [
            ("prepare_plan.json", "version of the format is 1, was (absent)"),
            ("prepare_report.json", "is no report of `prepare`; delete "),
        ],
    )
    def test_files_of_a_data_set_without_their_parts(self, source, tmp_path, name, said):
        run(source, tmp_path)
        write_files(tmp_path / "shapes" / prepare.VERSION, {name: b"{}"})
        assert said in error_of(source, tmp_path)

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
