"""Converts a TFDS data set from TFRecord to ArrayRecord form, without TensorFlow: the records are the same in both."""

import json
import os
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mixer_jax.errors import ConfigError, in_short, readable
from mixer_jax.prepare import listing, shards
from mixer_jax.prepare.workspace import INFO, REPORT, WORK, check_space, finish, publish, workspace
from mixer_jax.workdir import reading
from mixer_jax.workdir.layout import write_json


@dataclass(frozen=True)
class RecordShard:
    """The records of a TFRecord file."""

    name: str
    path: str
    examples: int  # as dataset_info.json says

    def __len__(self) -> int:
        """Returns the number of records."""
        return self.examples

    def records(self) -> Iterator[bytes]:
        """Yields the records; raises a ConfigError if the file is cut short or has another number of them."""
        number, most = 0, os.path.getsize(self.path)
        with open(self.path, "rb") as file:
            while header := file.read(12):  # uint64 length, uint32 checksum of it; after the record its checksum
                length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else 0
                record, checksum = file.read(min(length, most)), file.read(4)
                if len(checksum) < 4:
                    raise ConfigError(f"--source: {self.path} is cut short in record {number}")
                yield record
                number += 1
        if number != self.examples:
            raise ConfigError(f"--source: {self.path} has {number} records; {INFO} beside it says {self.examples}")


def is_data_set(source: Path) -> bool:
    """Whether a source is the folder of a prepared TFDS data set."""
    return os.path.lexists(source / INFO)


def convert(source: Path, *, name: str, data_dir: Path, workers: int = 1) -> tuple[Path, dict]:
    """Converts a data set, or goes on with converting it; arguments and errors are as in images.prepare.

    Args:
      source: the folder <name>[/<config>]/<version> of a data set whose shards are TFRecord files.
      name: name of the data set, which must be its own.
      data_dir: where TFDS data sets lie; it goes to data_dir/<name>[/<config>]/<version>.
      workers: number of processes.

    Returns:
      The folder of the data set, and a report with "splits".
    """
    info = _description(source)
    if name != info["name"]:
        raise ConfigError(f"--name={name}: a data set that is converted keeps its name; expected {info['name']}")
    if workers < 1:
        raise ConfigError(f"--workers={workers}; expected a positive number")
    planned = {split["name"]: _shards(source, info, split) for split in info["splits"]}
    files = sorted(listing.stated(path.name, str(path)) for path in source.iterdir() if path.is_file())
    plan = {"format": 1, "source": os.path.realpath(source), "fingerprint": listing.fingerprint(files)}
    with workspace(data_dir.joinpath(name, info.get("configName", ""), info["version"]), plan) as folder:
        if not (folder / INFO).exists():
            _write(planned, info, source, folder, workers)
        return folder, finish(folder)


def _description(source):
    """Returns what describes a data set, with the keys that are needed here."""
    path = source / INFO
    try:
        info = reading.read_object(path)
        texts = [info["name"], info["version"], info.get("configName", "")]
        texts += [split["name"] for split in info["splits"]]
        if not all(isinstance(text, str) and "/" not in text and text != ".." for text in texts):
            raise ValueError("has names that are none")
        [int(length) for split in info["splits"] for length in split.get("shardLengths", [])]
    except OSError as error:
        raise ConfigError(f"--source: {readable(path)} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"--source: {readable(path)} describes no data set of TFDS ({in_short(error)})") from error
    return info


def _shards(source, info, split):
    lengths = [int(length) for length in split.get("shardLengths", [])]
    if not lengths:
        raise ConfigError(f"--source={source}: {INFO} has no shardLengths of split {split['name']}; prepare it anew")
    of_all = f"of-{len(lengths):05}"
    found = []
    for index, length in enumerate(lengths):
        stem, shard = f"{info['name']}-{split['name']}", f"{index:05}-{of_all}"
        path = source / f"{stem}.tfrecord-{shard}"
        if not path.is_file():
            raise ConfigError(
                f"--source={source}: there is no {path.name}; expected a whole data set of TFRecord files"
            )
        found.append(RecordShard(f"{stem}.array_record-{shard}", str(path), length))
    return found


def _write(planned, info, source, folder, workers):
    tasks = [shard for of_split in planned.values() for shard in of_split]
    missing = shards.missing(tasks, folder)
    check_space(folder, sum(Path(shard.path).stat().st_size + shards.room(len(shard)) for shard in missing))
    results = dict(zip((task.name for task in tasks), shards.write(tasks, folder, workers=workers), strict=True))
    report = {
        split: {key: sum(results[shard.name][key] for shard in of_split) for key in ("examples", "bytes")}
        | {"shards": len(of_split)}
        for split, of_split in planned.items()
    }
    write_json(folder / REPORT, {"splits": report, "classes": {}, "unreadable": {}, "damaged": [], "skipped": {}})
    metadata = folder / WORK / "metadata"
    metadata.mkdir(exist_ok=True)
    for path in source.iterdir():  # features.json, names of classes and whatever else belongs to it
        if path.is_file() and ".tfrecord-" not in path.name:
            shutil.copyfile(path, metadata / path.name)
    (metadata / INFO).write_text(json.dumps(info | {"fileFormat": "array_record"}, indent=2))
    publish(metadata, folder)
