"""What each mode runs on a GPU has a kernel there, by TensorFlow's registry: nothing falls back to
the host unsaid."""

from collections.abc import Iterator

import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import kernels

import flags
import model

# Control flow and constants, which TensorFlow's executor runs wherever their inputs are.
ANYWHERE = {
    "Placeholder",
    "Const",
    "NoOp",
    "Identity",
    "While",
    "StatelessWhile",
    "IteratorGetNext",
}


def operations(graph: tf.Graph) -> Iterator[tf.Operation]:
    """Yields the operations of a function and of all functions that it calls."""
    yield from graph.get_operations()
    for operation in graph.get_operations():
        for name in ("cond", "body", "f"):
            if name in operation.node_def.attr:
                called = graph._get_function(operation.node_def.attr[name].func.name)
                yield from operations(called.graph)


def has_gpu_kernel(kind: str, types: dict[str, int]) -> bool:
    """Says whether a GPU kernel is registered for an operation with these type attributes."""
    for kernel in kernels.get_registered_kernels_for_op(kind).kernel:
        allowed = {
            constraint.name: constraint.allowed_values.list.type for constraint in kernel.constraint
        }
        if kernel.device_type in ("GPU", "DEFAULT") and all(
            types.get(k, v[0]) in v for k, v in allowed.items() if v
        ):
            return True
    return False


def without_kernel(function: tf.types.experimental.ConcreteFunction) -> set[str]:
    missing = set()
    for operation in operations(function.graph):
        types = {name: attr.type for name, attr in operation.node_def.attr.items() if attr.type}
        if operation.type not in ANYWHERE and not has_gpu_kernel(operation.type, types):
            names = sorted((k, types_pb2.DataType.Name(v)) for k, v in types.items())
            missing.add(f"{operation.type}{names}")
    return missing


@pytest.fixture(scope="module")
def net() -> model.SoftmaxRegression:
    return model.SoftmaxRegression(784, 10)


BATCH = tf.TensorSpec([10, 784], tf.uint8), tf.TensorSpec([10], tf.int32)


def test_a_step_of_eager_and_graph_has_gpu_kernels(net: model.SoftmaxRegression) -> None:
    step = tf.function(model.sgd_step, autograph=False)
    config = flags.training_config()
    assert without_kernel(step.get_concrete_function(net, *BATCH, config)) == set()


def test_the_loop_of_graph_gathers_nothing_itself(net: model.SoftmaxRegression) -> None:
    batches = iter(
        tf.data.Dataset.from_tensors(
            (tf.zeros([10, 784], tf.uint8), tf.zeros([10], tf.int32))
        ).repeat()
    )
    loop = model.compiled_pipeline(net, flags.training_config(), model.sgd_step)
    found = loop.get_concrete_function(batches, tf.constant(1), tf.constant([0.01]))
    assert without_kernel(found) == set()
    assert not any("Gather" in operation.type for operation in operations(found.graph))


def test_an_evaluation_has_gpu_kernels(net: model.SoftmaxRegression) -> None:
    assert without_kernel(model.num_correct.get_concrete_function(net, *BATCH)) == set()
