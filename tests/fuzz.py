"""The fuzz test: values, flags, files and images that nobody means, and what the program says of them.

    python tests/fuzz.py [--minutes=5] [--seed=0] [--only=configs,flags,workdirs,weights,images,data] [--verbose]

Not part of the default suite. Each case runs in a process of its own, in a folder of its own below one temporary
folder, and must be refused on one line or accepted: the test fails on a traceback, a hang, memory beyond a bound, or
where what a damaged checkpoint or weight file gives has changed without a word. Every kind has its share of the
minutes. It ends with a table for docs/reliability.md, and an exit code of 1 if a case failed.
"""

import argparse
import collections
import json
import os
import random
import sys
import tempfile
from functools import partial
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzzing import cases, region, samples
from fuzzing.process import Case, Outcome, command, run_all

_SHOWN = 40  # failures


def main() -> int:
    """Runs the cases of all kinds, prints what came of them, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(cases.KINDS), help="kinds of cases, between commas")
    parser.add_argument("--verbose", action="store_true", help="print every case")
    options = parser.parse_args()
    kinds = options.only.split(",")
    if unknown := set(kinds) - cases.KINDS.keys():
        parser.error(f"--only: {', '.join(sorted(unknown))} unknown; known: {', '.join(cases.KINDS)}")
    with tempfile.TemporaryDirectory(prefix="mixer_jax_fuzz_") as name:
        folder = Path(name)
        os.environ["HOME"] = os.environ["TMPDIR"] = str(folder)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
        sample = folder / "sample"
        sample.mkdir()
        _prepare(sample, folder)
        counts: dict[str, collections.Counter] = {}
        failed: list[Outcome] = []
        for kind in kinds:
            counts[kind] = collections.Counter()
            chance = random.Random(f"{options.seed} {kind}")
            seconds = 60 * options.minutes / len(kinds)
            for outcome in run_all(
                cases.KINDS[kind](sample, chance), folder, processes=os.cpu_count() or 1, seconds=seconds
            ):
                _count(outcome, counts[kind])
                failed += [outcome] * outcome.failed
                if outcome.failed or options.verbose:
                    print(f"{outcome.what}: {outcome.case.name} ({outcome.seconds:.1f} s): {outcome.said}", flush=True)
            print(f"{kind}: {dict(counts[kind])}", flush=True)
        if "images" in kinds:
            counts["region.c"] = region.count(folder, options.seed, seconds=30 * options.minutes / len(kinds))
    print(f"\n{table(counts)}")
    bad = len(failed) + counts.get("region.c", {}).get("failed", 0)
    print(f"\n{bad} cases failed" if bad else "\nno case failed")
    return 1 if bad else 0


def table(counts: dict[str, collections.Counter]) -> str:
    """Returns the numbers of all kinds as Markdown."""
    columns = ("tried", "refused", "accepted", "failed")
    lines = ["| what | cases tried | refused in one line | accepted | failed |", "|---|---|---|---|---|"]
    for kind, of in counts.items():
        lines.append(f"| {kind} | " + " | ".join(f"{of[column]:,}" for column in columns) + " |")
    total = sum(counts.values(), collections.Counter())
    lines.append("| all | " + " | ".join(f"{total[column]:,}" for column in columns) + " |")
    return "\n".join(lines)


def _count(outcome: Outcome, counts: collections.Counter) -> None:
    counts["tried"] += outcome.case.count
    if outcome.failed:
        counts["failed"] += 1
    elif outcome.case.count > 1:  # a case of many
        counts.update(json.loads(outcome.result))
    else:
        counts[outcome.what] += 1


def _prepare(sample: Path, folder: Path) -> None:
    """Makes what is damaged, and notes what the commands say of it while it is whole; each in a process of its own."""
    known = cases.of_run(sample)
    known["data"] = partial(command, *cases.on_data(sample, data_dir="data"))
    known |= {name: partial(cases.converted, name) for name in samples.WEIGHTS}
    known["read"] = partial(cases.read_data, Path("data"))
    rounds = (
        [Case("sample", "sample", lambda _: samples.make(sample))],
        [cases.baseline(sample, name, does) for name, does in known.items()],
        [Case("sample", name, cases.note_flags(sample, name)) for name in cases.lines_of(sample)],
    )
    for of in rounds:
        for outcome in run_all(of, folder, processes=os.cpu_count() or 1, seconds=300):
            if outcome.what != "accepted":
                print(f"not prepared: {outcome.case.name}: {outcome.what}: {outcome.said}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
