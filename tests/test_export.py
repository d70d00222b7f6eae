"""The exported model, loaded by TensorFlow alone in another process, and what a fault leaves."""

import contextlib
import json
import os
import pathlib
import re
import types

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.tools import saved_model_cli

import data
import flags
import model
from callbacks import export
from common import errors, files
from tests import forked, made, oracle
from tests.conftest import PROJECT


def test_the_request_of_the_docs_fits_its_signature(tiny_dataset, tmp_path, monkeypatch):
    """TensorFlow Serving makes a tensor of the instances, as the signature describes it."""
    monkeypatch.chdir(tmp_path)
    page = (PROJECT / "docs" / "training.md").read_text()
    (code,) = re.findall(r"^```python\n([^`]*request\.json.*?)^```", page, re.M | re.S)
    exec(code, {"tf": tf})
    request = json.loads(pathlib.Path("request.json").read_text())
    images = tf.constant(request["instances"], tf.uint8)
    signatures = export.signatures(model.SoftmaxRegression(784, 10), tiny_dataset)
    assert signatures[request["signature_name"]](images)["classes"].shape == len(images)


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """A folder with the model of a dataset of images in colour, and what it was exported from."""
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(3, 3072), dtype=np.uint8)
    split = data.Split(images, np.zeros(3, np.int32))
    names = ["frog", "a long name", "é", "car"]
    dataset = data.Dataset("pets", split, split, split, names, (32, 32, 3))
    softmax = model.SoftmaxRegression(3072, 4)
    softmax.W.assign(rng.normal(size=(3072, 4)) / 10)
    softmax.b.assign([0.1, 0.2, 0.3, 0.4])
    folder = tmp_path_factory.mktemp("pets") / "model"
    folder.mkdir()
    export.write(softmax, dataset, folder)
    return folder, softmax, dataset


@pytest.mark.parametrize(
    ("signature", "shape"),
    [
        ("serving_default", (3, 32, 32, 3)),
        ("serving_default", (3, 3072)),
        ("images", (3, 32, 32, 3)),
    ],
)
def test_tensorflows_own_program_gets_the_oracles_probabilities(pets, tmp_path, signature, shape):
    """In a process without this project."""
    folder, softmax, dataset = pets
    images = dataset.train.images
    np.save(tmp_path / "images.npy", images.reshape(shape))
    flags = f"--signature_def={signature}", f"--inputs=images={tmp_path / 'images.npy'}"
    command = [saved_model_cli.__file__, "run", f"--dir={folder}", "--tag_set=serve", *flags]
    done = forked.run([*command, f"--outdir={tmp_path}"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = oracle.softmax(images / 255 @ softmax.W.numpy() + softmax.b.numpy())
    found = np.load(tmp_path / "probabilities.npy")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(np.load(tmp_path / "classes.npy"), expected.argmax(axis=1))


def test_it_takes_no_images_of_other_shapes_and_has_names_and_weights_beside_it(pets):
    folder, softmax, dataset = pets
    loaded = tf.saved_model.load(str(folder))
    images = loaded.signatures["images"].structured_input_signature[1]["images"]
    assert images.shape == (None, 32, 32, 3)
    for serve in loaded.signatures.values():
        with pytest.raises(tf.errors.InvalidArgumentError):
            serve(images=tf.zeros([5, 28, 28, 1], tf.uint8))
    names = (folder / "assets" / "class_names.txt").read_text(encoding="utf-8")
    assert names.splitlines() == dataset.class_names
    shapes = json.loads((folder / "assets" / "images.json").read_text())
    assert shapes == {"shape": [32, 32, 3], "box": [32, 32]}
    oracle.assert_weights(np.load(folder / "weights.npz"), softmax.W, softmax.b, atol=0)


def test_box_of_ink_is_what_the_largest_images_fill(tmp_path):
    images = np.zeros((50, 20, 16), np.uint8)
    for number in range(50):
        images[number, 3 : 8 + number % 10, 4:9] = 1
    split = made.streamed(images.reshape(50, 320), np.zeros(50, np.int32), tmp_path)
    dataset = data.Dataset("letters", split, split, split, ["A"], (20, 16, 1))
    assert export.ink_box(dataset) == [14, 5]


def test_a_model_is_replaced_with_overwrite_and_a_link_to_it_stays(run_here, tmp_path):
    model, link = tmp_path / "models" / "new", tmp_path / "link"
    link.symlink_to(model, target_is_directory=True)
    weights = []
    for steps in (1, 2):
        run_here(f"--max_steps={steps}", "--mode=graph", f"--export_dir={link}", "--overwrite")
        weights.append(np.load(model / "weights.npz")["W"])
    assert (weights[0] != weights[1]).any() and link.is_symlink()
    assert {path for path in model.parent.iterdir() if path.suffix != ".lock"} == {model}


@pytest.mark.parametrize("killed", ["while writing", "before it was there", "behind that"])
def test_what_a_killed_export_left_is_undone_by_its_name_alone(tmp_path, killed):
    target, foreign = tmp_path / "a[b]*?", tmp_path / f"{files.OURS}.ab.new"
    aside = tmp_path / f"{files.OURS}.{target.name}.new"
    (aside / "new").mkdir(parents=True)
    foreign.mkdir()
    if killed != "before it was there":
        (target / "whole").mkdir(parents=True)
    if killed != "while writing":
        (aside / "replaced" / "whole").mkdir(parents=True)
    files.tidy(target)
    assert {*tmp_path.rglob("*")} == {foreign, target, target / "whole"}


def test_a_new_folder_is_on_the_disk_before_it_takes_the_place_of_the_old(tmp_path, monkeypatch):
    """A power cut may come after any of the calls."""
    target, synced = tmp_path / "model", []
    (target / "old").mkdir(parents=True)

    def fsync(descriptor):
        name = pathlib.Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        there = [path.name for path in target.iterdir()]
        synced.append((name, there, len([*tmp_path.rglob("old")])))

    monkeypatch.setattr(os, "fsync", fsync)
    with files.whole_folder(target) as new:
        (new / "weights").touch()
    before = [(name, ["old"], 1) for name in ("weights", "new")]
    assert synced == [*before, (tmp_path.name, ["weights"], 1)]  # the old one aside
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "weights"]


def test_a_failed_export_leaves_the_old_model(tmp_path):
    (tmp_path / "model" / "old").mkdir(parents=True)
    with pytest.raises(OSError, match="full"), files.whole_folder(tmp_path / "model") as new:
        (new / "saved_model.pb").write_text("half a model")
        raise OSError("full")
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "old"]


def test_what_another_program_wrote_during_the_run_is_not_replaced(tmp_path):
    config = flags.training_config()
    with contextlib.ExitStack() as closing:
        callback = export.Export(types.SimpleNamespace(config=config), closing, tmp_path / "model")
        callback.on_train_begin()
        (letter := tmp_path / "model" / "letter.txt").parent.mkdir()
        letter.write_text("years of work")
        with pytest.raises(errors.RunError, match="is there already"):
            callback.on_train_end({})
    assert letter.read_text() == "years of work"
