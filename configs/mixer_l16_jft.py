r"""Mixer-L/16 on a large data set of your own (the paper: JFT-300M), 14 epochs.

    python main.py --config=configs/mixer_l16_jft.py \
        --config.data.source=tfds:<name> --config.data.num_classes=<classes>

Hardware: TPU v3; the paper spent about 450 core-days of it.
Accuracy, in the paper: 84.82 ImageNet top-1, 88.48 ReaL (Table 3, fine-tuned at 224 px); 86.78, 89.72
(Table 3, at 448 px).
With --config.epochs=7, the paper's other run: 84.05, 88.14, for about 230 core-days.
Not measured here yet.
"""

from mixer_jax.config import base, datasets


def get_config(mode: str = ""):
    """Returns the recipe; `mode` as in `base.with_mode`."""
    config = base.get_config()
    datasets.large(config)
    config.epochs = 14.0
    config.model.name = "mixer_l16"
    return base.with_mode(config, mode)
