"""The loop of TensorFlow's guide: tf.data, GradientTape, a `tf.function` call for each batch.

The other contenders in TensorFlow share some of its functions.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from comparison.peers import threads
from comparison.worker import Train, Work, leave_out


def prepare(work: Work) -> None:
    """Sets TensorFlow's threads and precision. It computes on the GPU if it sees one, and a CPU's
    contender sees none."""
    if work.device == "gpu" and not tf.config.list_physical_devices("GPU"):
        leave_out("TensorFlow sees no GPU")
    tf.config.threading.set_intra_op_parallelism_threads(threads(work))
    tf.config.experimental.enable_tensor_float_32_execution(work.precision == "tf32")


def pipeline(work: Work, batch_size: int) -> Callable[[np.ndarray], tf.data.Dataset]:
    """Returns a function from rows [n] to batches, each gathered and converted as a whole."""
    with tf.device("CPU"):  # where pipelines run
        images, labels = tf.constant(work.images), tf.constant(work.labels)

    def examples(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.gather(images, rows) / 255, tf.gather(labels, rows)

    def batches(rows: np.ndarray) -> tf.data.Dataset:
        in_batches = tf.data.Dataset.from_tensor_slices(rows).batch(batch_size)
        return in_batches.map(examples).prefetch(tf.data.AUTOTUNE)

    return batches


def contender(work: Work) -> Train:
    """Returns a function that does the job with a compiled step, called on each batch."""
    prepare(work)
    batches = pipeline(work, work.batch_size)
    W = tf.Variable(tf.zeros([work.num_features, work.num_classes]))
    b = tf.Variable(tf.zeros([work.num_classes]))

    @tf.function(reduce_retracing=True)
    def sgd_step(x: tf.Tensor, y: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, x @ W + b)
        dW, db = tape.gradient(losses, [W, b])  # of their sum
        W.assign_sub(work.lr * dW)
        b.assign_sub(work.lr * db)

    def train() -> tuple[np.ndarray, np.ndarray]:
        for variable in (W, b):
            variable.assign(tf.zeros_like(variable))
        for rows in work.epochs():
            for x, y in batches(rows):
                sgd_step(x, y)
        return W.numpy(), b.numpy()

    train()
    return train
