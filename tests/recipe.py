"""Trains in every mode in the project that PYTHONPATH names: python recipe.py FOLDER

It writes W, b of each job to FOLDER. tests/test_recipe.py runs it in a copy with a term more.
"""

import pathlib
import sys

import numpy as np
import tensorflow as tf

import data
import flags
import train
from runtime import distribute, modes, plan
from runtime.clock import Ledger

FEATURES, CLASSES, EXAMPLES, STEPS = 20, 3, 10_013, 9
BATCH_SIZES = (1, 7, 10, 1_000, 10_000)
MODES = ("eager", "graph", "xla", "known", "mirrored")
CHANGES = {"l2": 0.03, "momentum": 0.6, "seed": 4, "epochs": STEPS, "max_steps": STEPS}


def made():
    rng = np.random.default_rng(5)
    images = rng.integers(256, size=(EXAMPLES, FEATURES), dtype=np.uint8)
    return images, rng.integers(CLASSES, size=EXAMPLES).astype(np.int32)


class Known(distribute.OneDevice):
    """Mode xla as on a GPU."""

    def mode(self, net, config, split):
        longest = plan.longest(config, len(split), data.steps_per_buffer(split, config.batch_size))
        return modes.InXla(net, longest, on_gpu=True)


def main(folder):
    cpu, parts = (
        tf.config.list_physical_devices("CPU"),
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
    tf.config.set_logical_device_configuration(cpu[0], parts)
    split = data.Split(*made())
    dataset = data.Dataset("made", split, split, split, ["a", "b", "c"], (FEATURES,))
    mirrored = distribute.Replicas(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    engines = {"mirrored": mirrored, "known": Known()}
    for name in MODES:
        for batch_size in BATCH_SIZES:
            mode = {"mirrored": "graph", "known": "xla"}.get(name, name)
            config = flags.training_config(
                **CHANGES, mode=mode, batch_size=batch_size, lr=0.02 / batch_size
            )
            engine = engines.get(name, distribute.OneDevice())
            state = train.start(config, dataset, Ledger(), engine)
            compiled = train.compiled(state, engine)
            assert not any(variable.numpy().any() for variable in state.model.variables)
            train.train(state, compiled)
            path = pathlib.Path(folder, f"{name}-{batch_size}.npz")
            np.savez(path, W=state.model.W.numpy(), b=state.model.b.numpy())


if __name__ == "__main__":
    main(sys.argv[1])
