"""The layers of the design: imports point one way, each library has one home, and TensorFlow is nowhere."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [
    {"errors", "rng", "paper"},
    {"config", "runtime"},
    {"data", "models", "steps", "cli"},
    {"workdir", "evaluators"},
    {"weights", "prepare"},
    {"training", "report"},
    {"suites", "inference", "planning", "benchmark"},
    {"commands"},
    {"__main__", "__init__"},
    {"configs", "main"},
]
HOMES = {
    "grain": {"data"},
    "tensorflow_datasets": {"data", "prepare"},
    "array_record": {"prepare"},
    "cv2": {"data"},
    "sklearn": {"data"},
    "safetensors": {"weights"},
    "torch": set(),  # its files are read without it
    "orbax": {"workdir"},
    "clu": {"workdir", "training"},
    "tensorboard": {"workdir"},
    "absl": {"main", "cli", "commands", "__main__", "data"},
}


def part(module):
    """The part of the project that a module belongs to: `data` for mixer_jax.data.sources, `main` for main."""
    names = module.split(".")
    if names[0] != "mixer_jax":
        return names[0]
    return names[1] if len(names) > 1 else "__init__"


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path):
    """Absolute names of all that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FILES = [*sorted((ROOT / "mixer_jax").rglob("*.py")), *sorted((ROOT / "configs").glob("*.py")), ROOT / "main.py"]
MODULES = {module_of(path): path for path in FILES}


def imported_modules(path):
    """Those of the project's own modules that a file imports."""
    for name in imported(path):
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        if name:
            yield name


def test_every_part_has_a_layer():
    assert {part(module) for module in MODULES} == set.union(*LAYERS)


def test_the_top_of_the_package_is_small():
    assert len(list((ROOT / "mixer_jax").glob("*.py"))) <= 6


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    level = {name: i for i, names in enumerate(LAYERS) for name in names}
    own = part(module)
    for name in imported_modules(MODULES[module]):
        other = part(name)
        # A name of the package itself, `from mixer_jax import __version__`, is what every part may ask for.
        down = level[other] < level[own] or name == "mixer_jax"
        assert own == other or down, f"{own} (layer {level[own]}) imports {other} (layer {level[other]})"
    for name in imported(MODULES[module]):
        for library, homes in HOMES.items():
            if name.split(".")[0] == library:
                assert own in homes, f"{library} belongs in {homes}, and {module} imports it"


def test_no_imports_run_in_a_circle():
    edges = {module: set(imported_modules(path)) - {module} for module, path in MODULES.items()}
    while free := [module for module, others in edges.items() if not others & edges.keys()]:
        for module in free:
            del edges[module]
    assert not edges


def test_steps_import_no_data():
    for path in (ROOT / "mixer_jax" / "steps").glob("*.py"):
        assert not [name for name in imported_modules(path) if part(name) == "data"]


def test_the_loop_never_sees_a_config():
    names = list(imported(ROOT / "mixer_jax" / "training" / "loop.py"))
    assert not [name for name in names if "config" in name or "ml_collections" in name]


@pytest.mark.parametrize("modules", ["mixer_jax.models.registry, mixer_jax.steps.train_step", "main"])
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
