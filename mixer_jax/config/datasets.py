"""What the recipes on one data set share: its source, splits and classes, and the loss that it is trained with.

The paper does not name its loss. The official code trains Mixer on ImageNet with a sigmoid loss whose head starts at a
bias of -6.9, about -ln(1000), and other models on ImageNet-21k with one that starts at -10; the recipes do the same.
"""

from ml_collections import ConfigDict


def imagenet(config: ConfigDict) -> None:
    """ImageNet (ILSVRC-2012) from TFDS; the last 1 % of train is held out as `minival`."""
    config.data.source = "tfds:imagenet2012"
    config.data.split = "train[:99%]"
    config.data.num_classes = 1000
    config.eval.splits = {"minival": "train[99%:]", "val": "validation"}
    config.eval.every = config.checkpoint.every = 2500
    config.loss.name = "sigmoid"
    config.model.head_bias = -6.9


def imagenet21k(config: ConfigDict) -> None:
    """ImageNet-21k (fall 2011), prepared as a TFDS data set of one split, `full`; the first 51,200 are held out."""
    config.data.source = "tfds:imagenet21k"
    config.data.split = "full[51200:]"
    config.data.num_classes = 21843
    config.eval.splits = {"minival": "full[:51200]"}
    config.eval.every = config.checkpoint.every = 5000
    config.loss.name = "sigmoid"
    config.model.head_bias = -10.0


def large(config: ConfigDict) -> None:
    """A large data set of your own, in the place of JFT-300M, which is not public: set its name and its classes.

    JFT-300M has 303M images in 18k classes; the paper augments it by crops and flips alone.
    """
    config.data.source = "tfds:large"
    config.data.split = "train"
    config.data.num_classes = 18_000
    config.eval.splits = {"val": "validation"}
    config.eval.every = config.checkpoint.every = 5000
    config.loss.name = "sigmoid"
    config.model.head_bias = -10.0
    config.optimizer.weight_decay = 0.03
