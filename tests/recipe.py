"""Trains in every mode in the project that PYTHONPATH names: python recipe.py FOLDER

It writes W, b of each job to FOLDER. tests/test_recipe.py runs it in a copy with a term more.
"""

import itertools
import sys

import numpy as np
import tensorflow as tf

import data
import flags
import train
from runtime import distribute, modes, plan
from runtime.clock import Ledger

FEATURES, CLASSES, EXAMPLES, LR = 20, 3, 613, 0.005
TERMS = {"l2": 0.03, "momentum": 0.6, "epochs": 2}
MODES = ("eager", "graph", "xla", "known", "mirrored")
JOBS = [("xla", 1), ("known", 1), *itertools.product(MODES, (40, 600))]


class KnownSteps(distribute.OneDevice):
    """Mode xla as on a GPU."""

    def mode(self, net, config, split):
        longest = plan.longest(config, len(split), data.steps_per_buffer(split, config.batch_size))
        return modes.InXla(net, longest, on_gpu=True)


def made():
    rng = np.random.default_rng(5)
    images = rng.integers(256, size=(EXAMPLES, FEATURES), dtype=np.uint8)
    return images, rng.integers(CLASSES, size=EXAMPLES).astype(np.int32)


def main(folder):
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    split = data.Split(*made())
    dataset = data.Dataset("made", split, split, split, [*"abc"], (FEATURES,))
    one = distribute.OneDevice()
    mirrored = distribute.Replicas(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    engines = [("eager", one), ("graph", one), ("xla", one), ("xla", KnownSteps())]
    engines = dict(zip(MODES, [*engines, ("graph", mirrored)], strict=True))
    for name, size in JOBS:
        mode, engine = engines[name]
        config = flags.training_config(mode=mode, batch_size=size, lr=LR / size, **TERMS)
        state = train.start(config, dataset, Ledger(), engine)
        train.train(state, train.compiled(state, engine))
        np.savez(f"{folder}/{name}-{size}.npz", W=state.model.W.numpy(), b=state.model.b.numpy())


if __name__ == "__main__":
    main(sys.argv[1])
