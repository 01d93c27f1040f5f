"""The 19 tasks of VTAB-1k: their data sets, splits, labels and numbers of classes.

Each task has 1,000 training images. Hyper-parameters are chosen by training on `train800` and testing on `val200`; then
the model is trained on both, `train800val200`, and tested once, on `test`. "The first n" of a split are those of TFDS's
order, which may differ between versions of a data set.

Source: arXiv 1910.04867, and its code, google-research/task_adaptation.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable

import numpy as np

from mixer_jax.config.checks import one_of
from mixer_jax.data.decode import as_rgb
from mixer_jax.data.tfds import Labels, Tfds

GROUPS = ("natural", "specialised", "structured")
SPLITS = ("train800", "val200", "train800val200", "test")


@dataclasses.dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
      group: one of `GROUPS`.
      tfds: name of the TFDS data set.
      num_classes: number of classes.
      validation: the part of the data set whose first 200 images are `val200`.
      test: split that is tested on.
      test_examples: its size.
      label: record -> class number.
      features: names of the features that `label` reads.
      small: whether the images have fewer than 96x96 pixels, which Big Transfer's rule fine-tunes at a lower resolution
        (arXiv 1912.11370, section 3.3).
      flip: whether a mirrored image keeps its label (arXiv 1912.11370, Appendix F).
      crop: whether a part of an image keeps its label (the same).
      masks: whether the pixels are 0 and 1.
    """

    group: str
    tfds: str
    num_classes: int
    validation: tuple[str, int]
    test: str
    test_examples: int
    label: Callable[[dict], int] = operator.itemgetter("label")
    features: tuple[str, ...] = ("label",)
    small: bool = False
    flip: bool = True
    crop: bool = True
    masks: bool = False

    def split(self, name: str) -> str:
        """Returns one of `SPLITS` as TFDS writes it."""
        split, start = self.validation
        val200 = f"{split}[{start or ''}:{start + 200}]"
        return {
            "train800": "train[:800]",
            "val200": val200,
            "train800val200": f"train[:800]+{val200}",
            "test": self.test,
        }[name]


def _count_objects(record: dict) -> int:
    return len(record["objects"]["size"]) - 3  # scenes have 3 to 10 objects


def _nearest_object(record: dict) -> int:
    """Returns in which range the depth of the object lies that is nearest to the camera."""
    depth = np.reshape(record["objects"]["pixel_coords"], (-1, 3))[:, 2].min()
    return int(np.flatnonzero(np.array([0, 8, 8.5, 9, 9.5, 10]) < depth)[-1])


_VEHICLES = 3  # car, van and truck are the first of KITTI's types of objects


def _nearest_vehicle(record: dict) -> int:
    """Returns in which range the distance of the nearest vehicle lies, in metres: 8, 20, or beyond; 3 without one."""
    objects = record["objects"]
    distances = np.reshape(objects["location"], (-1, 3))[:, 2]  # TFDS gives an array, or a list of arrays or nothing
    distances = np.append(distances[np.asarray(objects["type"]) < _VEHICLES], 1000)
    return int(np.flatnonzero(np.array([-100, 8, 20, 999]) < distances.min())[-1])


def _part_of(feature: str, size: float) -> Callable[[dict], int]:
    """Returns a label: the class number that a feature has, in parts of so many classes."""
    return lambda record: int(record[feature] // size)


_clevr = functools.partial(
    Task,
    "structured",
    "clevr",
    validation=("train", 63_000),
    test="validation",
    test_examples=15_000,
    features=("objects",),
    crop=False,
)
_dsprites = functools.partial(
    Task,
    "structured",
    "dsprites",
    num_classes=16,
    validation=("train", 589_824),
    test="train[663552:]",
    test_examples=73_728,
    small=True,
    flip=False,
    masks=True,
)
_smallnorb = functools.partial(
    Task, "structured", "smallnorb", validation=("test", 0), test="test[50%:]", test_examples=12_150
)

TASKS = {
    "caltech101": Task("natural", "caltech101", 102, ("train", 2754), "test", 6_084),
    "cifar100": Task("natural", "cifar100", 100, ("train", 45_000), "test", 10_000, small=True),
    "dtd": Task("natural", "dtd", 47, ("validation", 0), "test", 1_880),
    "flowers102": Task("natural", "oxford_flowers102", 102, ("validation", 0), "test", 6_149),
    "pets": Task("natural", "oxford_iiit_pet", 37, ("train", 2944), "test", 3_669),
    "sun397": Task("natural", "sun397/tfds", 397, ("validation", 0), "test", 21_750),
    "svhn": Task("natural", "svhn_cropped", 10, ("train", 65_931), "test", 26_032, small=True),
    "camelyon": Task("specialised", "patch_camelyon", 2, ("validation", 0), "test", 32_768),
    "eurosat": Task("specialised", "eurosat/rgb", 10, ("train", 16_200), "train[21600:]", 5_400, small=True),
    "resisc45": Task("specialised", "resisc45", 45, ("train", 18_900), "train[25200:]", 6_300),
    "retinopathy": Task(
        "specialised", "diabetic_retinopathy_detection/btgraham-300", 5, ("validation", 0), "test", 42_670
    ),
    "clevr_count": _clevr(num_classes=8, label=_count_objects),
    "clevr_distance": _clevr(num_classes=6, label=_nearest_object),
    "dmlab": Task("structured", "dmlab", 6, ("validation", 0), "test", 22_735, crop=False),
    "dsprites_location": _dsprites(label=_part_of("label_x_position", 2), features=("label_x_position",), crop=False),
    "dsprites_orientation": _dsprites(label=_part_of("label_orientation", 2.5), features=("label_orientation",)),
    "kitti_distance": Task(
        "structured", "kitti", 4, ("validation", 0), "test", 711, _nearest_vehicle, ("objects",), crop=False
    ),
    "smallnorb_azimuth": _smallnorb(
        num_classes=18, label=operator.itemgetter("label_azimuth"), features=("label_azimuth",), flip=False
    ),
    "smallnorb_elevation": _smallnorb(
        num_classes=9, label=operator.itemgetter("label_elevation"), features=("label_elevation",)
    ),
}


class _Masks(Tfds):
    """Images of 0 and 1, shown as black and white."""

    def __getitem__(self, index: int) -> dict:
        record = super().__getitem__(index)
        return {**record, "image": as_rgb(record["image"]) * np.uint8(255)}


def open_task(name: str, *, split: str, data_dir: str | None) -> Tfds:
    """Opens a split of a task.

    Args:
      name: one of `TASKS`.
      split: one of `SPLITS`.
      data_dir: where TFDS data sets lie; None for TFDS's own default.

    Returns:
      A source of the task's classes, which have numbers for names.

    Raises:
      ConfigError: the name or the split is unknown, or the data set is not prepared.
    """
    task = TASKS[one_of("VTAB task", name, TASKS)]
    one_of(f"the split of vtab:{name}", split, SPLITS)
    labels = Labels(tuple(map(str, range(task.num_classes))), task.features, task.label)
    source = _Masks if task.masks else Tfds
    return source(task.tfds, split=task.split(split), data_dir=data_dir, labels=labels)
