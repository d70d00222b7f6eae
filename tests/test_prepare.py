"""The first run: what it removes, replaces and leaves alone, and what it says when something
fails."""

import errno
import gzip
import pathlib
import shlex
import shutil
from collections.abc import Callable, Iterator

import filelock
import pytest
import tensorflow as tf

import data
import flags
from common import commandline, errors, files
from storage import archives, cache, catalog, prepare
from tests import made

MNIST = archives.ARCHIVES / "mnist"


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Copies of the project's archives of MNIST."""
    return pathlib.Path(shutil.copytree(MNIST, tmp_path / "archives"))


def no_network(request: object, timeout: float) -> None:
    raise OSError("no network")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("of another name", lambda raw: raw),
        ("{name}-ubyte.gz", lambda raw: gzip.compress(gzip.decompress(raw), 1)),
        ("{name}-ubyte", gzip.decompress),
        ("{name}.ubyte.gz", gzip.decompress),
    ],
)
def test_archives_are_known_by_their_content(
    tmp_path: pathlib.Path, folder: pathlib.Path, name: str, change: Callable[[bytes], bytes]
) -> None:
    archive = folder / "t10k-images-idx3-ubyte.gz"
    changed = change(archive.read_bytes())
    archive.unlink()
    (folder / name.format(name="t10k-images-idx3")).write_bytes(changed)
    builder = catalog.builder("mnist:3.*.*", tmp_path / "new")
    archives.gather(builder, folder, tmp_path / "new", tmp_path / "gathered")
    expected = {path.name: path.read_bytes() for path in MNIST.glob("*.gz")}
    assert content(tmp_path / "gathered") == expected


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda raw: raw[:9000], "is damaged"),
        (lambda raw: raw[:9000] + bytes([raw[9000] ^ 4]) + raw[9001:], "is damaged"),
        (lambda raw: gzip.compress(gzip.decompress(raw)[:-1]), "was packed anew"),
        (lambda raw: b"", "is damaged"),
    ],
)
def test_an_archive_with_other_content_is_named_with_both_checksums(
    tmp_path: pathlib.Path, folder: pathlib.Path, change: Callable[[bytes], bytes], fault: str
) -> None:
    archive = folder / "train-labels-idx1-ubyte.gz"
    archive.write_bytes(change(archive.read_bytes()))
    right = "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    with pytest.raises(errors.InputError) as caught:
        data.load("mnist", str(tmp_path / "new"), str(folder))
    expected = f"--manual_dir: {archive} {fault}: expected 28881 bytes with SHA-256 {right}, found "
    assert str(caught.value).startswith(expected)
    assert {path.name for path in (tmp_path / "new").rglob("*")} == {"mnist", ".lock"}


@pytest.mark.parametrize("name", ["fashion_mnist", "emnist/letters"])
def test_without_archives_and_network_the_files_and_the_command_are_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(archives.urllib.request, "urlopen", no_network)
    root = tmp_path / "pre pared"
    with pytest.raises(errors.InputError) as caught:
        data.load(name, str(root))
    line = str(caught.value)
    assert f"{archives.folder_of(name, None)} lacks an archive" in line and "no network" in line
    builder = catalog.builder(name, root)
    assert all(info.filename in line for info in builder.url_infos.values() if info.filename)
    suggested = shlex.split(line.rpartition("run: ")[2])
    assert suggested[:2] == ["python", "train.py"]
    config = commandline.parse(flags.train_flags(), suggested[1:], "")
    assert (config.dataset, config.data_dir, config.manual_dir) == (name, str(root), "FOLDER")


def test_a_manual_dir_that_is_not_read_is_said(
    tiny_data_dir: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    data.load("mnist", str(tiny_data_dir), "some/folder")
    line = capsys.readouterr().err
    assert line == "--manual_dir=some/folder is not read: mnist is prepared already\n"
    data.load("mnist", str(tiny_data_dir))
    assert capsys.readouterr().err == ""


def names_below(folder: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def content(folder: pathlib.Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_leftovers_of_a_killed_preparation_go_and_what_was_put_aside_comes_back(
    tmp_path: pathlib.Path,
) -> None:
    place = tmp_path / "mnist"
    targets = place / "3.0.1", place / cache.FOLDER
    others = "incomplete/mnist/3.0.1", "incomplete.ABC_3.0.1", "3.0.0.incomplete"  # tfds's own
    ours = f"{files.OURS}.3.0.1.new.abc/new", f"{files.OURS}.{cache.FOLDER}.new.abc/new"
    for folder in (*others, *ours, f"{files.OURS}.3.0.1.replaced"):
        (place / folder).mkdir(parents=True)
        (place / folder / "file").write_text("half")
    with prepare._alone(place, targets), pytest.raises(filelock.Timeout):
        files.locked(place / ".lock", wait=False)
    files.locked(place / ".lock", wait=False).release()
    expected = {f"{folder}/file" for folder in (*others, "3.0.1")} | {".lock"}
    assert set(content(place)) == expected
    assert not [name for name in names_below(place) if files.OURS in name]


@pytest.fixture
def prepared(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """What tfds has prepared of a small fashion_mnist; its archives are where the program looks."""
    monkeypatch.setattr(archives, "ARCHIVES", tmp_path / "archives")
    (tmp_path / "archives").mkdir()
    archive_folder = tmp_path / "archives" / "fashion_mnist"
    with made.fashion_mnist(archive_folder, num_train=48, num_test=20) as prepare_below:
        prepare_below(tmp_path / "data")
        yield tmp_path / "data" / "fashion_mnist" / "3.0.1"


def load(prepared: pathlib.Path) -> data.Dataset:
    return data.load("fashion_mnist", str(prepared.parents[1]))


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("fashion_mnist-test.tfrecord*", lambda raw: raw[: len(raw) // 2]),
        ("fashion_mnist-train.tfrecord*", lambda raw: raw[:500] + b"x" + raw[501:]),
        ("fashion_mnist-test.tfrecord*", lambda raw: None),
        ("dataset_info.json", lambda raw: b""),
        ("dataset_info.json", lambda raw: raw.replace(b'"', b"#", 1)),
        ("dataset_info.json", lambda raw: raw.replace(b'"', b"\xa2", 1)),
        ("dataset_info.json", lambda raw: raw.replace(b'"48"', b'"40"')),
        ("dataset_info.json", lambda raw: raw.replace(b'"48"', b'"49"')),
        ("features.json", lambda raw: raw[: len(raw) // 2]),
    ],
)
def test_what_shows_damage_is_prepared_again(
    prepared: pathlib.Path,
    capsys: pytest.CaptureFixture,
    file: str,
    damage: Callable[[bytes], bytes | None],
) -> None:
    whole = load(prepared).checksum
    shutil.rmtree(prepared.parent / cache.FOLDER)
    path = next(prepared.glob(file))
    if (changed := damage(path.read_bytes())) is None:
        path.unlink()
    else:
        path.write_bytes(changed)
    assert load(prepared).checksum == whole
    said = capsys.readouterr().err
    # tfds does not need that one
    assert "preparing fashion_mnist/3.0.1" in said or file == "features.json"
    assert {path.name for path in prepared.parent.iterdir()} == {".lock", "3.0.1", cache.FOLDER}


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_a_damaged_dataset_stays_until_its_new_one_is_whole(
    prepared: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(prepared.glob("*train.tfrecord*"))
    path.write_bytes(path.read_bytes()[:1000])
    before = content(prepared)

    def full(*_: object) -> None:
        assert content(prepared) == before
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prepare, "_generate", full)
    with pytest.raises(errors.RunError, match="No space left"):
        load(prepared)
    assert content(prepared.parent) == {f"3.0.1/{name}": raw for name, raw in before.items()} | {
        ".lock": b""
    }


DISK_FULL = tf.errors.ResourceExhaustedError(None, None, "of TensorFlow")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("of tfds"), "Nothing in it was changed"),
        (NotImplementedError("of tfds"), "Nothing in it was changed"),
        (tf.errors.InvalidArgumentError(None, None, "of TensorFlow"), "Nothing in it was changed"),
        (OSError(errno.ENOSPC, "of the system"), "--data_dir: cannot prepare"),
        (MemoryError("of Python"), "--data_dir: cannot prepare"),
        (DISK_FULL, "--data_dir: cannot prepare"),
    ],
)
def test_an_error_that_shows_no_damage_is_one_line_and_nothing_is_touched(
    prepared: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    error: Exception,
    words: str,
) -> None:
    before = content(prepared)
    monkeypatch.setattr(prepare.decode, "write", failing(error))
    with pytest.raises(errors.RunError, match=words) as caught:
        load(prepared)
    assert "\n" not in str(caught.value) and errors.reason(error) in str(caught.value)
    assert content(prepared) == before and "damaged" not in capsys.readouterr().err


def test_what_tfds_cannot_even_open_is_one_line_and_nothing_is_touched(
    prepared: pathlib.Path,
) -> None:
    info = prepared / "dataset_info.json"
    info.write_text(info.read_text().replace("{SPLIT}", "{SPILT}"))
    changed = content(prepared)
    with pytest.raises(errors.RunError, match="Nothing in it was changed"):
        load(prepared)
    assert content(prepared) == changed


def test_a_cache_that_is_damaged_or_of_before_is_made_anew_and_no_other(
    prepared: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (prepared / cache.FOLDER).mkdir()  # where it was until format 3
    first = load(prepared).checksum
    assert not (prepared / cache.FOLDER).exists()
    (prepared.parent / cache.FOLDER / "train_images.npy").write_bytes(b"")
    assert load(prepared).checksum == first
    assert "decoding fashion_mnist again" in capsys.readouterr().err
    monkeypatch.setattr(prepare.decode, "write", failing(AssertionError("another run has made it")))
    prepare.make_cache("fashion_mnist", prepared.parents[1], None, max_bytes=0)


@pytest.mark.parametrize("name", ["da[t]a*?", "back\\slash", "[!x]{y}"])
def test_a_folder_may_have_any_name(prepared: pathlib.Path, name: str) -> None:
    expected = load(prepared)
    root = prepared.parents[2] / name
    for _ in range(2):  # by tfds, from its cache
        found = data.load("fashion_mnist", str(root))
        assert found.checksum == expected.checksum
    shutil.rmtree(root / "fashion_mnist" / cache.FOLDER)
    assert data.load("fashion_mnist", str(root)).checksum == expected.checksum


@pytest.fixture
def read_only(prepared: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder of prepared data in which nothing can be written."""
    root, try_writing = prepared.parents[1], files.try_writing

    def refusing(folder: pathlib.Path, size: int = 4096) -> None:
        if folder.is_relative_to(root):
            raise OSError(errno.EROFS, "Read-only file system")
        try_writing(folder, size)

    monkeypatch.setattr(files, "try_writing", refusing)
    monkeypatch.setenv("XDG_CACHE_HOME", str(root.parent / "cache"))
    return root


def test_the_cache_of_read_only_data_goes_to_a_folder_of_the_users(
    read_only: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    before = content(read_only)
    own = read_only.parent / "cache" / "softmax-regression"
    first = data.load("fashion_mnist", str(read_only))
    said = [line for line in capsys.readouterr().err.splitlines() if "cannot be written" in line]
    assert len(said) == 1 and str(own) in said[0]
    assert data.load("fashion_mnist", str(read_only)).checksum == first.checksum
    assert capsys.readouterr().err == ""
    next(own.rglob("test_labels.npy")).write_bytes(b"")
    assert data.load("fashion_mnist", str(read_only)).checksum == first.checksum
    assert content(read_only) == before


@pytest.mark.parametrize("damage", ["not prepared", "damaged", "without a cache folder"])
def test_a_read_only_folder_that_cannot_be_used_is_refused_in_one_line(
    read_only: pathlib.Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    records = next(read_only.rglob("*train.tfrecord*"))
    if damage == "not prepared":
        (records.parent / "dataset_info.json").unlink()
    elif damage == "damaged":
        records.write_bytes(b"")
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    with pytest.raises(
        errors.InputError, match=r"--data_dir: .*fashion_mnist must be a folder that can be written"
    ):
        data.load("fashion_mnist", str(read_only))
    assert not pathlib.Path("relative").exists()
