"""Files that are written whole or not at all, folders that can be written, and locks on them."""

import fcntl
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import BinaryIO, TextIO

from errors import InputError, reason


def write_atomically(path: pathlib.Path, write: Callable[[BinaryIO], object]) -> None:
    """Calls `write` on a new file beside `path`, then renames it; on an error what was there before stays.

    A link stays one: the file it leads to is replaced. Who may read the file, the umask says, as for any new one.
    """
    path = path.resolve()
    mask = os.umask(0o077)  # it can only be read by setting it
    os.umask(mask)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o666 & ~mask)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def synced(*paths: str | pathlib.Path) -> None:
    """Returns once files and folders are on the disk, so that a power cut does not take them."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def writable_folder(flag: str, path: str | pathlib.Path) -> pathlib.Path:
    """Returns the folder that `flag` names, made if need be; raises InputError unless a file can be written to it."""
    folder = pathlib.Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _try_writing(folder)
    except OSError as error:
        raise InputError(f"--{flag}: {path} must be a folder that can be written ({reason(error)})") from None
    return folder


def writable_file(flag: str, path: str | pathlib.Path) -> pathlib.Path:
    """Returns the file that `flag` names; raises InputError unless it can be written, whatever stands there now."""
    file = pathlib.Path(path).expanduser()
    try:
        if file.exists() and not file.is_file():
            raise OSError("it is there, and no regular file")
        _try_writing(file.resolve().parent)
    except OSError as error:
        raise InputError(f"--{flag}={path}: must be a file in a folder that can be written ({reason(error)})") from None
    return file


def _try_writing(folder: pathlib.Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))


def locked(path: pathlib.Path, wait: bool) -> TextIO:
    """Returns the file `path`, locked until it is closed; the system frees the lock of a process that was killed.

    Raises BlockingIOError if another process has it and `wait` is false.
    """
    file = open(path, "w")  # noqa: SIM115 - the caller closes it
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        file.close()
        raise
    return file
