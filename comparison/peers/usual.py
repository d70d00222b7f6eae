"""The TensorFlow 2 loop of the tutorials: a tf.data pipeline, a tf.function for each batch, Keras for the rest."""

import keras
import numpy as np
import tensorflow as tf

from comparison.peers import Peer, scaled
from comparison.work import Work
from runtime import devices


class Usual(Peer):
    """Gathers an epoch of uint8 images at once; the pipeline converts and batches them, and Python calls each step."""

    def __init__(self, work: Work, device: str):
        super().__init__(work, device)
        devices.choose(device, tf32=False)
        self.model = keras.Sequential(
            [keras.Input([work.num_features]), keras.layers.Dense(work.num_classes)]
        )
        self.loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
        self.optimizer = keras.optimizers.SGD(work.lr)
        self.step = tf.function(self.take_step)

    def take_step(self, images: tf.Tensor, labels: tf.Tensor) -> None:
        """Takes one step on a batch."""
        with tf.GradientTape() as tape:
            loss = self.loss(labels, self.model(images, training=True))
        variables = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    def take_steps(self, rows: np.ndarray) -> None:
        """Takes a step on each batch of `rows` [n]."""
        examples = tf.data.Dataset.from_tensor_slices(
            (self.work.images[rows], self.work.labels[rows])
        )
        examples = examples.map(
            lambda x, y: (tf.cast(x, tf.float32) / 255, y), num_parallel_calls=tf.data.AUTOTUNE
        )
        for images, labels in examples.batch(self.work.batch_size).prefetch(tf.data.AUTOTUNE):
            self.step(images, labels)

    def compile(self) -> None:
        self.take_steps(next(self.work.blocks()).reshape(-1))
        for rows in self.work.epochs():  # a smaller last batch has a graph of its own
            self.take_steps(rows[len(rows) // self.work.batch_size * self.work.batch_size :])
        self.num_correct()

    def reset(self) -> None:
        self.model.set_weights([np.zeros_like(array) for array in self.model.get_weights()])

    def train(self) -> None:
        for rows in self.work.epochs():
            self.take_steps(rows)

    def num_correct(self) -> int:
        logits = self.model(scaled(self.work.test_images)).numpy()
        return int((logits.argmax(axis=1) == self.work.test_labels).sum())

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        return tuple(self.model.get_weights())

    def barrier(self) -> None:
        tf.test.experimental.sync_devices()
