"""Says what is in images: the five most probable classes of each, by name.

  python -m mixer_jax predict --checkpoint=<checkpoint> <image or folder> ... [--output=<file>.csv|.json]

The checkpoint is a work directory, one checkpoint, <workdir>/checkpoints/<step>, a file or the name of published
weights. The images are shown to the model as in the evaluation of its training, and classes have the names of the data
set that it was trained on; the 1,000 of published weights those of ImageNet. --class_names gives others. Of a folder
all images below it are taken. Images that cannot be read are named and counted at the end; if there is no other, the
exit code is 1.

The probabilities are those of the loss that the model was trained with: of a softmax they add up to 1 over all classes,
of a sigmoid loss each class has its own.
"""

import sys

from absl import flags

from mixer_jax.config.paths import local_path
from mixer_jax.inference import predict
from mixer_jax.weights import trained

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Work directory, checkpoint, file, or name of published weights.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "File to write instead of printing: .csv or .json.")
_CLASS_NAMES = flags.DEFINE_string("class_names", None, "File of the classes' names, one a line.")
_TOP = flags.DEFINE_integer("top", 5, "How many classes of each image.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Images of a batch; default: 32 a device.", lower_bound=1)


def main(paths: list[str]) -> None:
    """Predicts the classes of the images, and prints or writes them."""
    write = predict.writer(local_path("--output", _OUTPUT.value)) if _OUTPUT.value else predict.print_table
    files = predict.find_images(paths)
    model = trained.load_trained(_CHECKPOINT.value)
    names = predict.names_of(model, local_path("--class_names", _CLASS_NAMES.value) if _CLASS_NAMES.value else None)
    found = predict.predict(model, files, names, top=_TOP.value, batch_size=_BATCH_SIZE.value)
    write(found)
    if _OUTPUT.value:
        print(f"wrote {_OUTPUT.value}")
    unreadable = [prediction for prediction in found if prediction.error]
    if unreadable:
        print(f"{len(unreadable)} of {len(found)} images cannot be read", file=sys.stderr)
    if len(unreadable) == len(found):
        sys.exit(1)
