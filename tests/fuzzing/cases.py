"""The cases of the fuzz test by kind: each of `KINDS` yields them, in an order that chance draws."""

import importlib
import json
import random
import shutil
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from absl import flags as absl_flags
from ml_collections import ConfigDict

from fuzzing import damage, samples, values
from fuzzing.process import Case, command, in_its_own_process
from mixer_jax.config import base, recipes
from mixer_jax.config.compare import flatten
from mixer_jax.data.decode import Decoding, ImageError, as_rgb
from mixer_jax.data.sources import open_source
from mixer_jax.data.transforms import make_eval_transform, make_train_transform
from mixer_jax.suites import choices
from mixer_jax.suites import defaults as evaluation
from mixer_jax.training import run as training
from mixer_jax.training.program import build_program
from mixer_jax.training.sweep import sweep

_IMAGES_OF_A_CASE = 200
_REAL = 0.03  # share of the command lines that run as a user's do
_TRAINED = 0.2  # share of the configs that are trained with, not only built
_WORKERS = "data.workers"  # as many processes as are allowed are a burden, and no fault


def configs(sample: Path, chance: random.Random) -> Iterator[Case]:
    """Every key and section of the base config and of the evaluation's, with every value."""
    recipe = sample / "recipe.py"
    keys = [*flatten(base.get_config()), *(key for key in base.get_config() if "." not in key)]
    keys += ["data.train", "data.evaluate", "eval.fewshot", "eval.splits"]

    def used(config, own: Path, key: str, *, trains: bool) -> str:
        if key.startswith("sweep"):
            sweep(config, own / "w")
        elif trains:
            training.train(config, own / "w")
        else:
            build_program(config)
        return ""

    def made(key: str, value: object, trains: bool) -> Callable[[Path], str]:
        def run(own: Path) -> str:
            config = samples.changed_config(recipe, key, value)
            if key.startswith("eval.fewshot."):
                config.eval.evaluators = ("fewshot",)
            return used(config, own, key, trains=trains)

        return run

    def loaded(key: str, value: object, trains: bool) -> Callable[[Path], str]:
        return lambda own: used(recipes.load(recipe, {key: value}), own, key, trains=trains)

    def evaluated(key: str, value: object, trains: bool) -> Callable[[Path], str]:
        del trains

        def run(_: Path) -> str:
            values_by_key = evaluation.get_config().to_dict()
            *sections, leaf = key.split(".")
            section = values_by_key
            for name in sections:
                section = section[name]
            section[leaf] = value
            for suite in choices.SUITES:
                choices.check(suite, ConfigDict(values_by_key))
            return ""

        return run

    ways = {"recipe": (keys, made), "load_config": (keys, loaded)}
    ways["evaluate"] = ([*flatten(evaluation.get_config()), *evaluation.get_config()], evaluated)
    every = [
        Case("configs", f"{way}: {key}={values.in_short(value)}", make(key, value, chance.random() < _TRAINED))
        for way, (of, make) in ways.items()
        for key in of
        for value in values.PYTHON
        if key != _WORKERS or not isinstance(value, int) or value < 3 or value > 2**30
    ]
    chance.shuffle(every)
    yield from every


def recipe_files(sample: Path) -> Iterator[Case]:
    """Files that are no recipes."""
    texts = {
        "nothing": "",
        "a syntax error": "def get_config(:",
        "a tab": "if True:\n        x = 1\n\tx = 2\n",
        "raises": "raise RuntimeError('a\\nb')",
        "exits": "import sys; sys.exit(3)",
        "no module": "import nothing_of_that_name",
        "a dict": "def get_config(): return {'batch_size': 3}",
        "None": "def get_config(): return None",
        "no function": "get_config = 3",
        "two arguments": "def get_config(a, b): return None",
        "recursion": "def get_config(): return get_config()",
        "an empty config": "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict()",
        "another config": "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({'data': 3})",
        "a misspelt key": "from configs import base\ndef get_config():\n c = base.get_config()\n c.sed = 3\n return c",
        "a binary": "\0\1\2\3",
    }
    for name, text in texts.items():
        for flag in ("train", "sweep", "benchmark", "benchmark data", "evaluate", "plan"):

            def run(own: Path, text: str = text, flag: str = flag) -> str:
                (own / "mine.py").write_text(text)
                also = {"evaluate": [f"--checkpoint={sample}/run", "--suite=imagenet"], "plan": ["--topology=v3:2x2"]}
                return command(*flag.split(), "--config=mine.py", *also.get(flag, []))

            yield Case("configs", f"{flag} --config=<{name}>", run)


def lines_of(sample: Path) -> dict[str, list[str]]:
    """Returns for every command a line that works, of files in the sample and of the current folder."""
    recipe, checkpoint = f"--config={sample}/recipe.py", f"--checkpoint={sample}/{samples.RUN}"
    digits = ["--config.imagenet.source=digits", "--config.imagenet.split=test", "--config.eval.batch_size=64"]
    short = ["--seconds=0.01", "--rounds=1"]
    return {
        "train": [recipe, "--workdir=w"],
        "sweep": [recipe, "--workdir=w"],
        "replay": [f"--workdir={sample}/{samples.RUN}", "--step=2"],
        "predict": [checkpoint, f"{sample}/images"],
        "convert": [f"--source={sample}/{samples.RUN}", "--target=w.npz"],
        "evaluate": [checkpoint, "--suite=imagenet", "--workdir=w", *digits],
        "report": [f"--runs={sample}"],
        "prepare": [f"--source={sample}/images", "--name=mine", "--data_dir=data", "--workers=1"],
        "plan": [recipe, "--topology=v3:2x2"],
        "benchmark": [recipe, "--batch_sizes=1", *short],
        "benchmark data": [recipe, "--threads=1", "--workers=1", "--images=8", "--batch_size=4", *short],
    }


def flags(sample: Path, chance: random.Random) -> Iterator[Case]:
    """Every flag of every command with every word, and without one."""
    yield from recipe_files(sample)
    every = []
    for name, line in lines_of(sample).items():
        known = json.loads((sample / f"flags of {name}.json").read_text())
        for flag in known:
            for word in (None, *values.WORDS):
                if flag == "workers" and word and word.isdecimal() and int(word[:9]) > 2:
                    continue  # as many processes as are asked for
                given = f"--{flag}" if word is None else f"--{flag}={word}"
                argv = [*name.split(), *(part for part in line if not part.startswith(f"--{flag}=")), given]

                shown = "" if word is None else f"={values.in_short(word)}"
                real = chance.random() < _REAL and "\udcff" not in given
                every.append(Case("flags", f"{name} --{flag}{shown}", _line(argv, real=real)))
        every += [
            Case("flags", f"{name} {values.in_short(word)}", _line([*name.split(), word])) for word in values.WORDS
        ]
    chance.shuffle(every)
    yield from every


def _line(argv: list[str], *, real: bool = False) -> Callable[[Path], str]:
    """Returns what runs a command line: in this process, which has imported everything, or in one of its own."""
    return lambda _: in_its_own_process(*argv) if real else command(*argv)


def note_flags(sample: Path, name: str) -> Callable[[Path], str]:
    """Returns what writes down the names of a command's flags, which only one command of a process can define."""

    def run(_: Path) -> str:
        module = importlib.import_module(f"mixer_jax.commands.{name.replace(' ', '_')}")
        own_flags = absl_flags.FLAGS.get_key_flags_for_module(module)
        names = [flag.name for flag in own_flags] + ["flagfile", "verbosity", "help", "config.seed", "config.nothing"]
        (sample / f"flags of {name}.json").write_text(json.dumps(names))
        return ""

    return run


def workdirs(sample: Path, chance: random.Random) -> Iterator[Case]:
    """Every file of a work directory damaged in every way, and every command that reads it."""
    lines = {name: of_run(sample)[name] for name in ("train", "replay", "predict", "convert")}
    lines["evaluate"] = partial(command, "evaluate", "--checkpoint=run", *lines_of(sample)["evaluate"][1:])
    lines["report"] = partial(command, "report", "--runs=.")
    of_arrays = ("predict", "replay", "convert", "train")
    files = [path.relative_to(sample) for path in sorted((sample / samples.RUN).rglob("*")) if path.is_file()]
    every = []
    for file in files:
        for way, harm in damage.ways(chance).items():
            for name, does in lines.items():
                of_array = name in of_arrays and "checkpoints" in file.parts
                [unchanged] = _read_texts(sample, name) if of_array else [None]
                run = _damaged(sample / samples.RUN, file, harm, does)
                step = file.parts[2] if "checkpoints" in file.parts else file.name
                every.append(Case("workdirs", f"{name}, {file} {way}", run, unchanged, step))
    swept = [path.relative_to(sample) for path in sorted((sample / samples.SWEEP).rglob("*.json")) if path.is_file()]
    for file in swept:
        for way, harm in damage.ways(chance).items():
            argv = ["sweep", f"--config={sample}/recipe.py", f"--workdir={samples.SWEEP}"]
            run = _damaged(sample / samples.SWEEP, file, harm, partial(command, *argv))
            every.append(Case("workdirs", f"sweep, {file} {way}", run))
    chance.shuffle(every)
    yield from every


def of_run(sample: Path) -> dict[str, Callable[[], str]]:
    """Returns by name what reads the run in the current folder, and what comes of which is to stay the same."""
    return {
        "train": partial(command, "train", f"--config={sample}/recipe.py", "--workdir=run"),
        "replay": partial(command, "replay", "--workdir=run", "--step=2"),
        "predict": partial(command, "predict", "--checkpoint=run", f"{sample}/images/one"),
        "convert": partial(converted, "run"),
    }


def converted(source: str) -> str:
    """Converts weights; returns what is printed, and the sum of what is written, which every bit of them changes."""
    said = command("convert", f"--source={source}", "--target=written.npz")
    return f"{said}{zlib.crc32(Path('written.npz').read_bytes())}\n"


def baseline(sample: Path, name: str, does: Callable[[], str]) -> Case:
    """Returns what writes down what comes of something while the run, the data and the files are whole."""

    def run(own: Path) -> str:
        for folder in (samples.RUN, "data"):
            shutil.copytree(sample / folder, own / folder)
        for file in samples.WEIGHTS:
            shutil.copy(sample / file, own / file)
        (sample / f"{name}.txt").write_text(does())
        return ""

    return Case("workdirs", name, run)


def _damaged(whole: Path, file: Path, harm: Callable[[Path], None], does: Callable[[], str]) -> Callable[[Path], str]:
    def run(own: Path) -> str:
        shutil.copytree(whole, own / whole.name)
        harm(own / file)
        return does()

    return run


def weights(sample: Path, chance: random.Random) -> Iterator[Case]:
    """Weight files of each kind, damaged, converted to what they were without."""

    def run_of(name: str, harm: Callable[[Path], None]) -> Callable[[Path], str]:
        def run(own: Path) -> str:
            shutil.copy(sample / name, own / name)
            harm(own / name)
            return converted(name)

        return run

    while True:
        for name in samples.WEIGHTS:
            [unchanged] = _read_texts(sample, name)
            ways = list(damage.ways(chance, flips=20).items())
            ways += [damage.mutation(chance.random()) for _ in range(20)]
            for way, harm in ways:
                yield Case("weights", f"{name} {way}", run_of(name, harm), unchanged, name)


def images(sample: Path, chance: random.Random) -> Iterator[Case]:
    """Images of every format, a few bytes of which are others, decoded, cropped and augmented."""
    del sample
    known = samples.encoded()
    evaluate = make_eval_transform(size=32, decoding=Decoding(exif_orientation=True), crop="resmall", resize=36)
    train = make_train_transform(
        size=32,
        decoding=Decoding(),
        crop="inception",
        resize=36,
        flip=True,
        randaugment_layers=0,
        randaugment_magnitude=0,
    )

    def run_of(ending: str, seed: float) -> Callable[[Path], str]:
        def run(own: Path) -> str:
            import numpy as np

            of = random.Random(seed)
            counts = {"refused": 0, "accepted": 0}
            for _ in range(_IMAGES_OF_A_CASE):
                data = damage.mutated(of.choice(known[ending]), of)
                (own / "image").write_bytes(data)  # what was read last, should the process die of it
                try:
                    assert as_rgb(data).shape[2] == 3
                    assert evaluate({"image": data, "label": 0})["image"].shape == (32, 32, 3)
                    assert train({"image": data, "label": 0}, np.random.default_rng(0))["image"].shape == (32, 32, 3)
                    counts["accepted"] += 1
                except ImageError:
                    counts["refused"] += 1
            return json.dumps(counts)

        return run

    while True:
        for ending in known:
            if known[ending]:
                seed = chance.random()
                yield Case("images", f"{ending} {seed}", run_of(ending, seed), count=_IMAGES_OF_A_CASE)


def data(sample: Path, chance: random.Random) -> Iterator[Case]:
    """Every file of a prepared data set damaged; all of it is read, and now and then it is trained on."""
    argv, of_training, of_reading = on_data(sample, data_dir="data"), *_read_texts(sample, "data", "read")
    files = [path.relative_to(sample) for path in sorted((sample / "data").rglob("*")) if path.is_file()]
    while True:
        every = [(file, way, harm) for file in files for way, harm in damage.ways(chance, flips=10).items()]
        chance.shuffle(every)
        for number, (file, way, harm) in enumerate(every):
            trains = number % 10 == 0
            does = partial(command, *argv) if trains else partial(read_data, Path("data"))
            run, unchanged = _damaged(sample / "data", file, harm, does), of_training if trains else of_reading
            yield Case("data", f"{file} {way}", run, unchanged, file.name)


def read_data(folder: Path) -> str:
    """Returns what is in the examples of a data set."""
    source = open_source(f"tfds:{samples.DATA_SET}", split="train", data_dir=str(folder), num_classes=2, image_size=8)
    examples = [source[index] for index in range(len(source))]
    return " ".join(f"{zlib.crc32(example['image'])} {example['label']}" for example in examples)


def _read_texts(sample: Path, *names: str) -> list[str | None]:
    """Returns what was printed while everything was whole; None where that was refused, which is said before."""
    return [known.read_text() if (known := sample / f"{name}.txt").exists() else None for name in names]


def on_data(sample: Path, *, data_dir: str) -> list[str]:
    """Returns what trains on the data set and tests on all of it."""
    argv = ["train", f"--config={sample}/recipe.py", "--workdir=w", f"--config.data.source=tfds:{samples.DATA_SET}"]
    argv += [f"--config.data.data_dir={data_dir}", "--config.data.num_classes=2", "--config.batch_size=4"]
    return [*argv, "--config.eval.splits={'test': 'train'}", "--config.steps=1", "--config.schedule.warmup_steps=0"]


KINDS = {
    "configs": configs,
    "flags": flags,
    "workdirs": workdirs,
    "weights": weights,
    "images": images,
    "data": data,
}
