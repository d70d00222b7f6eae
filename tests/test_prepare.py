"""The first run: what it removes, replaces and leaves alone, and what it says when it fails."""

import errno
import gzip
import pathlib
import shutil

import pytest
import tensorflow as tf

import data
from common import errors, files
from storage import archives, cache, catalog, prepare
from tests.made import Made

MNIST = archives.ARCHIVES / "mnist"


def content(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture
def folder(tmp_path):
    """Copies of the project's archives of MNIST."""
    return shutil.copytree(MNIST, tmp_path / "archives")


@pytest.mark.parametrize("change", [bytes, gzip.decompress])
def test_archives_are_known_by_their_content_and_missing_ones_come_from_the_project(
    tmp_path, folder, change
):
    archive = folder / "t10k-images-idx3-ubyte.gz"
    archive = archive.rename(folder / "of another name")
    archive.write_bytes(change(archive.read_bytes()))
    builder, gathered = catalog.builder("mnist", tmp_path), tmp_path / "gathered"
    gathered.mkdir()
    archives.gather(builder, folder, tmp_path, gathered)
    assert content(gathered) == {path.name: path.read_bytes() for path in MNIST.glob("*.gz")}


def test_an_archive_with_other_content_is_named_with_both_checksums(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(archives, "ARCHIVES", tmp_path)
    archive = folder / "train-labels-idx1-ubyte.gz"
    raw = archive.read_bytes()
    archive.write_bytes(raw[:9000] + b"x" + raw[9001:])
    right = "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    with pytest.raises(errors.InputError) as caught:
        data.load("mnist", str(tmp_path / "new"), str(folder))
    assert f": expected SHA-256 {right}, found " in str(caught.value)
    assert content(tmp_path / "new") == {"mnist/.lock": b""}


@pytest.mark.parametrize("name", ["fashion_mnist", "emnist/letters"])
def test_without_archives_and_network_a_file_and_the_command_are_named(tmp_path, monkeypatch, name):
    monkeypatch.setattr(archives.urllib.request, "urlopen", failing(OSError("no network")))
    root = tmp_path / "pre pared"
    info = next(iter(catalog.builder(name, root).url_infos.values()))
    words = rf"/archives/{name.split('/')[0]} lacks {info.filename}, .*no network"
    with pytest.raises(errors.InputError, match=words) as caught:
        data.load(name, str(root))
    assert "give --manual_dir=FOLDER" in str(caught.value)


@pytest.fixture
def prepared(tmp_path):
    """What tfds has prepared of a small dataset."""
    Made(data_dir=tmp_path / "data").download_and_prepare()
    return tmp_path / "data" / "made" / "1.0.0"


@pytest.fixture(scope="session")
def checksum(tmp_path_factory):
    """That of the small dataset."""
    return data.load("made", str(tmp_path_factory.mktemp("whole"))).checksum


def load(prepared):
    return data.load("made", str(prepared.parents[1]))


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("made-train.tfrecord*", lambda raw: raw[:500] + b"x" + raw[501:]),
        ("dataset_info.json", lambda raw: raw.replace(b'"48"', b'"40"')),
    ],
)
def test_what_shows_damage_is_prepared_again(prepared, checksum, capsys, file, damage):
    path = next(prepared.glob(file))
    path.write_bytes(damage(path.read_bytes()))
    assert load(prepared).checksum == checksum
    assert "is damaged" in capsys.readouterr().err
    assert {path.name for path in prepared.parent.iterdir()} == {".lock", "1.0.0", cache.FOLDER}


def test_damaged_metadata_is_one_line_and_nothing_is_touched(prepared):
    (prepared / "dataset_info.json").write_text("")
    with pytest.raises(errors.RunError, match="Existing data is unchanged"):
        load(prepared)
    assert (prepared / "dataset_info.json").exists()


def test_a_damaged_dataset_stays_until_its_new_one_is_whole(prepared, monkeypatch):
    path = next(prepared.glob("*train.tfrecord*"))
    path.write_bytes(path.read_bytes()[:1000])
    before = content(prepared.parent)
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(Made, "download_and_prepare", failing(full))
    with pytest.raises(errors.RunError, match="No space left"):
        load(prepared)
    assert content(prepared.parent) == before | {".lock": b""}


@pytest.mark.parametrize("call", ["tensorflow_datasets.builder", "storage.decode.write"])
@pytest.mark.parametrize(
    "error",
    [
        KeyError("of tfds"),
        OSError(errno.EACCES, "of the system"),
        tf.errors.ResourceExhaustedError(None, None, "a disk"),
    ],
)
def test_an_error_that_shows_no_damage_is_one_line_and_nothing_is_touched(
    prepared, monkeypatch, capsys, call, error
):
    before = content(prepared)
    monkeypatch.setattr(call, failing(error))
    with pytest.raises(errors.RunError, match="Existing data is unchanged") as caught:
        load(prepared)
    assert "\n" not in str(caught.value) and errors.reason(error) in str(caught.value)
    assert content(prepared) == before and "damaged" not in capsys.readouterr().err


def test_a_cache_that_is_damaged_or_of_before_is_made_anew(prepared, checksum, monkeypatch, capsys):
    folder = prepared.parent / cache.FOLDER
    load(prepared)
    for file, raw in (("train_images.npy", b""), (cache.ABOUT, b'{"format": 2}')):
        (folder / file).write_bytes(raw)
        assert load(prepared).checksum == checksum
        assert "decoding made again" in capsys.readouterr().err
    monkeypatch.setattr(prepare.decode, "write", failing(AssertionError("another run has made it")))
    prepare.make_cache("made", prepared.parents[1], None, max_bytes=0)


def test_a_folder_may_have_any_name(tmp_path, checksum):
    root = tmp_path / "[!x]{y}*?\\slash"
    for _ in range(2):  # tfds prepares it; it is prepared
        assert data.load("made", str(root)).checksum == checksum
        shutil.rmtree(root / "made" / cache.FOLDER)


@pytest.fixture
def read_only(prepared, monkeypatch):
    """A folder of prepared data in which nothing can be written."""
    root, temporary = prepared.parents[1], files.tempfile.TemporaryFile

    def refusing(**where):
        if where and where["dir"].is_relative_to(root):
            raise OSError(errno.EROFS, "Read-only file system")
        return temporary(**where)

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refusing)
    monkeypatch.setenv("XDG_CACHE_HOME", str(root.parent / "cache"))
    return root


def test_the_cache_of_read_only_data_goes_to_a_folder_of_the_users(read_only, checksum, capsys):
    before, own = content(read_only), read_only.parent / "cache" / "softmax-regression"
    data.load("made", str(read_only))
    assert f"into {own}" in capsys.readouterr().err
    data.load("made", str(read_only))
    assert capsys.readouterr().err == ""
    next(own.rglob("test_labels.npy")).write_bytes(b"")
    assert data.load("made", str(read_only)).checksum == checksum
    assert content(read_only) == before


@pytest.mark.parametrize("lost", ["dataset_info.json", "*train.tfrecord*", None])
def test_a_read_only_folder_that_cannot_be_used_is_refused(read_only, monkeypatch, lost):
    """It is not prepared or damaged, or the user has no folder for the cache."""
    if lost:
        next(read_only.rglob(lost)).unlink()
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    with pytest.raises(errors.InputError, match=r"--data_dir: .* must be a folder"):
        data.load("made", str(read_only))
    assert not pathlib.Path("relative").exists()
