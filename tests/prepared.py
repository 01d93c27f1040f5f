"""Folders and archives of small images, and what `prepare` makes of them."""

import bz2
import lzma
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from mixer_jax.errors import ConfigError
from mixer_jax.prepare import images as prepare

CLASSES = ["circle", "square", "star"]
SMALL = 0.002  # MiB a shard: several shards of the few images here


def encoded(index, extension=".jpg"):
    """The bytes of an image file with noise that depends on the index."""
    noise = np.random.default_rng(index).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.imencode(extension, noise)[1].tobytes()


def images(seed=0):
    """{class/file: bytes} of seven images of each class."""
    extensions = [".jpg", ".JPEG", ".png"]
    return {
        f"{label}/{index}{extensions[index % 3]}": encoded(seed + 10 * number + index, extensions[index % 3].lower())
        for number, label in enumerate(CLASSES)
        for index in range(7)
    }


def write_files(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_tar(path, folder, around=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix.endswith("gz") else "w") as archive:
        archive.add(folder, arcname=around or ".")
    return path


def by_class(folder, target):
    """A folder of one archive for each class."""
    for label in CLASSES:
        write_tar(target / f"{label}.tar", folder / label)
    return target


def run(source, data_dir, name="shapes", **arguments):
    return prepare.prepare(Path(source), name=name, data_dir=Path(data_dir), **({"shard_mb": SMALL} | arguments))[1]


def shard_bytes(data_dir, name="shapes"):
    """{file: bytes} of all shards and of what TFDS reads, which must not depend on how it came about."""
    folder = Path(data_dir) / name / prepare.VERSION
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("prepare_")}


def examples(data_dir, split, name="shapes"):
    """[(file_name, label, bytes)] as TFDS reads them."""
    builder = tfds.builder_from_directory(str(Path(data_dir) / name / prepare.VERSION))
    records = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    return [(record["file_name"].decode(), int(record["label"]), record["image"]) for record in records]


def expected(files):
    return {(name, CLASSES.index(name.split("/")[0]), content) for name, content in files.items()}


def error_of(*arguments, **more):
    with pytest.raises(ConfigError) as caught:
        run(*arguments, **more)
    return str(caught.value)


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
