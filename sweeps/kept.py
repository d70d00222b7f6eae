"""The finished runs and the file that keeps them: a line with what all runs share, then a line for
each."""

import json
import os
import pathlib
from typing import Any

import filelock

import flags
from common.errors import InputError, RunError, reason
from common.files import locked
from sweeps.options import SWEPT

FORMAT, BEGINNING = 1, b'{"sweep": '  # of every file
# of runs that are one sweep; the data's checksum and the device's name are compared in their place
OF_ONE_RUN = {*flags.PLACES, "checkpoint_every", "overwrite"}
OF_SEVERAL_DEVICES = {"strategy", "replicas", "timeout"}
NO_MATTER = {*OF_ONE_RUN, *OF_SEVERAL_DEVICES, *SWEPT, "device"}
CADENCE = {"eval_first", "eval_every"}  # no weight depends on it without a target

DEFAULTS = flags.training_config().as_dict()

# the values of SWEPT, and what train.py's record says of the run, or `diverged`
Row = dict[str, Any]


def key(run: flags.Config | Row) -> tuple:
    """Returns what tells a run from the others of its sweep."""
    values = DEFAULTS | (run if isinstance(run, dict) else run.as_dict())
    return tuple(values[name] for name in SWEPT)


class Kept:
    """The rows of a sweep by their key, which a file, if any, has too."""

    def __init__(
        self, path: str | None, config: flags.Config, environment: Row, checksum: str
    ) -> None:
        """Takes over the rows of a file; raises InputError if it is not of this sweep, this version
        and this device."""
        self.rows: dict[tuple, Row] = {}
        self.flag, self.file = f"--output={path}", pathlib.Path(path) if path else None
        if not self.file:
            return
        no_matter = NO_MATTER if config.target_accuracy else NO_MATTER | CADENCE
        job = {name: value for name, value in config.as_dict().items() if name not in no_matter}
        same = {
            "sweep": FORMAT,
            "data": checksum,
            **{name: environment[name] for name in ("tensorflow", "device_name")},
        }
        try:
            self.file.touch()
            if not BEGINNING.startswith(self.file.read_bytes()[: len(BEGINNING)]):
                raise InputError(
                    f"{self.flag}: it is there, and no file of a sweep: choose another name"
                )
            self.lock = locked(self.file.with_name(f".{self.file.name}.lock"), wait=False)
            whole = self._read(self.file.read_bytes(), same | job)
            os.truncate(self.file, whole)
        except filelock.Timeout:
            raise InputError(
                f"{self.flag}: another sweep writes to it: wait, or choose another name"
            ) from None
        except OSError as error:
            raise RunError(f"{self.flag}: {reason(error)}") from None
        if not whole:
            self._write(same | {"flags": job, "environment": environment})

    def _read(self, content: bytes, same: Row) -> int:
        """Returns how many bytes of a file are whole lines, and takes their rows: a kill may have
        torn the last one."""
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                row = json.loads(line)
                if number == 1:
                    # a flag that the program had not when it wrote the file had its default
                    header = DEFAULTS | row | row["flags"]
                    differs = [
                        f"{name} {header.get(name)}, not {here}"
                        for name, here in same.items()
                        if header.get(name) != here
                    ]
                elif "steps" not in row:
                    raise ValueError("it is no run")
                else:
                    row = {name: header[name] for name in SWEPT} | row
                    self.rows[key(row)] = row
            except (ValueError, KeyError, TypeError):
                raise InputError(
                    f"{self.flag}: line {number} is damaged: remove it, or choose another name"
                ) from None
            if differs:
                raise InputError(
                    f"{self.flag}: is of another sweep, with {'; '.join(differs)}: "
                    "choose another name"
                )
        return whole

    def add(self, row: Row) -> None:
        """Takes a finished run in; raises RunError if the file cannot take it."""
        self.rows[key(row)] = row
        self._write(row)

    def _write(self, row: Row) -> None:
        if not self.file:
            return
        try:
            with self.file.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise RunError(
                f"{self.flag}: cannot be written: {reason(error)}; the same command goes on"
            ) from None
