"""The modes: each hands the steps of a block to a function of model.py, as Python or compiled."""

import functools
import itertools
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import tensorflow as tf

import data
import flags
import model
from runtime import plan
from runtime.state import State

SHARED_BATCH = 500  # all cores share batches of this size or more: docs/performance.md


class Mode:
    """Takes the steps of a block in one call, and returns their losses [steps] float32.

    read: one of the functions of data.py that yield the block of each span.
    """

    read: Callable[..., Generator[Any]]

    def __call__(self, block: Any, config: flags.Config) -> np.ndarray:
        raise NotImplementedError

    def kinds(self, block: Any, batch_sizes: list[int]) -> list[Any]:
        """Returns blocks like `block`, one of each kind that is compiled separately."""
        return [block._replace(steps=1)]


def choose(net: model.SoftmaxRegression, config: flags.Config, split: data.Split) -> Mode:
    """Returns the mode of a run on one device, by --mode and by the size of a batch."""
    if config.mode in ("eager", "graph"):
        return FromPipeline(net, config, model.sgd_step)
    longest = plan.longest(config, len(split), data.steps_per_buffer(split, config.batch_size))
    return InXla(net, longest, on_gpu="GPU" in net.b.device)


def one_thread(config: flags.Config) -> bool:
    """Says whether operations use one core: sharing a small one costs more than it saves."""
    return config.strategy == "none" and config.batch_size < SHARED_BATCH


def blocks(mode: Mode, state: State) -> Generator[Any]:
    """Yields the remaining blocks of a run."""
    config, split = state.config, state.dataset.train
    steps_per_buffer = data.steps_per_buffer(split, config.batch_size)
    spans = plan.spans(config, len(split), steps_per_buffer, state.step)
    return mode.read(split, config.batch_size, config.seed, config.shuffle, spans)


def warm_up(mode: Mode, state: State) -> None:
    """Compiles and runs all that the remaining steps need; leaves every variable unchanged."""
    before = [variable.numpy() for variable in state.model.variables]
    left = blocks(mode, state)
    sizes = plan.batch_sizes(state.config, len(state.dataset.train))
    for block in mode.kinds(next(left), sizes):
        mode(block, state.config)
    left.close()  # ends a thread that reads ahead
    for variable, value in zip(state.model.variables, before, strict=True):
        variable.assign(value)


class FromPipeline(Mode):
    """Modes eager and graph, which take a step on each batch of data.pipeline."""

    read = staticmethod(data.pipeline_blocks)

    def __init__(
        self, net: model.SoftmaxRegression, config: flags.Config, step: Callable[..., tf.Tensor]
    ) -> None:
        self.net = net
        self.train_batches = model.compiled_pipeline(net, config, step)

    def __call__(self, block: data.PipelineBlock, config: flags.Config) -> np.ndarray:
        if config.mode == "eager":
            batches = itertools.islice(block.batches, block.steps)
            return np.array(
                [model.sgd_step(self.net, images, labels, config) for images, labels in batches]
            )
        return self.train_batches(block.batches, tf.constant(block.steps), floats(config)).numpy()


class InXla(Mode):
    """Mode xla: a program for each batch size, compiled when it is first needed.

    On a GPU, where XLA must know the number of steps, each batch size has one program for a single
    step and one for a block of `longest` steps.
    """

    read = staticmethod(data.blocks)

    def __init__(self, net: model.SoftmaxRegression, longest: int, on_gpu: bool) -> None:
        self.net, self.on_gpu = net, on_gpu
        self.lengths = sorted({1, longest}) if on_gpu else [plan.MAX_STEPS]
        self.programs: dict[tuple[int, int], Callable[..., tf.Tensor]] = {}

    def __call__(self, block: data.Block, config: flags.Config) -> np.ndarray:
        rows = model.Rows(block.images, block.labels, block.order, tf.constant(block.first))
        inputs = rows, tf.constant(block.steps), floats(config)
        key = block.batch_size, self.lengths[0 if block.steps == 1 else -1]
        if key not in self.programs:
            program = model.compiled_block(self.net, config, *key, known_steps=self.on_gpu)
            self.programs[key] = program.get_concrete_function(*inputs)  # which checks nothing
        return self.programs[key](*inputs).numpy()[: block.steps]

    def kinds(self, block: data.Block, batch_sizes: list[int]) -> list[data.Block]:
        lengths = self.lengths if self.on_gpu else [1]
        return [
            block._replace(first=0, batch_size=batch_size, steps=steps)
            for batch_size, steps in itertools.product(batch_sizes, lengths)
        ]


@functools.lru_cache
def floats(config: flags.Config) -> tf.Tensor:
    """Returns the flags that a compiled function is given at each call [n] float32."""
    return tf.constant(list(model.floats(config).values()), tf.float32)
