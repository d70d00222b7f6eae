"""The article's own program: TensorFlow 1's placeholders, Session and feed_dict, and its literal cross-entropy."""

import numpy as np
import tensorflow as tf

from comparison.peers import Peer, scaled
from comparison.work import Work
from runtime import devices

tf1 = tf.compat.v1


class ArticleTF1(Peer):
    """Gathers and converts a block of batches at once, then feeds them one by one to `Session.run`."""

    def __init__(self, work: Work, device: str):
        super().__init__(work, device)
        devices.choose(device, tf32=False)
        tf1.disable_eager_execution()
        features, classes = work.num_features, work.num_classes
        self.x, self.y_ = (
            tf1.placeholder(tf.float32, [None, features]),
            tf1.placeholder(tf.float32, [None, classes]),
        )
        self.W, self.b = (
            tf1.Variable(tf.zeros([features, classes])),
            tf1.Variable(tf.zeros([classes])),
        )
        y = tf.nn.softmax(tf.matmul(self.x, self.W) + self.b)
        cross_entropy = -tf.reduce_sum(self.y_ * tf.math.log(y))
        self.train_step = tf1.train.GradientDescentOptimizer(work.lr).minimize(cross_entropy)
        hits = tf.equal(tf.argmax(y, 1), tf.argmax(self.y_, 1))
        self.hits = tf.reduce_sum(tf.cast(hits, tf.int32))
        self.one_hot = np.eye(classes, dtype=np.float32)
        self.session, self.zeros = tf1.Session(), tf1.global_variables_initializer()

    def take_steps(self, rows: np.ndarray) -> None:
        """Takes a step on each batch of `rows` [steps, batch]."""
        images, labels = scaled(self.work.images[rows]), self.one_hot[self.work.labels[rows]]
        for x, y in zip(images, labels, strict=True):
            self.session.run(self.train_step, feed_dict={self.x: x, self.y_: y})

    def compile(self) -> None:
        self.reset()
        self.take_steps(next(self.work.blocks()))
        self.num_correct()

    def reset(self) -> None:
        self.session.run(self.zeros)

    def train(self) -> None:
        for rows in self.work.blocks():
            self.take_steps(rows)

    def num_correct(self) -> int:
        feed = {self.x: scaled(self.work.test_images), self.y_: self.one_hot[self.work.test_labels]}
        return int(self.session.run(self.hits, feed_dict=feed))

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        return tuple(self.session.run([self.W, self.b]))
