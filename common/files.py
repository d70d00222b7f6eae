"""Files and folders that are written whole or not at all, and locks on them."""

import contextlib
import glob
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import IO

import filelock

from common.errors import InputError, reason

PROJECT = pathlib.Path(__file__).resolve().parent.parent
# begins the name of what is half done: nothing of another name is ever removed
OURS = ".softmax-regression"


def write_atomically(path: pathlib.Path, write: Callable[[IO[bytes]], object]) -> None:
    """Calls `write` on a new file beside `path`, then renames it; on an error what was there before
    stays.

    A link stays one: the file it leads to is replaced.
    """
    path = path.resolve()
    new = path.with_name(f"{OURS}.{os.getpid()}")
    try:
        with open(new, "wb") as file:
            write(file)
        synced(new)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def synced(*paths: pathlib.Path) -> None:
    """Returns once files and folders are on the disk, so that a power cut does not take them."""
    for path in paths:
        if os.name == "nt" and path.is_dir():
            continue  # Windows syncs no folders, and no file that is open for reading alone
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def writable_folder(flag: str, path: str | pathlib.Path) -> pathlib.Path:
    """Makes the folder that `flag` names; raises InputError unless it can be written."""
    folder = pathlib.Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try_writing(folder)
    except OSError as error:
        raise InputError(
            f"--{flag}: {path} must be a folder that can be written ({reason(error)})"
        ) from None
    return folder


def check_writable(flag: str, path: str | None, replace: bool) -> None:
    """Makes the folder of the file that `flag` names, if any; raises InputError unless it can be
    written.

    A file that is there is refused without `replace`.
    """
    if path is None:
        return
    file = pathlib.Path(path).resolve()
    writable_folder(flag, file.parent)
    if file.exists() and not (replace and file.is_file()):
        why = "is there already; give --overwrite, or another file"
        why = why if file.is_file() else "is there, and no regular file; give another one"
        raise InputError(f"--{flag}={path}: {why}")


@contextlib.contextmanager
def plain_path(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a path of `folder` for TensorFlow, which takes *, ?, [ and \\ in a name for a pattern.

    Where there are such letters it is a link.
    """
    if not re.search(r"[*?\[\\]", str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory() as place:
        link = pathlib.Path(place, "link")
        link.symlink_to(folder.absolute(), target_is_directory=True)
        yield link


def try_writing(folder: pathlib.Path, size: int = 4096) -> None:
    """Raises OSError unless so many bytes can be written in `folder`; none of them stays."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(size))


def locked(path: pathlib.Path, wait: bool) -> filelock.BaseFileLock:
    """Returns the lock on `path`, held until it is released; the system frees the lock of a process
    that was killed.

    Raises filelock.Timeout if another process has it and `wait` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    lock.acquire(timeout=-1 if wait else 0)
    return lock


@contextlib.contextmanager
def whole_folder(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a new folder that takes the place of `target` once the block has filled it; on an
    error `target` stays.

    What was there goes only when the new one is on the disk: after a power cut one of the two is
    there, or comes back with `tidy`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{OURS}.{target.name}.new."
    tidy(target)
    try:
        with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as place:
            new = pathlib.Path(place, "new")
            new.mkdir()
            yield new
            synced(*new.rglob("*"), new)
            if target.exists():
                target.rename(_replaced(target))
            new.rename(target)
            synced(target.parent)
    finally:
        tidy(target)


def tidy(target: pathlib.Path) -> None:
    """Removes what a killed `whole_folder` has left, and puts back what it had put aside."""
    if _replaced(target).exists() and is_free(target):
        _replaced(target).rename(target)
    left = target.parent.glob(f"{OURS}.{glob.escape(target.name)}.new.*")
    for folder in (_replaced(target), *left):
        shutil.rmtree(folder, ignore_errors=True)


def is_free(path: str | pathlib.Path | None) -> bool:
    """Says whether nothing is at `path`, if there is one, or a folder with nothing in it."""
    path = pathlib.Path(path) if path else None
    return not path or not path.exists() or (path.is_dir() and not any(path.iterdir()))


def _replaced(target: pathlib.Path) -> pathlib.Path:
    return target.with_name(f"{OURS}.{target.name}.replaced")
