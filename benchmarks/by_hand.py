"""Times the loop of the README, one call of a compiled step for each batch, in µs per step."""

import itertools
import timeit

import tensorflow as tf

import data
import flags
import model

STEPS = 2_000


def main() -> None:
    """Prints the microseconds per step, without the compilation."""
    tf.config.threading.set_intra_op_parallelism_threads(1)  # as train.py does for small batches
    mnist, config = data.load("mnist"), flags.training_config()
    net, step = model.SoftmaxRegression(784, 10), tf.function(model.sgd_step)
    batches = iter(data.pipeline(mnist.train, batch_size=10))

    def train() -> None:
        for images, labels in itertools.islice(batches, STEPS):
            loss = step(net, images, labels, config)
        loss.numpy()  # waits for the last step

    train()  # compiles, and starts the pipeline
    print(timeit.timeit(train, number=1) / STEPS * 1e6)


if __name__ == "__main__":
    main()
