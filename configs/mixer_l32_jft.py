r"""Mixer-L/32 on a large data set of your own (the paper: JFT-300M), 7 epochs.

    python main.py --config=configs/mixer_l32_jft.py \
        --config.data.source=tfds:<name> --config.data.num_classes=<classes>

Hardware: TPU v3; the paper spent about 120 core-days of it.
Accuracy, in the paper: 80.67 ImageNet top-1, 85.62 ReaL (Table 3, fine-tuned at 224 px).
Not measured here yet.
"""

from mixer_jax.config import base, datasets


def get_config(mode: str = ""):
    """Returns the recipe; `mode` as in `base.with_mode`."""
    config = base.get_config()
    datasets.large(config)
    config.epochs = 7.0
    config.model.name = "mixer_l32"
    return base.with_mode(config, mode)
