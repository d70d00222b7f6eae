"""The cache of a dataset: a folder of .npy files, one for the images and one for the labels of
each split, and about.json with their checksums.
"""

import errno
import hashlib
import json
import os
import pathlib
import zlib

import numpy as np

from common.commandline import PathParser
from common.errors import InputError, RunError, reason
from storage.dataset import Dataset, Split

FOLDER, ABOUT = "decoded", "about.json"
FORMAT = 4
HEADER_BYTES = 128  # of a .npy file
SPLITS = ("train", "validation", "test")


def root_folder(data_dir: str | None) -> pathlib.Path:
    """Returns the absolute folder of prepared datasets: --data_dir, TFDS_DATA_DIR or tfds's own.

    Raises InputError if it is a URL, or begins with `~` and there is no such home folder.
    """
    given = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    try:
        return pathlib.Path(PathParser().parse(given)).absolute()
    except ValueError as error:
        raise InputError(f"--data_dir: {given}: {error}; give --data_dir=FOLDER") from None


def places(root: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders of caches: `root`, and the user's own folder if `root` is read-only."""
    of_user = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    own = of_user.joinpath("softmax-regression", "data", *root.parts[1:])
    return [root, own] if own.is_absolute() else [root]


def folder_in(place: pathlib.Path, name: str) -> pathlib.Path:
    """Returns the cache of a dataset in one of the `places`."""
    return place / name.replace(":", "/") / FOLDER


def find(name: str, root: pathlib.Path, max_bytes: float) -> Dataset | None:
    """Returns the dataset `name` from its cache, as `read` does; None if no cache can be read.

    Raises RunError if it cannot be mapped for lack of memory.
    """
    for place in places(root):
        folder = folder_in(place, name)
        try:
            return read(folder, name, max_bytes)
        except Exception as error:  # a flipped bit can make JSON and NumPy raise anything
            if getattr(error, "errno", 0) == errno.ENOMEM:
                raise RunError(
                    f"{folder}: {reason(error)}; --input=stream needs less memory"
                ) from None
    return None


def read(folder: pathlib.Path, name: str, max_bytes: float) -> Dataset:
    """Returns the dataset `name` from its cache in `folder`.

    Arrays are mapped and their checksums compared. If the images of train have more than
    `max_bytes`, they are streamed instead.

    Raises:
      Exception: the cache is damaged, of another format, or may not be read.
    """
    about = json.loads((folder / ABOUT).read_text())
    if about.pop("sha256") != _digest(about | {"format": FORMAT}):
        raise ValueError(f"{ABOUT} is damaged, or of another version of this program")
    files = about["files"]
    splits = {}
    for split in SPLITS:
        path = folder / f"{split}_images.npy"
        streamed = split == "train" and path.stat().st_size > max_bytes
        splits[split] = Split(
            _array(path, files, streamed),
            _array(folder / f"{split}_labels.npy", files),
            streamed,
        )
    return Dataset(
        name,
        **splits,
        class_names=about["class_names"],
        image_shape=tuple(about["image_shape"]),
        checksum=_digest(files),
    )


def _array(
    path: pathlib.Path, files: dict[str, dict[str, int]], streamed: bool = False
) -> np.ndarray:
    """Returns a map of an array; raises ValueError unless its file is as `files` describes it.

    The content of a streamed file is not checked. TensorFlow shares the memory of a map only if it
    is writeable; writes to this map stay in memory.
    """
    expected = files[path.name]
    if expected != expected | _sums(path, streamed):
        raise ValueError(f"{path.name} has another size or CRC-32 than it was written with")
    return np.load(path, mmap_mode="r" if streamed else "c")


def _sums(path: pathlib.Path, header_alone: bool = False) -> dict[str, int]:
    """Returns the size of a file, and the CRC-32 of its header and of the whole file."""
    content = np.memmap(path, mode="r").data
    found = {"size": len(content), "header": zlib.crc32(content[:HEADER_BYTES])}
    return found if header_alone else found | {"all": zlib.crc32(content)}


def _digest(content: object) -> str:
    """Returns the SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def describe(folder: pathlib.Path, class_names: list[str], image_shape: tuple[int, ...]) -> None:
    """Writes about.json for the .npy files in `folder`: {train,validation,test}_{images,labels}."""
    about = {
        "format": FORMAT,
        "class_names": class_names,
        "image_shape": image_shape,
        "files": {path.name: _sums(path) for path in folder.glob("*.npy")},
    }
    (folder / ABOUT).write_text(json.dumps(about | {"sha256": _digest(about)}))
