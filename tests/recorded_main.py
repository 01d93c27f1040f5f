"""main.py, with a record of the examples that each step trains on, for the processes that test_hosts starts.

python tests/recorded_main.py <record> <seconds to wait in a step> <flags of main.py>
"""

import dataclasses
import hashlib
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from mixer_jax import commands
from mixer_jax.training import run
from mixer_jax.training.program import build_program


def digests(images):
    """What tells the scans apart: a digest of the pixels of each."""
    return [hashlib.blake2b(image.tobytes(), digest_size=8).hexdigest() for image in images]


def recorded_program(record, seconds):
    """The function that builds a program whose training step writes a line of what it is given."""

    def build(config):
        program = build_program(config)

        def train_step(state, batch):
            shards = sorted(batch["image"].addressable_shards, key=lambda shard: shard.index[0].start or 0)
            images = np.concatenate([shard.data for shard in shards])
            record.write(json.dumps({"step": int(state.step), "images": digests(images)}) + "\n")
            time.sleep(seconds)
            return program.train_step(state, batch)

        return dataclasses.replace(program, train_step=train_step)

    return build


if __name__ == "__main__":
    path, pause, *arguments = sys.argv[1:]
    with open(path, "w", buffering=1) as file:
        run.build_program = recorded_program(file, float(pause))
        commands.run(["main.py", "train", *arguments], "main.py")
