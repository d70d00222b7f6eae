"""Keras `fit`: on arrays with its defaults, or with the best settings found."""

import keras
import numpy as np
import tensorflow as tf

from comparison.peers import Peer, scaled
from comparison.work import Work
from runtime import devices


class KerasFit(Peer):
    """Gathers and converts an epoch at once and gives it to `fit`, unshuffled: its rows stand in their order.

    best: 500 steps in a call of the compiled function, fed by a tf.data pipeline that gathers and converts each batch:
    an epoch of floats is fresh memory, whose time varies from process to process. Longer calls gave nothing; arrays
    instead of the pipeline and `jit_compile=True` were slower.
    """

    def __init__(self, work: Work, device: str, best: bool = False):
        super().__init__(work, device)
        self.best = best
        devices.choose(device, tf32=False)
        with tf.device("CPU"):  # where pipelines run
            self.images, self.labels = tf.constant(work.images), tf.constant(work.labels)
        dense = keras.layers.Dense(work.num_classes, kernel_initializer="zeros")
        self.model = keras.Sequential([keras.Input([work.num_features]), dense])
        self.model.compile(
            optimizer=keras.optimizers.SGD(work.lr),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
            steps_per_execution=500 if best else 1,
        )

    def fit(self, rows: np.ndarray) -> None:
        if self.best:
            batches = (
                tf.data.Dataset.from_tensor_slices(rows)
                .batch(self.work.batch_size)
                .map(self.examples)
            )
            self.model.fit(batches.prefetch(tf.data.AUTOTUNE), verbose=0)
        else:
            images, labels = scaled(self.work.images[rows]), self.work.labels[rows]
            self.model.fit(
                images, labels, batch_size=self.work.batch_size, shuffle=False, verbose=0
            )

    def examples(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the images [n, features] and labels [n] of a batch's rows, in a pipeline."""
        return tf.cast(tf.gather(self.images, rows), tf.float32) * (1 / 255), tf.gather(
            self.labels, rows
        )

    def compile(self) -> None:
        self.fit(next(self.work.blocks()).reshape(-1))
        self.num_correct()

    def reset(self) -> None:
        self.model.set_weights([np.zeros_like(array) for array in self.model.get_weights()])

    def train(self) -> None:
        for rows in self.work.epochs():
            self.fit(rows)

    def num_correct(self) -> int:
        logits = self.model.predict(
            scaled(self.work.test_images), batch_size=len(self.work.test_labels), verbose=0
        )
        return int((logits.argmax(axis=1) == self.work.test_labels).sum())

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        return tuple(self.model.get_weights())

    def barrier(self) -> None:
        tf.test.experimental.sync_devices()
