"""The first run: tfds prepares a dataset from its archives, and the decoded examples are kept beside it."""

import contextlib
import io
import pathlib
import shlex
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import filelock
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums, resource

from common.errors import InputError, RunError, reason
from common.files import locked, tidy, whole_folder, writable_folder
from storage import catalog, decoded, decoding

FORMER = "decoded.npz"  # the decoded form before format 2, beside which the new one is written


def decoded_folder(
    name: str, root: pathlib.Path, archives: pathlib.Path, most_bytes: float
) -> tuple[pathlib.Path, bool]:
    """Returns the decoded folder of a dataset below `root`, made now unless another process has just made it.

    And whether the archives were read, which nobody needs for what tfds has prepared already.

    Raises InputError when there is no such dataset of images and labels, its archives cannot be had or are damaged,
    or the folder cannot be written; RunError when the disk or memory is full, or what tfds has prepared cannot be read
    and shows no damage. What was there is replaced only by what is whole.
    """
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    full_name = f"{name}:{decoded.VERSIONS[name]}" if name in decoded.VERSIONS else name
    folder = _place(full_name, root)
    with _alone(folder):
        with contextlib.suppress(ValueError):
            decoded.read(folder / decoded.FOLDER, most_bytes)  # which checks what will be read
            return folder / decoded.FOLDER, False
        if _decode_prepared(full_name, folder, root):
            return folder / decoded.FOLDER, False
        return _prepare(full_name, folder.parent, root, archives) / decoded.FOLDER, True


def _place(full_name: str, root: pathlib.Path) -> pathlib.Path:
    """Returns where tfds keeps a dataset below `root`, damaged or not."""
    try:
        return pathlib.Path(catalog.builder(full_name, root).data_dir)
    except InputError:
        raise
    except Exception as error:  # tfds may raise anything
        if not catalog.shows_damage(error):
            raise _unreadable(root, error) from None
        nowhere = root / "empty"
        try:
            return root / catalog.builder(full_name, nowhere).data_path.relative_to(nowhere)
        except InputError as unknown:
            raise InputError(
                f"{unknown}; what is prepared of it in {root} is damaged ({reason(error)})"
            ) from None


def _unreadable(folder: pathlib.Path, error: Exception) -> RunError:
    found = f"{type(error).__name__}: {reason(error)}"
    return RunError(
        f"--data_dir: tfds cannot read what is prepared in {folder} ({found}). Nothing in it was changed: "
        "mend it, or move it away to have it prepared anew"
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _alone(folder: pathlib.Path) -> Iterator[None]:
    """Lets one process at a time prepare `folder`, and removes what a killed one has left."""
    place = writable_folder("data_dir", folder.parent)
    try:
        lock = locked(place / ".lock", wait=False)
    except filelock.Timeout:
        _say(f"waiting for another run, which prepares {place.name}")
        lock = locked(place / ".lock", wait=True)
    try:
        tidy(folder)
        tidy(folder / decoded.FOLDER)
        yield
    except (OSError, MemoryError, tf.errors.OpError) as error:
        raise RunError(f"--data_dir: cannot prepare {folder}: {reason(error)}") from None
    finally:
        lock.release()


def _decode_prepared(full_name: str, folder: pathlib.Path, root: pathlib.Path) -> bool:
    """Decodes what tfds has prepared in `folder`; returns False if there is nothing or, said, it is damaged.

    Raises RunError, and leaves `folder` as it is, where tfds fails on it otherwise.
    """
    if not (folder / "dataset_info.json").exists():
        return False
    try:
        _decode(catalog.builder(full_name, root), full_name)
    except Exception as error:
        if catalog.shows_damage(error):
            _say(
                f"{folder} is damaged ({type(error).__name__}): preparing {full_name.partition(':')[0]} again"
            )
            return False
        if isinstance(error, (InputError, OSError, MemoryError, tf.errors.OpError)):
            raise
        raise _unreadable(folder, error) from None
    return True


def _decode(builder: tfds.core.DatasetBuilder, name: str) -> None:
    """Keeps the examples of `builder`, which was asked for by `name`, decoded beside what tfds has prepared."""
    _say(f"decoding {builder.info.full_name}, once ...")
    folder = pathlib.Path(builder.data_dir)
    with whole_folder(folder / decoded.FOLDER) as new:
        decoding.write(
            builder, new, default_config="/" not in name or catalog.is_default_config(builder)
        )
    if (former := folder / FORMER).exists():
        former.unlink()
        _say(f"removed {former}, which {folder / decoded.FOLDER} replaces")


def _prepare(
    name: str, parent: pathlib.Path, root: pathlib.Path, archives: pathlib.Path
) -> pathlib.Path:
    """Has tfds prepare a dataset, decodes it, and returns its new folder in `parent`, in the place of a damaged one."""
    target = parent / pathlib.Path(catalog.builder(name, parent / "empty").data_dir).name
    with whole_folder(target) as new:
        builder = catalog.builder(name, new.parent)
        _generate(builder, name.partition(":")[0], archives, root)
        _decode(builder, name)
        new.rmdir()
        pathlib.Path(builder.data_dir).rename(new)
    return target


def _generate(
    builder: tfds.core.DatasetBuilder, name: str, archives: pathlib.Path, root: pathlib.Path
) -> None:
    """Runs tfds's preparation; raises InputError naming what is missing or damaged."""
    _check(builder, name, archives, root)
    _say(f"preparing {builder.info.full_name} in {root}, once ...")
    # Extracted anew: what is kept extracted is not checked.
    config = tfds.download.DownloadConfig(
        manual_dir=archives, extract_dir=builder.data_dir + ".extracted"
    )
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_config=config, download_dir=root / "downloads")
    except (OSError, tf.errors.OpError):
        raise
    except Exception as error:
        # tfds wraps a full disk while it extracts
        if isinstance(error.__context__, (OSError, tf.errors.OpError)):
            raise error.__context__ from None
        raise InputError(f"--dataset={name}: tfds cannot prepare it: {reason(error)}") from None


def _check(
    builder: tfds.core.DatasetBuilder, name: str, archives: pathlib.Path, root: pathlib.Path
) -> None:
    """Raises InputError when an archive is damaged, or is neither there nor to be downloaded."""
    missing = []
    for url, info in builder.url_infos.items():
        archive = archives / (info.filename or "")
        if not archive.is_file():
            cached = root / "downloads" / resource.get_dl_fname(url, info.checksum)
            missing += [] if cached.exists() else [url]
        elif (found := checksums.compute_url_info(archive)) != info:
            raise InputError(
                f"--manual_dir: {archive} is damaged: expected {int(info.size)} bytes with SHA-256 {info.checksum}, "
                f"found {int(found.size)} with {found.checksum}; put a good copy there"
            )
    if missing and (why := _unreachable(missing[0])):
        needed = ", ".join(sorted(info.filename or url for url, info in builder.url_infos.items()))
        command = shlex.join(
            ["python", "train.py", f"--dataset={name}", f"--data_dir={root}", "--manual_dir=FOLDER"]
        )
        raise InputError(
            f"--manual_dir: {archives} lacks an archive, and {missing[0]} cannot be downloaded ({why}). "
            f"Put {needed} into a folder and run: {command}"
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
