"""Every config key once, with its default and the reason. A recipe calls `get_config` and states what differs.

A checkpoint from before a key existed counts as made with the key's default: let the default of a new key be what was
done before.

The defaults are the paper's common pre-training settings (section 3) where it states them.
"""

import json

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from mixer_jax.config.checks import suggest
from mixer_jax.errors import ConfigError


def get_config() -> ConfigDict:
    """Returns the base config; its keys are locked, so a misspelt one in a recipe is an error."""
    config = ConfigDict()

    # All randomness of step t follows from (seed, t): initial weights, order of the data, augmentation, masks.
    config.seed = 0
    config.batch_size = 4096  # examples of a step over all devices
    # Length of the training: epochs of the training split, or steps, which take precedence when they are set.
    config.epochs = placeholder(float)
    config.steps = placeholder(int)
    # Weights that a new run starts from, with a new head, a new optimizer and step 0: a file, a published name, or
    # another run's work directory or checkpoint. None: random ones. A run that resumes does not read it again.
    config.init_from = placeholder(str)
    config.mixup = 0.0  # parameter p of Beta(p, p); 0: no mixup
    # Parts that the batch is cut into, one after the other through the model: activations of one part, gradient of all.
    config.accumulation_steps = 1
    # Where the loss or the gradient of a step is not finite: stop the run, or skip the update and go on (counted as
    # train/skipped_updates). Stop, because such a step is the sign of something wrong more often than bad luck.
    config.nonfinite = "stop"
    config.log_every = 50  # steps between training metrics
    config.profile = False  # trace five steps for TensorBoard's profile plugin

    config.mesh = ConfigDict()
    # Devices that share one copy of parameters and optimizer state; a divisor of their number. 1: each has a copy, the
    # fastest as long as it fits. A batch is cut over all devices in any case.
    config.mesh.fsdp = 1

    config.data = ConfigDict()
    # digits, synthetic:<number of examples>, tfds:<name>, folder:<path> with images at <path>/<split>/<class>/,
    # vtab:<task>, or package.module:name of one of your own
    config.data.source = ""
    config.data.data_dir = placeholder(str)  # where TFDS data sets lie; None: TFDS's own default
    config.data.split = "train"  # that is trained on; of TFDS also a slice, such as train[:99%]
    # How the classes of folder:<path> are numbered: name (in the order of their names), natural (2 before 10), or the
    # path of a file of class names, such as the classes.txt of another run, which may have classes without images here.
    config.data.class_order = "name"
    config.data.num_classes = 1000  # those of the data set, and the width of the head
    config.data.image_size = 224  # pixels
    config.data.exif_orientation = False  # whether to turn images as their EXIF tag says; published figures do not
    config.data.max_pixels = 178_956_970  # of an image; one that has more counts as undecodable
    # JPEGs whose damage libjpeg fills by guessing: use them, counted as train/damaged_images, or refuse them as
    # undecodable.
    config.data.damaged = "use"
    # Processes that make the batches, or 0 for the main one; Python itself runs on one core of each. Their batches pass
    # through /dev/shm, which must hold about four of each process.
    config.data.workers = 0
    # Of each process, that read and augment; None: one for each CPU core, at most 16. More help where reading is slow.
    config.data.threads = placeholder(int)
    config.data.prefetch = 2  # batches that each process holds ready or works on
    config.data.train = ConfigDict()
    # inception (5-100 % of the area), pad (by 1/8, then crop), resize (to a square of `resize`, then crop), resmall
    # (shorter side to `resize`, then crop), or none
    config.data.train.crop = "inception"
    config.data.train.resize = 256  # pixels
    config.data.train.flip = True  # left-right, with probability 1/2
    config.data.train.randaugment_layers = 0  # operations an image; 0: no RandAugment
    config.data.train.randaugment_magnitude = 0.0  # m of Table 4; 0 is not "off"
    # Transforms of your own behind all of the above, package.module:name, called with an image and a generator.
    config.data.train.transforms = ()
    config.data.evaluate = ConfigDict()
    config.data.evaluate.crop = "resmall"  # shorter side to `resize`, or resize: to a square of it; centre crop of both
    config.data.evaluate.resize = 256  # pixels
    config.data.evaluate.transforms = ()  # of your own behind the crop, package.module:name, called with an image

    config.model = ConfigDict()
    # mixer_{s32,s16,b32,b16,l32,l16,h14}, mixer with the five dimensions below, or package.module:name of your own
    config.model.name = ""
    config.model.patch_size = placeholder(int)  # these five: None keeps the variant's value (Table 1)
    config.model.num_blocks = placeholder(int)
    config.model.hidden_dim = placeholder(int)
    config.model.tokens_mlp_dim = placeholder(int)
    config.model.channels_mlp_dim = placeholder(int)
    config.model.dropout = 0.0  # the paper's choice for all runs, after sweeping {0, 0.1}
    config.model.stoch_depth = 0.0  # drop rate of the last MLP, growing linearly from 0 at the first
    config.model.untied_token_mixing = False  # a token-mixing MLP for each channel (Appendix A.1)
    config.model.head_bias = 0.0  # initial; -ln(classes) starts sigmoid losses near their final scale
    # What the backward pass computes again: none, dots (all of a block but matrix products), or full (all of a block).
    config.model.remat = "none"
    config.model.dtype = "bfloat16"  # of the computation; parameters, statistics and losses are float32

    config.loss = ConfigDict()
    config.loss.name = "softmax"  # or sigmoid; the paper does not say which
    config.loss.label_smoothing = 0.0  # in training; evaluation never smooths

    config.optimizer = ConfigDict()
    config.optimizer.name = "adam"  # or momentum
    config.optimizer.b1 = 0.9  # decay of Adam's first moment
    config.optimizer.b2 = 0.999  # decay of Adam's second moment
    config.optimizer.momentum = 0.9  # decay of the trace of momentum SGD
    config.optimizer.momentum_dtype = "float32"  # of momentum's trace between steps, or bfloat16, half the memory
    config.optimizer.weight_decay = 0.1  # decoupled, times the learning rate, on kernels only
    config.optimizer.clip_norm = 1.0  # global norm of the gradient; 0: no clipping

    config.schedule = ConfigDict()
    config.schedule.learning_rate = 0.001  # peak
    config.schedule.warmup_steps = 10_000  # from 0 to the peak, linearly
    config.schedule.decay = "linear"  # or cosine
    config.schedule.end_factor = 1e-5  # share of the peak left at the end; the official code's, the paper names none

    # For `mixer_jax sweep`: it trains on `train_split` with each of the learning rates, takes the one that
    # does best on `held_out_split`, and trains with it as the rest of the config says.
    config.sweep = ConfigDict()
    config.sweep.learning_rates = ()  # peaks to try
    config.sweep.train_split = ""  # that the trials train on, such as train[:98%]
    config.sweep.held_out_split = ""  # that chooses, such as train[98%:]

    config.eval = ConfigDict()
    config.eval.every = 1000  # steps; also at the end
    config.eval.batch_size = 4096  # examples of a batch over all devices
    # Name in the metrics -> split of the source. A recipe replaces them all: config.eval.splits = {...}.
    config.eval.splits = ConfigDict({"test": "test"})
    # Where images cannot be decoded: error, after the checkpoint is safe, or skip, counted as eval/<split>/undecodable.
    config.eval.undecodable = "error"
    # What is measured: accuracy (and loss, of each of `splits`), fewshot (linear probes), package.module:name.
    config.eval.evaluators = ("accuracy",)
    config.eval.fewshot = ConfigDict()
    # Data set of the probes, as data.source, and its splits; None: the training's own, its training split and the first
    # of `splits`. All images of the training split are shown to the model, so of a large one take a slice.
    config.eval.fewshot.source = placeholder(str)
    config.eval.fewshot.train_split = placeholder(str)
    config.eval.fewshot.test_split = placeholder(str)
    config.eval.fewshot.shots = (1, 5, 10, 25)  # of each class
    config.eval.fewshot.seeds = (0,)  # of the choice of examples, one probe with each; the mean is reported
    config.eval.fewshot.l2 = 2.0**10  # big_vision's, as the next
    config.eval.fewshot.constant = 100.0  # the feature that stands for the bias

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 1000  # steps; also at the end and when the run is interrupted
    config.checkpoint.keep = 2  # newest checkpoints to keep
    # Metric whose best checkpoint is kept as well, such as eval/test/top1; every checkpoint is then evaluated. None: no
    # such checkpoint.
    config.checkpoint.best = placeholder(str)

    return config.lock()


def defaults() -> dict:
    """Returns the base config as nested dicts of what JSON can hold, as checkpoints keep theirs."""
    return json.loads(get_config().to_json_best_effort())


def with_mode(config: ConfigDict, mode: str) -> ConfigDict:
    """Applies the config argument, what stands after the colon in `--config=configs/<recipe>.py:<mode>`.

    Args:
      config: a recipe's config; changed in place.
      mode: "" for the recipe as it is; "smoke" for three steps of the recipe's model, augmentation and optimizer from
        random weights on small batches of synthetic data, with evaluation and checkpoints: a check that everything
        runs.

    Returns:
      The config.

    Raises:
      ConfigError: an unknown mode.
    """
    if mode == "smoke":
        config.init_from = None
        config.data.source = "synthetic:20"
        config.batch_size = config.eval.batch_size = 8
        config.accumulation_steps = 1  # so that 8 images divide over eight devices
        config.steps = 3
        config.schedule.warmup_steps = 1
        config.eval.every = 3
        config.checkpoint.every = 3
        config.checkpoint.keep = 1
        config.log_every = 1
    elif mode:
        raise ConfigError(f"config argument :{mode} is unknown; {suggest(mode, ['smoke'])}")
    return config
