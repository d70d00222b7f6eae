"""By TensorFlow's registry, all that a mode runs on a GPU has a kernel there."""

import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

import flags
import model

# Control flow, arguments and constants, which TensorFlow's executor runs wherever their inputs are.
ANYWHERE = {
    *("Placeholder", "Const", "NoOp", "Identity", "IteratorGetNext"),
    *("While", "StatelessWhile", "PartitionedCall", "StatefulPartitionedCall"),
}
BATCH = tf.TensorSpec([10, 784], tf.uint8), tf.TensorSpec([10], tf.int32)


def has_gpu_kernel(node):
    """Says whether a GPU kernel is registered for an operation with its types."""
    types = {name: attr.type for name, attr in node.attr.items()}
    for kernel in kernels.get_registered_kernels_for_op(node.op).kernel:
        allowed = {each.name: each.allowed_values.list.type for each in kernel.constraint}
        if kernel.device_type in ("GPU", "DEFAULT") and all(
            types.get(name, kinds[0]) in kinds for name, kinds in allowed.items() if kinds
        ):
            return True
    return False


def step(net):
    function = tf.function(model.sgd_step, autograph=False)
    return function.get_concrete_function(net, *BATCH, flags.training_config())


def loop(net):
    batch = tf.zeros([10, 784], tf.uint8), tf.zeros([10], tf.int32)
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    function = model.compiled_pipeline(net, flags.training_config(), model.sgd_step)
    values = {name: tf.constant(0.01) for name in model.floats(flags.training_config())}
    return function.get_concrete_function(batches, tf.constant(1), values)


def evaluation(net):
    return model.num_correct.get_concrete_function(net, *BATCH)


@pytest.mark.parametrize("function", [step, loop, evaluation])
def test_each_operation_has_a_gpu_kernel_and_none_gathers_rows(function):
    graph = function(model.SoftmaxRegression(784, 10)).graph.as_graph_def()
    nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
    assert any(node.op == "MatMul" for node in nodes)
    for node in nodes:
        assert node.op in ANYWHERE or has_gpu_kernel(node), node
        assert "Gather" not in node.op
