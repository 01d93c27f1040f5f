r"""Mixer-H/14 on a large data set of your own (the paper: JFT-300M), 14 epochs.

    python main.py --config=configs/mixer_h14_jft.py \
        --config.data.source=tfds:<name> --config.data.num_classes=<classes>

Hardware: TPU v3; the paper spent about 1010 core-days of it.
Accuracy, in the paper: 86.32 ImageNet top-1, 89.14 ReaL (Table 3, fine-tuned at 224 px); 87.94, 90.18
(Table 2, at 448 px).
Not measured here yet.
"""

from mixer_jax.config import base, datasets


def get_config(mode: str = ""):
    """Returns the recipe; `mode` as in `base.with_mode`."""
    config = base.get_config()
    datasets.large(config)
    config.epochs = 14.0
    config.model.name = "mixer_h14"
    return base.with_mode(config, mode)
