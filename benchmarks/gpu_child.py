"""One run of train.py that tells more of its GPU than a record does: python -m benchmarks.gpu_child FILE FLAGS

FILE becomes a JSON object: the record, TensorFlow's build, the GPU's details and state, and the peak of its memory.
"""

import json
import pathlib
import sys
from typing import Any

from common import commandline
from common.errors import exit_with_one_line
from comparison import gpus
from runtime import cluster, startup

with startup.quiet():
    import tensorflow as tf

    import flags
    import train
    from runtime.clock import Ledger


def told(config: flags.Config) -> dict[str, Any]:
    """Trains, and returns all that is to be told."""
    found: dict[str, Any] = {
        "record": train.run(config, Ledger()),
        "state": gpus.state(),
        "listed": gpus.listed(),
    }
    found["build"] = {name: str(value) for name, value in tf.sysconfig.get_build_info().items()}
    for gpu in tf.config.get_visible_devices("GPU")[:1]:
        found["details"] = tf.config.experimental.get_device_details(gpu)
        found["peak_bytes"] = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return found


if __name__ == "__main__":
    PATH, *FLAGS = sys.argv[1:]
    CONFIG = cluster.settled(commandline.parse(flags.train_flags(), ["", *FLAGS], __doc__))
    exit_with_one_line(lambda: pathlib.Path(PATH).write_text(json.dumps(told(CONFIG))) and None)
