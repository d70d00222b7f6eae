"""The archives from which tfds prepares a dataset, recognised by SHA-256 instead of name."""

import pathlib
import re
import shlex
import shutil
import urllib.error
import urllib.request

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.checksums import UrlInfo, compute_url_info
from tensorflow_datasets.core.download.resource import get_dl_fname

from common.errors import InputError, reason
from common.files import PROJECT

ARCHIVES = PROJECT / "archives"


def folder_of(name: str, manual_dir: str | None) -> pathlib.Path:
    """Returns the folder of a dataset's archives: --manual_dir, or this project's."""
    return pathlib.Path(manual_dir or ARCHIVES / re.split("[/:]", name)[0])


def gather(
    builder: tfds.core.DatasetBuilder, folder: pathlib.Path, root: pathlib.Path, new: pathlib.Path
) -> None:
    """Copies the archives of `folder` to `new`, under the names that tfds expects.

    An archive that `folder` lacks comes from this project's own. If that lacks it too, tfds finds
    it in `root`, or downloads it.

    Raises:
      InputError: an archive is damaged, or is missing and cannot be downloaded.
    """
    new.mkdir()
    wanted = builder.url_infos or {}  # some datasets of tfds have none
    for url, info in wanted.items():
        cached = get_dl_fname(url, info.checksum)
        name = info.filename or cached
        if path := _found(info, folder, ARCHIVES / builder.name):
            shutil.copyfile(path, new / name)
        elif (folder / name).is_file():
            found = compute_url_info(folder / name)
            raise InputError(
                f"--manual_dir: {folder / name} is not the published archive: expected "
                f"{int(info.size)} bytes with SHA-256 {info.checksum}, found {int(found.size)} "
                f"with {found.checksum}; put a good copy there, as it was published"
            )
        elif not any((root / "downloads").rglob(cached)) and (why := _unreachable(url)):
            needed = [info.filename or url for url, info in wanted.items()]
            dataset = builder.info.full_name.rpartition("/")[0]
            flags = f"--dataset={dataset}", f"--data_dir={root}", "--manual_dir=FOLDER"
            raise InputError(
                f"--manual_dir: {folder} lacks an archive, and {url} cannot be downloaded ({why}). "
                f"Put {', '.join(sorted(needed))} into a folder and run: "
                f"{shlex.join(['python', 'train.py', *flags])}"
            )


def _found(info: UrlInfo, *folders: pathlib.Path) -> pathlib.Path | None:
    """Returns the file in one of the folders that is the archive, whatever its name."""
    for folder in folders:
        for path in sorted(folder.glob("*")):
            is_alike = path.is_file() and path.stat().st_size == info.size
            if is_alike and compute_url_info(path) == info:
                return path
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
