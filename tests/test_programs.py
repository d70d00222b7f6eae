"""Programs of XLA that are kept: later runs load them, and what is damaged or cannot be written ends none."""

import hashlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

import flags
from runtime import devices, programs
from tests.conftest import PROJECT

LOADED = "Loading cached entry"  # what TensorFlow says
OTHER = "--other=1"


@pytest.fixture
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The user's cache, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(programs.XLA_FLAGS, "")
    return tmp_path


def recalled(monkeypatch: pytest.MonkeyPatch, **changes: object) -> pathlib.Path:
    """Returns the folder that XLA is given in a process that starts anew."""
    monkeypatch.setattr(programs, "_state", programs._State())
    monkeypatch.setenv(programs.XLA_FLAGS, OTHER)
    programs.recall(flags.training_config(mode="xla", **changes))
    other, folder, kinds = os.environ[programs.XLA_FLAGS].split()
    assert (other, kinds) == (OTHER, "--tf_xla_persistent_cache_device_types=CPU")
    return pathlib.Path(folder.removeprefix("--tf_xla_persistent_cache_directory="))


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.pb")}


def keep(folder: pathlib.Path, found: dict[str, bytes]) -> None:
    """Does what XLA does when it compiles."""
    with programs.kept():
        for name, program in found.items():
            (folder / name).write_bytes(program)


def train(folder: pathlib.Path, data_dir: pathlib.Path) -> tuple[subprocess.CompletedProcess, dict]:
    """Runs train.py, and returns its record too; TensorFlow tells what it loads."""
    record = folder / "record.json"
    record.unlink(missing_ok=True)
    command = [sys.executable, "train.py", f"--data_dir={data_dir}", f"--record={record}"]
    told = {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_VMODULE": "device_executable_persistor=1"}
    done = subprocess.run(
        command, cwd=PROJECT, env=os.environ | told, capture_output=True, text=True, timeout=300
    )
    return done, json.loads(record.read_text()) if record.exists() else {}


def test_a_run_loads_what_one_before_it_has_compiled(
    cache: pathlib.Path, tiny_data_dir: pathlib.Path
) -> None:
    (first, compiled), (second, loaded) = train(cache, tiny_data_dir), train(cache, tiny_data_dir)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert (LOADED in first.stderr, LOADED in second.stderr) == (False, True)
    assert (compiled["program_loaded"], loaded["program_loaded"]) == (False, True)
    assert compiled["weights_sha256"] == loaded["weights_sha256"]
    (checksum,) = cache.rglob("*.sha256")
    subprocess.run(
        ["sha256sum", "--check", "--strict", checksum.name], cwd=checksum.parent, check=True
    )


@pytest.mark.slow
def test_a_program_that_xla_refuses_ends_one_run_at_most(
    cache: pathlib.Path, tiny_data_dir: pathlib.Path
) -> None:
    train(cache, tiny_data_dir)
    (program,) = cache.rglob("*.pb")
    rubbish = b"no program"
    program.write_bytes(rubbish)
    (sum_of,) = cache.rglob("*.sha256")
    sum_of.write_text(f"{hashlib.sha256(rubbish).hexdigest()}  {program.name}\n")
    refused, _ = train(cache, tiny_data_dir)
    assert refused.returncode == 1 and "error: TensorFlow failed: " in refused.stderr
    again, _ = train(cache, tiny_data_dir)
    assert again.returncode == 0, again.stderr
    assert [*contents(program.parent)] == [program.name]


def test_a_kind_of_run_has_its_own_programs(
    cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = recalled(monkeypatch)
    assert recalled(monkeypatch, lr=0.5, epochs=3, dataset="emnist") == found
    others = [
        recalled(monkeypatch, **changes)
        for changes in ({"batch_size": 20}, {"strategy": "mirrored"})
    ]
    for variable, value in {"XLA_FLAGS": "--xla_x=1", "TF_NUM_INTRAOP_THREADS": "1"}.items():
        with monkeypatch.context() as other:
            other.setenv(variable, value)
            others.append(recalled(other))
    monkeypatch.setattr(devices, "CPU_INFO", cache / "cpuinfo")
    for cpu in ("model name\t: another\n", "flags\t: avx\n", "CPU part\t: 0xd0c\n"):
        devices.CPU_INFO.write_text(cpu)
        others.append(recalled(monkeypatch))
    assert len({found, *others}) == 1 + len(others)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "without its checksum"])
def test_a_damaged_program_goes_and_is_kept_again(
    cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    folder, program = recalled(monkeypatch), os.urandom(1000)
    keep(folder, {"a.pb": program, "b.pb": b"b"})
    flipped = program[:500] + bytes([program[500] ^ 1]) + program[501:]
    (folder / "a.pb").write_bytes(
        {"cut": program[:500], "flipped": flipped, "empty": b""}.get(damage, program)
    )
    if damage == "without its checksum":
        (folder / "a.pb.sha256").unlink()
    assert contents(recalled(monkeypatch)) == {"b.pb": b"b"}
    keep(folder, {"a.pb": b"new"})
    assert not programs.loaded()
    assert contents(recalled(monkeypatch)) == {"a.pb": b"new", "b.pb": b"b"}
    keep(folder, {})
    assert programs.loaded()


def test_a_program_that_was_written_again_is_none_that_was_loaded(
    cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recalled(monkeypatch)
    keep(folder, {"a.pb": b"a"})
    (folder / "a.pb").unlink()  # its checksum stays
    keep(recalled(monkeypatch), {"a.pb": b"b"})
    assert not programs.loaded()
    assert contents(recalled(monkeypatch)) == {"a.pb": b"b"}


def test_what_killed_runs_have_left_goes_once_nobody_can_be_writing_it(
    cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recalled(monkeypatch)
    for name in ("{}a.pbhost-1-2.tmp", ".{}.a.pb.sha256.xyz"):
        for age in (0, 7200):
            path = folder / name.format(age)
            path.write_bytes(b"half")
            os.utime(path, (path.stat().st_mtime - age,) * 2)
    empty = recalled(monkeypatch, batch_size=20)
    os.utime(empty, (0, 0))
    keep(recalled(monkeypatch, batch_size=30), {"new.pb": b"new"})
    assert sorted(path.name for path in folder.iterdir()) == [
        ".0.a.pb.sha256.xyz",
        "0a.pbhost-1-2.tmp",
    ]
    assert not empty.exists()


def test_after_an_error_no_program_of_the_run_stays(
    cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recalled(monkeypatch)
    keep(folder, {"a.pb": b"a"})
    with pytest.raises(RuntimeError), programs.kept():
        (folder / "b.pb").write_bytes(b"half")
        raise RuntimeError
    assert [*folder.iterdir()] == []


def test_the_newest_programs_stay(cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "MOST", 3)
    for number in range(1, 6):
        folder = recalled(monkeypatch, batch_size=number)
        keep(folder, {f"{number}.pb": b""})
        os.utime(folder / f"{number}.pb", (number, number))
    keep(folder, {})
    left = {path.name for path in cache.rglob("*.pb*")}
    assert left == {f"{number}.pb{end}" for number in (3, 4, 5) for end in ("", ".sha256")}


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "why",
    ["mine", "a file of flags", "--mode=graph", "--device=gpu", "full", "no folder", "others write", "a link",
     "a space", "no home", "an unknown CPU", "no TensorFlow", "a file for XLA"],
)  # fmt: skip
def test_xla_is_given_no_folder_where_that_cannot_be(
    cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    folder, config = recalled(monkeypatch), flags.training_config(mode="xla")
    given = {"mine": f"{programs.FOLDER}=/mine", "a file of flags": "flags.txt"}.get(why, OTHER)
    monkeypatch.setenv(programs.XLA_FLAGS, given)
    monkeypatch.setattr(programs, "_state", programs._State())
    if why.startswith("--"):
        name, _, value = why[2:].partition("=")
        config = flags.training_config(**{"mode": "xla", name: value})
    elif why == "full":
        monkeypatch.setattr(tempfile, "TemporaryFile", full)
    elif why == "no folder":
        folder.rmdir()
        folder.write_text("a file")
    elif why == "others write":
        keep(folder, {"theirs.pb": b"theirs"})
        folder.chmod(0o777)
    elif why == "a link":
        folder.rmdir()
        folder.symlink_to(cache)
    elif why in ("a space", "no home"):
        monkeypatch.setenv("XDG_CACHE_HOME", f"{cache}/my cache" if why == "a space" else "here")
    elif why == "an unknown CPU":
        monkeypatch.setattr(devices, "CPU_INFO", cache / "none")
    elif why == "no TensorFlow":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    elif why == "a file for XLA":
        monkeypatch.setenv("XLA_FLAGS", "flags.txt")
    programs.recall(config)
    assert os.environ[programs.XLA_FLAGS] == given
    keep(cache, {"a.pb": b"a"})
    assert not programs.loaded() and not (cache / "a.pb.sha256").exists()
