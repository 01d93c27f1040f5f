"""Prepares your own images as a TFDS data set in ArrayRecord form, without TensorFlow.

  python -m mixer_jax prepare --source=<path> --name=<name> --data_dir=<folder>

The source is one of

  * a folder <split>/<class>/<image>, or <class>/<image>, whose one split --split names;
  * a .tar of such a folder, also as .tar.gz, .tar.xz or .tar.bz2, or a .zip;
  * Tiny ImageNet as it is: train/<class>/images/, and val/images/ beside val_annotations.txt;
  * any folder or archive of images with --labels, a CSV file of path,label or lines of JSON with path and label, such
    as Kaggle's ILSVRC with its LOC_val_solution.csv;
  * archives by class, as ImageNet-21k is handed out: a .tar of one .tar for each class, or a folder of them. The class
    is the name of the inner archive, and the one split is called full;
  * the folder, with its dataset_info.json, of a TFDS data set of TFRecord files: it is converted, under its own --name.

Train on it with --config.data.source=tfds:<name> --config.data.data_dir=<folder>; every other program reads it with
tfds.data_source("<name>", data_dir="<folder>"). Classes are numbered in the order of their names. --class_order=natural
counts 2 before 10, and --class_order=<file> takes the order of a file of class names, such as another run's
classes.txt. The order inside a split is random and always the same, so that full[:51200] is a random sample.

The same command goes on after it was stopped, also by SIGKILL, and shards that are done are not done again. What is
left out is listed, with the reason, in prepare_report.json beside the shards, with the number of images of each class:
images that cannot be decoded, hidden files, and what systems leave in folders, such as __MACOSX. Damaged JPEGs are in
the data set, and listed too. A .tar is read where it lies. One that is compressed, or a .zip, is unpacked once to a
.tar beside the shards, which counts when free disk space is checked, and is deleted at the end.

ImageNet-1k is prepared by TFDS itself from the two original archives, ILSVRC2012_img_train.tar and
ILSVRC2012_img_val.tar. This needs TensorFlow, pip install -e .[tensorflow], and reading it afterwards does not:

  tfds build imagenet2012 --manual_dir=<folder of the two> --data_dir=<folder> --file_format=array_record
"""

import signal
import sys

from absl import flags

from mixer_jax.config.paths import local_path
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
_LABELS = flags.DEFINE_string("labels", None, "File of the images' classes: path,label, or lines of JSON.")
_CLASS_ORDER = flags.DEFINE_string(
    "class_order", "name", "How classes are numbered: name, natural (2 before 10), or a file of class names."
)
_SHARD_MB = flags.DEFINE_float("shard_mb", 256, "Size of a shard, in MiB of encoded images.")
_WORKERS = flags.DEFINE_integer("workers", None, "Processes; default: one for each CPU core.")


def main() -> None:
    """Prepares the data set, and says what is in it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # to say so, and to stop its processes
    source, data_dir = local_path("--source", _SOURCE.value), local_path("--data_dir", _DATA_DIR.value)
    name, workers = _NAME.value, hardware.cpu_cores() if _WORKERS.value is None else _WORKERS.value
    try:
        if tfrecord.is_data_set(source):
            folder, report = tfrecord.convert(source, name=name, data_dir=data_dir, workers=workers)
        else:
            folder, report = images.prepare(
                source,
                name=name,
                data_dir=data_dir,
                split=_SPLIT.value,
                labels=local_path("--labels", _LABELS.value) if _LABELS.value else None,
                class_order=_CLASS_ORDER.value,
                shard_mb=_SHARD_MB.value,
                workers=workers,
            )
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the shards that are written", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    print(summary(report))
    print(f"prepared {folder}; read it with --config.data.source=tfds:{name} --config.data.data_dir={data_dir}")


def summary(report: dict) -> str:
    """Returns the numbers of a report as text."""
    lines = [
        f"{split}: {of['examples']:,} images, {of['bytes']:,} bytes, {of['shards']} shards"
        for split, of in report["splits"].items()
    ]
    if report["classes"]:
        lines.append(f"{len(report['classes']):,} classes")
    for key, meaning in (
        ("unreadable", "images that cannot be decoded"),
        ("skipped", "files that are passed over"),
    ):
        if left_out := report[key]:
            name, reason = next(iter(left_out.items()))
            lines.append(f"left out: {len(left_out):,} {meaning}, such as {name}: {reason}; all in {workspace.REPORT}")
    if damaged := report.get("damaged"):
        lines.append(f"damaged: {len(damaged):,} JPEGs, such as {damaged[0]}; they are in; all in {workspace.REPORT}")
    return "\n".join(lines)
