"""Softmax regression, its cross-entropy and one step of SGD: tensors in, tensors out."""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from devices import SHARED_BATCH

# (images [steps, batch, features] uint8, labels [steps, batch] int32, learning_rate) -> losses [steps] float32; in mode
# xla a fourth argument says how many steps a round of the loop takes
RunBlock = Callable[..., tf.Tensor]

# Rows of a large batch that one core of a CPU takes at a time: their floats, 314 kB, stay in its cache.
ROWS = 100


class SoftmaxRegression(tf.Module):
    """y = softmax(x @ W + b), with W [features, classes] and b [classes] float32, zeros at the start.

    W is stored as its transpose: a step reads and writes along rows of 784 instead of 10, and takes
    9.9 us instead of 26 (batch 10, XLA, one core; see docs/performance.md).
    """

    def __init__(self, num_features: int, num_classes: int):
        super().__init__()
        self.W_transposed = tf.Variable(tf.zeros([num_classes, num_features]), name="W_transposed")
        self.b = tf.Variable(tf.zeros([num_classes]), name="b")

    @property
    def W(self) -> tf.Tensor:  # noqa: N802 - the article's name
        """The weights [features, classes] float32."""
        return tf.transpose(self.W_transposed)

    def assign(self, W: np.ndarray, b: np.ndarray) -> None:
        """Sets W [features, classes] and b [classes]; raises ValueError on any other shape."""
        self.W_transposed.assign(tf.transpose(W))
        self.b.assign(b)

    def is_finite(self) -> bool:
        """Says whether no image can make a logit overflow."""
        with np.errstate(over="ignore"):  # pixels are at most 1, so that this bounds a class's logit
            bounds = np.abs(self.W_transposed.numpy()).sum(axis=1) + np.abs(self.b.numpy())
        return bool(np.isfinite(bounds).all())

    def logits(self, x: tf.Tensor) -> tf.Tensor:
        """Returns x @ W + b [batch, classes] for x [batch, features] float32."""
        # Computed as (Wᵀxᵀ + b)ᵀ: `cross_entropy` undoes the outer transpose, and XLA then drops both.
        return tf.transpose(tf.matmul(self.W_transposed, x, transpose_b=True) + self.b[:, tf.newaxis])

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the probabilities [batch, classes]; each row sums to 1."""
        return tf.nn.softmax(self.logits(x))


def scale(images: tf.Tensor) -> tf.Tensor:
    """Returns uint8 images as float32 in [0, 1]; float32 images as they are."""
    return tf.image.convert_image_dtype(images, tf.float32)


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns -sum(y * log(softmax(logits))) over the batch, a scalar, for labels [batch] int32.

    Computed as log(softmax(z)) = z - log(sum(exp(z))), which is finite where the softmax is 0.
    """
    # Classes first: along rows of `batch`, not of 10, XLA fills its vectors; 9.9 us a step instead of 12.8 (batch 10).
    z = tf.transpose(logits)
    y = tf.one_hot(labels, z.shape[0], axis=0)
    return tf.reduce_sum(tf.reduce_logsumexp(z, axis=0) - tf.reduce_sum(y * z, axis=0))


def loss_and_gradients(
    model: SoftmaxRegression, images: tf.Tensor, labels: tf.Tensor, divisor: int = 1
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the cross-entropy of a batch over `divisor`, and its gradients for W_transposed and b."""
    with tf.GradientTape() as tape:
        loss = cross_entropy(model.logits(scale(images)), labels) / divisor
    return loss, *tape.gradient(loss, (model.W_transposed, model.b))


def loss_and_gradients_by_rows(
    model: SoftmaxRegression, images: tf.Tensor, labels: tf.Tensor, divisor: int, rows: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the same, summed over some rows at a time."""
    chunks = images.shape[0] // rows
    cut = chunks * rows
    images_of = tf.reshape(images[:cut], [chunks, rows, -1])
    labels_of = tf.reshape(labels[:cut], [chunks, rows])

    def add_chunk(i: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
        parts = loss_and_gradients(model, images_of[i], labels_of[i], divisor)
        return i + 1, *(total + part for total, part in zip(sums, parts, strict=True))

    sums = loss_and_gradients(model, images[cut:], labels[cut:], divisor)  # zeros where there is no rest
    return tf.while_loop(lambda i, *_: i < chunks, add_chunk, (0, *sums))[1:]


def sgd_step(
    model: SoftmaxRegression, images: tf.Tensor, labels: tf.Tensor, learning_rate: tf.Tensor, divisor: int = 1
) -> tf.Tensor:
    """Takes one step of SGD on a batch and returns its loss before the step, a scalar.

    Args:
      images: [batch, features] uint8.
      labels: [batch] int32.
      learning_rate: scalar float32; 0 leaves the weights as they are.
      divisor: what the summed cross-entropy is divided by: 1 for the sum, the batch size for the mean.
    """
    rows = SHARED_BATCH if images.shape[0] >= SHARED_BATCH else ROWS
    if images.shape[0] >= 2 * rows and "CPU" in model.b.device and not tf.executing_eagerly():
        loss, *gradients = loss_and_gradients_by_rows(model, images, labels, divisor, rows)
    else:
        loss, *gradients = loss_and_gradients(model, images, labels, divisor)
    for variable, gradient in zip((model.W_transposed, model.b), gradients, strict=True):
        variable.assign_sub(learning_rate * gradient)
    return loss


@tf.function(autograph=False)
def num_correct(model: SoftmaxRegression, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns how many of `images` [n, features] uint8 are given their label, an int32 scalar."""
    predictions = tf.argmax(model.logits(scale(images)), axis=1, output_type=tf.int32)
    return tf.reduce_sum(tf.cast(predictions == labels, tf.int32))


def block_runner(model: SoftmaxRegression, mode: str, mean: bool = False) -> RunBlock:
    """Returns the function that takes one SGD step on each batch of a block: plain eager or graph steps in a
    Python loop, or for mode xla a loop to be compiled whole with `tf.function(jit_compile=True)`."""
    step = tf.function(sgd_step, autograph=False) if mode == "graph" else sgd_step

    def loop_in_python(images: tf.Tensor, labels: tf.Tensor, learning_rate: tf.Tensor) -> tf.Tensor:
        divisor = images.shape[1] if mean else 1
        batches = zip(tf.unstack(images), tf.unstack(labels), strict=True)
        return tf.stack([step(model, *batch, learning_rate, divisor) for batch in batches])

    def loop_in_xla(images: tf.Tensor, labels: tf.Tensor, learning_rate: tf.Tensor, a_round: int = 1) -> tf.Tensor:
        steps, divisor = images.shape[0], images.shape[1] if mean else 1
        return stacked(lambda i: sgd_step(model, images[i], labels[i], learning_rate, divisor), steps, a_round)

    return loop_in_xla if mode == "xla" else loop_in_python


def stacked(take: Callable[[tf.Tensor], tf.Tensor], count: int | tf.Tensor, a_round: int = 1) -> tf.Tensor:
    """Returns the float32 tensors take(0) to take(count - 1), stacked: taken in their order, `a_round` in each round
    of a loop if that divides `count`."""
    if isinstance(count, int):
        a_round = math.gcd(count, a_round)
        if count == 1:  # compiled in 0.1 s less than a loop
            return take(0)[tf.newaxis]

    def body(i: tf.Tensor, taken: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        for j in range(a_round):
            taken = taken.write(i + j, take(i + j))
        return i + a_round, taken

    # With `count` a Python int and i an int32, XLA knows the trip count: a GPU need not ask the host.
    _, taken = tf.while_loop(lambda i, _: i < count, body, (0, tf.TensorArray(tf.float32, count)))
    return taken.stack()


def compiled(program: Callable[..., tf.Tensor], *inputs: tf.Tensor) -> Callable[..., tf.Tensor]:
    """Returns `program` as one XLA program for inputs of these shapes."""
    # Without AutoGraph: converting the loop takes 0.6 s, tracing it 0.06 s. The concrete function skips 0.2 ms of
    # argument checks at each call.
    return tf.function(program, autograph=False, jit_compile=True).get_concrete_function(*inputs)
