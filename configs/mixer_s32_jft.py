r"""Mixer-S/32 on a large data set of your own (the paper: JFT-300M), 5 epochs.

    python main.py --config=configs/mixer_s32_jft.py \
        --config.data.source=tfds:<name> --config.data.num_classes=<classes>

Hardware: TPU v3; the paper spent about 10 core-days of it.
Accuracy, in the paper: 68.70 ImageNet top-1, 75.83 ReaL (Table 3, fine-tuned at 224 px).
Not measured here yet.
"""

from mixer_jax.config import base, datasets


def get_config(mode: str = ""):
    """Returns the recipe; `mode` as in `base.with_mode`."""
    config = base.get_config()
    datasets.large(config)
    config.epochs = 5.0
    config.model.name = "mixer_s32"
    config.schedule.learning_rate = 0.003
    return base.with_mode(config, mode)
