"""Our own modes as contenders: what train.py runs, with what it does between its blocks."""

import functools
from collections.abc import Generator
from typing import Any

import numpy as np

import flags
from comparison.worker import CannotUse, Train, Work
from runtime import devices, startup
from runtime.clock import Ledger

with startup.fast():  # as the command does
    import tensorflow as tf

    import data
    import train
    from runtime import distribute, modes, plan

ALIGNMENT = 64  # bytes


def _in_mode(work: Work, mode: str) -> Train:
    """Returns what trains in a mode; the order of the work is that of its seed."""
    if work.device == "gpu" and not tf.config.list_physical_devices("GPU"):
        raise CannotUse("TensorFlow sees no GPU")
    config = flags.training_config(
        batch_size=work.batch_size,
        lr=work.lr,
        seed=work.seed,
        epochs=len(work.order),
        max_steps=work.steps,
        eval_every=0,
        mode=mode,
        device=work.device,
        tf32=work.precision == "tf32",
    )
    place = devices.choose(config, modes.one_thread(config))
    with tf.device(place):
        engine = distribute.OneDevice()
        state = train.start(config, _dataset(work), Ledger(), engine)
        compiled = train.compiled(state, engine)
        _give_blocks(compiled, state.dataset.train, config)
        zeros = [tf.zeros_like(variable) for variable in state.model.variables]

    def run() -> tuple[np.ndarray, np.ndarray]:
        with tf.device(place):
            state.step = 0
            for variable, zero in zip(state.model.variables, zeros, strict=True):
                variable.assign(zero)
            train.train(state, compiled)
            return state.model.W.numpy(), state.model.b.numpy()

    return run


def _give_blocks(mode: modes.Mode, split: data.Split, config: flags.Config) -> None:
    """Lets a mode's blocks ask for no evaluation; in mode xla their order is on the device now."""
    blocks = mode.blocks
    spans = plan.spans(config, len(split), data.steps_per_buffer(split, config.batch_size))
    ready = list(blocks(split, config, spans)) if config.mode == "xla" else None

    def given(*arguments: Any) -> Generator[Any]:
        for block in ready or blocks(*arguments):
            yield block._replace(evaluate=False)

    mode.blocks = given  # type: ignore[assignment, method-assign]


def _dataset(work: Work) -> data.Dataset:
    """Returns the examples, aligned as those that train.py loads: TensorFlow copies others."""
    memory = np.empty(work.images.size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    images = memory[start : start + work.images.size].reshape(work.images.shape)
    images[:] = work.images
    few = data.Split(work.images[:100], work.labels[:100])  # nothing is evaluated
    names = [str(label) for label in range(work.num_classes)]
    shape = (work.num_features,)
    return data.Dataset("compared", data.Split(images, work.labels), few, few, names, shape)


xla, graph, eager = (functools.partial(_in_mode, mode=mode) for mode in ("xla", "graph", "eager"))
