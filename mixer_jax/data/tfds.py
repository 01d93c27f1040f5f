"""Prepared TFDS data sets in ArrayRecord form; images stay encoded, and TensorFlow is not needed."""

import dataclasses
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mixer_jax.data import class_names
from mixer_jax.errors import ConfigError, RunError, in_short

SPLIT_KEYS = "config.data.split or config.eval.splits"  # a source is not told which of them it is opened for


class UnpreparedError(ConfigError):
    """A data set does not lie on this machine in ArrayRecord form; `command` prepares it."""

    def __init__(self, message: str, command: str):
        super().__init__(message)
        self.command = command


@dataclasses.dataclass(frozen=True)
class Labels:
    """What of a record is its label.

    Attributes:
      class_names: what the classes are called, in the order of their numbers.
      features: names of the features that `of` reads.
      of: record -> class number, or int32 (k,), all class numbers that count as right, filled up with -1.
    """

    class_names: tuple[str, ...]
    features: tuple[str, ...]
    of: Callable[[dict], int | np.ndarray]


class Tfds:
    """A prepared TFDS data set in ArrayRecord form; images stay encoded, and TensorFlow is not needed."""

    def __init__(self, name: str, *, split: str, data_dir: str | None, labels: Labels | None = None):
        """Opens a split.

        Args:
          name: <name>[/<config>][:<version>].
          split: as TFDS writes it, such as "train[:99%]" or "train[:800]+validation[:200]".
          data_dir: where TFDS data sets lie; None for TFDS's own default.
          labels: None for the data set's own, the feature "label".

        Raises:
          UnpreparedError: the data set is not prepared, or not in ArrayRecord form.
          ConfigError: it is unknown, cannot be read, or lacks a feature or the split.
        """
        import tensorflow_datasets as tfds  # seconds of imports that no other source needs

        builder = _prepared_builder(name, data_dir)
        features = dict(builder.info.features.items())
        _check_label_names(Path(builder.data_path))
        self._labels = _own_labels(name, features) if labels is None else labels
        if lacking := {"image", *self._labels.features} - features.keys():
            raise ConfigError(f"tfds:{name} has no feature {', '.join(sorted(lacking))}; it has {', '.join(features)}")
        splits = builder.info.splits
        self._title = f"split {split!r} of tfds:{name}"
        self.class_names = self._labels.class_names
        self.num_classes = len(self.class_names)
        images = [feature for feature, kind in features.items() if isinstance(kind, tfds.features.Image)]
        try:
            if splits[split].num_examples < 1:  # such as a slice [5:3]
                raise ValueError("it holds no examples")
            self._records = builder.as_data_source(
                split, decoders={image: tfds.decode.SkipDecoding() for image in images}, file_format="array_record"
            )
        except ValueError as error:
            known = ", ".join(f"{known} ({splits[known].num_examples} examples)" for known in splits)
            raise ConfigError(f"{SPLIT_KEYS}: {self._title} cannot be read: {error}; its splits: {known}") from error
        self._shards = [(str(part.filename), part.take) for part in splits[split].file_instructions]
        for shard, _ in self._shards:
            _check_shard(shard, self._title)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]  # an IndexError past the end, without which iteration would not end
        try:
            record = self._records[index]
            image, label = record["image"], np.asarray(self._labels.of(record), np.int32)[()]
            if image is None:  # of a shard that is cut short
                raise ValueError("the record is empty")
        except Exception as error:  # of a damaged file, Grain, TFDS and ArrayRecord raise many types
            raise RunError(
                f"{self._shard_of(index)} cannot be read: it is damaged, or cut short ({in_short(error)}, at "
                f"{self.describe(index)}); prepare the data set again"
            ) from error
        if label.ndim == 0 and not 0 <= label < self.num_classes:  # -1: how TFDS marks an example without a label
            raise ConfigError(f"{self.describe(index)} has label {label}; expected 0 to {self.num_classes - 1}")
        return {"image": image, "label": label}

    def describe(self, index: int) -> str:
        """Returns "example <index> of split <split> of tfds:<name>"."""
        return f"example {index} of {self._title}"

    def _shard_of(self, index: int) -> str:
        for shard, examples in self._shards:
            if index < examples:
                return shard
            index -= examples
        raise IndexError(index)


def _check_shard(shard: str, title: str) -> None:
    """Raises a ConfigError where presence or size tell that a shard cannot be read."""
    if "://" in shard:
        return
    if reason := _not_readable(shard):
        raise ConfigError(f"{title}: {shard} {reason}; prepare the data set again")


def _not_readable(path: str | Path) -> str | None:
    """Says why a file cannot be read, before somebody opens it and, of a FIFO, waits for ever; None if it can be."""
    try:
        status = os.stat(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    return None if status.st_size else "is empty"


def _own_labels(name: str, features: dict) -> Labels:
    """Returns the labels of a data set of one label an image."""
    import tensorflow_datasets as tfds

    if "image" not in features or not isinstance(features.get("label"), tfds.features.ClassLabel):
        received = ", ".join(f"{feature} ({type(features[feature]).__name__})" for feature in sorted(features))
        raise ConfigError(
            f"config.data.source='tfds:{name}' has the features {received}; expected an image, and a label that is a "
            "ClassLabel"
        )
    names = map(class_names.of_line, features["label"].names)  # as `prepare` writes those that TFDS would not keep
    return Labels(tuple(names), ("label",), lambda record: record["label"])


def _prepared_builder(name: str, data_dir: str | None):
    """Returns the TFDS builder of a data set, after checking that its files are there and can be read."""
    import tensorflow_datasets as tfds

    key = f"config.data.source='tfds:{name}'"
    _check_descriptions(name, data_dir)
    try:
        # The format is not asked for here: where another one lies on disk, TFDS's errors do not say what to do.
        builder = tfds.builder(name, data_dir=data_dir)
        prepared = builder.data_path.exists()
        formats = {file_format.value for file_format in builder.info.available_file_formats()} if prepared else set()
    except Exception as error:  # of the name or config, the version, a URL, or what describes the data set
        _check_descriptions(name, data_dir, parse=True)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" .:")
        raise ConfigError(
            f"{key} cannot be opened: {reason}; expected <name>[/<config>][:<version>] of a data set that TFDS knows "
            f"or that is prepared in config.data.data_dir={data_dir!r}"
        ) from error
    command = f"tfds build {name} --file_format=array_record"
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:  # what has to be downloaded by hand stands on the data set's page of TFDS
        command += " --manual_dir=<folder of its archives>"
    if data_dir:
        command += f" --data_dir={data_dir}"
    if not prepared:
        raise UnpreparedError(
            f"{key} is not prepared: nothing at {builder.data_path}. Prepare it with `{command}`, or set "
            f"config.data.data_dir, which is {data_dir or 'not set'}, to where it lies",
            command,
        )
    if "array_record" not in formats:
        command = f"{command.partition(' --data_dir')[0]} --data_dir=<another folder>"
        raise UnpreparedError(
            f"{key} is prepared as {', '.join(formats)} at {builder.data_path}, but ArrayRecord is needed. Prepare it "
            f"with `{command}`, and set config.data.data_dir={data_dir!r} to that folder",
            command,
        )
    return builder


def _check_descriptions(name: str, data_dir: str | None, *, parse: bool = False) -> None:
    """Raises a ConfigError that names the first of the files that describe a data set that cannot be read.

    Args:
      name: <name>[/<config>][:<version>].
      data_dir: where TFDS data sets lie; None for TFDS's own default.
      parse: whether to look at what is in them, too, of all versions and configs.
    """
    import tensorflow_datasets as tfds

    folder = str(data_dir or tfds.core.constants.DATA_DIR)
    if "://" in folder:
        return
    folders = {path.parent for path in Path(folder, name.partition("/")[0].partition(":")[0]).rglob("*.json")}
    for described in sorted(folders):
        readers = {
            "dataset_info.json": tfds.core.dataset_info.read_proto_from_builder_dir,
            "features.json": tfds.features.FeaturesDict.from_config,
        }
        for path in [*(described / file for file in readers), *sorted(described.glob("*.txt"))]:
            reason = _not_readable(path) if parse or os.path.lexists(path) else None
            if parse and not reason and path.name in readers:
                reason = _not_parsed(path, readers[path.name])
            if reason:
                raise ConfigError(f"config.data.source='tfds:{name}': {path} {reason}; prepare the data set again")


def _check_label_names(folder: Path) -> None:
    """Raises a ConfigError if the file of the labels' names has more or fewer than features.json says there are."""
    file = folder / "label.labels.txt"
    if not file.is_file():  # of a data set whose classes have numbers for names
        return
    try:
        described = json.loads((folder / "features.json").read_bytes())
        classes = int(described["featuresDict"]["features"]["label"]["classLabel"]["numClasses"])
    except (OSError, ValueError, KeyError, TypeError):  # another layout of TFDS's, which says no number
        return
    if (names := len(class_names.read(file))) != classes:
        raise ConfigError(f"{file} has {names} names, and features.json {classes} classes; prepare the data set again")


def _not_parsed(path: Path, reader: Callable[[Path], object]) -> str | None:
    """Says why the JSON file of a prepared data set cannot be read by what TFDS reads its folder with."""
    try:
        if not isinstance(json.loads(path.read_bytes()), dict):
            return "holds no JSON object"
        reader(path.parent)
    except Exception as error:  # TFDS's and protobuf's are of many types
        return f"is damaged ({in_short(error)})"
    return None
