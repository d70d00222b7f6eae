"""The first run: tfds prepares a dataset from its archives, and the decoded examples are cached."""

import contextlib
import io
import pathlib

import filelock
import tensorflow as tf
import tensorflow_datasets as tfds

from common.errors import InputError, RunError, reason, say
from common.files import is_free, whole_folder, writable_folder
from storage import archives, cache, catalog, decode
from storage.dataset import Dataset

DAMAGE = (  # the errors of a file that is cut, altered or missing
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,  # another number of examples than in dataset_info.json
    tf.errors.NotFoundError,
)


def make_cache(name: str, root: pathlib.Path, manual_dir: str | None, max_bytes: float) -> Dataset:
    """Makes the cache of a dataset, unless another process has just made it, and reads it.

    Existing data is replaced only by complete data.

    Raises:
      InputError: there is no such dataset, its archives are missing or damaged, or the folder
        cannot be written.
      RunError: the disk or memory is full, tfds cannot prepare the dataset, the new cache cannot be
        read, or the data that tfds has prepared cannot be read although it shows no damage.
    """
    tfds.disable_progress_bar()
    try:
        dataset = catalog.builder(name, root).name  # refused before anything is written
        place = _place(root, dataset)
        with _locked(place / dataset):
            if found := cache.find(name, root, max_bytes):  # another process has just made it
                return found
            folder = cache.folder_in(place, name)
            _replace(folder, name, root, manual_dir)
            return cache.read(folder, name, max_bytes)
    except (InputError, RunError):
        raise
    except Exception as error:  # tfds may raise anything
        raise RunError(
            f"--data_dir: {root}: cannot prepare {name} ({type(error).__name__}: {reason(error)}). "
            "Existing data is unchanged: make room, repair it, or move it away to have it prepared "
            "again"
        ) from None


def _place(root: pathlib.Path, dataset: str) -> pathlib.Path:
    """Returns the place of the cache: `root`, or a folder of the user's if `root` is read-only."""
    for place in cache.places(root):
        with contextlib.suppress(InputError):
            writable_folder("data_dir", place / dataset)
            return place
    writable_folder("data_dir", root)
    return root


def _locked(place: pathlib.Path) -> filelock.AcquireReturnProxy:
    """Returns a lock of `place`, once no other process has it."""
    lock = filelock.FileLock(place / ".lock")
    try:
        return lock.acquire(blocking=False)
    except filelock.Timeout:
        say(f"waiting for another run that prepares {place.name}")
        return lock.acquire()


def _replace(folder: pathlib.Path, name: str, root: pathlib.Path, manual_dir: str | None) -> None:
    """Decodes a dataset into `folder`, after tfds has prepared it if it is not, or is damaged."""
    if (folder / cache.ABOUT).exists():
        say(f"{folder} is damaged, or of another version: decoding {name} again")
    elif not is_free(folder):
        raise InputError(
            f"--data_dir: {folder} has files but no {cache.ABOUT}, so it is not this program's "
            "cache: move it, or name another folder"
        )
    prepared = catalog.builder(name, root)
    if prepared.data_path.joinpath("dataset_info.json").exists():
        try:
            _decode(prepared, folder)
            return
        except DAMAGE as error:
            say(f"{root}: the prepared {name} is damaged ({reason(error)}): preparing {name} again")
    _prepare(name, root, manual_dir, target=root / prepared.info.full_name)
    _decode(catalog.builder(name, root), folder)


def _decode(builder: tfds.core.DatasetBuilder, folder: pathlib.Path) -> None:
    say(f"decoding {builder.info.full_name} into {folder}, once ...")
    with whole_folder(folder) as new:
        decode.write(builder, new)


def _prepare(name: str, root: pathlib.Path, manual_dir: str | None, target: pathlib.Path) -> None:
    """Makes tfds prepare a dataset from its archives in `target`, and replaces a damaged one."""
    writable_folder("data_dir", target.parent)
    with whole_folder(target) as new:
        builder = catalog.builder(name, new.parent)
        archives.gather(builder, manual_dir, root, new.parent)
        say(f"preparing {builder.info.full_name} in {root}, once ...")
        status = decode.SCREEN.status(f"Preparing {builder.name}")
        with status, contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(
                download_dir=root / "downloads",
                download_config=tfds.download.DownloadConfig(
                    manual_dir=new.parent,
                    extract_dir=new.parent,  # tfds does not check what it has extracted before
                ),
            )
        new.rmdir()
        builder.data_path.rename(new)
