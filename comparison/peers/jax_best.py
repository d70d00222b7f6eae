"""JAX at its best: classes first, ten batches gathered at a time, the cores share a large batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from comparison.peers import SHARED_BATCH, jax_device
from comparison.worker import Train, Work

BATCHES = 10  # of a gather on a CPU, whose rows a core's cache holds
PIECE = 125  # rows of a large batch at a time, for the same reason
UNROLLED = 10  # steps in the loop's body on a GPU, where each turn costs

Parameters = tuple[jax.Array, jax.Array]  # W [classes, features], b [classes]
Examples = tuple[jax.Array, jax.Array]  # images [n, features] uint8, labels [n]


def best(work: Work) -> Train:
    """Returns what does the job, an epoch a call; the order is on the device before the clock."""
    device, blocks = jax_device(work), list(work.blocks())
    if work.device == "cpu" and work.batch_size >= SHARED_BATCH:
        mesh = jax.make_mesh((work.cores,), ("cores",))
        everywhere, split = PartitionSpec(), PartitionSpec(None, "cores")
        specs = {"in_specs": (everywhere, everywhere, split), "out_specs": everywhere}
        epoch = functools.partial(epoch_in_shares, lr=work.lr)
        epoch = jax.shard_map(epoch, mesh=mesh, **specs, check_vma=False)
        place, place_of_rows = NamedSharding(mesh, everywhere), NamedSharding(mesh, split)
        blocks = [in_pieces(rows, work.cores) for rows in blocks]
    else:
        gather, unroll = (BATCHES, 1) if work.device == "cpu" else (work.steps, UNROLLED)
        epoch = functools.partial(epoch_of_batches, lr=work.lr, gather=gather, unroll=unroll)
        place = place_of_rows = device
    examples = jax.device_put((work.images, np.append(work.labels, -1)), place)
    epochs = jax.device_put(blocks, place_of_rows)
    shape = work.num_classes, work.num_features
    zeros = jax.device_put((np.zeros(shape, np.float32), np.zeros(shape[0], np.float32)), place)
    take_steps = jax.jit(epoch)

    def train() -> tuple[np.ndarray, np.ndarray]:
        parameters = zeros
        for rows in epochs:
            parameters = take_steps(parameters, examples, rows)
        W, b = map(np.asarray, parameters)
        return W.T, b

    train()
    return train


@jax.grad
def gradients_of(parameters: Parameters, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns those of the summed cross-entropy; the label -1 counts nothing."""
    W, b = parameters
    z = W @ (images.astype(jnp.float32) / 255).T + b[:, jnp.newaxis]
    sums = jnp.where(labels < 0, 0, jax.nn.logsumexp(z, axis=0))
    return jnp.sum(sums) - jnp.sum(jax.nn.one_hot(labels, len(b), axis=0) * z)


def updated(parameters: Parameters, gradients: Parameters, lr: float) -> Parameters:
    """Returns W and b after a step."""
    return jax.tree.map(lambda p, g: p - lr * g, parameters, gradients)


def epoch_of_batches(
    parameters: Parameters, examples: Examples, rows: jax.Array, lr: float, gather: int, unroll: int
) -> Parameters:
    """Returns W and b after a step on each of `rows` [steps, batch], some gathered at once."""

    def step(parameters: Parameters, batch: Examples) -> tuple:
        return updated(parameters, gradients_of(parameters, *batch), lr), None

    def steps(parameters: Parameters, some: jax.Array) -> tuple:
        gathered = tuple(array[some] for array in examples)
        return jax.lax.scan(step, parameters, gathered, unroll=unroll)[0], None

    gather = min(gather, len(rows))
    whole = len(rows) // gather * gather
    in_gathers = rows[:whole].reshape(-1, gather, rows.shape[1])
    parameters, _ = jax.lax.scan(steps, parameters, in_gathers)
    return steps(parameters, rows[whole:])[0] if whole < len(rows) else parameters


def epoch_in_shares(
    parameters: Parameters, examples: Examples, rows: jax.Array, lr: float
) -> Parameters:
    """Returns the same on one of the cores, whose `rows` are [steps, 1, pieces, PIECE]."""

    def step(parameters: Parameters, pieces: jax.Array) -> tuple:
        def add(sums: Parameters, piece: jax.Array) -> tuple:
            gathered = (array[piece] for array in examples)
            return jax.tree.map(jnp.add, sums, gradients_of(parameters, *gathered)), None

        zeros = jax.tree.map(jnp.zeros_like, parameters)
        share, _ = jax.lax.scan(add, zeros, pieces)
        return updated(parameters, jax.lax.psum(share, "cores"), lr), None

    return jax.lax.scan(step, parameters, rows[:, 0])[0]


def in_pieces(rows: np.ndarray, cores: int) -> np.ndarray:
    """Returns `rows` [steps, batch] as [steps, cores, pieces, PIECE].

    They are filled up with -1, the row without a label.
    """
    pieces = -(-rows.shape[1] // (cores * PIECE))
    missing = cores * pieces * PIECE - rows.shape[1]
    return np.pad(rows, ((0, 0), (0, missing)), constant_values=-1).reshape(
        -1, cores, pieces, PIECE
    )
