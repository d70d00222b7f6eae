"""The exported model, loaded by TensorFlow alone in another process and by saved_model_cli."""

import json
import os
import pathlib
import shutil
import signal
import sys
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

import data
import flags
import model
from common import errors, files
from outputs import export
from runtime import stopping
from runtime.clock import Ledger
from runtime.state import State
from tests import forked
from tests.conftest import Command

Run = Callable[..., dict]

LOAD_ALONE = """
import json, sys
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
images = np.load(sys.argv[2])
shapes = [images, images.reshape(-1, 784), images[:0]]
answers = [loaded.signatures["serving_default"](images=tf.constant(part)) for part in shapes]
print(json.dumps([{name: value.numpy().tolist() for name, value in answer.items()} for answer in answers]))
print(tf.io.gfile.GFile(loaded.class_names.asset_path.numpy()).read().split())
"""


@pytest.fixture
def exported(run_here: Run, tmp_path: pathlib.Path) -> pathlib.Path:
    """A model exported by a short run that also kept a checkpoint of its weights."""
    folder = tmp_path / "models" / "new"
    run_here(
        "--max_steps=40",
        "--eval_every=0",
        "--mode=graph",
        f"--export_dir={folder}",
        f"--checkpoint_dir={tmp_path / 'kept'}",
    )
    return folder


@pytest.fixture
def images(tiny_dataset: data.Dataset, tmp_path: pathlib.Path) -> pathlib.Path:
    np.save(tmp_path / "images.npy", tiny_dataset.test.images[:9].reshape(9, 28, 28, 1))
    return tmp_path / "images.npy"


def oracle(kept: pathlib.Path, images: pathlib.Path) -> np.ndarray:
    """Returns the probabilities [n, 10] as NumPy computes them from the weights of the checkpoint, in float64."""
    reader = tf.train.load_checkpoint(str(kept))
    W, b = (reader.get_tensor(f"model/{name}/.ATTRIBUTES/VARIABLE_VALUE") for name in ("W", "b"))
    logits = np.load(images).reshape(9, 784) / 255.0 @ W.astype(np.float64) + b
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_it_loads_without_this_project_and_gives_numpys_probabilities(
    exported: pathlib.Path, images: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "load.py").write_text(LOAD_ALONE)
    done = forked.run([tmp_path / "load.py", exported, images], cwd=tmp_path)
    answers, names = done.stdout.splitlines()
    as_images, as_rows, none = json.loads(answers)
    expected = oracle(tmp_path / "kept", images)
    for answer in (as_images, as_rows):
        np.testing.assert_allclose(answer["probabilities"], expected, rtol=0, atol=1e-6)
        assert answer["classes"] == expected.argmax(axis=1).tolist()
    assert none == {"probabilities": [], "classes": []}
    assert names == str([str(digit) for digit in range(10)])


def test_it_takes_images_of_other_shapes(tmp_path: pathlib.Path) -> None:
    softmax, names = model.SoftmaxRegression(32 * 32 * 3, 4), ["frog", "a long name", "é", "car"]
    split = data.Split(np.full((3, 3072), 255, np.uint8), np.zeros(3, np.int32))
    (tmp_path / "model").mkdir()
    export.write(
        softmax, data.Dataset("pets", split, split, split, names, (32, 32, 3)), tmp_path / "model"
    )
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    for shape in ([5, 32, 32, 3], [5, 3072]):
        answer = loaded.signatures["serving_default"](images=tf.zeros(shape, tf.uint8))
        np.testing.assert_allclose(answer["probabilities"], np.full([5, 4], 0.25))
    with pytest.raises(tf.errors.InvalidArgumentError):
        loaded.signatures["serving_default"](images=tf.zeros([5, 28, 28, 1], tf.uint8))
    assets = tmp_path / "model" / "assets"
    assert (assets / "class_names.txt").read_text(encoding="utf-8").splitlines() == names
    assert json.loads((assets / "images.json").read_text()) == {
        "shape": [32, 32, 3],
        "box": [32, 32],
    }


def test_an_existing_model_is_refused_before_training_and_replaced_only_with_overwrite(
    run_here: Run, exported: pathlib.Path
) -> None:
    before = {path: path.read_bytes() for path in exported.rglob("*") if path.is_file()}
    with pytest.raises(errors.InputError, match="is there already; give --overwrite"):
        run_here("--max_steps=1", f"--export_dir={exported}")
    assert {path: path.read_bytes() for path in exported.rglob("*") if path.is_file()} == before
    run_here("--max_steps=1", "--mode=graph", f"--export_dir={exported}", "--overwrite")
    assert (
        exported / "variables" / "variables.data-00000-of-00001"
    ).read_bytes() not in before.values()
    assert list(exported.parent.iterdir()) == [exported]


def test_what_is_not_a_saved_model_is_never_replaced(run_here: Run, tmp_path: pathlib.Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(errors.InputError, match="is not a SavedModel"):
        run_here("--max_steps=1", f"--export_dir={tmp_path / 'home'}", "--overwrite")
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"


def test_box_of_ink_is_what_the_largest_images_fill() -> None:
    images = np.zeros((50, 20, 16), np.uint8)
    for number in range(50):
        images[number, 3 : 8 + number % 10, 4:9] = 1
    split = data.Split(images.reshape(50, 320), np.zeros(50, np.int32))
    assert export.ink_box(data.Dataset("letters", split, split, split, ["A"], (20, 16, 1))) == [
        14,
        5,
    ]


@pytest.mark.parametrize(
    "killed", ["while writing", "before the new one was there", "before the old one was gone"]
)
def test_what_a_killed_export_left_is_undone(
    run_here: Run, exported: pathlib.Path, killed: str
) -> None:
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


def test_two_runs_do_not_write_to_one_folder(run_here: Run, tmp_path: pathlib.Path) -> None:
    target = tmp_path / "exported"
    with files.locked(tmp_path / f"{files.OURS}.exported.lock", wait=False):
        half_done = tmp_path / f"{files.OURS}.exported.new.1234" / "new"
        half_done.mkdir(parents=True)
        with pytest.raises(errors.InputError, match="another run writes to it"):
            run_here("--max_steps=1", f"--export_dir={target}")
        assert half_done.exists()
    run_here("--max_steps=1", f"--export_dir={target}")
    assert {path.name for path in tmp_path.iterdir()} == {"data", "exported"}


@pytest.mark.parametrize(("name", "other"), [("a[b]", "ab"), ("a*", "abc"), ("a?", "ax")])
def test_what_a_killed_one_left_goes_by_its_name_alone(
    tmp_path: pathlib.Path, name: str, other: str
) -> None:
    left, foreign = (tmp_path / f"{files.OURS}.{each}.new.1" for each in (name, other))
    left.mkdir()
    foreign.mkdir()
    files.tidy(tmp_path / name)
    assert [*tmp_path.iterdir()] == [foreign]


def test_a_new_folder_is_on_the_disk_before_it_takes_the_place_of_the_old(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may come after any of the calls."""
    target, calls = tmp_path / "model", list[tuple[str, str]]()
    (target / "old").mkdir(parents=True)

    def spy(module: object, name: str, path_of: Callable) -> None:
        called = getattr(module, name)

        def spied(*given: object, **options: object) -> None:
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


def test_a_failed_export_leaves_the_old_model(
    run_here: Run, exported: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = (exported / "saved_model.pb").read_bytes()
    monkeypatch.setattr(export, "write", full)
    with pytest.raises(
        errors.RunError,
        match=f"--export_dir={exported}: cannot be written: No space left on device",
    ):
        run_here("--max_steps=1", f"--export_dir={exported}", "--overwrite")
    assert (exported / "saved_model.pb").read_bytes() == before
    assert list(exported.parent.iterdir()) == [exported]


def test_a_signal_leaves_nothing_where_a_run_was_to_export(
    tiny_dataset: data.Dataset, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "_exit", sys.exit)
    config = flags.training_config(export_dir=str(tmp_path / "new" / "model"))
    state = State(config, tiny_dataset, model.SoftmaxRegression(784, 10), Ledger())
    export.Export(state).before_run()
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"{files.OURS}.model.lock"]
    with pytest.raises(SystemExit, match="143"):
        stopping._leave(signal.SIGTERM)
    assert not (tmp_path / "new").exists()


def test_a_run_that_fails_leaves_nothing_where_it_was_to_export(
    run_train: Command, tmp_path: pathlib.Path
) -> None:
    done = run_train("--lr=1e38", f"--export_dir={tmp_path / 'new' / 'models' / 'mine'}")
    assert done.returncode == 1, done.stderr
    assert not (tmp_path / "new").exists()
