"""The rate of a device's largest float32 matmul, in a process of its own: python -m comparison.limit REQUEST."""

import json
import pathlib
import sys
import time

import tensorflow as tf

from common.errors import exit_with_one_line
from runtime import devices

SIZES = (512, 1024, 2048, 4096, 8192, 16384)
LONG_ENOUGH = 0.1  # seconds of one matmul: by then its rate has stopped rising


def matmul_rate(device: str) -> float:
    """Returns the most floating-point operations a second over square matmuls of growing size, best of 3 each."""
    best = 0.0
    with tf.device(devices.choose(device, tf32=False).name):
        for size in SIZES:
            matrix = tf.random.uniform([size, size])
            seconds = min(_timed(matrix) for _ in range(4))  # the first warms up
            best = max(best, 2 * size**3 / seconds)
            if seconds > LONG_ENOUGH:
                break
    return best


def _timed(matrix: tf.Tensor) -> float:
    tf.test.experimental.sync_devices()
    began = time.perf_counter()
    tf.matmul(matrix, matrix)
    tf.test.experimental.sync_devices()
    return time.perf_counter() - began


def main() -> None:
    """Reads the request, measures, leaves the rate in the file `result`."""
    request = json.loads(sys.argv[1])
    pathlib.Path(request["result"]).write_text(json.dumps(matmul_rate(request["device"])))


if __name__ == "__main__":
    exit_with_one_line(main)
