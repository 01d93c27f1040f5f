"""Mixer-B/16 on ImageNet, 300 epochs.

    python main.py --config=configs/mixer_b16_i1k.py

Hardware: TPU v3; the paper spent about 10 core-days of it (extrapolated).
Accuracy, in the paper: 76.44 top-1, 82.36 ReaL (Table 3, 224 px, after fine-tuning).
The official code's config for it reports 76.3 on validation without fine-tuning,
after 2 h 11 min on a v3-128, and about 70.5 with 60 epochs.
Not measured here yet.
"""

from mixer_jax.config import base, datasets


def get_config(mode: str = ""):
    """Returns the recipe; `mode` as in `base.with_mode`."""
    config = base.get_config()
    datasets.imagenet(config)
    config.epochs = 300.0
    config.model.name = "mixer_b16"
    config.mixup = 0.5
    config.data.train.randaugment_layers = 2
    config.data.train.randaugment_magnitude = 15
    config.model.stoch_depth = 0.1
    return base.with_mode(config, mode)
