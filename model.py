"""Softmax regression: the model, its loss, one step of SGD, and many steps in one compiled call.

Everything that changes a weight is here. Add a term of the loss in `penalty`, and another update
rule in `update`. Every mode uses both, for every batch size and number of devices.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf
from tensorflow.types.experimental import PolymorphicFunction

from common.commandline import Config

BATCHES_PER_GATHER = 10  # their rows fit into a core's cache
MAX_ROWS_PER_GATHER = 2_000
ROWS_PER_PIECE = 1_000  # of a large batch; their floats stay in the caches


class SoftmaxRegression(tf.Module):
    """y = softmax(x @ W + b) with W [features, classes] and b [classes] float32, zeros at first."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.W = tf.Variable(tf.zeros([num_features, num_classes]), name="W")
        self.b = tf.Variable(tf.zeros([num_classes]), name="b")

    @property
    def parameters(self) -> tuple[tf.Variable, ...]:
        """The variables that have gradients."""
        return self.W, self.b

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the probabilities [batch, classes] of images [batch, features]."""
        x = scale(images)
        return tf.nn.softmax(x @ self.W + self.b)

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the logits [batch, classes] of images [batch, features], without the softmax."""
        return scale(images) @ self.W + self.b


class Transposed(SoftmaxRegression):
    """A SoftmaxRegression inside a compiled function: it stores W as [classes, features].

    Products along rows of features fill a processor's vectors. A step then takes less than half
    the time in XLA (docs/performance.md), and four fifths of the time in a graph.
    """

    @property
    def W(self) -> tf.Tensor:  # noqa: N802 - the field's name
        """The weights [features, classes] float32."""
        return tf.transpose(self.W_transposed)

    @W.setter
    def W(self, variable: tf.Variable) -> None:  # noqa: N802
        self.W_transposed = tf.Variable(tf.transpose(variable), name="W_transposed")

    @property
    def parameters(self) -> tuple[tf.Variable, ...]:
        _, *others = super().parameters
        return self.W_transposed, *others

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        by_class = self.W_transposed @ tf.transpose(scale(images)) + self.b[:, tf.newaxis]
        return tf.transpose(by_class)


def scale(images: tf.Tensor) -> tf.Tensor:
    """Returns uint8 images as float32 in [0, 1], and float32 images unchanged."""
    return tf.image.convert_image_dtype(images, tf.float32)


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns -sum(y * log(softmax(logits))) over the batch, a scalar, for labels [batch] int32.

    Computed as log(softmax(z)) = z - log(sum(exp(z))), which is finite where the softmax is 0.
    """
    z = tf.transpose(logits)  # classes first: XLA fills its vectors along the batch
    z -= tf.stop_gradient(tf.reduce_max(z, axis=0))  # the softmax is the same, and exp(z) <= 1
    y = tf.one_hot(labels, z.shape[0], axis=0)
    log_sums = tf.math.log(tf.reduce_sum(tf.exp(z), axis=0))
    return tf.reduce_sum(log_sums - tf.reduce_sum(y * z, axis=0))


def penalty(model: SoftmaxRegression, config: Config) -> float | tf.Tensor:
    """Returns the term of a batch's loss that depends on the weights alone: here 0.

    The flags that are floats may be tensors in `config`: compute with them, without an `if`.
    """
    return 0.0


def loss_and_gradients(
    model: SoftmaxRegression,
    images: tf.Tensor,
    labels: tf.Tensor,
    config: Config,
    batch_size: int | tf.Tensor | None = None,
) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
    """Returns the loss of a batch, a scalar, and its gradients for `model.parameters`.

    images: [rows, features] uint8; labels: [rows] int32. A float in `config` may be a tensor.
    batch_size: the size of the whole batch, if the rows are a part of it. Each part has its share
    of the penalty, so the losses and gradients of all parts add up to those of the batch.
    """
    rows = labels.shape[0] or tf.size(labels)
    batch_size = rows if batch_size is None else batch_size
    with tf.GradientTape() as tape:
        loss = cross_entropy(model.logits(images), labels)
        if config.loss_reduction == "mean":
            loss /= tf.cast(batch_size, tf.float32)
        loss += penalty(model, config) * tf.cast(rows / batch_size, tf.float32)
    return loss, tape.gradient(loss, model.parameters)


def update(model: SoftmaxRegression, gradients: Sequence[tf.Tensor], config: Config) -> None:
    """Moves the parameters against their gradients: plain SGD."""
    for parameter, gradient in zip(model.parameters, gradients, strict=True):
        parameter.assign_sub(config.lr * gradient)


def sgd_step(
    model: SoftmaxRegression, images: tf.Tensor, labels: tf.Tensor, config: Config
) -> tf.Tensor:
    """Takes one step and returns the loss before it; arguments as in `loss_and_gradients`."""
    loss, gradients = loss_and_gradients(model, images, labels, config)
    update(model, gradients, config)
    return loss


@tf.function(autograph=False)
def num_correct(model: SoftmaxRegression, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns how many of the images [n, features] are classified correctly, an int32 scalar."""
    predictions = tf.argmax(model(images), axis=1, output_type=tf.int32)
    return tf.reduce_sum(tf.cast(predictions == labels, tf.int32))


@functools.lru_cache
def floats(config: Config) -> dict[str, tf.Tensor]:
    """Returns the float flags by name, as scalars: an argument of compiled functions."""
    given = vars(config).items()
    return {name: tf.constant(value) for name, value in given if isinstance(value, float)}


def loop(
    steps: int | tf.Tensor,
    step: Callable[[tf.Tensor], tf.Tensor],
    size: int,
    shape: Sequence[int] = (),
) -> tf.Tensor:
    """Returns the results of step(i) for each i below `steps`, padded with zeros to `size`.

    It does what `for i in tf.range(steps)` does, without AutoGraph, which takes longer than XLA.
    `shape` is the shape of step(i). Without a shape, XLA would compile the body twice.
    """

    def body(i: tf.Tensor, results: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        return i + 1, results.write(i, step(i))

    results = tf.TensorArray(tf.float32, size, element_shape=shape)
    return tf.while_loop(lambda i, _: i < steps, body, (0, results))[1].stack()


def compiled_pipeline(
    model: SoftmaxRegression, config: Config, step: Callable[..., tf.Tensor]
) -> PolymorphicFunction:
    """Returns the function of mode graph, which calls `step` on the next batches of a pipeline.

    Its arguments are an iterator of batches, the number of steps and the values of `floats`. It
    returns the losses [steps]. `step` is `sgd_step`, or a function with the same arguments.
    """
    inner = Transposed(*model.W.shape)

    @tf.function(autograph=False)
    def train_batches(
        batches: tf.data.Iterator, steps: tf.Tensor, values: dict[str, tf.Tensor]
    ) -> tf.Tensor:
        step_config = config.replace(**values)
        assign_transposed(inner, model)
        losses = loop(steps, lambda i: step(inner, *next(batches), step_config), steps)
        assign_transposed(model, inner)
        return losses

    return train_batches


class Rows(NamedTuple):
    """The data of a block: step i has the rows order[first + i * batch_size:][:batch_size]."""

    images: tf.Tensor  # [n, features] uint8
    labels: tf.Tensor  # [n] int32
    order: tf.Tensor  # [rows] int32
    first: tf.Tensor  # scalar int32

    def batches(self, number: tf.Tensor, count: int, size: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the images [count, size, features] and labels of `count` batches at a time.

        Beyond the end of `order` XLA gathers its last row, which no step uses.
        """
        places = self.first + number * count * size + tf.range(count * size)
        rows = tf.gather(self.order, tf.reshape(places, [count, size]))
        return tf.gather(self.images, rows), tf.gather(self.labels, rows)


def compiled_block(
    model: SoftmaxRegression, config: Config, batch_size: int, max_steps: int, known_steps: bool
) -> PolymorphicFunction:
    """Returns the function of mode xla, which takes the steps of a block in one XLA program.

    Its arguments are `Rows`, the number of steps and the values of `floats`. Of the losses that it
    returns, only the first `steps` are valid. With `known_steps`, which a GPU needs, the program
    always takes `max_steps` steps, and those after the first `steps` change nothing.
    """
    inner = Transposed(*model.W.shape)
    batches = max(1, min(BATCHES_PER_GATHER, MAX_ROWS_PER_GATHER // batch_size, max_steps))
    max_gathers = -(-max_steps // batches)

    @tf.function(autograph=False, jit_compile=True)
    def train_block(rows: Rows, steps: tf.Tensor, values: dict[str, tf.Tensor]) -> tf.Tensor:
        step_config = config.replace(**values)
        assign_transposed(inner, model)

        def gather_and_train(number: tf.Tensor) -> tf.Tensor:
            images, labels = rows.batches(number, batches, batch_size)
            left = steps - number * batches

            def step(i: tf.Tensor) -> tf.Tensor:
                if known_steps:
                    return sgd_step_if(i < left, inner, images[i], labels[i], step_config)
                if batch_size > ROWS_PER_PIECE:
                    return sgd_step_in_pieces(inner, images[i], labels[i], step_config)
                return sgd_step(inner, images[i], labels[i], step_config)

            return loop(batches if known_steps else tf.minimum(batches, left), step, batches)

        gathers = max_gathers if known_steps else -(-steps // batches)
        losses = loop(gathers, gather_and_train, max_gathers, [batches])
        assign_transposed(model, inner)
        return tf.reshape(losses, [-1])

    return train_block


def sgd_step_in_pieces(
    model: SoftmaxRegression, images: tf.Tensor, labels: tf.Tensor, config: Config
) -> tf.Tensor:
    """Takes the step of a large batch, and adds up its gradients piece by piece."""
    rows, features = images.shape
    part = functools.partial(loss_and_gradients, model, config=config, batch_size=rows)

    def add(sums: tuple, piece: Sequence[tf.Tensor]) -> tuple:
        return tf.nest.map_structure(tf.add, sums, part(*piece))

    rest = rows % ROWS_PER_PIECE
    pieces = [
        tf.reshape(images[rest:], [-1, ROWS_PER_PIECE, features]),
        tf.reshape(labels[rest:], [-1, ROWS_PER_PIECE]),
    ]
    loss, gradients = tf.foldl(add, pieces, part(images[:rest], labels[:rest]))
    update(model, gradients, config)
    return loss


def sgd_step_if(
    active: tf.Tensor,
    model: SoftmaxRegression,
    images: tf.Tensor,
    labels: tf.Tensor,
    config: Config,
) -> tf.Tensor:
    """Takes a step that has an effect only if `active`. A branch would make a GPU wait."""
    before = [tf.identity(variable) for variable in model.variables]
    loss = sgd_step(model, images, labels, config)
    for variable, value in zip(model.variables, before, strict=True):
        variable.assign(tf.where(active, variable, value))
    return loss


def assign_transposed(target: SoftmaxRegression, source: SoftmaxRegression) -> None:
    """Assigns the variables of a model to those of its `Transposed`, or the reverse."""
    for variable, value in zip(in_order(target), in_order(source), strict=True):
        variable.assign(tf.transpose(value))


def in_order(model: SoftmaxRegression) -> list[tf.Variable]:
    """Returns the parameters first, since W's name differs in `Transposed`, then the others."""
    parameters = model.parameters
    own = {parameter.ref() for parameter in parameters}
    return [*parameters, *(each for each in model.variables if each.ref() not in own)]
