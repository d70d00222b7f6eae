"""The loop of TensorFlow's guide: tf.data, GradientTape, a `tf.function` call a batch."""

import numpy as np
import tensorflow as tf

from comparison.peers import tensorflow_device, tensorflow_pipeline
from comparison.worker import Train, Work


def contender(work: Work) -> Train:
    """Returns what does the job. The pipeline batches the rows, then gathers and converts."""
    device = tensorflow_device(work)
    batches = tensorflow_pipeline(work)
    with tf.device(device):
        W = tf.Variable(tf.zeros([work.num_features, work.num_classes]))
        b = tf.Variable(tf.zeros([work.num_classes]))

    @tf.function(reduce_retracing=True)
    def sgd_step(x: tf.Tensor, y: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, x @ W + b)
            loss = tf.reduce_sum(losses)
        dW, db = tape.gradient(loss, [W, b])
        W.assign_sub(work.lr * dW)
        b.assign_sub(work.lr * db)

    def train() -> tuple[np.ndarray, np.ndarray]:
        with tf.device(device):
            W.assign(tf.zeros_like(W))
            b.assign(tf.zeros_like(b))
            for rows in work.epochs():
                for x, y in batches(rows):
                    sgd_step(x, y)
            return W.numpy(), b.numpy()

    train()
    return train
