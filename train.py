"""Trains softmax regression: python train.py --batch_size=10 --lr=0.01"""

import time

START = time.perf_counter()

import sys
from collections.abc import Sequence
from typing import Any

import flags
from common import commandline, files
from common.errors import InputError, one_line
from runtime import cluster, devices, plan, startup, stopping
from runtime.clock import Ledger

if __name__ == "__main__":  # the flags are read before TensorFlow is imported, which takes long
    stopping.install()
    with one_line():
        CONFIG = cluster.settled(commandline.parse(flags.train_flags(), sys.argv, __doc__))
        files.check_writable(
            "record", CONFIG.record, CONFIG.overwrite or not files.is_free(CONFIG.checkpoint_dir)
        )
        devices.hide_gpus(CONFIG.device)

with startup.starting():
    import tensorflow as tf

    import data
    import model
    from outputs import observers, record, screen
    from runtime import modes, strategies
    from runtime.state import State


def start(
    config: flags.Config, dataset: data.Dataset, ledger: Ledger, engine: strategies.OneDevice
) -> State:
    """Returns the run at its beginning; raises InputError if the batch is larger than the training split."""
    if (size := config.batch_size) > (count := len(dataset.train)):
        raise InputError(
            f"--batch_size={size}: must be at most the {count:,} training images of {dataset.name}"
        )
    with engine.scope(dataset):
        net = model.SoftmaxRegression(dataset.num_features, len(dataset.class_names))
    return State(config, dataset, net, ledger, engine.count)


def compiled(state: State, engine: strategies.OneDevice) -> modes.Mode:
    """Returns the mode that takes the run's steps, compiled and warm."""
    config, split = state.config, state.dataset.train
    mode = engine.mode(state.model, config, split)
    if not state.reached_target():
        modes.warm_up(mode, state.model, split, config, state.step)
    num_correct(state, state.validation)
    return mode


def train(
    state: State,
    mode: modes.Mode,
    watching: Sequence[observers.Observer] = (),
    line: screen.LiveLine | None = None,
) -> None:
    """Takes the steps, block by block, and evaluates where the plan says so; stops at --target_accuracy.

    Raises RunError when a loss is not finite or the weights overflow, Stopped after a block in which a signal came.
    """
    config, split = state.config, state.dataset.train
    part_steps = data.steps_of_part(split, config.batch_size)
    blocks = mode.blocks(split, config, plan.spans(config, len(split), part_steps, state.step))
    while not state.reached_target():
        with state.ledger("train"):
            block = next(blocks, None)
            if block is None:
                return
            losses = mode(block, config)
        state.count(block, losses, look=block.evaluate or bool(watching))
        if block.evaluate:
            state.evaluated(accuracy(state, state.validation))
        if line:
            line.show(state)
        # asked once: a signal that comes after the observers waits for the next block
        stop = stopping.asked()
        for observer in watching:
            observer.after_block(losses, block.evaluate)
        if stop and not state.reached_target():
            raise stopping.stopped(screen.reached(state, accuracy(state, state.validation)))


def accuracy(state: State, split: data.Split) -> float:
    """Returns the share of a split that is given its label: all counted, divided once."""
    with state.ledger("evaluate"):
        return state.agreed(num_correct(state, split)) / len(split)


def num_correct(state: State, split: data.Split) -> int:
    """Returns how many of a split are given their label."""
    return sum(int(model.num_correct(state.model, *chunk)) for chunk in split.chunks())


def run(config: flags.Config, ledger: Ledger) -> dict[str, Any]:
    """Loads, compiles, trains, evaluates; shows it all, and returns the record."""
    engine = strategies.start(config)  # waits for the other workers, which is no import
    with ledger("import"), startup.quiet():
        wanted = (
            config.device,
            config.tf32,
            engine.device_names,
            modes.one_thread(config),
            config.deterministic,
        )
        device = devices.choose(*wanted)
    ledger.barrier = engine.barrier
    with tf.device(device.name):
        with ledger("data"):
            most_bytes = devices.most_bytes(config.input, device)
            dataset = data.load(config.dataset, config.data_dir, config.manual_dir, most_bytes)
            state = start(config, dataset, ledger, engine)
            watching = observers.asked_for(state) if engine.is_chief else []
            engine.follow_chief(state)
            state.resumed = state.step, state.examples
        print(screen.header(state, devices.describe(device)), flush=True)
        with ledger("compile"):
            mode = compiled(state, engine)
        with screen.LiveLine() as line, stopping.at_block_ends():
            train(state, mode, watching, line)
        found = record.of(state, accuracy(state, dataset.test), device)
    print(screen.summary(found, state.reached_target()))
    for observer in watching:
        observer.after_run(found)
    return found


def main(config: flags.Config) -> None:
    """Runs, and writes the record."""
    record.write(config.record, run(config, Ledger(START, "import")))


if __name__ == "__main__":
    with one_line(leave=True):
        main(CONFIG)
