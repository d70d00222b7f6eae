"""Our own modes as contenders: what train.py runs, with what it does between its blocks."""

from typing import TYPE_CHECKING

import numpy as np

import flags
from comparison.worker import CannotUse, Train, Work
from runtime import devices, startup
from runtime.clock import Ledger

with startup.without_keras(), startup.without_collecting():  # as the command does
    import tensorflow as tf

    import data
    import train
    from runtime import distribute, modes

if TYPE_CHECKING:
    from runtime.state import State


def xla(work: Work) -> Train:
    """Returns what trains in mode xla."""
    return _in_mode(work, "xla")


def graph(work: Work) -> Train:
    """Returns what trains in mode graph."""
    return _in_mode(work, "graph")


def eager(work: Work) -> Train:
    """Returns what trains in mode eager."""
    return _in_mode(work, "eager")


def _in_mode(work: Work, name: str) -> Train:
    config = flags.training_config(
        batch_size=work.batch_size,
        lr=work.lr,
        seed=work.seed,
        epochs=len(work.order),
        max_steps=work.steps,
        eval_every=0,
        mode=name,
        tf32=work.precision == "tf32",
    )
    if work.device == "gpu" and not tf.config.list_physical_devices("GPU"):
        raise CannotUse("TensorFlow sees no GPU")
    tf32, one_thread = config.tf32, modes.one_thread(config)
    place = devices.choose(work.device, tf32=tf32, one_thread=one_thread).name
    with tf.device(place):
        state, mode = _compiled(config, work)
        variables = state.model.variables
        zeros = [tf.zeros_like(variable) for variable in variables]

    def run() -> tuple[np.ndarray, np.ndarray]:
        with tf.device(place):
            state.step = 0
            for variable, zero in zip(variables, zeros, strict=True):
                variable.assign(zero)
            train.train(state, mode)
            return state.model.W.numpy(), state.model.b.numpy()

    return run


def _compiled(config: flags.Config, work: Work) -> tuple["State", modes.Mode]:
    """Returns the run at its beginning, and its compiled mode, which evaluates nothing."""
    examples = data.Split(work.images, work.labels)
    few = data.Split(work.images[:100], work.labels[:100])
    names = [str(label) for label in range(work.num_classes)]
    dataset = data.Dataset("compared", examples, few, few, names, (work.num_features,))
    engine = distribute.OneDevice()
    state = train.start(config, dataset, Ledger(), engine)
    mode = train.compiled(state, engine)
    blocks = mode.blocks
    mode.blocks = lambda *arguments: (  # type: ignore[method-assign]
        block._replace(evaluate=False) for block in blocks(*arguments)
    )
    return state, mode
