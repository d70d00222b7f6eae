"""The first run: tfds prepares a dataset from its archives, and the decoded examples are kept beside it."""

import contextlib
import fcntl
import functools
import io
import pathlib
import shutil
import sys
from collections.abc import Iterator

import tensorflow as tf
import tensorflow_datasets as tfds

import catalog
import data
import decoded
from errors import InputError
from files import write_atomically


def decoded_file(name: str, root: pathlib.Path, archives: pathlib.Path, most_bytes: float) -> pathlib.Path:
    """Returns the decoded file of a dataset below `root`, made now unless another process has just made it.

    Raises InputError when there is no such dataset of images and labels, the archives cannot be had or are damaged,
    or the folder cannot be written.
    """
    tfds.disable_progress_bar()
    full_name = f"{name}:{data.VERSIONS[name]}" if name in data.VERSIONS else name
    folder = pathlib.Path(catalog.builder(full_name, root).data_dir).parent
    with _locked(folder):
        builder = catalog.builder(full_name, root)  # again: another process may have prepared it meanwhile
        path = pathlib.Path(builder.data_dir) / data.DECODED
        with contextlib.suppress(ValueError):
            data.read_decoded(name, path, most_bytes)
            return path
        _generate(builder, archives)
        try:
            write_atomically(path, functools.partial(decoded.write, builder))
        except tf.errors.OpError:
            _say(f"{builder.data_dir} is damaged: preparing {name} again")
            shutil.rmtree(builder.data_dir)
            _generate(builder, archives)
            write_atomically(path, functools.partial(decoded.write, builder))
        return path


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    """Lets one process at a time prepare a dataset; the system frees the lock of one that was killed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for leftover in [*folder.glob("*incomplete*"), *folder.glob(f"*/.{data.DECODED}.*")]:
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            yield
    except OSError as error:
        raise InputError(f"--data_dir: cannot write {error.filename or folder}: {error.strerror or error}") from None


def _generate(builder: tfds.core.DatasetBuilder, archives: pathlib.Path) -> None:
    """Runs tfds's preparation unless it is done; raises InputError naming what is missing or damaged."""
    if pathlib.Path(builder.data_dir).exists():
        return
    _say(f"preparing {builder.info.full_name} in {builder.data_dir}, once ...")
    config = tfds.download.DownloadConfig(manual_dir=archives)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_config=config)
    except tfds.download.download_manager.NonMatchingChecksumError as error:
        raise InputError(f"--manual_dir: an archive is damaged: {' '.join(str(error).split())}") from None
    except OSError:
        raise
    except Exception as error:
        filenames = sorted(info.filename for info in builder.url_infos.values() if info.filename)
        needed = ", ".join(filenames) or f"what https://www.tensorflow.org/datasets/catalog/{builder.name} asks for"
        raise InputError(
            f"--manual_dir: {builder.name} cannot be downloaded ({type(error).__name__}) and {archives} lacks an "
            f"archive. Put {needed} into a folder and run: python train.py --manual_dir=FOLDER"
        ) from None
