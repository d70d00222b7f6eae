"""JAX as in its tutorials, and at its best: classes first, a large batch in pieces."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from comparison.worker import Train, Work, leave_out

# For the caches of a CPU: rows in a piece of a large batch, and rows gathered at once.
PIECE, GATHER = 1_000, 2_000
# steps in the loop's body: on a GPU, where each iteration has a cost, and at batch 1 on a CPU
UNROLLED, SINGLE = 10, 5

Parameters = tuple[jax.Array, jax.Array]  # W and b


def contender(work: Work) -> Train:
    """Returns a function that does the job with W [features, classes], gathering a whole epoch."""
    return _trained(work, lambda W, b, images: images @ W + b, axis=1)


def best(work: Work) -> Train:
    """Returns a function that does the job with W [classes, features]."""
    sizes = {"unroll": UNROLLED}
    if work.device == "cpu":
        sizes = {"unroll": max(1, SINGLE // work.batch_size), "gather": GATHER, "piece": PIECE}
    return _trained(work, lambda W, b, images: W @ images.T + b[:, None], axis=0, **sizes)


def choose_device(work: Work) -> jax.Device:
    """Returns the device; sets JAX's precision."""
    precision = "TF32_TF32_F32" if work.precision == "tf32" else "highest"
    jax.config.update("jax_default_matmul_precision", precision)
    try:
        return jax.devices(work.device)[0]
    except RuntimeError:
        leave_out("JAX sees no GPU")


def _trained(
    work: Work,
    logits: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    axis: int,
    gather: int = 0,
    piece: int = 0,
    unroll: int = 1,
) -> Train:
    """Returns a function that does the job with a call for each epoch.

    The order is on the device before the clock starts. logits: takes W, b and images in [0, 1].
    axis: that of the classes in the logits; at 0, W is [classes, features]. gather, piece: numbers
    of rows; by default those of an epoch, and those of a batch.
    """
    W = np.zeros((work.num_features, work.num_classes), np.float32)
    blocks = [in_pieces(rows, gather or rows.size, piece or rows.size) for rows in work.blocks()]
    examples = work.images, np.append(work.labels, -1)
    placed = (W if axis else W.T, np.zeros(work.num_classes, np.float32)), examples, blocks
    zeros, examples, epochs = jax.device_put(placed, choose_device(work))

    @jax.grad
    def gradients_of(parameters: Parameters, images: jax.Array, labels: jax.Array) -> jax.Array:
        z = logits(*parameters, images.astype(jnp.float32) / 255)
        one_hot = jax.nn.one_hot(labels, work.num_classes, axis=axis)
        return -jnp.sum(one_hot * jax.nn.log_softmax(z, axis=axis))

    def step(parameters: Parameters, batch: tuple[jax.Array, ...]) -> tuple:
        gradients = jax.lax.map(lambda piece: gradients_of(parameters, *piece), batch)
        new = jax.tree.map(lambda p, g: p - work.lr * g.sum(axis=0), parameters, gradients)
        return new, None

    @jax.jit
    def take_steps(
        parameters: Parameters, examples: tuple[jax.Array, jax.Array], blocks: jax.Array
    ) -> Parameters:
        def gathered(parameters: Parameters, rows: jax.Array) -> tuple:
            batches = tuple(array[rows] for array in examples)
            return jax.lax.scan(step, parameters, batches, unroll=unroll)[0], None

        return jax.lax.scan(gathered, parameters, blocks)[0]

    def train() -> tuple[np.ndarray, np.ndarray]:
        parameters = zeros
        for rows in epochs:
            parameters = take_steps(parameters, examples, rows)
        W, b = map(np.asarray, parameters)
        return W if axis else W.T, b

    train()
    return train


def in_pieces(rows: np.ndarray, gather: int, piece: int) -> np.ndarray:
    """Returns `rows` [steps, batch] as [gathers, steps, pieces, rows].

    They are padded with -1, the row without a label, which has no gradient. A step on such rows
    changes nothing.
    """
    steps, batch = rows.shape
    pieces = -(-batch // piece)
    wanted = min(steps, max(1, gather // batch))
    gathered = min(range(wanted, 2 * wanted), key=lambda number: -steps % number)
    filled = np.pad(rows, ((0, -steps % gathered), (0, -batch % pieces)), constant_values=-1)
    return filled.reshape(-1, gathered, pieces, filled.shape[1] // pieces)
