"""Finds a dataset decoded below the folder of prepared datasets, or has it prepared."""

import math
import os
import pathlib
import re
import sys

from common.errors import InputError, RunError
from storage import decoded

ARCHIVES = pathlib.Path(__file__).resolve().parent.parent / "archives"
NAME = r"\w+(/[\w.+-]+)?(:[\d.*]+)?"  # dataset/config:version


def examples_of(
    name: str, data_dir: str | None = None, manual_dir: str | None = None, most_bytes: float = math.inf
) -> decoded.Decoded:
    """Returns the examples of a dataset; arguments and errors are those of `data.load`."""
    if not re.fullmatch(NAME, name):
        raise InputError(f"--dataset={name}: must be a name of tfds such as mnist, emnist/letters or mnist:3.0.1")
    root = pathlib.Path(data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    for folder in decoded.folders(name, root):
        try:
            return decoded.read(folder, most_bytes)
        except ValueError as error:
            print(f"{error}: decoding {name} again", file=sys.stderr)
    from storage import prepare  # tfds takes a second to import

    folder = prepare.decoded_folder(name, root, pathlib.Path(manual_dir or ARCHIVES / re.split("[/:]", name)[0]))
    try:
        return decoded.read(folder, most_bytes)
    except ValueError as error:
        raise RunError(f"--data_dir: cannot read what was just written: {error}; check the disk") from None
