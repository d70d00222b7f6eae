"""JAX as in its tutorials, and at its best: classes first, a large batch in pieces."""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from comparison.worker import Train, Work, leave_out

PIECE = 1_000  # rows in a piece of a large batch, for the caches of a CPU


def contender(work: Work) -> Train:
    """Returns a function that does the job with logits [batch, classes], gathering a whole
    epoch."""
    return _trained(work, axis=1)


def best(work: Work) -> Train:
    """Returns a function that does the job with logits [classes, batch]."""
    if work.device == "gpu":  # where each iteration of a loop has a cost
        return _trained(work, axis=0, unroll=10)
    # several steps at batch 1 and 2
    return _trained(work, axis=0, unroll=max(1, 5 // work.batch_size), piece=PIECE)


def prepare(work: Work) -> None:
    """Sets JAX's precision. It computes on the GPU if it sees one, and a CPU's contender sees
    none."""
    if work.device == "gpu" and jax.default_backend() != "gpu":
        leave_out("JAX sees no GPU")
    precision = "TF32_TF32_F32" if work.precision == "tf32" else "highest"
    jax.config.update("jax_default_matmul_precision", precision)


def _trained(work: Work, axis: int, unroll: int = 1, piece: int = sys.maxsize) -> Train:
    """Returns a function that does the job with a call for each epoch.

    The order is on the device before the clock starts. axis: that of the classes in the logits.
    unroll: steps in the loop's body. piece: maximum number of rows in a piece of a batch. The
    parameters of the model are W [classes, features] and b [classes].
    """
    prepare(work)
    zeros = [jnp.zeros((work.num_classes, work.num_features)), jnp.zeros(work.num_classes)]
    examples = jax.device_put([work.images, np.append(work.labels, -1)])
    epochs = jax.device_put([in_pieces(rows, piece) for rows in work.blocks()])

    @jax.grad
    def gradients_of(
        parameters: list[jax.Array], images: jax.Array, labels: jax.Array
    ) -> jax.Array:
        W, b = parameters
        # [classes, batch], or at axis 1 [batch, classes]
        logits = jnp.moveaxis(W @ (images / 255).T + b[:, None], 0, axis)
        one_hot = jax.nn.one_hot(labels, work.num_classes, axis=axis)
        return -jnp.sum(one_hot * jax.nn.log_softmax(logits, axis=axis))

    def step(parameters: list[jax.Array], batch: list[jax.Array]) -> tuple:
        gradients = jax.lax.map(lambda piece: gradients_of(parameters, *piece), batch)
        new = jax.tree.map(lambda p, g: p - work.lr * g.sum(axis=0), parameters, gradients)
        return new, None

    @jax.jit
    def take_steps(
        parameters: list[jax.Array], examples: list[jax.Array], blocks: jax.Array
    ) -> list[jax.Array]:
        def gathered(parameters: list[jax.Array], rows: jax.Array) -> tuple:
            batches = [array[rows] for array in examples]
            return jax.lax.scan(step, parameters, batches, unroll=unroll)[0], None

        return jax.lax.scan(gathered, parameters, blocks)[0]

    def train() -> tuple[np.ndarray, np.ndarray]:
        parameters = zeros
        for rows in epochs:
            parameters = take_steps(parameters, examples, rows)
        W, b = jax.device_get(parameters)
        return W.T, b

    train()
    return train


def in_pieces(rows: np.ndarray, piece: int) -> np.ndarray:
    """Returns `rows` [steps, batch] as [gathers, steps, pieces, rows], two pieces a gather or more.

    With one, XLA would convert the images twice. They are padded with -1, the row without a label,
    which has no gradient. A step on such rows changes nothing.
    """
    steps, batch = rows.shape
    gathers = -(-steps // max(1, 2 * piece // batch))
    pieces = -(-batch // piece)
    filled = np.pad(rows, ((0, -steps % gathers), (0, -batch % pieces)), constant_values=-1)
    return filled.reshape(gathers, -1, pieces, filled.shape[1] // pieces)
