"""The first run: tfds prepares a dataset from its archives, and the decoded examples are cached."""

import contextlib
import io
import json
import pathlib
import re
import shutil
import sys
from collections.abc import Iterator, Sequence

import filelock
import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf import json_format, message

from common.errors import InputError, RunError, of_the_system, reason
from common.files import locked, tidy, whole_folder, writable_folder
from storage import archives, cache, catalog, decode

# the version this project is written for; any other dataset: its newest
VERSIONS = {"mnist": "mnist:3.*.*"}
DAMAGE = (  # what a file that is cut, altered or gone raises
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,  # other examples than dataset_info.json counts
    tf.errors.NotFoundError,
    json.JSONDecodeError,
    UnicodeDecodeError,
    json_format.ParseError,
    message.DecodeError,
)


def make_cache(name: str, root: pathlib.Path, manual_dir: str | None, max_bytes: float) -> None:
    """Makes the cache of a dataset, unless another process has just made it.

    What was there before is replaced only by what is whole.

    Raises:
      InputError: there is no such dataset, its archives cannot be had or are damaged, or the folder
        cannot be written.
      RunError: the disk or memory is full, or what tfds has prepared cannot be read and shows no
        damage.
    """
    tfds.disable_progress_bar()
    versioned = VERSIONS.get(name, name)
    target = _target(versioned, root)
    place = _place(name, root, target)
    folder = cache.folder_in(place, name)
    with _alone(place / re.split("[/:]", name)[0], (target, folder)):
        with contextlib.suppress(ValueError):
            cache.read(folder, name, max_bytes)
            return
        if _cache_prepared(versioned, root, folder):
            return
        writable_folder("data_dir", target.parent)  # what is read-only may be damaged
        _prepare(versioned, target, root, archives.folder_of(name, manual_dir))
        _cache(catalog.builder(versioned, root), folder)


def _target(name: str, root: pathlib.Path) -> pathlib.Path:
    """Returns where tfds keeps a dataset below `root`, damaged or not."""
    nowhere = root / "empty"
    try:
        return root / catalog.builder(name, nowhere).data_path.relative_to(nowhere)
    except InputError:  # it may be known by its files alone
        try:
            return pathlib.Path(catalog.builder(name, root).data_dir)
        except DAMAGE as error:
            raise _unreadable(root, error) from None


def _unreadable(root: pathlib.Path, error: Exception) -> RunError:
    return RunError(
        f"--data_dir: tfds cannot read what is prepared in {root} ({type(error).__name__}: "
        f"{reason(error)}). Nothing in it was changed: mend it, or move it away to have it "
        "prepared anew"
    )


def _place(name: str, root: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """Returns where the cache goes: `root`, or a folder of the user's where that is read-only."""
    place, of_user = cache.places(root)
    try:
        writable_folder("data_dir", cache.folder_in(place, name).parent)
    except InputError:
        if not _is_prepared(target) or not of_user.is_absolute():
            raise
        place = writable_folder("data_dir", of_user)
        _say(f"{root} cannot be written: the decoded examples go to {place}")
    return place


def _is_prepared(folder: pathlib.Path) -> bool:
    return (folder / "dataset_info.json").exists()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _alone(place: pathlib.Path, targets: Sequence[pathlib.Path]) -> Iterator[None]:
    """Lets one process at a time write to `place`, and removes what a killed one left of
    `targets`."""
    try:
        lock = locked(place / ".lock", wait=False)
    except filelock.Timeout:
        _say(f"waiting for another run, which prepares {place.name}")
        lock = locked(place / ".lock", wait=True)
    try:
        for target in targets:
            tidy(target)
        yield
    except (OSError, MemoryError, tf.errors.OpError) as error:
        raise RunError(f"--data_dir: cannot prepare {place}: {reason(error)}") from None
    finally:
        lock.release()


def _cache_prepared(name: str, root: pathlib.Path, folder: pathlib.Path) -> bool:
    """Caches what tfds has prepared; returns False if that is not there or, said, damaged."""
    try:
        builder = catalog.builder(name, root)
        if not _is_prepared(builder.data_path):
            return False
        _cache(builder, folder)
    except Exception as error:  # tfds may raise anything, and wrap it
        if isinstance(error, DAMAGE) or isinstance(error.__cause__, DAMAGE):
            dataset = name.partition(":")[0]
            why = f"is damaged ({type(error).__name__})"
            _say(f"{root}: what is prepared of {dataset} {why}: preparing {dataset} again")
            return False
        if isinstance(error, (InputError, OSError)) or of_the_system(error):
            raise
        raise _unreadable(root, error) from None
    return True


def _cache(builder: tfds.core.DatasetBuilder, folder: pathlib.Path) -> None:
    _say(f"decoding {builder.info.full_name}, once ...")
    with whole_folder(folder) as new:
        decode.write(builder, new)
    former = pathlib.Path(builder.data_dir, cache.FOLDER)  # where the cache was until its format 3
    if former != folder and cache.format_of(former) != cache.FORMAT:
        shutil.rmtree(former, ignore_errors=True)


def _prepare(
    name: str, target: pathlib.Path, root: pathlib.Path, archive_folder: pathlib.Path
) -> None:
    """Has tfds prepare a dataset from its archives, and puts it in the place of a damaged one."""
    with whole_folder(target) as new:
        builder = catalog.builder(name, new.parent)
        gathered = new.parent / "archives"
        archives.gather(builder, archive_folder, root, gathered)
        _say(f"preparing {builder.info.full_name} in {root}, once ...")
        config = tfds.download.DownloadConfig(
            manual_dir=gathered,
            extract_dir=new.parent / "extracted",  # tfds does not check what is extracted already
        )
        with decode.progress_bar() as bar:
            bar.add_task(f"Preparing {builder.name}", total=None)
            _generate(builder, config, root / "downloads")
        new.rmdir()
        pathlib.Path(builder.data_dir).rename(new)


def _generate(
    builder: tfds.core.DatasetBuilder,
    config: tfds.download.DownloadConfig,
    downloads: pathlib.Path,
) -> None:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_config=config, download_dir=downloads)
    except Exception as error:
        # tfds wraps a full disk while it extracts
        for cause in (error, error.__context__):
            if isinstance(cause, (OSError, tf.errors.OpError)):
                raise cause from None
        raise InputError(
            f"--dataset={builder.name}: tfds cannot prepare it: {reason(error)}"
        ) from None
