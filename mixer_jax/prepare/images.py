"""Prepares a data set: a folder or archive of images to a TFDS data set in ArrayRecord form, without TensorFlow."""

import collections
import hashlib
import logging
import os
from pathlib import Path
from typing import NamedTuple

import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_info

from mixer_jax.data import class_names
from mixer_jax.errors import ConfigError, readable, shown
from mixer_jax.prepare import archives, listing, shards
from mixer_jax.prepare.workspace import INFO, REPORT, WORK, check_space, finish, publish, workspace
from mixer_jax.workdir import reading
from mixer_jax.workdir.layout import write_json

logger = logging.getLogger("mixer_jax")

VERSION = "1.0.0"
_FORMAT = 1  # of the shards; a data set that another version of the project began is not gone on with


class _Options(NamedTuple):
    """What a data set depends on beside its source, as in `prepare`."""

    split: str | None
    labels: Path | None
    class_order: str
    shard_mb: float


def prepare(
    source: Path,
    *,
    name: str,
    data_dir: Path,
    split: str | None = None,
    labels: Path | None = None,
    class_order: str = class_names.BY_NAME,
    shard_mb: float = 256,
    workers: int = 1,
) -> tuple[Path, dict]:
    """Prepares a data set, or goes on with preparing it.

    Args:
      source: a folder of images by class, an archive of one, or archives by class.
      name: name of the data set.
      data_dir: where TFDS data sets lie; it goes to data_dir/name/VERSION.
      split: name of the split, for a source without split folders; see listing.list_examples.
      labels: a file that says the classes of images, as in labels.read; None: the folders do.
      class_order: in which order classes are numbered, as in class_names.ordered.
      shard_mb: size of a shard, in MiB of encoded images.
      workers: number of processes.

    Returns:
      The folder of the data set, and the report as in the file REPORT: "splits", "classes", "unreadable", "damaged",
      "skipped".

    Raises:
      ConfigError: an argument or file is wrong, room is lacking, or another data set is in the place.
    """
    check_name(name)
    for flag, value, least in (("shard_mb", shard_mb, 1e-9), ("workers", workers, 1)):
        if not value >= least:  # also NaN
            raise ConfigError(f"--{flag}={value}; expected a number of at least {least}")
    if Path(os.path.realpath(data_dir)).is_relative_to(os.path.realpath(source)):
        raise ConfigError(
            f"--data_dir={readable(data_dir)} lies in --source={readable(source)}, and would be read; choose another"
        )
    options = _Options(split, labels, class_order, shard_mb)
    files, skipped = listing.find_files(source)
    plan = {
        "format": _FORMAT,
        "source": os.path.realpath(source),
        "fingerprint": listing.fingerprint(files),
        "split": split,
        "shard_mb": shard_mb,
        **_files_of(options),
    }
    with workspace(data_dir / name / VERSION, plan) as folder:
        if not (folder / INFO).exists():
            _write(files, skipped, source, options, workers, folder, name)
        return folder, finish(folder)


def check_name(name: str) -> None:
    """Raises a ConfigError for a name under which TFDS would not find the data set."""
    if not (name.isascii() and name.isidentifier() and not name.startswith("_")):
        raise ConfigError(f"--name={shown(name)}: TFDS takes letters, digits and _, a letter first, such as my_images")
    if name in tfds.list_builders(with_community_datasets=False):
        raise ConfigError(
            f"--name={name!r} is a data set that TFDS itself knows, and it would look for its own version of it; "
            f"choose another name, such as my_{name}"
        )


def _files_of(options):
    """Returns what a plan records of options that may be files: of those, the content, wherever they lie."""
    order = options.class_order
    if order not in (class_names.BY_NAME, class_names.NATURAL):
        order = _by_sum(class_names.to_bytes(class_names.ordered([], order, key="--class_order")))
    if options.labels is None:
        return {"class_order": order, "labels": None}
    try:
        return {"class_order": order, "labels": _by_sum(reading.read_bytes(options.labels))}
    except OSError as error:
        raise ConfigError(f"--labels={readable(options.labels)} cannot be read: {error.strerror}") from error


def _by_sum(content):
    return f"a file of SHA-256 {hashlib.sha256(content).hexdigest()[:16]}"


def _write(files, skipped, source, options, workers, folder, name):
    """Writes all that a data set is."""
    if source.is_file() and archives.form(source):
        plain = folder / WORK / "unpacked.tar"
        if not plain.exists():
            # The shards need as much again; more exactly that is checked when the images are listed.
            check_space(folder, 2 * archives.unpacked_size(source))
            logger.info("unpacking %s, for the time of the work, to %s", readable(source), readable(plain))
        archives.unpack(source, plain)
        files = [listing.stated(files[0].name, str(plain))]
    logger.info("listing the images of %s", readable(source))
    listed = listing.list_examples(files, skipped, source=source, split=options.split, labels_file=options.labels)
    classes = class_names.ordered(
        {example.label for example in listed.examples}, options.class_order, key="--class_order"
    )
    planned = _plan_shards(listed.examples, classes, name, options.shard_mb)
    tasks = [shard for of_split in planned.values() for shard in of_split]
    missing = shards.missing(tasks, folder)
    needed = sum(sum(example.size for example in shard.examples) + shards.room(len(shard)) for shard in missing)
    check_space(folder, needed)
    logger.info(
        "%s images of %s classes: %d of %d shards to be written",
        *(f"{len(listed.examples):,}", f"{len(classes):,}", len(missing), len(tasks)),
    )
    results = dict(zip((task.name for task in tasks), shards.write(tasks, folder, workers=workers), strict=True))
    by_split = {of: [results[shard.name] for shard in planned[of]] for of in planned}
    for of, written in by_split.items():
        if not any(result["examples"] for result in written):
            raise ConfigError(f"--source={readable(source)}: none of the images of split {of} can be decoded")
    write_json(folder / REPORT, _report(listed, classes, by_split))
    _write_metadata(folder, name, classes, by_split)


def _plan_shards(examples, classes, name, shard_mb):
    """Cuts each split into shards of about equal numbers of examples, which are in random order."""
    numbers = {label: number for number, label in enumerate(classes)}
    by_split = collections.defaultdict(list)
    for example in examples:
        by_split[example.split].append(example)
    planned: dict[str, list[shards.ImageShard]] = {}
    for split, members in by_split.items():
        size = sum(example.size for example in members)
        count = min(len(members), max(1, round(size / (shard_mb * 2**20))))
        cuts = [len(members) * index // count for index in range(count + 1)]
        planned[split] = []
        for index in range(count):
            part = members[cuts[index] : cuts[index + 1]]
            file = f"{name}-{split}.array_record-{index:05}-of-{count:05}"
            planned[split].append(shards.ImageShard(file, part, [numbers[example.label] for example in part]))
    return planned


def _report(listed, classes, by_split):
    unreadable = {name: why for written in by_split.values() for result in written for name, why in result["left_out"]}
    counts = {label: dict.fromkeys(by_split, 0) for label in classes}
    for example in listed.examples:
        counts[example.label][example.split] += f"{example.split}/{example.name}" not in unreadable
    return {
        "splits": {
            split: {key: sum(result[key] for result in written) for key in ("examples", "bytes")}
            | {"shards": len(written)}
            for split, written in by_split.items()
        },
        "classes": counts,
        "unreadable": dict(sorted(unreadable.items())),
        "damaged": sorted(name for written in by_split.values() for result in written for name in result["damaged"]),
        "skipped": listed.skipped,
    }


def _write_metadata(folder, name, classes, by_split):
    template = tfds.core.ShardedFileTemplate(data_dir=folder, dataset_name=name, filetype_suffix="array_record")
    identity = dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version(VERSION), data_dir=str(folder), module_name=""
    )
    names = list(map(class_names.to_line, classes))  # TFDS writes them one a line, and strips what it reads
    info = tfds.core.DatasetInfo(
        builder=identity, features=shards.features(names=names), supervised_keys=("image", "label")
    )
    info.set_file_format("array_record")
    info.set_splits(
        tfds.core.splits.SplitDict(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[result["examples"] for result in written],
                num_bytes=sum(result["bytes"] for result in written),
                filename_template=template.replace(split=split),
            )
            for split, written in by_split.items()
        )
    )
    metadata = folder / WORK / "metadata"
    metadata.mkdir(exist_ok=True)
    info.write_to_directory(metadata)
    publish(metadata, folder)
