"""Mixer-B/16 on ImageNet-21k, 300 epochs.

    python main.py --config=configs/mixer_b16_i21k.py

Hardware: TPU v3; the paper spent about 150 core-days of it (extrapolated).
Accuracy, in the paper: 80.64 ImageNet top-1, 85.80 ReaL (Table 3, fine-tuned at 224 px).
Not measured here yet.
"""

from mixer_jax.config import base, datasets


def get_config(mode: str = ""):
    """Returns the recipe; `mode` as in `base.with_mode`."""
    config = base.get_config()
    datasets.imagenet21k(config)
    config.epochs = 300.0
    config.model.name = "mixer_b16"
    config.mixup = 0.2
    config.data.train.randaugment_layers = 2
    config.data.train.randaugment_magnitude = 10
    config.model.stoch_depth = 0.1
    return base.with_mode(config, mode)
