"""Files and folders that are written completely or not at all."""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator

from common.errors import InputError, reason

PROJECT = pathlib.Path(__file__).resolve().parent.parent
# begins the name of incomplete files; no file or folder with another name is ever removed
OURS = ".softmax-regression"


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Writes a new file beside `path`, then renames it; on an error the old file stays.

    A link stays a link, and its target is replaced.
    """
    path = real_path(path)
    new = path.with_name(f"{OURS}.{uuid.uuid4().hex}")  # containers share process numbers
    try:
        new.write_bytes(content)
        synced(new)
        new.replace(path)
    except OSError as error:
        error.filename = path  # the error of a full disk names no file
        raise
    finally:
        new.unlink(missing_ok=True)


def real_path(path: str | pathlib.Path) -> pathlib.Path:
    """Returns the absolute path without links; of links in a loop, the path of one of them."""
    return pathlib.Path(os.path.realpath(path))  # `Path.resolve` raises RuntimeError for a loop


def synced(*paths: pathlib.Path) -> None:
    """Returns once files and folders are on the disk, so that a power cut does not remove them."""
    if os.name == "nt":
        return  # Windows cannot sync folders, nor files that are open only for reading
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def writable_folder(flag: str, path: str | pathlib.Path) -> None:
    """Makes the folder that `flag` names; raises InputError if it cannot be written."""
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(bytes(4096))  # a full disk may still have room for an empty file
    except OSError as error:
        raise InputError(
            f"--{flag}: {path} must be a folder that can be written ({reason(error)})"
        ) from None


def check_writable(flag: str, path: str | pathlib.Path, replace: bool) -> None:
    """Makes the folder of the file that `flag` names; raises InputError if that fails.

    An existing file is refused without `replace`.
    """
    file = real_path(path)
    writable_folder(flag, file.parent)
    if os.path.lexists(file) and not (replace and file.is_file()):
        raise InputError(f"--{flag}={path}: is there already; name another file, or see --help")


@contextlib.contextmanager
def plain_path(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a path of `folder` for TensorFlow, which reads *, ?, [ and \\ in a name as a pattern.

    If the name has such characters, the path is that of a link.
    """
    if re.search(r"[*?\[\\]", str(folder)):
        with tempfile.TemporaryDirectory() as place:
            link = pathlib.Path(place, "link")
            link.symlink_to(folder.absolute(), target_is_directory=True)
            yield link
    else:
        yield folder


@contextlib.contextmanager
def whole_folder(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a new folder that replaces `target` after the block; on an error `target` stays.

    The old folder is removed only after the new one is on the disk. After a power cut one of the
    two exists, or `tidy` restores it. The caller has a lock against other processes.
    """
    new = tidy(target) / "new"
    try:
        new.mkdir(parents=True)
        yield new
        synced(*new.rglob("*"), new)
        if target.exists():
            target.rename(new.with_name("replaced"))
        new.rename(target)
        synced(target.parent)
    finally:
        tidy(target)


def tidy(target: pathlib.Path) -> pathlib.Path:
    """Removes the remains of a killed `whole_folder`, and restores a folder that it had moved.

    Returns the folder beside `target` in which `whole_folder` works; there is none now.
    """
    aside = target.with_name(f"{OURS}.{target.name}.new")
    replaced = aside / "replaced"
    if replaced.exists() and is_free(target):
        replaced.rename(target)
    shutil.rmtree(aside, ignore_errors=True)
    return aside


def is_free(path: pathlib.Path) -> bool:
    """Says whether `path` does not exist, or is an empty folder."""
    return not os.path.lexists(path) or (path.is_dir() and not os.listdir(path))
