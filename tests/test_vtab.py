"""VTAB-1k: the splits, labels and classes of every task, on hand-written records and on small TFDS data sets."""

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from tiny_tfds import write

from mixer_jax.data import sources, vtab
from mixer_jax.errors import ConfigError

# Group, TFDS data set, classes, val200, test split and its size, as in google-research/task_adaptation and its tests.
PUBLISHED = {
    "caltech101": ("natural", "caltech101", 102, "train[2754:2954]", "test", 6084),
    "cifar100": ("natural", "cifar100", 100, "train[45000:45200]", "test", 10000),
    "dtd": ("natural", "dtd", 47, "validation[:200]", "test", 1880),
    "flowers102": ("natural", "oxford_flowers102", 102, "validation[:200]", "test", 6149),
    "pets": ("natural", "oxford_iiit_pet", 37, "train[2944:3144]", "test", 3669),
    "sun397": ("natural", "sun397/tfds", 397, "validation[:200]", "test", 21750),
    "svhn": ("natural", "svhn_cropped", 10, "train[65931:66131]", "test", 26032),
    "camelyon": ("specialised", "patch_camelyon", 2, "validation[:200]", "test", 32768),
    "eurosat": ("specialised", "eurosat/rgb", 10, "train[16200:16400]", "train[21600:]", 5400),
    "resisc45": ("specialised", "resisc45", 45, "train[18900:19100]", "train[25200:]", 6300),
    "retinopathy": (
        "specialised",
        "diabetic_retinopathy_detection/btgraham-300",
        5,
        "validation[:200]",
        "test",
        42670,
    ),
    "clevr_count": ("structured", "clevr", 8, "train[63000:63200]", "validation", 15000),
    "clevr_distance": ("structured", "clevr", 6, "train[63000:63200]", "validation", 15000),
    "dmlab": ("structured", "dmlab", 6, "validation[:200]", "test", 22735),
    "dsprites_location": ("structured", "dsprites", 16, "train[589824:590024]", "train[663552:]", 73728),
    "dsprites_orientation": ("structured", "dsprites", 16, "train[589824:590024]", "train[663552:]", 73728),
    "kitti_distance": ("structured", "kitti", 4, "validation[:200]", "test", 711),
    "smallnorb_azimuth": ("structured", "smallnorb", 18, "test[:200]", "test[50%:]", 12150),
    "smallnorb_elevation": ("structured", "smallnorb", 9, "test[:200]", "test[50%:]", 12150),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_splits_and_classes_are_the_published_ones(name):
    task = vtab.TASKS[name]
    group, data_set, num_classes, val200, test, test_examples = PUBLISHED[name]
    assert (task.group, task.tfds, task.num_classes) == (group, data_set, num_classes)
    assert [task.split(split) for split in vtab.SPLITS] == ["train[:800]", val200, f"train[:800]+{val200}", test]
    assert task.test_examples == test_examples


def test_there_are_19_tasks_in_three_groups():
    assert list(vtab.TASKS) == list(PUBLISHED)
    groups = [task.group for task in vtab.TASKS.values()]
    assert [groups.count(group) for group in vtab.GROUPS] == [7, 4, 8]


def test_what_is_small_and_what_a_crop_or_a_mirror_changes():
    def without(attribute):
        return {name for name, task in vtab.TASKS.items() if not getattr(task, attribute)}

    assert set(vtab.TASKS) - without("small") == {
        "cifar100",
        "svhn",
        "eurosat",
        "dsprites_location",
        "dsprites_orientation",
    }
    assert without("flip") == {"dsprites_location", "dsprites_orientation", "smallnorb_azimuth"}
    assert without("crop") == {"clevr_count", "clevr_distance", "dmlab", "dsprites_location", "kitti_distance"}


@pytest.mark.parametrize("name", [name for name in PUBLISHED if vtab.TASKS[name].features == ("label",)])
def test_most_labels_are_the_data_sets_own(name):
    assert vtab.TASKS[name].label({"label": 3, "image": b""}) == 3


# What the labels that are computed are made of, in TFDS's own words.
PARTS = {"label_x_position": 32, "label_orientation": 40, "label_azimuth": 18, "label_elevation": 9}


@pytest.mark.parametrize("name", PUBLISHED)
def test_tfds_has_the_features_and_the_classes(name, tmp_path):
    task = vtab.TASKS[name]
    features = tfds.builder(task.tfds, data_dir=tmp_path).info.features
    assert {"image", *task.features} <= set(features)
    [feature] = task.features
    if feature != "objects":
        assert features[feature].num_classes == PARTS.get(feature, task.num_classes)


def clevr(depths):
    """A record of CLEVR with objects at these depths."""
    coordinates = np.array([[100.0 * n, 50.0, depth] for n, depth in enumerate(depths)], np.float32)
    return {"objects": {"pixel_coords": coordinates, "size": np.zeros(len(depths), np.int64)}}


@pytest.mark.parametrize("count", range(3, 11))
def test_clevr_count_counts_from_three(count):
    assert vtab.TASKS["clevr_count"].label(clevr([9.0] * count)) == count - 3


@pytest.mark.parametrize(
    ("depth", "label"),
    [(7.9, 0), (8.0, 0), (8.1, 1), (8.5, 1), (8.75, 2), (9.25, 3), (9.5, 3), (9.75, 4), (10.0, 4), (12.0, 5)],
)
def test_clevr_distance_is_that_of_the_nearest_object(depth, label):
    assert vtab.TASKS["clevr_distance"].label(clevr([30.0, depth, 25.0])) == label


def kitti(objects):
    """A record of KITTI with objects of (type, distance)."""
    types, distances = zip(*objects, strict=True) if objects else ((), ())
    location = np.array([[1.0, 2.0, distance] for distance in distances], np.float32).reshape(-1, 3)
    return {"objects": {"type": np.array(types, np.int64), "location": location}}


@pytest.mark.parametrize(
    ("objects", "label"),
    [
        ([], 3),
        ([(3, 5.0), (4, 1.0)], 3),  # a pedestrian and another who sits are no vehicles
        ([(0, 7.5), (3, 1.0)], 0),
        ([(1, 8.0)], 0),
        ([(2, 8.5), (0, 50.0)], 1),
        ([(0, 20.5), (1, 60.0)], 2),
        ([(0, -2.0)], 0),
    ],
)
def test_kitti_distance_is_that_of_the_nearest_vehicle(objects, label):
    assert vtab.TASKS["kitti_distance"].label(kitti(objects)) == label


def test_dsprites_have_sixteen_places_and_sixteen_orientations():
    places = [vtab.TASKS["dsprites_location"].label({"label_x_position": x}) for x in range(32)]
    assert places == [n for n in range(16) for _ in range(2)]
    turns = [vtab.TASKS["dsprites_orientation"].label({"label_orientation": np.int64(n)}) for n in range(40)]
    assert turns[:6] == [0, 0, 0, 1, 1, 2]
    assert [turns.count(n) for n in range(16)] == [3, 2] * 8


def test_smallnorb_has_two_labels():
    record = {"label_azimuth": 17, "label_elevation": 8}
    assert vtab.TASKS["smallnorb_azimuth"].label(record) == 17
    assert vtab.TASKS["smallnorb_elevation"].label(record) == 8


def png(image):
    return cv2.imencode(".png", image)[1].tobytes()


def opened(name, split, data_dir):
    classes = vtab.TASKS[name].num_classes
    return sources.open_with_classes(
        f"vtab:{name}", split=split, data_dir=str(data_dir), num_classes=classes, image_size=8
    )


def test_dsprites_are_read_as_black_and_white_images(tmp_path):
    mask = np.eye(64, dtype=np.uint8)[..., None]
    values = {f"value_{what}": 0.0 for what in ("shape", "scale", "orientation", "x_position", "y_position")}
    other = {f"label_{what}": 0 for what in ("shape", "scale", "y_position")}

    def example(n):
        return {"image": png(mask), "label_x_position": n % 32, "label_orientation": n % 40} | values | other

    write(tmp_path, "dsprites", {"train": [example(n) for n in range(800)]})
    location = opened("dsprites_location", "train800", tmp_path)
    assert [int(location[n]["label"]) for n in range(32)] == [n // 2 for n in range(32)]
    np.testing.assert_array_equal(location[0]["image"], np.repeat(mask * 255, 3, axis=-1))
    assert len(location.class_names) == 16
    orientation = opened("dsprites_orientation", "train800", tmp_path)
    assert [int(orientation[n]["label"]) for n in (0, 3, 39)] == [0, 1, 15]


def test_clevr_is_read_with_its_objects(tmp_path):
    image = png(np.full((4, 6, 3), 7, np.uint8))
    alike = {"color": 0, "material": 0, "shape": 0, "size": 0, "rotation": 0.0, "3d_coords": [0.0, 0.0, 0.0]}

    def scene(*depths):
        objects = [{**alike, "pixel_coords": [1.0, 2.0, depth]} for depth in depths]
        asked = [{"question": "What is there?", "answer": "a cube"}]
        return {"image": image, "file_name": "scene.png", "objects": objects, "question_answer": asked}

    write(tmp_path, "clevr", {"validation": [scene(11.0, 8.2, 9.0, 9.0), scene(*[12.0] * 10)]})
    count, distance = (opened(f"clevr_{what}", "test", tmp_path) for what in ("count", "distance"))
    assert [int(count[n]["label"]) for n in range(2)] == [1, 7]
    assert [int(distance[n]["label"]) for n in range(2)] == [1, 5]
    assert count[0]["image"] == image


def test_kitti_is_read_also_where_there_is_no_object(tmp_path):
    box = tfds.features.BBox(ymin=0.0, xmin=0.0, ymax=1.0, xmax=1.0)
    alike = {"truncated": 0.0, "occluded": 0, "alpha": 0.0, "bbox": box, "dimensions": [1.0] * 3, "rotation_y": 0.0}

    def scene(*objects):
        found = [{**alike, "type": kind, "location": [0.0, 0.0, distance]} for kind, distance in objects]
        return {"image": png(np.zeros((4, 9, 3), np.uint8)), "image/file_name": "000000.png", "objects": found}

    scenes = [scene((0, 30.0), (1, 12.0), (3, 2.0)), scene((3, 2.0)), scene()]
    write(tmp_path, "kitti", {"test": scenes})
    distance = opened("kitti_distance", "test", tmp_path)
    assert [int(distance[n]["label"]) for n in range(3)] == [1, 3, 3]
    types = tfds.builder("kitti", data_dir=tmp_path).info.features["objects"]["type"].names
    assert types[:3] == ["Car", "Van", "Truck"]


def test_smallnorb_is_tested_on_the_second_half(tmp_path):
    grey = png(np.full((96, 96, 1), 9, np.uint8))
    alike = {"image": grey, "image2": grey, "label_category": 0, "instance": 0, "label_lighting": 0}
    examples = [{**alike, "label_azimuth": n % 18, "label_elevation": n % 9} for n in range(24)]
    write(tmp_path, "smallnorb", {"test": examples})
    azimuth, elevation = (opened(f"smallnorb_{what}", "test", tmp_path) for what in ("azimuth", "elevation"))
    assert [int(azimuth[n]["label"]) for n in range(12)] == [12, 13, 14, 15, 16, 17, 0, 1, 2, 3, 4, 5]
    assert [int(elevation[n]["label"]) for n in range(3)] == [3, 4, 5]
    assert azimuth[0]["image"] == grey


@pytest.mark.parametrize(
    ("name", "split", "said"),
    [
        ("svhnn", "test", "VTAB task='svhnn' is unknown; did you mean 'svhn'?"),
        ("svhn", "train", "the split of vtab:svhn='train' is unknown; .*train800val200"),
        ("svhn", "test", "tfds:svhn_cropped' is not prepared: .*tfds build svhn_cropped --file_format=array_record"),
    ],
)
def test_what_cannot_be_opened_is_said(name, split, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        vtab.open_task(name, split=split, data_dir=str(tmp_path))
