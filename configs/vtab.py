"""Fine-tuning on a task of VTAB-1k (arXiv 1910.04867): 1,000 training images, as in section 3 of the paper.

    python main.py --config=configs/vtab.py:svhn
    python -m mixer_jax sweep --config=configs/vtab.py:kitti_distance,mixer_l16,448

The config argument names a task of mixer_jax/data/vtab.py, a model (mixer_b16 if none) and the height and width of the
images in pixels (the paper: 224 for tasks of small images, 448 for the others, which are what is taken if there is
none). `sweep` chooses the learning rate on 200 of the images. All tasks: python -m mixer_jax evaluate --suite=vtab.

Not stated in the papers, and chosen here: 2,500 steps, which is what the ViT paper trains; the warm-up, which is Big
Transfer's for small data sets; and evaluation as in Table 2, resized to a square before the centre is cropped, but
without a crop where one could change the label, as in training.

Hardware: TPU v3; any with more time or a smaller batch.
Accuracy, in the paper, Table 2, the mean of the 19 tasks: 74.95 with mixer_l16 from ImageNet-21k, 75.33 with mixer_h14
from JFT-300M. Not measured here yet.
"""

from mixer_jax.config import base
from mixer_jax.data.vtab import TASKS
from mixer_jax.suites import recipes


def get_config(mode: str = "cifar100"):
    """Returns the recipe; `mode` is described above, and may end in ",smoke" (`base.with_mode`)."""
    task, model, image_size, smoke = recipes.parse(mode, TASKS, default="cifar100")
    config = recipes.for_task(task)
    recipes.from_pretraining(config, model, image_size or (224 if TASKS[task].small else 448))
    return base.with_mode(config, smoke)
