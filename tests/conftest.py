"""Every test runs on several CPU devices, unless XLA_FLAGS says otherwise, and without silent promotions of ranks."""

import contextlib
import os
import resource
import tempfile

# Programs that many tests compile are compiled once; the suite's processes, and those that tests start, share them.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="mixer_jax_tests_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# Compiling is most of what tests take, and half of it is LLVM's optimisation, which programs that run for milliseconds
# do not pay back. XLA's own passes stay as they are: what is fused, cut and moved, its memory and its FLOPs.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import cv2
import jax
import numpy as np
import pytest

from configs import digits
from mixer_jax.data import jpeg

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def tiny_config():
    """The digits recipe with a model of a few thousand parameters and no files but the metrics."""
    config = digits.get_config()
    config.model.num_blocks = 2
    config.model.hidden_dim = 16
    config.model.tokens_mlp_dim = 8
    config.model.channels_mlp_dim = 32
    config.model.dropout = 0.1
    config.model.stoch_depth = 0.1
    config.mixup = 0.2
    config.batch_size = 32
    config.steps = 20
    config.schedule.warmup_steps = 5
    config.log_every = 5
    config.eval.every = 10
    config.checkpoint.every = 10
    return config


@pytest.fixture
def file_size_limit():
    """A context in which this process cannot write beyond a number of bytes of a file, as if the disk were full."""

    @contextlib.contextmanager
    def limit(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit


@pytest.fixture
def damaged_jpeg():
    """A JPEG that libjpeg decodes with a warning."""
    if not jpeg.REGION_IS_BUILT:
        pytest.skip("region.c is not built: no C compiler, or no headers of libjpeg-turbo")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    encoded = cv2.imencode(".jpg", noise)[1].tobytes()
    return encoded[: len(encoded) // 2] + encoded[-2:]
