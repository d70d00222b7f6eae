"""The flags of train.py: name, default, help and allowed values. TensorFlow is not imported here.

A new flag is one line in the function of its group. It is then in every config, record and
checkpoint. A resumed run must have the same value, unless the flag is listed below. sweep.py takes
several values of each number or choice in the group Training.
"""

from absl import flags

from common import commandline
from common.commandline import Config, define_path

# Flags that may change when a run is resumed; another value of any other flag is another run.
# Paths.
PLACES = {
    "data_dir",
    "manual_dir",
    "checkpoint_dir",
    "export_dir",
    "logdir",
    "record",
    "figures",
    "profile",
}
# When a run ends, evaluates and saves, and how long it waits.
CAN_CHANGE = PLACES | {
    "epochs",
    "max_steps",
    "target_accuracy",
    "eval_first",
    "eval_every",
    "checkpoint_every",
    "overwrite",
    "timeout",
}
# What may also change, with a line that says that the last bits may differ: flags, and the machine.
# Another NumPy may shuffle differently.
MAY_ROUND = {
    "mode",
    "device",
    "tf32",
    "deterministic",
    "strategy",
    "replicas",
    "numpy",
    "tensorflow",
    "threads",
}


def define_data_flags(values: flags.FlagValues) -> None:
    """Defines the data and its place, for compare.py too."""
    group = commandline.group("Data", values)
    flags.DEFINE_string("dataset", "mnist", "An image-classification dataset of tfds.", **group)
    define_path(
        "data_dir", "Prepared datasets; default: tfds's own, ~/tensorflow_datasets.", **group
    )
    define_path(
        "manual_dir", "The dataset's archives; default: archives/DATASET beside train.py.", **group
    )


def define_training_flags(values: flags.FlagValues) -> None:
    """Defines the flags that, with the data, determine the weights."""
    group = commandline.group("Training", values)
    flags.DEFINE_integer(
        "batch_size", 10, "Examples in the batch of one step.", lower_bound=1, **group
    )
    flags.DEFINE_float(  # in the range of float32
        "lr", 0.01, "Learning rate of plain SGD.", lower_bound=1e-37, upper_bound=1e38, **group
    )
    flags.DEFINE_integer("epochs", 1, "Passes over the training examples.", lower_bound=1, **group)
    flags.DEFINE_integer(
        "max_steps",
        0,
        "Stop after at most this many steps; 0: after all epochs.",
        lower_bound=0,
        **group,
    )
    flags.DEFINE_integer(
        "seed",
        0,
        "Determines the order of the examples in every epoch.",
        lower_bound=0,
        **group,
    )
    flags.DEFINE_boolean(
        "shuffle", True, "Shuffle each epoch; --noshuffle keeps the dataset's order.", **group
    )
    flags.DEFINE_enum(
        "loss_reduction",
        "sum",
        ["sum", "mean"],
        "Sum or mean of the cross-entropy over a batch.",
        **group,
    )


def define_device_flags(values: flags.FlagValues) -> None:
    """Defines how and on what a step is computed, and where the data are kept."""
    group = commandline.group("Device", values)
    flags.DEFINE_enum(
        "mode",
        "auto",
        ["auto", "eager", "graph", "xla"],
        "How to take a step: in Python, in a TensorFlow graph, or by XLA; auto: xla, or graph with "
        "--strategy.",
        **group,
    )
    flags.DEFINE_enum(
        "device",
        "auto",
        ["auto", "cpu", "gpu"],
        "Where to train; auto uses a GPU if there is one.",
        **group,
    )
    flags.DEFINE_enum(
        "input",
        "auto",
        ["auto", "memory", "stream"],
        "Keep training data in memory or stream it from disk; auto: in memory if it fits in a "
        "quarter of the device's memory.",
        **group,
    )
    flags.DEFINE_boolean(
        "tf32", False, "Allow TensorFloat-32 matmuls on GPUs that have them.", **group
    )
    flags.DEFINE_boolean(
        "deterministic",
        False,
        "Have a GPU choose the same kernels in every process; it may be slower.",
        **group,
    )


def define_strategy_flags(values: flags.FlagValues) -> None:
    """Defines how several devices or machines train together."""
    group = commandline.group("Several devices", values)
    flags.DEFINE_enum(
        "strategy",
        "none",
        ["none", "mirrored", "multi_worker"],
        "How devices or machines train together.",
        **group,
    )
    flags.DEFINE_integer(
        "replicas",
        0,
        "Number of devices for --strategy=mirrored; a CPU is split; 0: every GPU.",
        lower_bound=0,
        upper_bound=256,  # making 5,000 parts of a CPU takes minutes
        **group,
    )
    flags.DEFINE_integer(
        "timeout",
        60,
        "Seconds to wait for another worker of --strategy=multi_worker.",
        lower_bound=1,
        upper_bound=10**6,  # a timer has a limit
        **group,
    )


def define_evaluation_flags(values: flags.FlagValues) -> None:
    """Defines when the validation accuracy is measured, and at which accuracy a run stops."""
    group = commandline.group("Evaluation", values)
    flags.DEFINE_integer(
        "eval_first", 50, "Number of first steps to validate one by one.", lower_bound=0, **group
    )
    flags.DEFINE_integer(
        "eval_every",
        200,
        "Steps between validations after --eval_first; 0: only at the end.",
        lower_bound=0,
        **group,
    )
    flags.DEFINE_float(
        "target_accuracy",
        None,
        "Stop at the first validation accuracy that reaches this.",
        lower_bound=0.001,
        upper_bound=1.0,
        **group,
    )


def define_output_flags(values: flags.FlagValues) -> None:
    """Defines the outputs of a run."""
    group = commandline.group("Outputs", values)
    define_path("checkpoint_dir", "Keep checkpoints here, and resume from the newest.", **group)
    flags.DEFINE_integer(
        "checkpoint_every",
        100_000,
        "Steps between checkpoints; one more at the end and at Ctrl-C.",
        lower_bound=1,
        **group,
    )
    define_path("export_dir", "Write the trained model to this folder as a SavedModel.", **group)
    flags.DEFINE_boolean(
        "overwrite", False, "Let --export_dir and --record replace existing files.", **group
    )
    define_path(
        "logdir", "Write TensorBoard logs to a new subfolder of this one for each run.", **group
    )
    define_path(
        "record", "Write a record of the run to this new JSON file; see --overwrite.", **group
    )
    define_path("figures", "Draw what was learned in four pictures in this folder.", **group)
    define_path(
        "profile", "Write a TensorFlow profiler trace of one warm block to this folder.", **group
    )


def train_flags() -> flags.FlagValues:
    """Returns the flags of train.py, not yet read."""
    return commandline.defined(
        define_data_flags,
        define_training_flags,
        define_device_flags,
        define_strategy_flags,
        define_evaluation_flags,
        define_output_flags,
    )


def training_config(**changes: object) -> Config:
    """Returns the defaults of train.py, with changes."""
    return Config(**train_flags().flag_values_dict()).replace(**changes)
