"""Softmax regression, its cross-entropy, one step of SGD, and many of them in one call: tensors in, tensors out."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import tensorflow as tf

StateT = TypeVar("StateT")

# batches and rows at most that are gathered at a time, but two batches: a core's cache holds them
GATHERED = 10, 500
GATHERED_BYTES = 256 * 2**20  # at most, where the number of steps is known before: on a GPU
ROUND = 10  # steps in a round of the loop there: fewer kernels and launches a step
COUNTED = 2_500  # rows that are classified on a core of their own


class SoftmaxRegression(tf.Module):
    """y = softmax(x @ W + b), with W [features, classes] and b [classes] float32, zeros at the start."""

    def __init__(self, num_features: int, num_classes: int):
        super().__init__()
        # W is stored as its transpose: along rows of 784, not of 10, XLA's step takes less than half the time.
        self.W_transposed = tf.Variable(tf.zeros([num_classes, num_features]), name="W_transposed")
        self.b = tf.Variable(tf.zeros([num_classes]), name="b")

    @property
    def W(self) -> tf.Tensor:  # noqa: N802 - the article's name
        """The weights [features, classes] float32."""
        return tf.transpose(self.W_transposed)

    def logits(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the logits [batch, classes] of x [batch, features] float32."""
        return x @ self.W + self.b

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
    # classes first: along rows of `batch`, not of 10, XLA fills its vectors
    z = tf.transpose(logits)
    y = tf.one_hot(labels, z.shape[0], axis=0)
    return tf.reduce_sum(tf.reduce_logsumexp(z, axis=0)) - tf.reduce_sum(y * z)


def loss_and_gradients(
    model: SoftmaxRegression, images: tf.Tensor, labels: tf.Tensor, divisor: float | tf.Tensor = 1
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the cross-entropy of a batch over `divisor`, and its gradients for W_transposed and b."""
    with tf.GradientTape() as tape:
        loss = cross_entropy(model.logits(scale(images)), labels) / divisor
    return loss, *tape.gradient(loss, (model.W_transposed, model.b))


def descend(
    model: SoftmaxRegression, gradients: Sequence[tf.Tensor], learning_rate: float | tf.Tensor
) -> None:
    """Moves W_transposed and b against their gradients."""
    for variable, gradient in zip((model.W_transposed, model.b), gradients, strict=True):
        variable.assign_sub(learning_rate * gradient)


def sgd_step(
    model: SoftmaxRegression,
    images: tf.Tensor,
    labels: tf.Tensor,
    learning_rate: float | tf.Tensor,
    divisor: float | tf.Tensor = 1,
) -> tf.Tensor:
    """Takes one step of SGD on a batch and returns its loss before the step, a scalar.

    Args:
      images: [batch, features] uint8, and labels [batch] int32.
      learning_rate: scalar float32; 0 leaves the weights as they are.
      divisor: what the summed cross-entropy is divided by: 1 for the sum, the batch size for the mean.
    """
    loss, *gradients = loss_and_gradients(model, images, labels, divisor)
    descend(model, gradients, learning_rate)
    return loss


def logits_by_class(model: SoftmaxRegression, x: tf.Tensor) -> tf.Tensor:
    """Returns the logits [classes, batch], along which W is stored: outside XLA in half the time of model.logits."""
    return tf.matmul(model.W_transposed, x, transpose_b=True) + model.b[:, tf.newaxis]


@tf.function(autograph=False)
def num_correct(model: SoftmaxRegression, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns how many of `images` [n, features] are given their label, an int32 scalar."""
    pieces = [images[first : first + COUNTED] for first in range(0, images.shape[0], COUNTED)]
    logits = [logits_by_class(model, scale(piece)) for piece in pieces]
    predictions = tf.concat([tf.argmax(z, axis=0, output_type=tf.int32) for z in logits], axis=0)
    return tf.reduce_sum(tf.cast(predictions == labels, tf.int32))


def train_steps(
    model: SoftmaxRegression,
    batches: tf.data.Iterator,
    steps: tf.Tensor,
    learning_rate: tf.Tensor,
    mean: bool = False,
) -> tf.Tensor:
    """Takes a step on each of the next `steps` batches (images, labels), returns their losses [steps]: mode graph."""

    def take(i: tf.Tensor, losses: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        images, labels = next(batches)
        divisor = tf.cast(tf.size(labels), tf.float32) if mean else 1
        return i + 1, losses.write(i, sgd_step(model, images, labels, learning_rate, divisor))

    _, losses = tf.while_loop(lambda i, _: i < steps, take, (0, tf.TensorArray(tf.float32, steps)))
    return losses.stack()


def take_steps(
    model: SoftmaxRegression,
    images: tf.Tensor,
    labels: tf.Tensor,
    order: tf.Tensor,
    first: tf.Tensor,
    steps: int | tf.Tensor,
    learning_rate: tf.Tensor,
    batch_size: int,
    mean: bool,
    most_steps: int,
) -> tf.Tensor:
    """Takes a step on each batch of a block: mode xla, to be compiled whole.

    Args:
      images: [n, features] uint8, and labels [n] int32.
      order: [rows] int32; step i takes the rows order[first + i * batch_size:][:batch_size] of images and labels.
      steps: as a tensor, one program serves any number up to `most_steps`; an int lets XLA know the trip count.

    Returns the losses [most_steps] float32, those from `steps` on without a meaning; [steps] for an int.
    """
    divisor = batch_size if mean else 1

    def take(
        i: tf.Tensor, images: tf.Tensor, labels: tf.Tensor, losses: tf.TensorArray
    ) -> tf.TensorArray:
        return losses.write(i, sgd_step(model, images, labels, learning_rate, divisor))

    losses = tf.TensorArray(tf.float32, steps if isinstance(steps, int) else most_steps)
    return over_batches(take, losses, (images, labels, order, first), steps, batch_size).stack()


def over_batches(
    visit: Callable[..., StateT],
    state: StateT,
    rows: Sequence[tf.Tensor],
    count: int | tf.Tensor,
    batch_size: int,
) -> StateT:
    """Returns `state` after state = visit(i, images, labels, state) on each of `count` batches; for XLA alone.

    `rows` are the images, labels, order and first of a block. Those of some batches are gathered at a time; behind the
    end of `order` XLA takes the last one, unused.
    """
    images, labels, order, first = rows
    some, a_round = _at_once(count, batch_size, images.shape[1])
    numbers = tf.reshape(tf.range(some * batch_size), [some, batch_size])

    def visit_some(part: tf.Tensor, state: StateT) -> tuple[tf.Tensor, StateT]:
        indices = tf.gather(order, first + part * some * batch_size + numbers)
        some_images, some_labels = tf.gather(images, indices), tf.gather(labels, indices)

        def visit_round(j: tf.Tensor, state: StateT) -> tuple[tf.Tensor, StateT]:
            for k in range(a_round):
                state = visit(part * some + j + k, some_images[j + k], some_labels[j + k], state)
            return j + a_round, state

        stop = some if isinstance(count, int) else tf.minimum(some, count - part * some)
        return part + 1, tf.while_loop(lambda j, _: j < stop, visit_round, (0, state))[1]

    # counted by ones: XLA does not enter a loop that counts by more up to a constant 1
    parts = -(-count // some)
    return tf.while_loop(lambda part, _: part < parts, visit_some, (0, state))[1]


def _at_once(count: int | tf.Tensor, batch_size: int, num_features: int) -> tuple[int, int]:
    """Returns how many batches are gathered at a time, and how many a round of the loop takes of them."""
    if not isinstance(count, int):
        most = tf.get_static_value(count) or GATHERED[0]  # a constant is known
        # one at a time, XLA takes longer
        return max(2, min(most, GATHERED[0], GATHERED[1] // batch_size)), 1
    most = max(1, GATHERED_BYTES // (batch_size * num_features))
    some = max(each for each in range(1, min(count, most) + 1) if count % each == 0)
    return some, math.gcd(some, ROUND)
