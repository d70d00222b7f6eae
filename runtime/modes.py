"""The modes: each takes the steps of a block with a function of model.py, in Python or compiled."""

import functools
import itertools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

import data
import flags
import model
from runtime import distribute, plan
from runtime.state import State


def choose(state: State) -> "Mode":
    """Returns the mode of a run, by --strategy and --mode."""
    net, config = state.model, state.config
    if config.strategy != "none":
        step = functools.partial(distribute.sgd_step, state.strategy)
        with state.strategy.scope():  # the variables of the mode are equal on all replicas
            return FromPipeline(net, config, step)
    if config.mode in ("eager", "graph"):
        return FromPipeline(net, config, model.sgd_step)
    return InXla(net)


def warm_up(mode: "Mode", state: State) -> None:
    """Compiles and runs everything that a run needs; changes no variable."""
    config = state.config
    before = [variable.numpy() for variable in state.model.variables]
    block = next(data.blocks(state.dataset.train, config, state.step))
    programs = [(1, config.batch_size)]
    if isinstance(mode, InXla):
        if mode.on_gpu:
            # any number but 1 has the program of the longest block
            programs.append((2, config.batch_size))
        if rest := len(state.dataset.train) % config.batch_size:  # of a smaller last batch
            programs.append((1, rest))
    for steps, batch_size in programs:
        mode(block._replace(steps=steps, batch_size=batch_size), config)
    for variable, value in zip(state.model.variables, before, strict=True):
        variable.assign(value)


class FromPipeline:
    """Modes eager and graph: a step on each batch of a tf.data pipeline."""

    def __init__(
        self, net: model.SoftmaxRegression, config: flags.Config, step: Callable[..., tf.Tensor]
    ) -> None:
        self.net = net
        self.train_batches = model.compiled_pipeline(net, config, step)

    def __call__(self, block: data.Block, config: flags.Config) -> np.ndarray:
        """Takes the steps of a block; returns their losses [steps] float32."""
        if config.mode == "eager":
            taken = itertools.islice(block.data, block.steps)
            return np.array(
                [model.sgd_step(self.net, images, labels, config) for images, labels in taken]
            )
        return self.train_batches(
            block.data, tf.constant(block.steps), model.floats(config)
        ).numpy()


class InXla:
    """Mode xla: a program for each batch size, compiled when it is first needed.

    On a GPU, where XLA must know the number of steps, each batch size has one program for a single
    step and one for a block of `max_steps` steps.
    """

    def __init__(self, net: model.SoftmaxRegression) -> None:
        self.net = net
        self.on_gpu = "GPU" in net.b.device
        self.programs: dict[tuple[int, int], Callable[..., tf.Tensor]] = {}

    def __call__(self, block: data.Block, config: flags.Config) -> np.ndarray:
        """Takes the steps of a block; returns their losses [steps] float32."""
        inputs = block.data, tf.constant(block.steps), model.floats(config)
        max_steps = plan.MAX_STEPS
        if self.on_gpu:
            max_steps = 1 if block.steps == 1 else block.max_steps
        key = block.batch_size, max_steps
        if key not in self.programs:
            program = model.compiled_block(self.net, config, *key, known_steps=self.on_gpu)
            self.programs[key] = program.get_concrete_function(*inputs)  # which checks nothing
        return self.programs[key](*inputs).numpy()[: block.steps]


Mode = FromPipeline | InXla
