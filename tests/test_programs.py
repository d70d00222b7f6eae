"""Programs of XLA that are kept: later runs load them, and what is damaged or cannot be written ends none."""

import gzip
import json
import os
import pathlib
import subprocess
import sys

import pytest

import flags
from common import errors
from runtime import programs
from tests.conftest import PROJECT

LOADED = "Loading cached entry"  # what TensorFlow says


@pytest.fixture
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The user's cache, empty, and an empty place for temporary files."""
    for variable, name in {"XDG_CACHE_HOME": "cache", "TMPDIR": "temporary"}.items():
        (tmp_path / name).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(errors, "before_leaving", [])
    monkeypatch.setattr(programs, "before_leaving", errors.before_leaving)
    monkeypatch.setenv(programs.XLA_FLAGS, "")
    return tmp_path / "cache"


def recalled(monkeypatch: pytest.MonkeyPatch, **changes: object) -> pathlib.Path:
    """Returns the folder that XLA is given in a process that starts anew."""
    monkeypatch.setattr(programs, "_folders", [])
    monkeypatch.setenv(programs.XLA_FLAGS, "--other=1")
    programs.recall(flags.Config(**changes))
    other, folder, devices = os.environ[programs.XLA_FLAGS].split()
    assert (other, devices) == ("--other=1", "--tf_xla_persistent_cache_device_types=CPU")
    return pathlib.Path(folder.removeprefix("--tf_xla_persistent_cache_directory="))


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def keep(folder: pathlib.Path, found: dict[str, bytes]) -> None:
    """Does what XLA does when it compiles."""
    with programs.kept():
        for name, program in found.items():
            (folder / name).write_bytes(program)


def test_a_run_loads_what_one_before_it_has_compiled(cache: pathlib.Path, tiny_data_dir: pathlib.Path) -> None:
    told = {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_VMODULE": "device_executable_persistor=1"}
    records, logs, before = [], [], dict[pathlib.Path, bytes]()
    for kind in ("first", "second"):
        record = cache.parent / f"{kind}.json"
        command = [sys.executable, "train.py", f"--data_dir={tiny_data_dir}", f"--record={record}"]
        done = subprocess.run(command, cwd=PROJECT, env=os.environ | told, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        records.append(json.loads(record.read_text())["weights_sha256"])
        logs.append(LOADED in done.stderr)
        found = {path: path.read_bytes() for path in cache.rglob("*.gz")}
        assert found and before in ({}, found)
        before = found
    assert logs == [False, True]
    assert records[0] == records[1]
    assert contents(cache.parent / "temporary") == {}


def test_programs_are_recalled_by_the_same_kind_of_run_alone(
    cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(recalled(monkeypatch), {"a.pb": b"a", "b.pb": b"b"})
    assert contents(recalled(monkeypatch, lr=0.5, epochs=3)) == {"a.pb": b"a", "b.pb": b"b"}
    for changes in ({"batch_size": 20}, {"dataset": "emnist"}, {"mode": "graph"}):
        assert contents(recalled(monkeypatch, **changes)) == {}
    for variable in ("XLA_FLAGS", "TF_NUM_INTRAOP_THREADS"):
        with monkeypatch.context() as other:
            other.setenv(variable, "1")
            assert contents(recalled(other)) == {}


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_program_is_compiled_and_kept_again(
    cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    programs_of_xla = {"a.pb": os.urandom(1000), "b.pb": b"b"}
    keep(recalled(monkeypatch), programs_of_xla)
    (kept,) = cache.rglob("a.pb.gz")
    packed = bytearray(kept.read_bytes())
    packed[500] ^= 1
    kept.write_bytes({"cut": packed[:500], "flipped": packed, "empty": b""}[damage])
    own = recalled(monkeypatch)
    assert contents(own) == {"b.pb": b"b"}
    keep(own, {"a.pb": b"new"})
    assert {path.name: gzip.decompress(path.read_bytes()) for path in cache.rglob("*.gz")} == {
        "a.pb.gz": b"new",
        "b.pb.gz": b"b",
    }


def test_a_cache_that_cannot_be_written_stops_nothing(cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.rmdir()
    cache.write_text("no folder")
    keep(recalled(monkeypatch), {"a.pb": b"a"})
    assert cache.read_text() == "no folder"


def test_what_fails_while_it_compiles_keeps_nothing_and_the_folder_goes(
    cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = recalled(monkeypatch)
    with pytest.raises(RuntimeError), programs.kept():
        (own / "a.pb").write_bytes(b"half")
        raise RuntimeError
    assert contents(cache) == {}
    for leave in errors.before_leaving:
        leave(True)
    assert contents(cache.parent / "temporary") == {}


@pytest.mark.parametrize("where", ["a folder of the user's", "no room", "an unknown CPU"])
def test_xla_keeps_to_its_own_ways_where_this_cannot_be(
    cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    given = "--tf_xla_persistent_cache_directory=/mine" if where == "a folder of the user's" else ""
    monkeypatch.setenv(programs.XLA_FLAGS, given)
    if where == "no room":
        monkeypatch.setattr(programs, "LEAST_ROOM", 2**80)
    if where == "an unknown CPU":
        monkeypatch.setattr(programs, "CPU_INFO", cache / "none")
    programs.recall(flags.Config())
    assert os.environ[programs.XLA_FLAGS] == given
