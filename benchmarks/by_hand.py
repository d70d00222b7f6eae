"""Times the loop of the README, one call of a compiled step for each batch: µs a step."""

import itertools
import time

import tensorflow as tf

import data
import flags
import model

STEPS = 2_000


def main() -> None:
    """Prints the microseconds of a step, the compilation and the first steps left out."""
    tf.config.threading.set_intra_op_parallelism_threads(1)  # as train.py does for small batches
    mnist, config = data.load("mnist"), flags.training_config()
    net, step = model.SoftmaxRegression(784, 10), tf.function(model.sgd_step)
    batches = iter(data.pipeline(mnist.train, batch_size=10, seed=0, epoch=0))
    for images, labels in itertools.islice(batches, 100):
        step(net, images, labels, config)
    started = time.perf_counter()
    for images, labels in itertools.islice(batches, STEPS):
        loss = step(net, images, labels, config)
    loss.numpy()  # waits for the last step
    print((time.perf_counter() - started) / STEPS * 1e6)


if __name__ == "__main__":
    main()
