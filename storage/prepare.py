"""The first run: tfds prepares a dataset from its archives, and the decoded examples are kept beside it."""

import contextlib
import io
import pathlib
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import filelock
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums, resource

from common.errors import InputError, RunError, of_the_system, reason
from common.files import OURS, locked, tidy, whole_folder, writable_folder
from storage import catalog, decoded, decoding


def decoded_folder(name: str, root: pathlib.Path, archives: pathlib.Path) -> pathlib.Path:
    """Returns the decoded folder of a dataset below `root`, made now unless another process has just made it.

    Raises InputError when there is no such dataset of images and labels, its archives cannot be had or are damaged,
    or the folder cannot be written; RunError when the disk or memory is full. What was there is replaced only by what
    is whole.
    """
    tfds.disable_progress_bar()
    full_name = f"{name}:{decoded.VERSIONS[name]}" if name in decoded.VERSIONS else name
    folder = _place(full_name, root)
    with _scratch(folder.parent) as scratch:
        with contextlib.suppress(ValueError):
            decoded.read(folder / decoded.FOLDER, most_bytes=0)
            return folder / decoded.FOLDER
        if not _decode_prepared(full_name, folder, root):
            fresh = catalog.builder(full_name, scratch)
            _generate(fresh, archives, root, scratch)
            _decode(fresh, name)
            if folder.exists():
                folder.rename(scratch / "damaged")
            pathlib.Path(fresh.data_dir).rename(folder)
        return folder / decoded.FOLDER


def _place(full_name: str, root: pathlib.Path) -> pathlib.Path:
    """Returns where tfds keeps a dataset below `root`, damaged or not."""
    try:
        return pathlib.Path(catalog.builder(full_name, root).data_dir)
    except InputError:
        raise
    except Exception as error:  # what is prepared is damaged
        if of_the_system(error):
            raise RunError(f"--data_dir: cannot read what is prepared in {root}: {reason(error)}") from None
        return root / catalog.builder(full_name, root / "empty").data_path.relative_to(root / "empty")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _scratch(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields an empty folder to prepare in, to one process at a time, and removes it and what a killed one left."""
    writable_folder("data_dir", folder)
    try:
        lock = locked(folder / ".lock", wait=False)
    except filelock.Timeout:
        _say(f"waiting for another run, which prepares {folder.name}")
        lock = locked(folder / ".lock", wait=True)
    with lock:
        scratch = folder / f"{OURS}.incomplete"
        shutil.rmtree(scratch, ignore_errors=True)
        for version in folder.iterdir():
            if version.is_dir():
                tidy(version / decoded.FOLDER)
        scratch.mkdir()
        try:
            yield scratch
        except (OSError, MemoryError, tf.errors.OpError) as error:
            raise RunError(f"--data_dir: cannot prepare {folder}: {reason(error)}") from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _decode_prepared(full_name: str, folder: pathlib.Path, root: pathlib.Path) -> bool:
    """Decodes what tfds has prepared in `folder`; returns False if there is nothing or, said, it is damaged."""
    if not folder.exists():
        return False
    try:
        _decode(catalog.builder(full_name, root), full_name.partition(":")[0])
    except InputError:
        raise
    except Exception as error:  # a flipped bit can make tfds raise anything
        if of_the_system(error):
            raise
        _say(f"{folder} is damaged ({type(error).__name__}): preparing {full_name.partition(':')[0]} again")
        return False
    return True


def _decode(builder: tfds.core.DatasetBuilder, name: str) -> None:
    """Keeps the examples of `builder`, which was asked for by `name`, decoded beside what tfds has prepared."""
    _say(f"decoding {builder.info.full_name}, once ...")
    with whole_folder(pathlib.Path(builder.data_dir) / decoded.FOLDER) as folder:
        decoding.write(builder, folder, default_config="/" not in name)


def _generate(
    builder: tfds.core.DatasetBuilder, archives: pathlib.Path, root: pathlib.Path, scratch: pathlib.Path
) -> None:
    """Runs tfds's preparation; raises InputError naming what is missing or damaged."""
    downloads = root / "downloads"
    _check(builder, archives, downloads)
    _say(f"preparing {builder.info.full_name} in {root}, once ...")
    # Extracted anew: what is kept extracted is not checked.
    config = tfds.download.DownloadConfig(manual_dir=archives, extract_dir=scratch / "extracted")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_config=config, download_dir=downloads)
    except (OSError, tf.errors.OpError):
        raise
    except Exception as error:
        if isinstance(error.__context__, (OSError, tf.errors.OpError)):  # tfds wraps a full disk while it extracts
            raise error.__context__ from None
        raise InputError(f"--dataset={builder.name}: tfds cannot prepare it: {reason(error)}") from None


def _check(builder: tfds.core.DatasetBuilder, archives: pathlib.Path, downloads: pathlib.Path) -> None:
    """Raises InputError when an archive is damaged, or is neither there nor to be downloaded."""
    missing = []
    for url, info in builder.url_infos.items():
        archive = archives / (info.filename or "")
        if not archive.is_file():
            cached = downloads / resource.get_dl_fname(url, info.checksum)
            missing += [] if cached.exists() else [url]
        elif (found := checksums.compute_url_info(archive)) != info:
            raise InputError(
                f"--manual_dir: {archive} is damaged: expected {int(info.size)} bytes with SHA-256 {info.checksum}, "
                f"found {int(found.size)} with {found.checksum}; put a good copy there"
            )
    if missing and (why := _unreachable(missing[0])):
        needed = ", ".join(sorted(info.filename or url for url, info in builder.url_infos.items()))
        raise InputError(
            f"--manual_dir: {archives} lacks an archive, and {missing[0]} cannot be downloaded ({why}). "
            f"Put {needed} into a folder and run: python train.py --manual_dir=FOLDER"
        )


def _unreachable(url: str) -> str | None:
    """Returns why the server of `url` gives no answer, asked once: tfds would try for minutes; None if it answers."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        return None
    except (OSError, ValueError) as error:
        return reason(getattr(error, "reason", None) or error)
    return None
