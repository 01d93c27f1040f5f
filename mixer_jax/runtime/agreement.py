"""What all processes of a run must have in common, and the check that they do."""

import collections
import contextlib
import hashlib
import json
import platform
import uuid
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from mixer_jax.errors import ConfigError
from mixer_jax.runtime import hosts

# Packages that shape the data, the state or the checkpoints of a run.
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "opencv-python-headless", "grain", "orbax-checkpoint")


def check(facts: Mapping[str, object], workdir: Path) -> None:
    """Raises a ConfigError, on every process, if the processes differ; every process has to call this.

    Args:
      facts: what has to be the same everywhere, by name; values that JSON can hold.
      workdir: the work directory, which all must share; process 0 creates it if need be.
    """
    _check_devices()
    own = {**facts, "--workdir": _see(workdir)}
    everyone = [json.loads(text) for text in hosts.gather(json.dumps(own))]
    different = [
        f"{name} ({_by_value([others.get(name) for others in everyone])})"
        for name in sorted({name for others in everyone for name in others})
        if any(others.get(name) != everyone[0].get(name) for others in everyone)
    ]
    if different:
        raise ConfigError(
            f"the processes differ in {'; '.join(different)}. "
            "Start all of them with the same config, code, environment, data and shared work directory"
        )


def environment() -> dict[str, str]:
    """Returns the facts of the program: versions of Python and of what shapes a run, and a digest of the code."""
    package = Path(__file__).parents[1]
    code = hashlib.blake2b(digest_size=8)
    for file in sorted(package.rglob("*.py")):
        code.update(f"{file.relative_to(package)}\n".encode() + file.read_bytes())
    versions = {name: metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **versions, "code of mixer_jax": code.hexdigest()}


def fingerprint(source, records: int = 8) -> str:
    """Returns the size of a data set, its number of classes, and a digest of some records spread over it.

    Args:
      source: an indexable data set (`data.sources.Source`).
      records: how many to read.
    """
    digest = hashlib.blake2b(digest_size=8)
    for index in np.linspace(0, len(source) - 1, records).astype(int):
        record = source[int(index)]
        image = record["image"]
        digest.update(image if isinstance(image, bytes) else np.ascontiguousarray(image).tobytes())
        digest.update(str(int(record["label"])).encode())
    return f"{len(source)} examples of {source.num_classes} classes, digest {digest.hexdigest()}"


def _check_devices() -> None:
    """Raises a ConfigError if the processes drive different numbers of devices; all see the same list."""
    counts = collections.Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        raise ConfigError(
            f"the processes differ in their number of devices ({_by_value([counts[i] for i in sorted(counts)])}); "
            "a batch is cut into equal parts"
        )


def _see(workdir: Path) -> str:
    """Returns how this process sees the work directory: as every other does, if they share it."""
    mark, token = workdir / ".process_0", uuid.uuid4().hex
    if jax.process_index() == 0:
        with contextlib.suppress(OSError):  # then nobody finds it, and the run fails with the reason
            workdir.mkdir(parents=True, exist_ok=True)
            mark.write_text(token)
    token = hosts.gather(token)[0]
    try:
        shared = mark.read_text() == token
    except OSError:
        shared = False
    multihost_utils.sync_global_devices("all have looked at the work directory")
    if shared and jax.process_index() == 0:
        mark.unlink()
    return "shared with process 0" if shared else "not shared with it"


def _by_value(values: list) -> str:
    """Says which processes have which value: [1, 2, 2] -> "1 on process 0, 2 on processes 1 and 2"."""
    processes = collections.defaultdict(list)
    for process, value in enumerate(values):
        processes[json.dumps(value)].append(str(process))
    parts = []
    for value, group in processes.items():
        if len(group) > 4:
            group = [*group[:3], f"{len(group) - 3} more"]
        listed = f"{', '.join(group[:-1])} and {group[-1]}" if group[1:] else group[0]
        parts.append(f"{value} on process{'es' if group[1:] else ''} {listed}")
    return ", ".join(parts)
