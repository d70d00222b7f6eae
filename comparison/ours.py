"""Our own modes as a contender: what train.py runs."""

import numpy as np

import flags
from comparison.peers import Peer
from comparison.work import Work
from runtime import devices, startup
from runtime.clock import Ledger

with startup.without_keras(), startup.without_collecting():  # as the command does
    import tensorflow as tf

    import data
    import train
    from runtime import modes, strategies


class Ours(Peer):
    """A run of train.py in a mode. What it does between its blocks is in its time; the order is given, as to all."""

    def __init__(self, work: Work, device: str, mode: str):
        super().__init__(work, device)
        config = flags.training_config(
            batch_size=work.batch_size,
            lr=work.lr,
            seed=work.seed,
            epochs=len(work.order),
            max_steps=work.steps,
            eval_every=0,
            mode=mode,
        )
        self.place = devices.choose(device, tf32=False, one_thread=modes.one_thread(config)).name
        examples, test = (
            data.Split(work.images, work.labels),
            data.Split(work.test_images, work.test_labels),
        )
        names = [str(label) for label in range(work.num_classes)]
        dataset = data.Dataset("compared", examples, test, test, names, (work.num_features,))
        with tf.device(self.place):
            self.state = train.start(config, dataset, Ledger(), strategies.OneDevice())

    def compile(self) -> None:
        with tf.device(self.place):
            self.take, blocks = train.compiled(self.state, strategies.OneDevice())
            # The evaluation after the last step is left to num_correct: it has a time of its own.
            self.blocks = [block._replace(evaluate=False) for block in blocks]

    def reset(self) -> None:
        self.state.step = 0
        for variable in self.state.model.variables:
            variable.assign(tf.zeros_like(variable))

    def train(self) -> None:
        with tf.device(self.place):
            train.train(self.state, self.take, self.blocks)

    def num_correct(self) -> int:
        with tf.device(self.place):
            return train.num_correct(self.state, self.state.dataset.test)

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        return self.state.model.W.numpy(), self.state.model.b.numpy()

    def barrier(self) -> None:
        tf.test.experimental.sync_devices()
