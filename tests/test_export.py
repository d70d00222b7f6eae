"""The exported model, loaded by TensorFlow alone in another process, and what a fault leaves."""

import contextlib
import json
import os
import pathlib
import re
import sys

import numpy as np
import pytest
import tensorflow as tf

import data
import flags
import model
from callbacks import export
from common import errors, files
from runtime.clock import Ledger
from runtime.state import State
from tests import forked
from tests.conftest import PROJECT

LOAD_ALONE = """
import json, sys
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
images = tf.constant(np.load(sys.argv[2]))
rows = tf.reshape(images, [-1, 784])
for name, batch in ("serving_default", images), ("serving_default", rows), ("images", images):
    answer = loaded.signatures[name](images=batch)
    print(json.dumps({name: value.numpy().tolist() for name, value in answer.items()}))
print(json.dumps(tf.io.gfile.GFile(loaded.class_names.asset_path.numpy()).read().split()))
"""


@pytest.fixture
def exported(run_here, tmp_path):
    """A model exported by a short run."""
    folder = tmp_path / "models" / "new"
    run_here("--max_steps=40", "--eval_every=0", "--mode=graph", f"--export_dir={folder}")
    return folder


def test_it_loads_without_this_project_and_gives_numpys_probabilities(
    exported, tiny_dataset, tmp_path
):
    images = tiny_dataset.test.images[:9]
    np.save(tmp_path / "images.npy", images.reshape(9, 28, 28, 1))
    (tmp_path / "load.py").write_text(LOAD_ALONE)
    done = forked.run([tmp_path / "load.py", exported, tmp_path / "images.npy"], cwd=tmp_path)
    *answers, names = map(json.loads, done.stdout.splitlines())
    weights = np.load(exported / "weights.npz")
    powers = np.exp(images / 255.0 @ weights["W"].astype(np.float64) + weights["b"])
    expected = powers / powers.sum(axis=1, keepdims=True)
    for answer in answers:
        np.testing.assert_allclose(answer["probabilities"], expected, rtol=0, atol=1e-6)
        assert answer["classes"] == expected.argmax(axis=1).tolist()
    assert len(answers) == 3 and names == [str(digit) for digit in range(10)]


def test_the_request_of_the_docs_fits_its_signature(exported, tmp_path, monkeypatch):
    """TensorFlow Serving makes a tensor of the instances, as the signature describes it."""
    monkeypatch.chdir(tmp_path)
    page = (PROJECT / "docs" / "training.md").read_text()
    (code,) = re.findall(r"^```python\n([^`]*request\.json.*?)^```", page, re.M | re.S)
    exec(code, {"tf": tf})
    request = json.loads(pathlib.Path("request.json").read_text())
    serve = tf.saved_model.load(str(exported)).signatures[request["signature_name"]]
    spec = serve.structured_input_signature[1]["images"]
    assert spec.shape.as_list() == [None, 28, 28, 1] and spec.dtype == tf.uint8
    answer = serve(images=tf.constant(request["instances"], spec.dtype))
    assert answer["classes"].shape == len(request["instances"])


def test_it_takes_images_of_other_shapes(tmp_path):
    softmax, names = model.SoftmaxRegression(32 * 32 * 3, 4), ["frog", "a long name", "é", "car"]
    split = data.Split(np.full((3, 3072), 255, np.uint8), np.zeros(3, np.int32))
    dataset = data.Dataset("pets", split, split, split, names, (32, 32, 3))
    (folder := tmp_path / "model").mkdir()
    export.write(softmax, dataset, folder)
    for serve in tf.saved_model.load(str(folder)).signatures.values():
        answer = serve(images=tf.zeros([5, 32, 32, 3], tf.uint8))
        np.testing.assert_allclose(answer["probabilities"], np.full([5, 4], 0.25))
        with pytest.raises(tf.errors.InvalidArgumentError):
            serve(images=tf.zeros([5, 28, 28, 1], tf.uint8))
    said = (folder / "assets" / "class_names.txt").read_text(encoding="utf-8")
    assert said.splitlines() == names
    shapes = json.loads((folder / "assets" / "images.json").read_text())
    assert shapes == {"shape": [32, 32, 3], "box": [32, 32]}


def test_box_of_ink_is_what_the_largest_images_fill(tmp_path):
    images = np.zeros((50, 20, 16), np.uint8)
    for number in range(50):
        images[number, 3 : 8 + number % 10, 4:9] = 1
    np.save(tmp_path / "images.npy", images.reshape(50, 320))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    split = data.Split(mapped, np.zeros(50, np.int32), streamed=True)
    dataset = data.Dataset("letters", split, split, split, ["A"], (20, 16, 1))
    assert export.ink_box(dataset) == [14, 5]


def test_a_model_is_replaced_with_overwrite_and_a_link_to_it_stays(run_here, exported, tmp_path):
    (link := tmp_path / "link").symlink_to(exported, target_is_directory=True)
    weights = exported / "variables" / "variables.data-00000-of-00001"
    before = weights.read_bytes()
    run_here("--max_steps=1", "--mode=graph", f"--export_dir={link}", "--overwrite")
    assert weights.read_bytes() != before and link.is_symlink()
    assert list(exported.parent.iterdir()) == [exported]


@pytest.mark.parametrize("killed", ["while writing", "before it was there", "behind that"])
def test_what_a_killed_export_left_is_undone_by_its_name_alone(tmp_path, killed):
    target, foreign = tmp_path / "a[b]*?", tmp_path / f"{files.OURS}.ab.new.1"
    (tmp_path / f"{files.OURS}.{target.name}.new.1" / "new").mkdir(parents=True)
    foreign.mkdir()
    if killed != "before it was there":
        (target / "whole").mkdir(parents=True)
    if killed != "while writing":
        (tmp_path / f"{files.OURS}.{target.name}.replaced" / "whole").mkdir(parents=True)
    files.tidy(target)
    assert {*tmp_path.rglob("*")} == {foreign, target, target / "whole"}


def test_a_new_folder_is_on_the_disk_before_it_takes_the_place_of_the_old(tmp_path, monkeypatch):
    """A power cut may come after any of the calls."""
    target, calls = tmp_path / "model", []
    target.mkdir()

    def spy(module, name, path_of):
        called = getattr(module, name)

        def spied(*given, **options):
            calls.append(str(path_of(*given)))
            called(*given, **options)

        monkeypatch.setattr(module, name, spied)

    spy(os, "fsync", lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}"))
    spy(os, "rename", lambda _, renamed: renamed)
    spy(files.shutil, "rmtree", lambda path, *_: path)
    with files.whole_folder(target) as new:
        (new / "weights").write_text("new")
        calls.clear()  # of the tidying at first
    first = calls.index(aside := str(tmp_path / f"{files.OURS}.model.replaced"))
    assert {*calls[:first]} == {str(new), str(new / "weights")}
    assert calls[first + 1 : first + 3] == [str(target), str(tmp_path)]
    assert aside in calls[first + 3 :] and [*tmp_path.iterdir()] == [target]


def test_a_failed_export_leaves_the_old_model(tmp_path):
    (tmp_path / "model" / "old").mkdir(parents=True)
    with pytest.raises(OSError, match="full"), files.whole_folder(tmp_path / "model") as new:
        (new / "saved_model.pb").write_text("half a model")
        raise OSError("full")
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "old"]


def test_an_end_at_any_time_leaves_no_lock(tiny_dataset, tmp_path, monkeypatch):
    config = flags.training_config(export_dir=str(tmp_path / "model"))
    state = State(config, tiny_dataset, model.SoftmaxRegression(784, 10), Ledger())
    export.Export(state, contextlib.ExitStack())
    assert [path.name for path in tmp_path.iterdir()] == [f"{files.OURS}.model.lock"]
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit, match="143"):
        errors.end(143, at_once=True)
    assert [*tmp_path.iterdir()] == []


def test_what_another_program_wrote_during_the_run_is_not_replaced(tiny_dataset, tmp_path):
    config = flags.training_config(export_dir=str(tmp_path / "model"))
    state = State(config, tiny_dataset, model.SoftmaxRegression(784, 10), Ledger())
    with contextlib.ExitStack() as closing:
        callback = export.Export(state, closing)
        (letter := tmp_path / "model" / "letter.txt").parent.mkdir()
        letter.write_text("years of work")
        with pytest.raises(errors.InputError, match="is there already"):
            callback.on_train_end({})
    assert letter.read_text() == "years of work"
