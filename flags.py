"""Every flag of train.py, once: name, default, help and what is allowed. TensorFlow is not imported here."""

import dataclasses

from common.flagging import COUNT, COUNT_OR_0, POSITIVE, SHARE, SWITCH, TEXT, choice, flag


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The flags of one training run, frozen. A field is a flag; its default and help stand here only."""

    dataset: str = flag("mnist", TEXT, "An image-classification dataset of tfds.")
    batch_size: int = flag(10, COUNT, "Examples in the batch of one step.")
    lr: float = flag(0.01, POSITIVE, "Learning rate of plain SGD.")
    epochs: int = flag(1, COUNT, "Passes over the training examples.")
    max_steps: int = flag(0, COUNT_OR_0, "Stop after this many steps; 0: after all epochs.")
    seed: int = flag(
        0,
        COUNT_OR_0,
        "Decides the order of the examples in every epoch: the same seed, the same order.",
    )
    shuffle: bool = flag(True, SWITCH, "Shuffle each epoch; --noshuffle keeps the dataset's order.")
    loss_reduction: str = flag(
        "sum", choice("sum", "mean"), "The cross-entropy of a batch: sum or mean over it."
    )
    mode: str = flag(
        "auto",
        choice("auto", "eager", "graph", "xla"),
        "How to take a step: in Python, in a TensorFlow graph, or by XLA; auto: xla, or graph with --strategy on CPUs.",
    )
    device: str = flag(
        "auto", choice("auto", "cpu", "gpu"), "Where to train; auto takes a GPU if there is one."
    )
    tf32: bool = flag(False, SWITCH, "Allow TensorFloat-32 matmuls on GPUs that have them.")
    deterministic: bool = flag(
        False, SWITCH, "Have a GPU choose the same kernels in every process; it may be slower."
    )
    data_dir: str | None = flag(
        None, TEXT, "Prepared datasets; default: tfds's own, ~/tensorflow_datasets."
    )
    manual_dir: str | None = flag(
        None, TEXT, "The dataset's archives; default: archives/DATASET beside train.py."
    )
    input: str = flag(
        "auto",
        choice("auto", "memory", "stream"),
        "Training data in memory, or streamed from disk; auto: in memory up to a quarter of the device's.",
    )
    strategy: str = flag(
        "none",
        choice("none", "mirrored", "multi_worker"),
        "How devices or machines train together.",
    )
    replicas: int = flag(
        0, COUNT_OR_0, "Devices of --strategy=mirrored, a CPU split into as many; 0: every GPU."
    )
    timeout: int = flag(60, COUNT, "Seconds to wait for another worker of --strategy=multi_worker.")
    eval_first: int = flag(50, COUNT_OR_0, "Validate after each of so many first steps.")
    eval_every: int = flag(
        200, COUNT_OR_0, "After these, validate every so many steps; 0: only at the end."
    )
    target_accuracy: float | None = flag(
        None, SHARE, "Stop at the first validation accuracy that reaches this."
    )
    checkpoint_dir: str | None = flag(
        None, TEXT, "Keep checkpoints here, and go on from the newest one."
    )
    checkpoint_every: int = flag(
        100_000, COUNT, "Steps between checkpoints; one more at the end and at Ctrl-C."
    )
    export_dir: str | None = flag(
        None, TEXT, "Write the trained model to this folder as a SavedModel."
    )
    overwrite: bool = flag(False, SWITCH, "Let --export_dir and --record replace what is there.")
    logdir: str | None = flag(
        None, TEXT, "Write TensorBoard logs to a folder of the run's own in this one."
    )
    record: str | None = flag(
        None, TEXT, "Write the run to this new file as one JSON object; see --overwrite."
    )
    figures: str | None = flag(
        None, TEXT, "Draw what was learned, as four pictures in this folder."
    )
    profile: str | None = flag(
        None, TEXT, "Write a TensorFlow profiler trace of one warm block to this folder."
    )
