"""Trains softmax regression: python train.py --batch_size=10 --lr=0.01"""

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, os.path.dirname(__file__))  # python -P does not add it

import flags
from common import commandline
from common.errors import InputError, Stopped, exit_with_one_line, one_line
from runtime import clock, cluster, devices, signals, startup

if __name__ == "__main__":  # before TensorFlow is imported, which takes long
    with one_line():
        signals.install()
        CONFIG = cluster.checked(commandline.parse(flags.train_flags(), sys.argv, __doc__))
        startup.prepare(CONFIG.device)

with startup.starting():
    import tensorflow as tf

    import callbacks
    import data
    import model
    from callbacks import Callback, progress, record
    from runtime import distribute, modes
    from runtime.state import ONE_DEVICE, State


def load(config: flags.Config, device: str) -> data.Dataset:
    """Returns the data of a run, streamed if --input or the device's memory requires it."""
    return data.load(
        config.dataset,
        config.data_dir,
        config.manual_dir,
        max_bytes=devices.most_bytes(config.input, device),
    )


def start(
    config: flags.Config,
    dataset: data.Dataset,
    ledger: clock.Ledger,
    strategy: tf.distribute.Strategy = ONE_DEVICE,
) -> State:
    """Returns a run before its first step; raises InputError if a batch exceeds the split."""
    if config.batch_size > len(dataset.train):
        raise InputError(
            f"--batch_size={config.batch_size}: must be at most the {len(dataset.train):,} "
            f"training images of {dataset.name}"
        )
    net = model.SoftmaxRegression(dataset.num_features, len(dataset.class_names))
    return State(config, dataset, net, ledger, strategy)


def compiled(state: State) -> modes.Mode:
    """Returns the mode that takes the run's steps, compiled; all workers start at the same step."""
    if state.config.strategy == "multi_worker":
        distribute.follow_chief(state)
    mode = modes.choose(state)
    if not state.ends():
        modes.warm_up(mode, state)
    num_correct(state, state.validation)
    return mode


def train(state: State, mode: modes.Mode, watching: Sequence[Callback] = ()) -> None:
    """Takes the steps, block by block, and evaluates where the plan says so.

    Raises DivergedError if the loss or the weights overflow, and Stopped after the block in which a
    signal came, unless it was the last block.
    """
    blocks = data.blocks(state.dataset.train, state.config, state.step)
    while not state.ends():
        with state.ledger("train"):
            block = next(blocks)
            losses = mode(block, state.config)
        state.count(block, losses)
        if block.evaluate:
            validate(state)
        state.signal = state.asked()
        for callback in reversed(watching):  # what others write is there before the checkpoint
            callback.on_block_end(losses)
    if not state.is_complete():
        raise Stopped(state.signal, progress.reached(state))


def test_accuracy(state: State) -> float:
    """Returns the test accuracy of a complete run.

    A run that was resumed at its last step is also validated, unless it was validated before.
    """
    if state.accuracy is None:
        validate(state)
    return accuracy(state, state.dataset.test)


def validate(state: State) -> None:
    """Measures the validation accuracy of this step, and notes when it was reached."""
    state.evaluations.append(
        [state.step, state.training_seconds(), accuracy(state, state.validation), state.loss]
    )


def accuracy(state: State, split: data.Split) -> float:
    """Returns the accuracy on a split: correct answers over all images, divided once."""
    with state.ledger("evaluate"):
        return num_correct(state, split) / len(split)


def num_correct(state: State, split: data.Split) -> int:
    """Returns how many images of a split are classified correctly."""
    return sum(int(model.num_correct(state.model, *chunk)) for chunk in split.chunks())


def run(config: flags.Config, ledger: clock.Ledger) -> dict[str, Any]:
    """Loads, compiles, trains and evaluates, shows and writes the results; returns the record."""
    ledger.notice_pauses()
    device = devices.choose(config)
    ledger.parts["import"] = ledger.clock() - ledger.start
    with contextlib.ExitStack() as together:
        strategy = distribute.start(config, device, together)  # which waits for other workers
        # a block of several workers reads its losses, and TensorFlow would ask other machines
        if config.strategy != "multi_worker":
            ledger.barrier = tf.test.experimental.sync_devices
        with tf.device(device):
            with ledger("data"):
                state = start(config, load(config, device), ledger, strategy)
            with callbacks.asked_for(state) as watching:
                print(progress.header(state, devices.describe(device)))
                with ledger("compile"):
                    mode = compiled(state)
                with signals.deferred():
                    train(state, mode, watching)
                    tested = test_accuracy(state)
                    together.close()  # the workers need one another no more
                    found = record.of(state, tested, device)
                    for callback in watching:
                        callback.on_train_end(found)
    return found


def main() -> None:
    """Does what the flags ask for."""
    run(CONFIG, clock.OF_PROCESS)


if __name__ == "__main__":
    exit_with_one_line(main)
