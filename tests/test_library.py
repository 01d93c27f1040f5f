"""The package as a library: its names, what importing it leaves alone, and settings of JAX that are not a run's."""

import contextlib
import dataclasses
import io
import logging
import os
import pathlib
import signal
import subprocess
import sys
import threading

import cv2
import jax
import numpy as np
import pytest

import mixer_jax
from mixer_jax import rng
from mixer_jax.errors import ConfigError
from mixer_jax.training.program import build_program
from mixer_jax.workdir import saved
from tests.runs import ROOT, assert_bit_identical, saved_state


def python(program, **environment):
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, env={**jax_free(), **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def jax_free():
    return {name: value for name, value in os.environ.items() if not name.startswith(("JAX_DEFAULT", "JAX_ENABLE"))}


SHORT = {"steps": 12, "schedule.warmup_steps": 2, "model.num_blocks": 1, "model.dropout": 0.1, "model.stoch_depth": 0.1}


@dataclasses.dataclass
class Run:
    """A short run of the digits, trained from Python in a side thread, where nobody had set up logging."""

    workdir: pathlib.Path
    result: object
    shown: str
    handler: object  # of SIGTERM, as the run left it


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory):
    workdir, seen = tmp_path_factory.mktemp("run"), {}
    logger, stderr = logging.getLogger("mixer_jax"), io.StringIO()
    before = (logger.handlers, logger.level)
    logger.handlers, logger.level = [], logging.NOTSET

    def train():
        seen["result"] = mixer_jax.train(mixer_jax.load_config("digits", SHORT), str(workdir))

    thread = threading.Thread(target=train)
    with contextlib.redirect_stderr(stderr):
        thread.start()
        thread.join()
    assert (logger.handlers, logger.level) == ([], logging.NOTSET)
    logger.handlers, logger.level = before
    return Run(workdir, seen["result"], stderr.getvalue(), signal.getsignal(signal.SIGTERM))


def test_a_run_in_a_side_thread_shows_its_progress_and_leaves_the_signals_alone(trained_run):
    assert (trained_run.result.step, trained_run.result.signal) == (12, None)
    assert "step 12/12 (100.0%): loss" in trained_run.shown
    assert trained_run.handler == signal.getsignal(signal.SIGTERM)


def test_a_trained_model_is_applied_to_images_of_any_size(trained_run):
    trained = mixer_jax.load_trained(trained_run.workdir)
    assert (trained.class_names(), trained.workdir) == (list("0123456789"), trained_run.workdir)
    image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    encoded = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    logits = trained.logits([image, encoded, np.zeros((31, 17, 3), np.uint8)])
    assert (logits.shape, logits.dtype) == ((3, 10), np.float32)
    np.testing.assert_array_equal(logits[0], logits[1])
    expected = trained.model().apply({"params": trained.weights.params}, image[None] / np.float32(127.5) - 1)
    np.testing.assert_allclose(logits[:1], expected, rtol=1e-4, atol=1e-5)


def test_a_copied_checkpoint_is_enough_to_predict(trained_run, tmp_path):
    (tmp_path / "copied").symlink_to(trained_run.workdir / "checkpoints" / "12")
    trained = mixer_jax.load_trained(str(tmp_path / "copied"))
    assert trained.class_names() == list("0123456789")
    run = saved.read_run(tmp_path / "copied")
    assert run["class_names"] == list("0123456789")
    assert run["environment"]["jax"] == jax.__version__


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'mixer_jax' has no attribute 'nothing'"):
        mixer_jax.nothing  # noqa: B018
    assert {"train", "load_trained", "__version__"} <= set(dir(mixer_jax))


def test_importing_the_package_costs_and_changes_nothing():
    program = """
import signal, sys, logging
before = set(sys.modules)
import mixer_jax
assert set(sys.modules) - before == {"mixer_jax"}, set(sys.modules) - before
import mixer_jax.training.run, mixer_jax.suites.finetuned, mixer_jax.inference.predict, mixer_jax.cli
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
assert not logging.getLogger("mixer_jax").handlers
print([name for name in sys.modules if name.startswith(("clu.metric_writers", "clu.periodic_actions"))])
import clu
print(hasattr(clu, "metric_writers"), hasattr(clu, "periodic_actions"))
"""
    assert python(program).split("\n")[-3:-1] == ["[]", "False False"]


def test_clus_own_writers_work_or_fail_as_they_would_have():
    attempt = """
try:
    from clu import metric_writers
    print(metric_writers.SummaryWriter.__module__)
except ImportError as error:
    print(type(error).__name__, error)
"""
    assert python("import mixer_jax.training.run\n" + attempt) == python(attempt)


AMBIENT = {
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_THREEFRY_PARTITIONABLE": "false",
    "JAX_ENABLE_X64": "true",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
}


def test_jaxs_settings_do_not_change_a_run(trained_run, tmp_path):
    program = f"import mixer_jax; mixer_jax.train(mixer_jax.load_config('digits', {SHORT}), {str(tmp_path)!r})"
    python(program, **AMBIENT)
    config = mixer_jax.load_config("digits", SHORT)
    assert_bit_identical(saved_state(config, trained_run.workdir, 12), saved_state(config, tmp_path, 12))


def test_a_key_is_threefrys_whatever_jaxs_default_is():
    expected = jax.random.key_data(rng.key(3, "dropout", 5))
    with jax.default_prng_impl("rbg"):
        np.testing.assert_array_equal(jax.random.key_data(rng.key(3, "dropout", 5)), expected)


def test_a_precision_of_products_that_a_run_did_not_have_is_refused(trained_run):
    assert saved.read_run(trained_run.workdir)["settings"] == {"jax_default_matmul_precision": None}
    expected = "JAX's setting jax_default_matmul_precision is 'highest' here, and was None in the run of"
    with jax.default_matmul_precision("highest"), pytest.raises(ConfigError, match=expected):
        mixer_jax.train(mixer_jax.load_config("digits", SHORT), trained_run.workdir)


def test_a_run_is_extended_with_its_optimizer(tiny_config, tmp_path):
    tiny_config.steps = 10
    mixer_jax.train(tiny_config, tmp_path)
    first = saved_state(tiny_config, tmp_path, 10)
    longer = tiny_config.copy_and_resolve_references()
    longer.steps = 20
    with pytest.raises(ConfigError, match=r"config.steps=20 here, 10 there.*or add --extend to train this run"):
        mixer_jax.train(longer, tmp_path)
    result = mixer_jax.train(longer, tmp_path, extend=True)
    assert (result.step, result.signal) == (20, None)
    # The step after the end of the first run, computed from its state by the program of the longer one.
    program = build_program(longer)
    state = jax.device_put(first, jax.tree.map(lambda x: x.sharding, program.abstract_state))
    batches = program.train_batches(10)
    for _ in range(10):
        state, metrics = program.train_step(state, next(batches))
    assert_bit_identical(jax.device_get(state), saved_state(longer, tmp_path, 20))
    assert metrics["learning_rate"] < tiny_config.schedule.learning_rate / 5  # the longer schedule's end
    assert saved.read_run(tmp_path)["extended"] == [{"step": 10, "before": {"steps": 10}}]
    assert mixer_jax.train(longer, tmp_path).step == 20  # it is now the longer run, and needs no --extend
    longer.mixup = 0.5
    longer.steps = 30
    with pytest.raises(ConfigError, match="config.mixup=0.5 here, 0.2 there"):
        mixer_jax.train(longer, tmp_path, extend=True)
    longer.mixup, longer.steps = 0.2, 15
    with pytest.raises(ConfigError, match="this run has done 20 steps, and the config asks for 15; raise them"):
        mixer_jax.train(longer, tmp_path, extend=True)
