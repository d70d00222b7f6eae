"""This project's modes as contenders: all that train.py does in its blocks except evaluation."""

import numpy as np

import flags
from comparison.worker import Train, Work
from runtime import devices, startup
from runtime.clock import Ledger

with startup.starting():  # as the command does
    import tensorflow as tf

    import data
    import train
    from comparison.peers.in_tensorflow import prepare

ALIGNMENT = 64  # bytes; TensorFlow shares the memory of arrays that begin at a multiple of it


def contender(work: Work) -> Train:
    """Returns a function that trains in the mode of the contender's name; its order is from the
    seed of the work."""
    prepare(work)
    config = flags.training_config(
        batch_size=work.batch_size,
        lr=work.lr,
        seed=work.seed,
        epochs=len(work.order),
        max_steps=work.steps,
        eval_every=0,
        mode=work.contender,
        device=work.device,
        tf32=work.precision == "tf32",
    )
    place = devices.choose(config)
    dataset = _dataset(work)
    with tf.device(place):
        state = train.start(config, dataset, Ledger())
        take_steps = train.compiled(state)

        # in mode xla the order is on the device before the clock
        ready = list(data.blocks(dataset.train, config)) if config.mode == "xla" else None

    def run() -> tuple[np.ndarray, np.ndarray]:
        with tf.device(place):
            for variable in state.model.variables:
                variable.assign(tf.zeros_like(variable))
            for block in ready or data.blocks(dataset.train, config):
                state.count(block, take_steps(block, config))
            return state.model.W.numpy(), state.model.b.numpy()

    return run


def _dataset(work: Work) -> data.Dataset:
    """Returns the examples, aligned as train.py's, because TensorFlow would copy others.

    NumPy asks the system for huge pages, where a step is faster, and TensorFlow does not.
    """
    memory = np.empty(work.images.size + ALIGNMENT, np.uint8)
    offset = -memory.ctypes.data % ALIGNMENT
    images = np.ndarray(work.images.shape, np.uint8, memory, offset)
    images[:] = work.images
    few = data.Split(work.images[:100], work.labels[:100])  # nothing is evaluated or shown
    names = [""] * work.num_classes
    return data.Dataset("compared", data.Split(images, work.labels), few, few, names, ())
