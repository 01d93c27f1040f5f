"""Mixer-L/16 on ImageNet-21k, 300 epochs.

    python main.py --config=configs/mixer_l16_i21k.py

Hardware: TPU v3; the paper spent about 410 core-days of it (extrapolated).
Accuracy, in the paper: 82.89 ImageNet top-1, 87.54 ReaL (Table 3, fine-tuned at 224 px); 84.15, 87.86
(Table 2, at 448 px).
Not measured here yet.
"""

from mixer_jax.config import base, datasets


def get_config(mode: str = ""):
    """Returns the recipe; `mode` as in `base.with_mode`."""
    config = base.get_config()
    datasets.imagenet21k(config)
    config.epochs = 300.0
    config.model.name = "mixer_l16"
    config.mixup = 0.5
    config.data.train.randaugment_layers = 2
    config.data.train.randaugment_magnitude = 20
    config.model.stoch_depth = 0.1
    return base.with_mode(config, mode)
