"""The archives from which tfds prepares a dataset, recognised by content instead of name."""

import contextlib
import gzip
import hashlib
import pathlib
import re
import shlex
import shutil
import urllib.error
import urllib.request
import zlib

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.checksums import UrlInfo, compute_url_info
from tensorflow_datasets.core.download.resource import get_dl_fname

from common.errors import InputError, reason
from common.files import PROJECT

ARCHIVES = PROJECT / "archives"
IDX = b"\0\0\x08"  # starts a file of bytes in MNIST's own format


def folder_of(name: str, manual_dir: str | None) -> pathlib.Path:
    """Returns the folder of a dataset's archives: --manual_dir, or this project's."""
    return pathlib.Path(manual_dir or ARCHIVES / re.split("[/:]", name)[0])


def gather(
    builder: tfds.core.DatasetBuilder, folder: pathlib.Path, root: pathlib.Path, new: pathlib.Path
) -> None:
    """Copies the archives of `folder` to `new`, under the names that tfds expects.

    tfds finds an archive that `folder` lacks in `root`, or downloads it.

    Raises:
      InputError: an archive is damaged, or is missing and cannot be downloaded.
    """
    new.mkdir()
    wanted = builder.url_infos or {}  # some datasets of tfds have none
    for url, info in wanted.items():
        cached = get_dl_fname(url, info.checksum)
        name = info.filename or cached
        if path := _found(info, folder, ARCHIVES / builder.name / name):
            shutil.copyfile(path, new / name)
        elif (folder / name).is_file():
            raise InputError(f"--manual_dir: {_fault(folder / name, info)}")
        elif not any((root / "downloads").rglob(cached)) and (why := _unreachable(url)):
            needed = [info.filename or url for url, info in wanted.items()]
            dataset = builder.info.full_name.rpartition("/")[0]
            flags = f"--dataset={dataset}", f"--data_dir={root}", "--manual_dir=FOLDER"
            raise InputError(
                f"--manual_dir: {folder} lacks an archive, and {url} cannot be downloaded ({why}). "
                f"Put {', '.join(sorted(needed))} into a folder and run: "
                f"{shlex.join(['python', 'train.py', *flags])}"
            )


def _found(info: UrlInfo, folder: pathlib.Path, ours: pathlib.Path) -> pathlib.Path | None:
    """Returns tfds's archive in `folder`, or `ours` if a file there has the same content."""
    files = [path for path in sorted(folder.glob("*")) if path.is_file()]
    for path in files:
        if path.stat().st_size == info.size and compute_url_info(path) == info:
            return path
    content = _digest_of_idx(ours)
    return ours if content and content in map(_digest_of_idx, files) else None


def _fault(path: pathlib.Path, info: UrlInfo) -> str:
    found = compute_url_info(path)
    fault = "was recompressed" if _digest_of_idx(path) else "is damaged"
    return (
        f"{path} {fault}: expected {int(info.size)} bytes with SHA-256 {info.checksum}, found "
        f"{int(found.size)} with {found.checksum}; put a good copy there, as it was published"
    )


def _digest_of_idx(path: pathlib.Path) -> str | None:
    """Returns the SHA-256 of the content of an IDX file, gzipped or not; None for other files."""
    for opened in (gzip.open, open):
        with (
            contextlib.suppress(OSError, EOFError, zlib.error),
            opened(path, "rb") as file,
        ):
            if file.read(len(IDX)) == IDX:
                return hashlib.sha256(file.read()).hexdigest()
    return None


def _unreachable(url: str) -> str | None:
    """Returns why the server of `url` does not answer one request; tfds would try for minutes."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        return None
    except (OSError, ValueError) as error:
        return reason(getattr(error, "reason", None) or error)
    return None
