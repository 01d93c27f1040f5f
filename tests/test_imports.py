"""The layers of the design: imports point one way, each library has one home, and TensorFlow is nowhere."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [
    {"config", "errors", "rng", "mesh", "interrupt", "lock", "hardware", "hosts", "paper"},
    {"data", "models", "losses", "mixup", "optim", "state", "metrics", "writer", "agreement"},
    {"step", "checkpoint", "progress", "prepare"},
    {"evaluate", "loop", "training", "trained", "report"},
    {"build", "transfer"},
    {"train", "replay", "cli", "benchmark", "planning", "predict"},
    {"sweep"},
    {"suites"},
    {"tools"},
    {"__main__"},
]
# Inside a layer, these are what all others may raise errors with.
EVERYWHERE = {"config", "errors"}
HOMES = {
    "grain": {"data"},
    "tensorflow_datasets": {"data", "prepare"},
    "array_record": {"prepare"},
    "cv2": {"data"},
    "sklearn": {"data"},
    "safetensors": {"models"},
    "torch": {"models"},
    "orbax": {"checkpoint"},
    "clu": {"writer", "progress"},
    "tensorboard": {"writer"},
    "absl": {"main", "cli", "tools", "__main__", "data"},
}


def part(path):
    """The part of the project that a file belongs to: `data` for mixer_jax/data/sources.py, `main` for main.py."""
    relative = path.relative_to(ROOT / "mixer_jax") if "mixer_jax" in path.parts else path.relative_to(ROOT)
    return relative.parts[0].removesuffix(".py")


def imported(path):
    """Absolute names of all modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FILES = [*sorted((ROOT / "mixer_jax").rglob("*.py")), ROOT / "main.py"]


def test_every_part_has_a_layer():
    parts = {part(path) for path in FILES} - {"__init__", "main"}
    assert parts == set.union(*LAYERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    level = {name: i for i, names in enumerate(LAYERS) for name in names} | {"main": len(LAYERS), "__init__": 0}
    own = part(path)
    for name in imported(path):
        if name.startswith("mixer_jax."):
            other = name.split(".")[1]
            down = level[other] < level[own] or other in EVERYWHERE
            assert own == other or down, f"{own} (layer {level[own]}) imports {other} (layer {level[other]})"
        for library, homes in HOMES.items():
            if name.split(".")[0] == library:
                assert own in homes, f"{library} belongs in {homes}, and {path} imports it"


def test_the_loop_never_sees_a_config():
    names = list(imported(ROOT / "mixer_jax" / "loop.py"))
    assert not [name for name in names if "config" in name or "ml_collections" in name]


@pytest.mark.parametrize("modules", ["mixer_jax.models, mixer_jax.step", "main"])
def test_nothing_imports_tensorflow(modules):
    # A finder that fails loudly: so the test means the same whether TensorFlow is installed or not.
    program = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tensorflow":
            raise RuntimeError("imports " + name)
sys.meta_path.insert(0, Refuse())
import {modules}
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)
