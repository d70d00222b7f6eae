"""The loop of TensorFlow 2's guide, and the article's of TensorFlow 1.

The other contenders in TensorFlow share some of their functions.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from comparison.peers import scaled, threads
from comparison.worker import Train, Work, leave_out

BLOCK_ROWS = 5_000  # gathered and converted at once by the article's program


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


def usual(work: Work) -> Train:
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


def article(work: Work) -> Train:
    """Returns a function that does the job: it feeds each batch of a block to `Session.run`.

    It is the article's own program, with its literal cross-entropy.
    """
    prepare(work)
    tf1 = tf.compat.v1
    tf1.disable_eager_execution()
    x = tf1.placeholder(tf.float32, [None, work.num_features])
    y_ = tf1.placeholder(tf.float32, [None, work.num_classes])
    W = tf1.Variable(tf.zeros([work.num_features, work.num_classes]))
    b = tf1.Variable(tf.zeros([work.num_classes]))
    y = tf.nn.softmax(tf.matmul(x, W) + b)
    cross_entropy = -tf.reduce_sum(y_ * tf.math.log(y))
    train_step = tf1.train.GradientDescentOptimizer(work.lr).minimize(cross_entropy)
    session, zeros = tf1.Session(), tf1.global_variables_initializer()
    one_hot = np.eye(work.num_classes, dtype=np.float32)

    def train() -> tuple[np.ndarray, np.ndarray]:
        session.run(zeros)
        for rows in work.blocks(BLOCK_ROWS):
            images, labels = scaled(work.images[rows]), one_hot[work.labels[rows]]
            for batch_x, batch_y in zip(images, labels, strict=True):
                session.run(train_step, feed_dict={x: batch_x, y_: batch_y})
        return session.run((W, b))

    train()
    return train
