"""Prepares your own images as a TFDS data set in ArrayRecord form, without TensorFlow.

  python -m mixer_jax prepare --source=<path> --name=<name> --data_dir=<folder>

The source is one of

  * a folder <split>/<class>/<image>, or <class>/<image>, whose one split --split names;
  * Tiny ImageNet as it is: <split>/<class>/images/<image>, and val/images with its val_annotations.txt;
  * any folder of images with --labels, a file that says the class of each: lines path,label with or without that
    header, JSON lines {"path": ..., "label": ...}, or Kaggle's LOC_val_solution.csv. Paths are relative to the source,
    and may lack the ending. The one split is called train, or as --split says; images that it lacks are passed over;
  * a .tar, .tar.gz, .tar.bz2, .tar.xz or .zip of such a folder;
  * archives by class, as ImageNet-21k is handed out: a .tar of one .tar for each class, or a folder of them. The class
    is the name of the inner archive, and the one split is called full;
  * the folder, with its dataset_info.json, of a TFDS data set of TFRecord files: it is converted, under its own --name.

Train on it with --config.data.source=tfds:<name> --config.data.data_dir=<folder>; every other program reads it with
tfds.data_source("<name>", data_dir="<folder>"). Classes are numbered in the order of their names, or as --class_order
says. The order inside a split is random and always the same, so that full[:51200] is a random sample.

The same command goes on after it was stopped, also by SIGKILL, and shards that are done are not done again. Images
that cannot be decoded are left out and listed, with the reason, in prepare_report.json beside the shards, with the
number of images of each class, the damaged JPEGs that are kept, and all that was passed over: hidden files, what
systems leave behind, empty folders, links to nowhere. A .tar is read where it lies. All other archives are unpacked
once, to a .tar beside the shards, which counts when free disk space is checked, and is deleted at the end.

ImageNet-1k is prepared by TFDS itself from the two original archives, ILSVRC2012_img_train.tar and
ILSVRC2012_img_val.tar. This needs TensorFlow, pip install -e .[tensorflow], and reading it afterwards does not:

  tfds build imagenet2012 --manual_dir=<folder of the two> --data_dir=<folder> --file_format=array_record
"""

import signal
import sys

from absl import flags

from mixer_jax.config.paths import local_path
from mixer_jax.data import class_names, folders
from mixer_jax.errors import ConfigError, readable
from mixer_jax.prepare import images, tfrecord, workspace
from mixer_jax.runtime import hardware

_SOURCE = flags.DEFINE_string("source", None, "Folder or archive of images.", required=True)
_NAME = flags.DEFINE_string("name", None, "Name of the data set: letters, digits and _.", required=True)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder of TFDS data sets; it goes to <data_dir>/<name>/1.0.0.", required=True
)
_SPLIT = flags.DEFINE_string(
    "split", None, "Name of the one split of a source without split folders; default: full of archives, else train."
)
_LABELS = flags.DEFINE_string(
    "labels", None, "File that says the classes of images, lines path,label; default: they lie in folders of classes."
)
_CLASS_ORDER = flags.DEFINE_string(
    "class_order",
    class_names.BY_NAME,
    "How classes are numbered: name, natural (2 before 10), or the path of a file of class names.",
)
_SHARD_MB = flags.DEFINE_float("shard_mb", 256, "Size of a shard, in MiB of encoded images.")
_WORKERS = flags.DEFINE_integer("workers", None, "Processes; default: one for each CPU core.")


def main() -> None:
    """Prepares the data set, and says what is in it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # to say so, and to stop its processes
    source, data_dir = local_path("--source", _SOURCE.value), local_path("--data_dir", _DATA_DIR.value)
    labels = local_path("--labels", _LABELS.value) if _LABELS.value is not None else None
    name, workers = _NAME.value, hardware.cpu_cores() if _WORKERS.value is None else _WORKERS.value
    try:
        if tfrecord.is_data_set(source):
            if labels or _CLASS_ORDER.value != class_names.BY_NAME:
                raise ConfigError("--labels and --class_order are for images; what is converted keeps its own")
            folder, report = tfrecord.convert(source, name=name, data_dir=data_dir, workers=workers)
        else:
            folder, report = images.prepare(
                source,
                name=name,
                data_dir=data_dir,
                split=_SPLIT.value,
                labels=labels,
                class_order=_CLASS_ORDER.value,
                shard_mb=_SHARD_MB.value,
                workers=workers,
            )
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the shards that are written", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    print(summary(report))
    print(
        f"prepared {readable(folder)}; read it with --config.data.source=tfds:{name} "
        f"--config.data.data_dir={readable(data_dir)}"
    )


def summary(report: dict) -> str:
    """Returns the numbers of a report as text."""
    lines = [
        f"{split}: {of['examples']:,} images, {of['bytes']:,} bytes, {of['shards']} shards"
        for split, of in report["splits"].items()
    ]
    if report["classes"]:
        lines.append(f"{len(report['classes']):,} classes")
    if unreadable := report["unreadable"]:
        name, reason = next(iter(unreadable.items()))
        what = f"{len(unreadable):,} images that cannot be decoded, such as {readable(name)}: {reason}"
        lines.append(f"left out: {what}; all in {workspace.REPORT}")
    if damaged := report.get("damaged"):  # which a report of an older version lacks
        what = f"{len(damaged):,} JPEGs that are damaged and can be decoded, such as {readable(damaged[0])}"
        lines.append(f"kept: {what}; all in {workspace.REPORT}")
    if report["skipped"]:
        lines.append(f"{folders.in_a_line(report['skipped'])}; all in {workspace.REPORT}")
    return "\n".join(lines)
