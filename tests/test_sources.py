"""Data sources: digits against scikit-learn's, small real TFDS data sets written here, and what cannot be opened."""

import collections
import itertools
import json
import os
import pathlib
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from mixer_jax.data import batches, image_folder, sources
from mixer_jax.data.decode import ImageError
from mixer_jax.errors import ConfigError

ROOT = pathlib.Path(__file__).parents[1]
CLASSES = 3
SIZES = {"train": 23, "test": 7}


def create(source, *, split="train", data_dir=None, num_classes=CLASSES, image_size=8):
    data_dir = None if data_dir is None else str(data_dir)
    return sources.open_with_classes(
        source, split=split, data_dir=data_dir, num_classes=num_classes, image_size=image_size
    )


def labels_of(source):
    return [int(source[index]["label"]) for index in range(len(source))]


def error_of(source, **arguments):
    """The message of the ConfigError that opening a source ends in."""
    with pytest.raises(ConfigError) as caught:
        create(source, **arguments)
    return str(caught.value)


def encoded(index, extension=".jpg", shape=(6, 8, 3)):
    """The bytes of an image file with noise that depends on the index."""
    noise = np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)
    return cv2.imencode(extension, noise)[1].tobytes()


def examples_of(split):
    """What the written data sets hold; no two images are alike."""
    first = 100 * list(SIZES).index(split)
    return [{"image": encoded(first + n), "label": n // 2 % CLASSES} for n in range(SIZES[split])]


def jpegs_with_labels():
    return {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=["circle", "square", "star"]),
    }


def write(data_dir, name="tiny_shapes", *, features=None, splits=None, version="1.0.0"):
    """Prepares a TFDS data set of three shards a split, whose builder TFDS does not know by name.

    Returns:
      The folder of its files.
    """

    class Shapes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)

        def _info(self):
            description = tfds.features.FeaturesDict(features or jpegs_with_labels())
            return tfds.core.DatasetInfo(builder=self, features=description, disable_shuffling=True)

        def _split_generators(self, _):
            chosen = splits or {split: examples_of(split) for split in SIZES}
            return {split: enumerate(examples) for split, examples in chosen.items()}

        def _generate_examples(self):
            raise NotImplementedError

    Shapes.name = name
    builder = Shapes(data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=3))
    return pathlib.Path(builder.data_dir)


def write_mnist(data_dir):
    """Prepares ten images under the name and version of a data set whose builder TFDS knows."""
    return write(
        data_dir,
        "mnist",
        features={"image": tfds.features.Image(shape=(28, 28, 1)), "label": tfds.features.ClassLabel(num_classes=10)},
        splits={"train": [{"image": encoded(n, ".png", (28, 28, 1)), "label": n} for n in range(10)]},
        version=str(tfds.builder_cls("mnist").VERSION),
    )


def turn_into_tfrecord(folder):
    """Renames files and format as they would be in a TFRecord copy; it is refused before a record is read."""
    for file in folder.glob("*array_record*"):
        file.rename(folder / file.name.replace("array_record", "tfrecord"))
    info = folder / "dataset_info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"fileFormat": "tfrecord"}))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A folder with the prepared data set `tiny_shapes`."""
    folder = tmp_path_factory.mktemp("tfds")
    write(folder)
    return folder


class TestDigits:
    @staticmethod
    def opened(split):
        return create("digits", split=split, num_classes=10)

    @staticmethod
    def counted(source):
        return collections.Counter((source[i]["image"].tobytes(), int(source[i]["label"])) for i in range(len(source)))

    def test_splits_together_are_exactly_the_data_of_scikit_learn(self):
        scans = load_digits()
        pixels = [[[[round(v * 255 / 16)] * 3 for v in row] for row in image] for image in scans.images.tolist()]
        expected = collections.Counter(
            (bytes(np.array(image, np.uint8)), int(label)) for image, label in zip(pixels, scans.target, strict=True)
        )
        train, test = (self.counted(self.opened(split)) for split in ("train", "test"))
        assert train + test == expected
        assert (train.total(), test.total()) == (1442, 355)

    def test_splits_have_no_scan_in_common(self):
        train, test = (self.counted(self.opened(split)) for split in ("train", "test"))
        assert not train.keys() & test.keys()

    def test_a_fifth_of_each_class_is_for_the_test(self):
        train, test = (np.bincount(labels_of(self.opened(split)), minlength=10) for split in ("train", "test"))
        assert np.abs(test - (train + test) / 5).max() < 1

    def test_the_split_is_fixed(self):
        labels = np.array(labels_of(self.opened("test")), np.uint8)
        assert zlib.crc32(labels.tobytes()) == 3749388432

    def test_types(self):
        example = self.opened("train")[0]
        assert (example["image"].shape, example["image"].dtype) == ((8, 8, 3), np.uint8)
        assert (np.shape(example["label"]), example["label"].dtype) == ((), np.int32)

    def test_an_unknown_split_is_an_error(self):
        message = error_of("digits", split="validation", num_classes=10)
        assert "config.data.split" in message
        assert "'validation'" in message
        assert "known: train, test" in message


class TestSynthetic:
    def test_size_shapes_and_types(self):
        source = create("synthetic:20", image_size=12)
        assert len(source) == 20
        for index in range(20):
            example = source[index]
            assert (example["image"].shape, example["image"].dtype) == ((12, 12, 3), np.uint8)
            assert (np.shape(example["label"]), example["label"].dtype) == ((), np.int32)

    def test_iteration_ends_with_the_last_example(self):
        labels = [example["label"] for example in itertools.islice(create("synthetic:20"), 30)]
        assert len(labels) == 20

    @pytest.mark.parametrize("num_classes", [1, 3, 10])
    def test_labels_are_the_classes_in_turn(self, num_classes):
        source = create("synthetic:25", num_classes=num_classes)
        assert source.num_classes == num_classes
        assert labels_of(source) == (list(range(num_classes)) * 25)[:25]

    def test_is_the_same_every_time(self):
        first, second = create("synthetic:40"), create("synthetic:40")
        assert labels_of(first) == labels_of(second)
        for index in range(40):
            np.testing.assert_array_equal(first[index]["image"], second[index]["image"])

    def test_neighbouring_images_differ_and_so_do_splits(self):
        opened = [create("synthetic:16", split=split) for split in ("train", "test")]
        images = {source[index]["image"].tobytes() for source in opened for index in range(16)}
        assert len(images) == 32

    @pytest.mark.parametrize("key", ["num_classes", "image_size"])
    def test_without_classes_or_pixels_is_an_error(self, key):
        assert f"config.data.{key}=0; expected a positive number" in error_of("synthetic:4", **{key: 0})


class TestCreate:
    @pytest.mark.parametrize(
        "source",
        ["", "imagenet", "Digits", "digits:8", "tfds", "tfds:", "synthetic"]
        + [f"synthetic:{size}" for size in ("", "x", "0", "-5", "2.5", "²")],
    )
    def test_an_unknown_source_is_an_error_that_lists_the_known_ones(self, source):
        message = error_of(source)
        assert f"config.data.source={source!r}" in message
        assert "known: digits, synthetic:<number of examples>, tfds:<name>, folder:<path>" in message

    def test_another_number_of_classes_is_an_error(self):
        message = error_of("digits", num_classes=11)
        assert "config.data.num_classes=11" in message
        assert "digits has 10 classes" in message


class TestFolder:
    FILES = (  # in the order that is expected, with their labels
        ("cat/10.JPG", 0),
        ("cat/9.jpeg", 0),
        ("dog/a.PNG", 1),
        ("dog/b.webp", 1),
        ("zebra/c.bmp", 2),
    )

    @pytest.fixture
    def folder(self, tmp_path):
        """Images of three classes in `train`, and of two in `test`."""
        for split, files in {"train": self.FILES, "test": self.FILES[2:]}.items():
            for number, (file, _) in enumerate(files):
                path = tmp_path / split / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(number, path.suffix.lower()))
        return tmp_path

    def test_files_and_labels_are_in_the_order_of_their_names(self, folder):
        source = create(f"folder:{folder}")
        assert len(source) == len(self.FILES)
        for index, (file, label) in enumerate(self.FILES):
            assert source[index] == {"image": (folder / "train" / file).read_bytes(), "label": label}
            assert source[index]["label"].dtype == np.int32
        assert [example["label"] for example in source] == labels_of(source)  # iteration ends

    def test_a_split_without_some_class_has_the_labels_of_the_others(self, folder):
        source = create(f"folder:{folder}", split="test")
        assert source.num_classes == CLASSES
        assert labels_of(source) == [1, 1, 2]

    def test_a_file_is_read_when_it_is_asked_for(self, folder):
        source = create(f"folder:{folder}")
        (folder / "train/cat/10.JPG").write_bytes(b"later")
        assert source[0]["image"] == b"later"

    def test_what_is_no_image_by_name_is_left_out_and_said(self, folder, caplog, monkeypatch):
        monkeypatch.setattr(image_folder.logger, "propagate", True)  # a command's logging may have turned it off
        for name in ("train/cat/readme.txt", "train/cat/._10.JPG"):
            (folder / name).write_bytes(b"")
        (folder / "train/.cache").mkdir()
        (folder / "train/cat/folder.jpg").mkdir()
        (folder / "train/cat/dangling.jpg").symlink_to(folder / "nowhere.jpg")
        assert len(create(f"folder:{folder}")) == len(self.FILES)
        assert "5 entries are passed over, such as .cache: its name begins with a dot" in caplog.text

    def test_a_file_that_cannot_be_read_any_more_is_an_image_error(self, folder):
        source = create(f"folder:{folder}")
        (folder / "train/cat/10.JPG").unlink()
        with pytest.raises(ImageError, match="cannot be read: No such file or directory"):
            source[0]

    def test_an_unknown_split_is_an_error_that_lists_the_splits(self, folder):
        message = error_of(f"folder:{folder}", split="tset")
        assert "config.data.split" in message
        assert "did you mean 'test'? known: test, train" in message

    def test_another_number_of_classes_is_an_error(self, folder):
        assert "config.data.num_classes=4, but" in error_of(f"folder:{folder}", num_classes=4)

    @pytest.mark.parametrize(
        ("path", "complaint"), [("nowhere", "no such folder"), ("train/cat", "no folders"), ("", "no image in")]
    )
    def test_no_folder_and_no_images_are_errors(self, folder, path, complaint):
        (folder / "empty/cat").mkdir(parents=True)
        message = error_of(f"folder:{folder / path}", split="train" if path else "empty")
        assert message.startswith(f"config.data.source='folder:{folder / path}'")
        assert complaint in message
        assert "<class>/" in message


class TestTfds:
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_encoded_bytes_and_labels_are_those_written(self, data_dir, split):
        source = create("tfds:tiny_shapes", split=split, data_dir=data_dir)
        assert source.num_classes == CLASSES
        assert len(source) == SIZES[split]
        for index, written in enumerate(examples_of(split)):
            assert source[index] == written
            assert type(source[index]["image"]) is bytes
            assert source[index]["label"].dtype == np.int32

    @pytest.mark.parametrize(
        ("split", "part"),
        [
            ("train[:50%]", slice(12)),  # 11.5, rounded to even
            ("train[50%:]", slice(12, None)),
            ("train[5:]", slice(5, None)),
            ("train[6:9]", slice(6, 9)),  # across two shards
            ("train[-3:]", slice(-3, None)),
        ],
    )
    def test_a_slice_holds_that_part_of_the_split(self, data_dir, split, part):
        source = create("tfds:tiny_shapes", split=split, data_dir=data_dir)
        assert [source[index] for index in range(len(source))] == examples_of("train")[part]

    def test_files_are_in_several_shards(self, data_dir):
        assert len(list(data_dir.glob("tiny_shapes/1.0.0/*-train.array_record-*"))) == 3

    def test_a_name_may_give_the_version(self, data_dir):
        assert len(create("tfds:tiny_shapes:1.0.0", data_dir=data_dir)) == SIZES["train"]

    def test_a_data_set_that_tfds_knows_by_name_is_read_too(self, tmp_path):
        write_mnist(tmp_path)
        source = create("tfds:mnist", data_dir=tmp_path, num_classes=10)
        assert labels_of(source) == list(range(10))
        assert [source[n]["image"] for n in range(10)] == [encoded(n, ".png", (28, 28, 1)) for n in range(10)]

    def test_threads_read_what_was_written(self, data_dir):
        source = create("tfds:tiny_shapes", data_dir=data_dir)
        reading = {"batch_size": 4, "threads": 4, "prefetch": 2, "undecodable": []}
        received = batches.eval_batches(
            source, lambda record: {"bytes": np.frombuffer(record["image"][:400], np.uint8)}, **reading
        )
        heads = np.concatenate([batch["bytes"][batch["mask"] == 1] for batch in received])
        assert heads.tobytes() == b"".join(example["image"][:400] for example in examples_of("train"))

    def test_reading_imports_no_tensorflow_though_it_is_installed(self, data_dir, tmp_path):
        (tmp_path / "tensorflow.py").write_text("installed = True")
        program = (
            "import sys\n"
            "from mixer_jax.data import sources\n"
            "arguments = {'split': 'test', 'data_dir': sys.argv[1], 'num_classes': 3, 'image_size': 8}\n"
            "source = sources.open_with_classes('tfds:tiny_shapes', **arguments)\n"
            "print([int(source[index]['label']) for index in range(len(source))], 'tensorflow' in sys.modules)\n"
            "import tensorflow\n"
            "print(tensorflow.installed)\n"
        )
        environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "JAX_PLATFORMS": "cpu"}
        finished = subprocess.run(
            [sys.executable, "-c", program, data_dir], env=environment, capture_output=True, text=True, check=True
        )
        expected = [example["label"] for example in examples_of("test")]
        assert finished.stdout.splitlines() == [f"{expected} False", "True"], finished.stderr

    @pytest.mark.parametrize(
        "split", ["validation", "valid[:5]", "train[", "train[40:]", "train[5:3]", "train[:0]", ""]
    )
    def test_an_unknown_or_empty_split_is_an_error_that_lists_the_splits(self, data_dir, split):
        message = error_of("tfds:tiny_shapes", split=split, data_dir=data_dir)
        assert "config.data.split" in message
        assert f"split {split!r} of tfds:tiny_shapes" in message
        assert "its splits: train (23 examples), test (7 examples)" in message

    def test_another_number_of_classes_is_an_error(self, data_dir):
        message = error_of("tfds:tiny_shapes", data_dir=data_dir, num_classes=1000)
        assert "config.data.num_classes=1000" in message
        assert "tfds:tiny_shapes has 3 classes" in message

    @pytest.mark.parametrize(
        "name",
        [
            "no_such_data",
            "tiny_shapes:2.0.0",
            "tiny_shapes/large",
            "mnist/large",
            "mnist:0.0.1",
            "not a name",
            "no_such:a",
        ],
    )
    def test_an_unknown_name_config_or_version_is_an_error(self, data_dir, name):
        message = error_of(f"tfds:{name}", data_dir=data_dir)
        assert f"config.data.source='tfds:{name}' cannot be opened" in message
        assert f"prepared in config.data.data_dir={str(data_dir)!r}" in message

    def test_a_data_set_that_is_not_prepared_is_an_error_that_says_how_to_prepare_it(self, tmp_path):
        message = error_of("tfds:mnist", data_dir=tmp_path, num_classes=10)
        assert f"config.data.source='tfds:mnist' is not prepared: nothing at {tmp_path}/mnist/" in message
        assert f"`tfds build mnist --file_format=array_record --data_dir={tmp_path}`" in message
        assert "config.data.data_dir" in message

    @pytest.mark.parametrize(("name", "write_it"), [("tiny_shapes", write), ("mnist", write_mnist)])
    def test_a_tfrecord_copy_is_an_error_that_asks_for_array_record(self, tmp_path, name, write_it):
        folder = write_it(tmp_path)
        turn_into_tfrecord(folder)
        message = error_of(f"tfds:{name}", data_dir=tmp_path)
        assert f"config.data.source='tfds:{name}' is prepared as tfrecord at {folder}, but ArrayRecord is" in message
        assert f"`tfds build {name} --file_format=array_record --data_dir=" in message

    @pytest.mark.parametrize(
        ("changes", "received"),
        [
            ({"label": None, "shape": tfds.features.ClassLabel(num_classes=3)}, "image (Image), shape (ClassLabel)"),
            ({"label": tfds.features.Scalar(np.int64)}, "image (Image), label (Scalar)"),
            ({"label": tfds.features.Sequence(tfds.features.ClassLabel(num_classes=3))}, "label (Sequence)"),
            ({"image": None}, "features label (ClassLabel);"),
        ],
    )
    def test_without_an_image_or_a_class_label_is_an_error_that_lists_the_features(self, tmp_path, changes, received):
        features = {name: kind for name, kind in (jpegs_with_labels() | changes).items() if kind is not None}
        values = {"image": encoded(0), "label": [1] if "Sequence" in received else 1, "shape": 1}
        write(tmp_path, features=features, splits={"train": [{name: values[name] for name in features}] * 3})
        message = error_of("tfds:tiny_shapes", data_dir=tmp_path)
        assert "config.data.source='tfds:tiny_shapes'" in message
        assert received in message
        assert "expected an image, and a label that is a ClassLabel" in message

    def test_an_example_without_a_label_is_an_error_when_it_is_read(self, tmp_path):
        write(tmp_path, splits={"train": [{"image": encoded(0), "label": label} for label in (0, 2, -1)]})
        source = create("tfds:tiny_shapes", data_dir=tmp_path)
        assert [int(source[index]["label"]) for index in range(2)] == [0, 2]
        with pytest.raises(
            ConfigError, match=r"example 2 of split 'train' of tfds:tiny_shapes has label -1; .* 0 to 2"
        ):
            source[2]

    def test_a_label_beyond_the_classes_is_an_error_when_it_is_read(self, tmp_path):
        folder = write(tmp_path, features=jpegs_with_labels() | {"label": tfds.features.ClassLabel(num_classes=3)})
        metadata = folder / "features.json"
        assert '"numClasses": "3"' in metadata.read_text()
        metadata.write_text(metadata.read_text().replace('"numClasses": "3"', '"numClasses": "2"'))
        source = create("tfds:tiny_shapes", data_dir=tmp_path, num_classes=2)
        labels = [example["label"] for example in examples_of("train")]
        assert [int(source[index]["label"]) for index in range(2)] == labels[:2]
        with pytest.raises(ConfigError, match="has label 2; expected 0 to 1"):
            source[labels.index(2)]
