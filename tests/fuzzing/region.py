"""region.c under AddressSanitizer and UndefinedBehaviorSanitizer, with JPEGs a few bytes of which are others."""

import collections
import json
import random
import shutil
import subprocess
import time
from pathlib import Path

from fuzzing import damage, samples

_REGION = Path(__file__).parents[2] / "mixer_jax" / "data" / "region.c"
_HARNESS = Path(__file__).with_name("region.c")
_FILES = 200  # of a run of the harness


def count(folder: Path, seed: int, *, seconds: float) -> collections.Counter:
    """Returns how many boxes were tried, refused and accepted, and how many runs failed; what they said is printed."""
    counts: collections.Counter = collections.Counter()
    program = folder / "region"
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
    compiler = shutil.which("cc")
    built = compiler and subprocess.run(
        [compiler, *sanitize, str(_HARNESS), str(_REGION), "-ljpeg", "-o", str(program)], capture_output=True, text=True
    )
    if not built or built.returncode:
        reason = built.stderr.splitlines()[:1] if built else "there is no C compiler"
        print(f"region.c: left out: {reason}", flush=True)
        return counts
    chance, known = random.Random(seed), samples.encoded()[".jpg"]
    own, deadline = folder / "jpegs", time.monotonic() + seconds
    own.mkdir()
    while time.monotonic() < deadline:
        files = [own / f"{number}.jpg" for number in range(_FILES)]
        for file in files:
            file.write_bytes(damage.mutated(chance.choice(known), chance))
        done = subprocess.run([program, *files], capture_output=True, text=True, timeout=300)
        if done.returncode:
            counts["failed"] += 1
            print(f"region.c: {done.stderr[:2000]}", flush=True)
            continue
        of = json.loads(done.stdout)
        counts.update(of)
        counts["tried"] += of["refused"] + of["accepted"]
    print(f"region.c: {dict(counts)}", flush=True)
    return counts
