"""One run of train.py that tells more of its GPU than a record does: python -m benchmarks.gpu_child FILE ROUND FLAGS

FILE becomes a JSON object: the record, TensorFlow's build, the GPU's details and state, and the peak of its memory.
ROUND is the number of steps in a round of the loop, 0 for the program's own.
"""

import json
import pathlib
import sys
from typing import Any

from common import commandline
from common.errors import exit_with_one_line
from comparison import gpus
from runtime import cluster, devices

with devices.quiet():
    import tensorflow as tf

    import flags
    import model
    import train
    from runtime.clock import Ledger


def told(config: flags.Config, steps_of_round: int) -> dict[str, Any]:
    """Trains, and returns all that is to be told."""
    model.ROUND = steps_of_round or model.ROUND
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
    PATH, ROUND, *FLAGS = sys.argv[1:]
    CONFIG = cluster.settled(commandline.parse(flags.train_flags(), ["", *FLAGS], __doc__))
    exit_with_one_line(
        lambda: pathlib.Path(PATH).write_text(json.dumps(told(CONFIG, int(ROUND)))) and None
    )
