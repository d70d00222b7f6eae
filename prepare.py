"""The first run: tfds prepares a dataset from its archives, and the decoded examples are kept beside it."""

import contextlib
import fcntl
import io
import pathlib
import shutil
import sys
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

import data
from errors import InputError
from files import write_atomically


def decoded_file(name: str, root: pathlib.Path, archives: pathlib.Path) -> pathlib.Path:
    """Returns the decoded file of a dataset below `root`, made now unless another process has just made it.

    Raises InputError when the archives cannot be had or are damaged, or the folder cannot be written.
    """
    with _locked(root / name):
        builder = _builder(name, root)
        decoded = pathlib.Path(builder.data_dir) / data.DECODED
        with contextlib.suppress(ValueError):
            data.read_decoded(name, decoded)
            return decoded
        _generate(builder, archives)
        try:
            arrays = _decode(builder)
        except tf.errors.OpError:
            _say(f"{builder.data_dir} is damaged: preparing {name} again")
            shutil.rmtree(builder.data_dir)
            _generate(builder, archives)
            arrays = _decode(builder)
        write_atomically(decoded, lambda file: np.savez(file, **arrays))
        return decoded


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


def _builder(name: str, root: pathlib.Path) -> tfds.core.DatasetBuilder:
    tfds.disable_progress_bar()
    return tfds.builder(f"{name}:{data.VERSIONS[name]}" if name in data.VERSIONS else name, data_dir=root)


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
        needed = ", ".join(sorted(info.filename for info in builder.url_infos.values() if info.filename))
        raise InputError(
            f"--manual_dir: {builder.name} cannot be downloaded ({type(error).__name__}) and {archives} lacks an "
            f"archive. Put {needed} into a folder and run: python train.py --manual_dir=FOLDER"
        ) from None


def _decode(builder: tfds.core.DatasetBuilder) -> dict[str, np.ndarray]:
    """Returns every example of train and test, in the order tfds keeps them; raises OpError on a damaged file."""
    arrays: dict[str, np.ndarray] = {}
    image_key, label_key = builder.info.supervised_keys
    for split in ("train", "test"):
        batches = list(builder.as_dataset(split=split, batch_size=1000).as_numpy_iterator())
        images = np.concatenate([batch[image_key] for batch in batches])
        if len(images) != builder.info.splits[split].num_examples:
            raise tf.errors.DataLossError(None, None, f"{split} has {len(images)} examples")
        arrays[f"{split}_images"] = images.reshape(len(images), -1)
        arrays[f"{split}_labels"] = np.concatenate([batch[label_key] for batch in batches]).astype(np.int32)
    arrays["class_names"] = np.array(builder.info.features[label_key].names)
    arrays["image_shape"] = np.array(images.shape[1:])
    return arrays
