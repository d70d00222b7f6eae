"""The archives from which tfds prepares a dataset, recognised by SHA-256 instead of name."""

import pathlib
import shutil
import urllib.error
import urllib.request

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.checksums import UrlInfo, compute_url_info

from common.errors import InputError, reason
from common.files import PROJECT

ARCHIVES = PROJECT / "archives"


def gather(
    builder: tfds.core.DatasetBuilder, manual_dir: str | None, root: pathlib.Path, new: pathlib.Path
) -> None:
    """Copies the archives of a dataset to the folder `new`, under the names that tfds expects.

    They come from `manual_dir`, from this project's own folder, or from what tfds has downloaded to
    `root` before. tfds downloads any other archive.

    Raises:
      InputError: an archive is damaged, or is missing and cannot be downloaded.
    """
    ours = ARCHIVES / builder.name
    folder = pathlib.Path(manual_dir or ours)
    for url, info in (builder.url_infos or {}).items():  # some datasets of tfds have none
        name = info.filename or info.checksum
        given = folder / name
        if path := _found(info, folder, ours, root / "downloads"):
            shutil.copyfile(path, new / name)
        elif given.is_file():
            raise InputError(
                f"--manual_dir: {given} is not the published archive: expected SHA-256 "
                f"{info.checksum}, found {compute_url_info(given).checksum}; put a good copy "
                "there, as it was published"
            )
        elif why := _unreachable(url):
            raise InputError(
                f"--manual_dir: {folder} lacks {name}, and {url} cannot be downloaded ({why}). "
                "Put it and the dataset's other archives into a folder and give --manual_dir=FOLDER"
            )


def _found(info: UrlInfo, *folders: pathlib.Path) -> pathlib.Path | None:
    """Returns the file below one of the folders that is the archive, whatever its name."""
    for folder in folders:
        for path in folder.rglob("*"):
            if (
                path.is_file()
                and path.stat().st_size == info.size
                and compute_url_info(path) == info
            ):
                return path
    return None


def _unreachable(url: str) -> str | None:
    """Returns why the server of `url` does not answer one request; tfds would try for minutes."""
    try:
        urllib.request.urlopen(url, timeout=10).close()
    except urllib.error.HTTPError:
        return None
    except Exception as error:  # an odd server can make urllib raise anything
        return reason(error)
    return None
