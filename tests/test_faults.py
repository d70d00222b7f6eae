"""Damaged, missing and read-only data: found, said in one line, and repaired where that can be."""

import errno
import math
import os
import re
from unittest import mock

import numpy as np
import pytest

import data
import train
from common import errors
from common.errors import RunError
from storage import cache, stream
from tests.conftest import spoilt


@pytest.fixture
def folder(tmp_path):
    """A decoded dataset of 24 examples in each split, of 2x2 pixels."""
    folder = cache.folder_in(tmp_path, "made")
    folder.mkdir(parents=True)
    for name in cache.SPLITS:
        np.save(folder / f"{name}_images.npy", np.arange(96, dtype=np.uint8).reshape(24, 4))
        np.save(folder / f"{name}_labels.npy", np.arange(24, dtype=np.int32))
    cache.describe(folder, ["a", "b"], (2, 2))
    return folder


ARRAYS = [f"{split}_{kind}.npy" for split in cache.SPLITS for kind in ("images", "labels")]


@pytest.mark.parametrize("name", [*ARRAYS, cache.ABOUT])
@pytest.mark.parametrize("max_bytes", [math.inf, 0])
def test_any_flipped_bit_or_lost_end_of_a_decoded_folder_is_found(folder, name, max_bytes):
    size = (folder / name).stat().st_size
    # what is streamed has its header checked
    checked = 128 if name == "train_images.npy" and not max_bytes else size
    for damage in spoilt(folder / name, range(0, 8 * checked, 29), range(0, size, 13)):
        assert not cache.find("made", folder.parents[1], max_bytes), damage
    assert len(cache.find("made", folder.parents[1], max_bytes).train) == 24


def test_no_memory_is_not_called_damage(tiny_data_dir, monkeypatch, capsys):
    monkeypatch.setattr(np, "load", mock.Mock(side_effect=OSError(errno.ENOMEM, "no memory")))
    with pytest.raises(RunError, match="--input=stream needs less"):
        data.load("mnist", str(tiny_data_dir))
    assert capsys.readouterr().err == ""


def test_a_stream_that_ends_while_training_is_one_line_and_checkpoints_are_kept(
    run_here, tiny_data_dir, tmp_path, monkeypatch, capsys
):
    path = cache.folder_in(tiny_data_dir, "mnist") / "train_images.npy"
    whole, accuracy = path.read_bytes(), train.accuracy
    job = ["--mode=graph", "--input=stream", f"--checkpoint_dir={tmp_path / 'checkpoints'}"]
    job += ["--epochs=2", "--checkpoint_every=10", "--eval_first=0", "--eval_every=20"]
    monkeypatch.setattr(stream, "BUFFER_BYTES", 100 * 784)
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="1"), errors.one_line():
        patch.setattr(train, "accuracy", lambda *of: os.truncate(path, 200_000) or accuracy(*of))
        run_here(*job)
    said = r"error: .*cannot be read any more: it ends too soon\n"
    assert re.fullmatch(said, capsys.readouterr().err)
    path.write_bytes(whole)
    record = run_here(*job)
    assert record["resumed_at_step"] >= 10 and record["steps"] == 132
