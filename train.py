"""Trains softmax regression: python train.py --batch_size=10 --lr=0.01"""

import time

START = time.perf_counter()

import stopping

if __name__ == "__main__":
    stopping.install()  # before the other imports: Ctrl-C during them is no traceback

import concurrent.futures
import dataclasses
import math
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import devices
import distribute
import extras
import flags
import plan
import report
from errors import InputError, RunError, exit_with_one_line
from ledger import Ledger

if TYPE_CHECKING:  # at run time TensorFlow, 2.5 s, comes once the flags are known to be good
    import numpy as np
    import tensorflow as tf

    import data


class Trainer:
    """One run: the model, the data on the device, and the programs compiled for them.

    While it trains, `examples` counts what was trained on, `step` the steps taken, `loss` is the mean loss of an
    example in the newest block, and `accuracies` the [step, validation accuracy] of each evaluation. An observer
    that resumes a run sets them all when it is made.
    """

    def __init__(
        self, config: flags.Config, dataset: "data.Dataset", ledger: Ledger, engine: distribute.OneDevice | None = None
    ):
        import tensorflow as tf

        import model

        if config.batch_size > len(dataset.train):
            raise InputError(
                f"--batch_size={config.batch_size}: must be at most the {len(dataset.train)} training images "
                f"of {dataset.name}"
            )
        self.config, self.ledger = config, ledger
        self.engine = engine or distribute.OneDevice()
        with self.engine.scope():
            self.model = model.SoftmaxRegression(dataset.num_features, len(dataset.class_names))
        self.run_steps = self.engine.block_runner(self.model, config.mode, mean=config.loss_reduction == "mean")
        self.num_correct = model.num_correct
        self.dataset = self._place(dataset)
        self.lr, self.no_lr = tf.constant(config.lr), tf.constant(0.0)
        self.step, self.examples, self.loss, self.accuracies = 0, 0, math.nan, []
        self.total_steps = plan.last_step(config, len(dataset.train))
        self.observers = extras.observers(self)
        self.engine.follow_chief(self)
        self.resumed_at, self.resumed_examples = self.step, self.examples
        blocks = plan.blocks(config, len(dataset.train), dataset.num_features, self.step)
        self.blocks = [] if self.reached_target() else list(blocks)

    def _place(self, dataset: "data.Dataset") -> "data.Dataset":
        """Puts the examples where steps and evaluations take them from; returns the dataset, each image kept once."""
        import data
        import model
        import stream

        job = self.config.batch_size, self.config.seed, self.config.shuffle
        if dataset.on_disk:
            self.source = stream.Streamed(dataset.train, *job)
            self.validation, self.test = stream.chunks(dataset.validation), stream.chunks(dataset.test)
            return dataset
        self.source = data.InMemory(dataset.train, *job)
        # Scaled once, not at each evaluation.
        self.validation = [(model.scale(images), labels) for images, labels in data.Chunks(dataset.validation)]
        self.test = data.Chunks(dataset.test)
        return dataclasses.replace(dataset, train=data.Split(self.source.images, self.source.labels))

    def compile(self) -> None:
        """Makes a program for each shape of block and calls it once; at a learning rate of 0 no weight moves."""
        self.inputs = self.source.deliver(self.blocks)  # a stream reads ahead from here on, while programs compile
        blocks = {self.source.shape(block.start, block.stop): block for block in self.blocks}
        with concurrent.futures.ThreadPoolExecutor(self.engine.compile_threads) as pool:
            self.programs = dict(zip(blocks, pool.map(self._program, blocks.values()), strict=True))
        for examples in (self.validation, self.test):
            for chunk in examples:
                self.num_correct(self.model, *chunk)

    def _program(self, block: plan.Block) -> Callable[..., "tf.Tensor"]:
        """Returns the program of blocks like `block`, warm: (*what is delivered, learning_rate) -> losses [steps]."""
        import tensorflow as tf

        import model

        steps, batch = self.source.shape(block.start, block.stop)
        inputs = self.source.example(block)

        def program(*inputs: "tf.Tensor", steps: int = steps) -> "tf.Tensor":
            *delivered, learning_rate = inputs
            return self.run_steps(*self.source.batches(*delivered, batch, 0, steps), learning_rate)

        def program_in_xla(*inputs: "tf.Tensor") -> "tf.Tensor":
            *delivered, learning_rate = inputs
            some, a_round = self.source.at_once(steps), 2 if steps >= plan.LONG_BLOCK else 1

            def take_some(i: "tf.Tensor") -> "tf.Tensor":
                batches = self.source.batches(*delivered, batch, i * some, some)
                return self.run_steps(*batches, learning_rate, a_round)

            return tf.reshape(model.stacked(take_some, steps // some), [steps])

        if self.config.mode == "xla":
            program = model.compiled(program_in_xla, *inputs, self.no_lr)
            program(*inputs, self.no_lr)
        else:  # what is compiled is the step, whatever the length of the block
            program(*inputs, self.no_lr, steps=1)
        return program

    def train(self, line: report.LiveLine) -> None:
        """Takes the steps, block by block, and evaluates where the plan says so; stops at --target_accuracy.

        Raises RunError when a loss is not finite or the weights overflow.
        """
        for block in self.blocks:
            with self.ledger("train"):
                program = self.programs[self.source.shape(block.start, block.stop)]
                losses = program(*next(self.inputs), self.lr).numpy()
            self._account_for(block, losses)
            if block.evaluate:
                self.accuracies.append([block.stop, self.accuracy(self.validation)])
                line.show(*self.accuracies[-1], self.loss, self.images_per_second())
            stop = stopping.asked()  # asked once: a signal that comes after the observers waits for the next block
            for observer in self.observers:
                observer.after_block(block, losses)
            if block.evaluate and self.reached_target():
                return
            if stop:
                raise stopping.stopped(self._reached())

    def _reached(self) -> str:
        kept = (
            "the same command goes on from there" if self.config.checkpoint_dir else "kept only with --checkpoint_dir"
        )
        accuracy = self.accuracy(self.validation)
        return f"at step {self.step:,} of {self.total_steps:,}, validation accuracy {accuracy:.4f}: {kept}"

    def _account_for(self, block: plan.Block, losses: "np.ndarray") -> None:
        mean = float(losses.mean())
        if not math.isfinite(mean):
            for step, loss in enumerate(losses.tolist(), block.start + 1):
                if not math.isfinite(loss):
                    raise self._diverged(f"the loss is {loss} at step {step:,}")
        # A loss is taken before its step, so that what the last step did shows in the weights alone.
        if (block.evaluate or self.observers) and not self.model.is_finite():
            raise self._diverged(f"the weights overflow after step {block.stop:,}")
        steps, batch = self.source.shape(block.start, block.stop)
        self.step, self.examples = block.stop, self.examples + steps * batch
        self.loss = mean / (batch if self.config.loss_reduction == "sum" else 1)

    def _diverged(self, found: str) -> RunError:
        return RunError(f"{found} with --lr={self.config.lr:g}: try a smaller --lr, or --loss_reduction=mean")

    def accuracy(self, examples: "Iterable[tuple[tf.Tensor, tf.Tensor]]") -> float:
        """Returns the share of chunks (images, labels) that are given their label: all counted, divided once."""
        with self.ledger("evaluate"):
            counts = [(int(self.num_correct(self.model, *chunk)), len(chunk[1])) for chunk in examples]
            correct, total = map(sum, zip(*counts, strict=True))
            return correct / total

    def reached_target(self) -> bool:
        """Says whether the newest validation accuracy is at least --target_accuracy."""
        return bool(self.accuracies) and self.accuracies[-1][1] >= (self.config.target_accuracy or math.inf)

    def images_per_second(self) -> float:
        """Returns the speed of training alone, in this process."""
        return (self.examples - self.resumed_examples) / (self.ledger.parts["train"] or math.inf)


def run(config: flags.Config, ledger: Ledger) -> dict[str, Any]:
    """Loads, compiles, trains, evaluates; shows it all, and returns the record."""
    with ledger("import"), devices.quiet():
        import tensorflow as tf

        import data
    engine = distribute.start(config)  # waits for the other workers, which is no import
    with ledger("import"), devices.quiet():
        device = devices.choose(config.device, config.tf32, engine.device_names, config.batch_size)
    ledger.barrier = engine.barrier
    with tf.device(device.name):
        with ledger("data"):
            most_bytes = devices.most_bytes(config.input, device)
            dataset = data.load(config.dataset, config.data_dir, config.manual_dir, most_bytes)
            trainer = Trainer(config, dataset, ledger, engine)
            del dataset
        print(report.header(config, trainer.dataset, devices.describe(device)), flush=True)
        with ledger("compile"):
            trainer.compile()
        with report.LiveLine(trainer.total_steps) as line, stopping.at_block_ends():
            trainer.train(line)
        record = report.record_of(trainer, trainer.accuracy(trainer.test), device)
    print(report.summary(record, trainer.reached_target()))
    for observer in trainer.observers:
        observer.after_run(record)
    return record


def main() -> None:
    """Reads the flags, runs, writes the record."""
    ledger = Ledger(START)
    config = distribute.settled(flags.parse(flags.Config, sys.argv, __doc__))
    report.check_writable(config.record)
    record = run(config, ledger)
    report.write_record(config.record, record)


if __name__ == "__main__":
    exit_with_one_line(main)
