"""Damaged, missing and read-only data: found, said in one line, and repaired where that can be."""

import errno
import json
import os
import pathlib
import re
import subprocess
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import tensorflow as tf

import data
from common import errors
from storage import cache
from tests import forked
from tests.conftest import PROJECT


def make_decoded(folder: pathlib.Path) -> pathlib.Path:
    """Returns `folder` with a decoded dataset of 24 training and 24 test images of 2x2 pixels in
    it."""
    folder.mkdir(parents=True)
    for name in cache.SPLITS:
        np.save(
            folder / f"{name}_images.npy",
            np.random.default_rng(0).integers(256, size=(24, 4), dtype=np.uint8),
        )
        np.save(folder / f"{name}_labels.npy", np.arange(24, dtype=np.int32))
    cache.describe(folder, ["a", "b"], (2, 2))
    return folder


def spoilt(path: pathlib.Path, bits: Iterable[int], lengths: Iterable[int]) -> Iterator[str]:
    """Yields after each damage of a file: one of its bits flipped, or its end lost, all of it;
    mends it afterwards."""
    whole = path.read_bytes()
    for bit in bits:
        path.write_bytes(
            whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :]
        )
        yield f"{path.name}: bit {bit}"
    for length in lengths:
        path.write_bytes(whole[:length])
        yield f"{path.name}: length {length}"
    path.unlink()
    yield f"{path.name}: gone"
    path.write_bytes(whole)


ARRAYS = [f"{split}_{kind}.npy" for split in cache.SPLITS for kind in ("images", "labels")]


@pytest.mark.parametrize("name", [*ARRAYS, cache.ABOUT])
def test_any_flipped_bit_or_lost_end_of_a_decoded_folder_is_found(
    tmp_path: pathlib.Path, name: str
) -> None:
    folder = make_decoded(tmp_path / cache.FOLDER)
    size = (folder / name).stat().st_size
    for damage in spoilt(folder / name, range(0, size * 8, 7), range(0, size, 13)):
        with pytest.raises(ValueError) as found:
            assert not cache.read(folder, "made"), damage
        assert str(found.value).startswith(f"{folder}: ") and "\n" not in str(found.value)
    assert len(cache.read(folder, "made").train) == 24


def test_a_flipped_bit_of_a_header_or_of_labels_is_found_where_images_stay_on_the_disk(
    tmp_path: pathlib.Path,
) -> None:
    folder = make_decoded(tmp_path / cache.FOLDER)
    for name in ARRAYS:
        for damage in spoilt(folder / name, range(0, 128 * 8, 3), [0, 100, 200]):
            with pytest.raises(ValueError):
                assert not cache.read(folder, "made", max_bytes=0), damage
    assert len(cache.read(folder, "made", max_bytes=0).train) == 24


def test_another_format_is_said_and_not_read(tmp_path: pathlib.Path) -> None:
    folder = make_decoded(tmp_path / cache.FOLDER)
    about = json.loads((folder / cache.ABOUT).read_text())
    (folder / cache.ABOUT).write_text(json.dumps(about | {"format": cache.FORMAT - 1}))
    with pytest.raises(
        ValueError, match=f"{folder}: has format {cache.FORMAT - 1}, not {cache.FORMAT}"
    ):
        cache.read(folder, "made")


@pytest.mark.parametrize(
    ("error", "words"),
    [(MemoryError(), "--input=stream needs less"), (OSError(errno.EACCES, "denied"), "denied")],
)
def test_no_memory_and_no_rights_are_not_called_damage(
    tiny_data_dir: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    error: Exception,
    words: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(np, "load", fail)
    with pytest.raises(errors.RunError, match=words):
        data.load("mnist", str(tiny_data_dir))
    assert capsys.readouterr().err == ""


FAILING = """
import os, pathlib, sys
import flags, train
from common import commandline, errors
from runtime import clock
from storage import stream

file, kind = pathlib.Path(sys.argv.pop(1)), sys.argv.pop(1)
stream.BUFFER_BYTES, compiled = 100 * 784, train.compiled
happens = {
    "none": lambda: None,
    "cut": lambda: os.truncate(file, 200_000),
    "gone": file.unlink,
    "tensorflow": lambda: train.tf.debugging.assert_equal(1, 2, "on the way"),
    "memory": lambda: train.tf.zeros([2**50]),
}

def breaking(*arguments):
    mode = compiled(*arguments)
    blocks = mode.blocks
    mode.blocks = lambda *given: (
        (happens[kind] if number == 5 else happens["none"])() or block
        for number, block in enumerate(blocks(*given))
    )
    return mode

train.compiled = breaking
with errors.one_line(leave=True):
    config = commandline.parse(flags.train_flags(), sys.argv, "")
    train.run(config, clock.Ledger())
"""


@pytest.mark.parametrize(
    ("mode", "kind", "words"),
    [
        ("eager", "cut", "cannot be read any more: it ends too soon"),
        pytest.param(
            "graph",
            "gone",
            "cannot be read any more: No such file or directory",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "xla", "cut", "cannot be read any more: it ends too soon", marks=pytest.mark.slow
        ),
        ("graph", "tensorflow", "TensorFlow failed: on the way"),
        pytest.param(
            *(
                "graph",
                "memory",
                "out of memory (.*): a smaller --batch_size or --input=stream needs less",
            ),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_fails_while_training_is_one_line_and_checkpoints_are_kept(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path, mode: str, kind: str, words: str
) -> None:
    images = cache.folder_in(tiny_data_dir, "mnist") / "train_images.npy"
    whole = images.read_bytes()
    (tmp_path / "failing.py").write_text(FAILING)

    def run(kind: str) -> subprocess.CompletedProcess:
        arguments = [
            f"--data_dir={tiny_data_dir}",
            f"--checkpoint_dir={tmp_path / 'kept'}",
            "--checkpoint_every=5",
        ]
        more = [
            f"--mode={mode}",
            "--input=stream",
            "--epochs=2",
            "--eval_first=0",
            "--eval_every=0",
        ]
        command = [tmp_path / "failing.py", images, kind, *arguments, *more]
        return forked.run(command, env=os.environ | {"PYTHONPATH": str(PROJECT)})

    failed = run(kind)
    assert failed.returncode == 1 and re.fullmatch(rf"error: .*{words}.*\n", failed.stderr), (
        failed.stderr
    )
    images.write_bytes(whole)
    done = run("none")
    assert done.returncode == 0 and f"goes on from {tmp_path / 'kept'}/step-" in done.stdout, (
        done.stderr
    )


def test_an_error_inside_a_pipeline_is_one_line_without_its_traceback() -> None:
    def parts() -> Iterator[int]:
        yield 1
        raise errors.RunError("file: cannot be read any more")

    pipeline = tf.data.Dataset.from_generator(parts, output_signature=tf.TensorSpec([], tf.int32))
    with pytest.raises(tf.errors.OpError) as caught:
        list(pipeline)
    assert errors.reason(caught.value) == "RunError: file: cannot be read any more"
