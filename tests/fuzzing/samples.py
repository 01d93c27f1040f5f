"""What is damaged: a run and its work directory, a sweep, weight files, images, a data set, all of them tiny."""

import io
import json
import pickle
import sys
import types
import zipfile
from pathlib import Path

import cv2
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from fuzzing.process import command
from mixer_jax import load_config
from mixer_jax.training import run, sweep
from mixer_jax.weights.load import load_weights, save_weights

RECIPE = """
from mixer_jax.config import base


def get_config(mode=""):
    config = base.get_config()
    config.batch_size = config.eval.batch_size = 16
    config.steps, config.schedule.warmup_steps, config.log_every = 2, 1, 1
    config.eval.every = config.checkpoint.every = 1
    config.data.source, config.data.num_classes, config.data.image_size, config.data.threads = "digits", 10, 8, 0
    config.data.train.crop, config.data.evaluate.crop, config.data.evaluate.resize = "pad", "resize", 8
    config.data.train.resize = 9
    config.model.update(dict(name="mixer", patch_size=4, num_blocks=1, hidden_dim=8, tokens_mlp_dim=4))
    config.model.channels_mlp_dim, config.model.dtype = 8, "float32"
    config.sweep.learning_rates = (0.001, 0.01)
    config.sweep.train_split, config.sweep.held_out_split = "train", "train"
    return config
"""
RUN, SWEEP, RECORD = "run", "swept", "run/evaluation/imagenet-8.json"
WEIGHTS = ("weights.npz", "weights.safetensors", "weights.pth")
IMAGES = {".jpg": [], ".png": [], ".bmp": [], ".webp": [], ".gif": [], ".tiff": []}
DATA_SET = "tiny"


def make(folder: Path) -> str:
    """Writes them all into a folder."""
    (folder / "recipe.py").write_text(RECIPE)
    _images(folder)
    source, data_dir = f"--source={folder}/images", f"--data_dir={folder}/data"
    command("prepare", source, data_dir, f"--name={DATA_SET}", "--workers=1", "--split=train")
    config = load_config(folder / "recipe.py")
    run.train(config, folder / RUN)
    sweep.sweep(config, folder / SWEEP)
    weights = load_weights(folder / RUN)
    for name in WEIGHTS[:2]:
        save_weights(folder / name, weights)
    with np.load(folder / WEIGHTS[0]) as arrays:
        _torch_file(folder / WEIGHTS[2], {name: arrays[name] for name in arrays.files})
    record = {
        "suite": "imagenet",
        "checkpoint": "a",
        "model": {"name": "mixer_b16"},
        "image_size": 224,
        "pretraining": {"source": "tfds:imagenet2012", "epochs": 300.0},
        "changes": {},
        "metrics": {"imagenet/top1": 0.5},
        "missing": {},
    }
    (folder / RECORD).parent.mkdir()
    (folder / RECORD).write_text(json.dumps(record))
    return ""


def _images(folder: Path) -> None:
    chance = np.random.default_rng(0)
    for label in ("one", "two"):
        (folder / "images" / label).mkdir(parents=True)
        for number in range(3):
            pixels = cv2.resize(chance.integers(0, 256, (6, 6, 3), np.uint8), (40 + number, 50))
            cv2.imwrite(str(folder / "images" / label / f"{number}.jpg"), pixels)


def encoded() -> dict[str, list[bytes]]:
    """Returns images of each format: grey, colour, with alpha and, as JPEG, of other samplings."""
    chance = np.random.default_rng(0)
    colour = cv2.resize(chance.integers(0, 256, (6, 6, 3), np.uint8), (70, 50))
    alpha = np.dstack([colour, colour[..., :1]])
    found: dict[str, list[bytes]] = {}
    for ending in IMAGES:
        images = [colour, colour[..., 0], *([alpha] if ending in (".png", ".webp", ".tiff") else [])]
        found[ending] = []
        for image in images:
            file = io.BytesIO()
            Image.fromarray(image).save(file, Image.registered_extensions()[ending])
            found[ending].append(file.getvalue())
    for option, value in ((cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)):
        found[".jpg"].append(cv2.imencode(".jpg", colour, [option, value])[1].tobytes())
    return found


def changed_config(recipe: Path, key: str, value: object):
    """Returns the config of a recipe with a value that a recipe of its own could hold, of whatever type."""
    values = load_config(recipe).to_dict()
    *sections, leaf = key.split(".")
    section = values
    for name in sections:
        section = section[name]
    section[leaf] = value
    return ConfigDict(values)


def _torch_file(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes what torch.save writes of a dict of tensors, without PyTorch."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def rebuild(*_):
        raise NotImplementedError

    class FloatStorage:
        pass

    rebuild.__module__, rebuild.__qualname__, rebuild.__name__ = "torch._utils", *["_rebuild_tensor_v2"] * 2
    FloatStorage.__module__, FloatStorage.__qualname__ = "torch", "FloatStorage"
    utils._rebuild_tensor_v2, torch.FloatStorage, torch._utils = rebuild, FloatStorage, utils

    class Tensor:
        def __init__(self, key, array):
            self.storage, self.array = ("storage", FloatStorage, key, "cpu", array.size), array

        def __reduce__(self):
            stride = tuple(step // 4 for step in self.array.strides)
            return rebuild, (Storage(self.storage), 0, self.array.shape, stride, False, {})

    class Storage:
        def __init__(self, of):
            self.of = of

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return obj.of if isinstance(obj, Storage) else None

    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules |= {"torch": torch, "torch._utils": utils}
    try:
        described = io.BytesIO()
        whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        tensors = {name: Tensor(str(number), whole[name]) for number, name in enumerate(whole)}
        Pickler(described, protocol=2).dump(tensors)
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", described.getvalue())
            file.writestr("archive/version", "3\n")
            for number, array in enumerate(whole.values()):
                file.writestr(f"archive/data/{number}", array.tobytes())
    finally:
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module
