"""What `python -m mixer_jax evaluate` leaves open: where the data lie, and the choices that the paper does not state.

A key is changed on the command line, such as --config.fewshot.source=digits; --help of that command lists the suites.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from mixer_jax.data.vtab import TASKS


def get_config():
    """Returns the config; its keys are locked."""
    config = ConfigDict()

    config.data = ConfigDict()  # as in mixer_jax/config/base.py
    config.data.data_dir = placeholder(str)
    config.data.workers = 0
    config.data.threads = placeholder(int)
    config.data.prefetch = 2
    config.eval = ConfigDict({"batch_size": 512})  # examples of a batch over all devices
    config.eval.undecodable = "error"  # images that cannot be decoded, or skip: leave them out, and count them

    # How the test images are cropped: resmall (Table 3 of the paper) or resize (Table 2). None: in the suite imagenet
    # as in the evaluation of the model's training, or resmall where that is not known; in avg5 resmall; in vtab resize.
    config.crop = placeholder(str)
    config.resize = placeholder(int)  # pixels, in the suite imagenet; None: as in training, or 8/7 of the size

    config.imagenet = ConfigDict()
    # Or any source whose classes are those of the model, which is then the only one.
    config.imagenet.source = "tfds:imagenet2012"
    config.imagenet.split = "validation"
    config.imagenet.real = True  # also the labels of ReaL (tfds:imagenet2012_real)
    config.imagenet.v2 = "tfds:imagenet_v2/matched-frequency"  # or threshold-0.7, topimages; empty: leave it out

    # A linear probe on frozen features. The constants are big_vision's; that they are the paper's is not certain.
    config.fewshot = ConfigDict()
    config.fewshot.source = "tfds:imagenet2012"
    config.fewshot.train_split = "train[:65000]"  # of which the examples are chosen
    config.fewshot.test_split = "validation"
    config.fewshot.shots = (1, 5, 10, 25)  # of each class
    config.fewshot.seeds = (0, 1, 2)  # one probe with each; the mean is reported
    config.fewshot.l2 = 2.0**10
    config.fewshot.constant = 100.0  # the feature that stands for the bias
    config.fewshot.crop = "resize"  # to a square of `resize`, then the centre
    config.fewshot.resize = placeholder(int)  # pixels; None: 8/7 of the model's size, 256 to 224

    # Fine-tuning, in the suites avg5 and vtab. None or empty: as configs/finetune.py and configs/vtab.py say.
    config.image_size = placeholder(int)  # pixels; of avg5, None: the size that the weights are for
    config.finetune = ConfigDict()
    config.finetune.batch_size = placeholder(int)
    config.finetune.steps = placeholder(int)
    config.finetune.warmup_steps = placeholder(int)
    config.finetune.learning_rates = ()
    config.finetune.resize = 8 / 7  # images before their crop, in the size of the crop: 256 to 224
    config.finetune.dtype = "bfloat16"  # of the computation

    config.avg5 = ConfigDict()
    config.avg5.data_sets = ("imagenet", "cifar10", "cifar100", "pets", "flowers")

    config.vtab = ConfigDict()
    config.vtab.tasks = tuple(TASKS)
    # Whether each task has the learning rate that is best for it, "task", or all the one that is best for the mean,
    # "shared", as the ViT paper has it; the paper does not say.
    config.vtab.learning_rate = "task"
    config.vtab.small_size = placeholder(int)  # pixels, for images below 96x96; None: the size the weights are for
    config.vtab.large_size = placeholder(int)  # pixels, for larger ones; None: twice that (the paper: 224 and 448)

    return config.lock()
