"""Our own modes as a contender: the very Trainer of train.py."""

import dataclasses
import io

import numpy as np
import tensorflow as tf

import data
import devices
import flags
import report
from comparison.work import Work
from ledger import Ledger
from peers import Peer
from train import Trainer


class Ours(Peer):
    """A run of train.py's Trainer in a mode. What it does between its blocks is in its time too."""

    def __init__(self, work: Work, device: str, mode: str):
        super().__init__(work, device)
        self.place = devices.choose(device, tf32=False, batch_size=work.batch_size).name
        train, test = data.Split(work.images, work.labels), data.Split(work.test_images, work.test_labels)
        names = [str(label) for label in range(work.num_classes)]
        dataset = data.Dataset("compared", train, test, test, names, (work.num_features,))
        config = flags.Config(
            batch_size=work.batch_size,
            lr=work.lr,
            seed=work.seed,
            epochs=len(work.order),
            max_steps=work.steps,
            eval_every=0,
            mode=mode,
        )
        with tf.device(self.place):
            self.trainer = Trainer(config, dataset, Ledger())
        # The evaluation after the last step is left to num_correct: it has a time of its own.
        self.trainer.blocks = [dataclasses.replace(block, evaluate=False) for block in self.trainer.blocks]

    def compile(self) -> None:
        with tf.device(self.place):
            self.trainer.compile()

    def train(self) -> None:
        with tf.device(self.place):
            self.trainer.train(report.LiveLine(self.work.steps, io.StringIO()))

    def num_correct(self) -> int:
        with tf.device(self.place):
            return round(self.trainer.accuracy(self.trainer.test) * len(self.work.test_labels))

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        return self.trainer.model.W.numpy(), self.trainer.model.b.numpy()

    def barrier(self) -> None:
        tf.test.experimental.sync_devices()
