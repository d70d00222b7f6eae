"""The article's own program: TensorFlow 1's Session and feed_dict, its literal cross-entropy."""

import numpy as np
import tensorflow as tf

from comparison.peers import scaled
from comparison.peers.in_tensorflow import prepare
from comparison.worker import Train, Work

BLOCK_ROWS = 5_000  # gathered and converted at once

tf1 = tf.compat.v1


def contender(work: Work) -> Train:
    """Returns a function that does the job: it feeds each batch of a block to `Session.run`."""
    prepare(work)
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
        return tuple(session.run([W, b]))

    train()
    return train
