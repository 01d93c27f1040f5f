"""The `tf.data` pipeline that `benchmark data` measures beside the project's; needs TensorFlow, which is optional."""

from collections.abc import Iterator, Sequence

import numpy as np


def batches(encoded: Sequence[bytes], *, size: int, batch_size: int) -> Iterator[np.ndarray]:
    """Yields batches of random crops as a `tf.data` pipeline makes them: inception crop, bilinear resize, flip.

    Args:
      encoded: JPEG files, which the pipeline goes over again and again.
      size: side of the crops, in pixels.
      batch_size: crops of a batch.

    Yields:
      uint8 (batch_size, size, size, 3), RGB; without end.

    Raises:
      ImportError: TensorFlow is not installed.
    """
    import tensorflow as tf

    def crop(image):
        begin, extent, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(image),
            tf.zeros([0, 0, 4], tf.float32),
            area_range=(0.05, 1.0),
            aspect_ratio_range=(0.75, 1.33),
            min_object_covered=0,
            use_image_if_no_bounding_boxes=True,
        )
        box = tf.stack([begin[0], begin[1], extent[0], extent[1]])  # top, left, height, width
        image = tf.image.resize(tf.io.decode_and_crop_jpeg(image, box, channels=3), (size, size))
        return tf.cast(tf.image.random_flip_left_right(image), tf.uint8)

    data = tf.data.Dataset.from_tensor_slices(list(encoded)).repeat()
    data = data.map(crop, num_parallel_calls=tf.data.AUTOTUNE)
    data = data.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    yield from data.as_numpy_iterator()
