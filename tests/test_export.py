"""The exported model, loaded by TensorFlow alone in another process."""

import json
import os
import shutil
import signal
import sys

import numpy as np
import pytest
import tensorflow as tf

import data
import flags
import model
from callbacks import export
from common import errors, files
from runtime import signals
from runtime.clock import Ledger
from runtime.state import State
from tests import forked

LOAD_ALONE = """
import json, sys
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
images = np.load(sys.argv[2])
shapes = [images, images.reshape(-1, 784), images[:0]]
answers = [loaded.signatures["serving_default"](images=tf.constant(part)) for part in shapes]
lists = [{name: value.numpy().tolist() for name, value in answer.items()} for answer in answers]
print(json.dumps(lists))
print(tf.io.gfile.GFile(loaded.class_names.asset_path.numpy()).read().split())
"""


@pytest.fixture
def exported(run_here, tmp_path):
    """A model exported by a short run that also kept a checkpoint of its weights."""
    folder = tmp_path / "models" / "new"
    job = "--max_steps=40", "--eval_every=0", "--mode=graph"
    run_here(*job, f"--export_dir={folder}", f"--checkpoint_dir={tmp_path / 'kept'}")
    return folder


def test_it_loads_without_this_project_and_gives_numpys_probabilities(
    exported, tiny_dataset, tmp_path
):
    images = tiny_dataset.test.images[:9].reshape(9, 28, 28, 1)
    np.save(tmp_path / "images.npy", images)
    (tmp_path / "load.py").write_text(LOAD_ALONE)
    done = forked.run([tmp_path / "load.py", exported, tmp_path / "images.npy"], cwd=tmp_path)
    answers, names = done.stdout.splitlines()
    reader = tf.train.load_checkpoint(str(tmp_path / "kept"))
    W, b = (reader.get_tensor(f"model/{name}/.ATTRIBUTES/VARIABLE_VALUE") for name in ("W", "b"))
    powers = np.exp(images.reshape(9, 784) / 255.0 @ W.astype(np.float64) + b)
    expected = powers / powers.sum(axis=1, keepdims=True)
    *alike, none = json.loads(answers)
    for answer in alike:
        np.testing.assert_allclose(answer["probabilities"], expected, rtol=0, atol=1e-6)
        assert answer["classes"] == expected.argmax(axis=1).tolist()
    assert none == {"probabilities": [], "classes": []}
    assert names == str([str(digit) for digit in range(10)])


def test_it_takes_images_of_other_shapes(tmp_path):
    softmax, names = model.SoftmaxRegression(32 * 32 * 3, 4), ["frog", "a long name", "é", "car"]
    split = data.Split(np.full((3, 3072), 255, np.uint8), np.zeros(3, np.int32))
    dataset = data.Dataset("pets", split, split, split, names, (32, 32, 3))
    (folder := tmp_path / "model").mkdir()
    export.write(softmax, dataset, folder)
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    for shape in ([5, 32, 32, 3], [5, 3072]):
        answer = serve(images=tf.zeros(shape, tf.uint8))
        np.testing.assert_allclose(answer["probabilities"], np.full([5, 4], 0.25))
    with pytest.raises(tf.errors.InvalidArgumentError):
        serve(images=tf.zeros([5, 28, 28, 1], tf.uint8))
    said = (folder / "assets" / "class_names.txt").read_text(encoding="utf-8")
    assert said.splitlines() == names
    shapes = json.loads((folder / "assets" / "images.json").read_text())
    assert shapes == {"shape": [32, 32, 3], "box": [32, 32]}


def test_a_model_is_replaced_with_overwrite(run_here, exported):
    weights = exported / "variables" / "variables.data-00000-of-00001"
    before = weights.read_bytes()
    run_here("--max_steps=1", "--mode=graph", f"--export_dir={exported}", "--overwrite")
    assert weights.read_bytes() != before
    assert list(exported.parent.iterdir()) == [exported]


def test_box_of_ink_is_what_the_largest_images_fill():
    images = np.zeros((50, 20, 16), np.uint8)
    for number in range(50):
        images[number, 3 : 8 + number % 10, 4:9] = 1
    split = data.Split(images.reshape(50, 320), np.zeros(50, np.int32))
    dataset = data.Dataset("letters", split, split, split, ["A"], (20, 16, 1))
    assert export.ink_box(dataset) == [14, 5]


@pytest.mark.parametrize(
    "killed", ["while writing", "before the new one was there", "before the old one was gone"]
)
def test_what_a_killed_export_left_is_undone(run_here, exported, killed):
    half_done = exported.parent / f"{files.OURS}.{exported.name}.new.1234"
    (half_done / "new").mkdir(parents=True)
    aside = exported.parent / f"{files.OURS}.{exported.name}.replaced"
    if killed == "before the new one was there":
        exported.rename(aside)
    elif killed == "before the old one was gone":
        shutil.copytree(exported, aside)
    with pytest.raises(errors.InputError, match="is there already"):
        run_here("--max_steps=1", f"--export_dir={exported}")
    assert (exported / "saved_model.pb").exists()
    assert list(exported.parent.iterdir()) == [exported]


@pytest.mark.parametrize(("name", "other"), [("a[b]", "ab"), ("a*", "abc"), ("a?", "ax")])
def test_what_a_killed_one_left_goes_by_its_name_alone(tmp_path, name, other):
    left, foreign = (tmp_path / f"{files.OURS}.{of}.new.1" for of in (name, other))
    left.mkdir()
    foreign.mkdir()
    files.tidy(tmp_path / name)
    assert [*tmp_path.iterdir()] == [foreign]


def test_a_new_folder_is_on_the_disk_before_it_takes_the_place_of_the_old(tmp_path, monkeypatch):
    """A power cut may come after any of the calls."""
    target, calls = tmp_path / "model", []
    (target / "old").mkdir(parents=True)

    def spy(module, name, path_of):
        called = getattr(module, name)

        def spied(*given, **options):
            calls.append((name, str(path_of(*given))))
            called(*given, **options)

        monkeypatch.setattr(module, name, spied)

    spy(os, "fsync", lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}"))
    spy(os, "rename", lambda _, renamed: renamed)
    spy(shutil, "rmtree", lambda path, *_: path)
    with files.whole_folder(target) as new:
        (new / "variables").mkdir()
        (new / "variables" / "weights").write_text("new")
        written = {str(path) for path in (new, *new.rglob("*"))}
    aside = str(tmp_path / f"{files.OURS}.model.replaced")
    first = calls.index(("rename", aside))
    assert {path for _, path in calls[:first]} == written
    assert calls[first + 1 : first + 3] == [("rename", str(target)), ("fsync", str(tmp_path))]
    assert ("rmtree", aside) in calls[first + 3 :]
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "variables", "weights"]


def test_a_failed_export_leaves_the_old_model(run_here, exported, monkeypatch):
    def half(softmax, dataset, folder):
        (folder / "saved_model.pb").write_text("half a model")
        raise OSError(28, "No space left on device")

    before = (exported / "saved_model.pb").read_bytes()
    monkeypatch.setattr(export, "write", half)
    with pytest.raises(errors.RunError):
        run_here("--max_steps=1", f"--export_dir={exported}", "--overwrite")
    assert (exported / "saved_model.pb").read_bytes() == before
    assert list(exported.parent.iterdir()) == [exported]


def test_a_signal_at_any_time_leaves_no_lock(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "_exit", sys.exit)
    monkeypatch.setattr(signals, "is_alone", lambda: True)
    config = flags.training_config(export_dir=str(tmp_path / "model"))
    export.Export(State(config, tiny_dataset, model.SoftmaxRegression(784, 10), Ledger()))
    assert [path.name for path in tmp_path.iterdir()] == [f"{files.OURS}.model.lock"]
    with pytest.raises(SystemExit, match="143"):
        signals._leave(signal.SIGTERM, None)
    assert [*tmp_path.iterdir()] == []
