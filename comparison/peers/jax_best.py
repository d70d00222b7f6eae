"""JAX at its best: classes first, several batches gathered at once, a large batch in pieces."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from comparison.peers import jax_device
from comparison.worker import Train, Work

# On a CPU, whose caches they suit: rows of a large batch at a time, and such pieces of a gather.
PIECE, PIECES = 1000, 10
UNROLLED = 10  # steps in the loop's body on a GPU, where each turn costs

Parameters = tuple[jax.Array, jax.Array]  # W [classes, features], b [classes]
Examples = tuple[jax.Array, jax.Array]  # images [..., features] uint8, labels [...]


def best(work: Work) -> Train:
    """Returns what does the job, an epoch a call; the order is on the device before the clock."""
    device = jax_device(work)
    piece, pieces, unroll = PIECE, PIECES, 1
    if work.device == "gpu":
        piece, pieces, unroll = work.batch_size, work.steps, UNROLLED
    blocks = [in_pieces(rows, piece) for rows in work.blocks()]
    take_steps = jax.jit(functools.partial(steps, lr=work.lr, pieces=pieces, unroll=unroll))
    W = np.zeros((work.num_classes, work.num_features), np.float32)
    placed = (W, W[:, 0]), (work.images, np.append(work.labels, -1)), blocks
    zeros, examples, epochs = jax.device_put(placed, device)

    def train() -> tuple[np.ndarray, np.ndarray]:
        parameters = zeros
        for rows in epochs:
            parameters = take_steps(parameters, examples, rows)
        W, b = map(np.asarray, parameters)
        return W.T, b

    train()
    return train


def in_pieces(rows: np.ndarray, size: int) -> np.ndarray:
    """Returns `rows` [steps, batch] as [steps, pieces, rows], of `size` rows at most.

    They are filled up with -1, the row without a label.
    """
    pieces = -(-rows.shape[1] // size)
    filled = np.pad(rows, ((0, 0), (0, -rows.shape[1] % pieces)), constant_values=-1)
    return filled.reshape(len(rows), pieces, -1)


@jax.grad
def gradients_of(parameters: Parameters, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns those of the summed cross-entropy; the label -1 counts nothing."""
    W, b = parameters
    z = W @ (images.astype(jnp.float32) / 255).T + b[:, jnp.newaxis]
    sums = jnp.where(labels < 0, 0, jax.nn.logsumexp(z, axis=0))
    return jnp.sum(sums) - jnp.sum(jax.nn.one_hot(labels, len(b), axis=0) * z)


def steps(
    parameters: Parameters, examples: Examples, rows: jax.Array, lr: float, pieces: int, unroll: int
) -> Parameters:
    """Returns W and b after a step on each of `rows` [steps, pieces, rows], some gathered at
    once."""

    def step(parameters: Parameters, batch: Examples) -> tuple:
        def add(sums: Parameters, piece: Examples) -> tuple:
            return jax.tree.map(jnp.add, sums, gradients_of(parameters, *piece)), None

        zeros = jax.tree.map(jnp.zeros_like, parameters)
        gradients, _ = jax.lax.scan(add, zeros, batch)
        return jax.tree.map(lambda p, g: p - lr * g, parameters, gradients), None

    def gathered_steps(parameters: Parameters, rows: jax.Array) -> tuple:
        gathered = tuple(array[rows] for array in examples)
        return jax.lax.scan(step, parameters, gathered, unroll=unroll)[0], None

    gather = min(max(1, pieces // rows.shape[1]), len(rows))
    count = len(rows) // gather
    in_gathers = rows[: count * gather].reshape(count, gather, *rows.shape[1:])
    parameters, _ = jax.lax.scan(gathered_steps, parameters, in_gathers)
    return gathered_steps(parameters, rows[count * gather :])[0]
