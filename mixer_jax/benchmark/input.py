"""How fast the input pipeline of a config is by itself, on images of its data set that are held in memory."""

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import cast

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from mixer_jax.benchmark import tf_data
from mixer_jax.config import ranges
from mixer_jax.data import batches, jpeg, transforms
from mixer_jax.data.decode import ImageError, as_rgb
from mixer_jax.errors import ConfigError
from mixer_jax.models import registry
from mixer_jax.models.cost import forward_flops
from mixer_jax.runtime import hardware
from mixer_jax.training.input import open_split

TF_DATA = "tf.data, crop and flip"
_CHIPS = ("TPU v2", "TPU v3", "TPU v4", "TPU v5e", "TPU v5p", "TPU v6e", "NVIDIA A100-SXM4-80GB", "NVIDIA H200")


def measure(
    config: ConfigDict,
    *,
    processes: Sequence[tuple[int, int]],
    seconds: float,
    rounds: int,
    batch_size: int,
    images: int,
) -> dict:
    """Measures the input pipeline of a config, on images of its training split that are held in memory.

    Args:
      config: a recipe.
      processes: (workers, threads of each) to measure, as config.data.workers and config.data.threads.
      seconds: that each measurement takes.
      rounds: measurements of each kind; they are taken in turns, so that what else the machine does hits all alike.
      batch_size: images of a batch.
      images: how many images of the data set to use.

    Returns:
      What `as_text` shows, ready for JSON.
    """
    ranges.check(config)
    source = open_split(config, config.data.split)
    begin = time.perf_counter()
    examples = [source[index] for index in range(min(images, len(source)))]
    read = (time.perf_counter() - begin) / len(examples)
    examples, undecodable = _decodable(examples)
    pipelines, without = _pipelines(config, examples, processes=processes, batch_size=batch_size)
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in pipelines}
    with tqdm(total=rounds * len(rates), unit="run", disable=not sys.stderr.isatty(), leave=False) as bar:
        for name, make in itertools.islice(itertools.cycle(pipelines.items()), rounds * len(pipelines)):
            bar.set_description(name)
            rates[name].append(_rate(make, seconds=seconds, batch_size=batch_size))
            bar.update()
    return {
        "source": config.data.source,
        "images": len(examples),
        "left_out": undecodable,
        "image_size": config.data.image_size,
        "batch_size": batch_size,
        "cores": hardware.cpu_cores(),
        "jpeg": "region" if jpeg.REGION_IS_BUILT else "whole",
        "pipelines": {
            name: {
                "images_per_s": [round(wall, 1) for wall, _ in pairs],
                "images_per_s_median": round(statistics.median(wall for wall, _ in pairs), 1),
                "images_per_cpu_s_median": round(statistics.median(cpu for _, cpu in pairs), 1),
            }
            for name, pairs in rates.items()
        },
        "not_measured": without,
        "microseconds_an_image": {"read": round(read * 1e6, 1), **_stages(config, examples)},
        "model": config.model.name,
        "needed": _needed(config),
    }


def _decodable(examples: list[dict]) -> tuple[list[dict], int]:
    """Returns the examples whose images can be decoded, and how many others there are."""

    def can_be_decoded(example):
        try:
            as_rgb(example["image"])
        except ImageError:
            return False
        return True

    kept = [example for example in examples if can_be_decoded(example)]
    if not kept:
        raise ConfigError(f"config.data.source: none of the first {len(examples)} images can be decoded")
    return kept, len(examples) - len(kept)


def _chains(config: ConfigDict) -> dict[str, Callable]:
    """Returns what is done to an image, by name: without RandAugment, and as the config says."""
    size = {"size": config.data.image_size, "decoding": transforms.decoding_of(config.data)}
    train = {**config.data.train}
    chains = {"crop and flip": train | {"randaugment_layers": 0}}
    if layers := train["randaugment_layers"]:
        chains[f"crop, flip, RandAugment({layers}, {train['randaugment_magnitude']:g})"] = train
    return {name: transforms.make_train_transform(**size, **chain) for name, chain in chains.items()}


def _pipelines(config, examples, *, processes, batch_size) -> tuple[dict[str, Callable[[], Iterator]], dict[str, str]]:
    """Returns what to measure by name, and by name why something is not."""

    def own(transform, workers, threads):
        return lambda: batches.train_batches(
            _Repeated(examples),
            transform,
            seed=config.seed,
            batch_size=batch_size,
            start=0,
            stop=sys.maxsize // batch_size,
            workers=workers,
            threads=threads,
            prefetch=config.data.prefetch,
        )

    pipelines = {
        f"{name}; {f'{workers} x ' if workers else ''}{threads} threads": own(transform, workers, threads)
        for workers, threads in processes
        for name, transform in _chains(config).items()
    }
    encoded = [example["image"] for example in examples]
    if why := _no_tf_data(encoded, config.data.train.crop):
        return pipelines, {TF_DATA: why}
    reference = {TF_DATA: lambda: tf_data.batches(encoded, size=config.data.image_size, batch_size=batch_size)}
    return reference | pipelines, {}


def _no_tf_data(images, crop: str) -> str:
    """Says why there is no `tf.data` pipeline to compare with; an empty string if there is one."""
    if crop != "inception":
        return f"config.data.train.crop={crop!r}, and it is written for the inception crop"
    if not all(isinstance(image, bytes) and image.startswith(b"\xff\xd8") for image in images):
        return "it is written for JPEG files, and not all of the images are"
    try:
        import tensorflow  # noqa: F401
    except ImportError:
        return "TensorFlow is not installed"
    return ""


class _Repeated:
    """A source that is long enough for its order to be worked out seldom."""

    def __init__(self, examples: list[dict]):
        self._examples = examples

    def __len__(self) -> int:
        return 10**6 // len(self._examples) * len(self._examples)

    def __getitem__(self, index: int) -> dict:
        return self._examples[index % len(self._examples)]

    def describe(self, index: int) -> str:
        return f"example {index % len(self._examples)}"


def _rate(make: Callable[[], Iterator], *, seconds: float, batch_size: int) -> tuple[float, float]:
    """Returns images per second, and per second that this process computes (worker processes do not count)."""
    iterator = cast(Generator, make())  # all pipelines are generators
    for _ in range(3):
        next(iterator)
    count, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() < wall + seconds:
        next(iterator)
        count += batch_size
    rates = count / (time.perf_counter() - wall), count / (time.process_time() - cpu)
    iterator.close()
    time.sleep(0.1)  # its threads end
    return rates


def _stages(config: ConfigDict, examples: list[dict], repeats: int = 3) -> dict[str, float]:
    """Times on one thread, in microseconds an image: decoding, cropping and flipping; RandAugment."""
    stages, before = {}, 0.0
    for name, transform in zip(("decode, crop, flip", "RandAugment"), _chains(config).values(), strict=False):
        times = []
        for _ in range(repeats):
            begin = time.thread_time()
            for number, example in enumerate(examples):
                transform(example, np.random.default_rng(number))
            times.append((time.thread_time() - begin) / len(examples) * 1e6)
        stages[name] = round(max(min(times) - before, 0.0), 1)
        before = min(times)
    return stages


def _needed(config: ConfigDict) -> dict[str, int]:
    """Returns the images per second that training takes on a JAX device of each kind at the peak of the device."""
    model = registry.create_model(**config.model, num_classes=config.data.num_classes)
    flops = 3 * forward_flops(model, config.data.image_size)
    return {chip: round(_peak_flops(chip) / flops) for chip in _CHIPS}


def _peak_flops(name: str) -> float:
    chip = hardware.of(name)
    assert chip is not None  # all of _CHIPS are known
    assert chip.bfloat16_flops is not None  # and have units for it
    return chip.bfloat16_flops


def as_text(report: dict) -> str:
    """Returns the tables of a report of `measure`."""
    decoded = {"region": "only the region of the crop", "whole": "whole; region.c is not built (see the README)"}
    lines = [
        f"{report['images']} images of {report['source']}, held in memory, to {report['image_size']} pixels, "
        f"batches of {report['batch_size']}, {report['cores']} cores",
        *([f"{report['left_out']} others cannot be decoded"] if report["left_out"] else []),
        f"of a JPEG is decoded: {decoded[report['jpeg']]}",
        "",
        f"{'pipeline':52}{'images/s':>10}{'from':>9}{'to':>9}{'images/CPU s':>14}",
    ]
    for name, values in report["pipelines"].items():
        rates = values["images_per_s"]
        own_cpu = "-" if " x " in name else f"{values['images_per_cpu_s_median']:,.0f}"
        lines.append(
            f"{name:52}{values['images_per_s_median']:10,.0f}{min(rates):9,.0f}{max(rates):9,.0f}{own_cpu:>14}"
        )
    lines += [f"{name:52} not measured: {why}" for name, why in report["not_measured"].items()]
    lines += ["", f"{'one thread':52}{'us/image':>10}"]
    lines += [f"{name:52}{value:10,.0f}" for name, value in report["microseconds_an_image"].items()]
    rate = max(v["images_per_s_median"] for name, v in report["pipelines"].items() if name != TF_DATA) / report["cores"]
    title = f"training {report['model']} takes at most, a device"
    lines += ["", f"{title:52}{'images/s':>10}{'cores like these':>19}"]
    lines += [f"{name:52}{need:10,}{need / rate:19,.1f}" for name, need in report["needed"].items()]
    return "\n".join(lines)
