"""JAX: `lax.scan` over a block of batches, compiled whole, the gradient by `jax.grad`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from comparison.peers import Peer
from comparison.work import Work


class JaxScan(Peer):
    """Gathers a block's rows on the device inside the compiled function; each step of the scan converts its own.

    by_class: W is kept as [classes, features] instead of [features, classes].
    """

    def __init__(self, work: Work, device: str, by_class: bool = False):
        super().__init__(work, device)
        jax.config.update("jax_default_matmul_precision", "highest")  # no TF32
        self.place, self.by_class = jax.devices(device)[0], by_class
        features, classes = work.num_features, work.num_classes
        self.shapes = (classes, features) if by_class else (features, classes), (classes,)
        self.parameters = self.zeros()
        self.examples = jax.device_put((work.images, work.labels), self.place)
        self.test = jax.device_put((work.test_images, work.test_labels), self.place)
        self.take_steps = jax.jit(
            functools.partial(take_steps, by_class=by_class), donate_argnums=0
        )

    def compile(self) -> None:
        for rows in {rows.shape: rows for rows in self.work.blocks()}.values():
            self.parameters = self.take_steps(self.parameters, self.examples, rows, self.work.lr)
        self.num_correct()

    def zeros(self) -> tuple[jax.Array, jax.Array]:
        return jax.device_put(
            tuple(np.zeros(shape, np.float32) for shape in self.shapes), self.place
        )

    def reset(self) -> None:
        self.parameters = self.zeros()

    def train(self) -> None:
        for rows in self.work.blocks():
            self.parameters = self.take_steps(self.parameters, self.examples, rows, self.work.lr)

    def num_correct(self) -> int:
        return int(num_correct(self.parameters, *self.test, by_class=self.by_class))

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        W, b = map(np.asarray, self.parameters)
        return (W.T if self.by_class else W), b

    def barrier(self) -> None:
        jax.block_until_ready(self.parameters)


def logits_of(
    parameters: tuple[jax.Array, jax.Array], images: jax.Array, by_class: bool
) -> jax.Array:
    """Returns [batch, classes] for images [batch, features] uint8."""
    W, b = parameters
    return (images.astype(jnp.float32) / 255) @ (W.T if by_class else W) + b


def loss_of(
    parameters: tuple[jax.Array, jax.Array], images: jax.Array, labels: jax.Array, by_class: bool
) -> jax.Array:
    """Returns the summed cross-entropy of a batch."""
    log_probabilities = jax.nn.log_softmax(logits_of(parameters, images, by_class))
    return -jnp.sum(jax.nn.one_hot(labels, log_probabilities.shape[1]) * log_probabilities)


def take_steps(
    parameters: tuple[jax.Array, jax.Array],
    examples: tuple[jax.Array, jax.Array],
    rows: jax.Array,
    lr: float,
    by_class: bool,
) -> tuple[jax.Array, jax.Array]:
    """Returns W and b after one step on each batch of `rows` [steps, batch]."""

    def step(parameters: tuple[jax.Array, jax.Array], batch: tuple[jax.Array, jax.Array]) -> tuple:
        gradients = jax.grad(loss_of)(parameters, *batch, by_class)
        return jax.tree.map(
            lambda parameter, gradient: parameter - lr * gradient, parameters, gradients
        ), None

    return jax.lax.scan(step, parameters, jax.tree.map(lambda array: array[rows], examples))[0]


@functools.partial(jax.jit, static_argnames="by_class")
def num_correct(
    parameters: tuple[jax.Array, jax.Array], images: jax.Array, labels: jax.Array, by_class: bool
) -> jax.Array:
    """Returns how many of the images are given their label."""
    return jnp.sum(logits_of(parameters, images, by_class).argmax(axis=1) == labels)
