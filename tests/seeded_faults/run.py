"""Shows that the tests notice faults: python tests/seeded_faults/run.py [NAME ...]

Each NAME.patch beside this file breaks the program in one place, and its line `tests:` says what to
run. The script applies each patch to a copy of the tracked files and runs these tests there. pytest
and CI do not run it.
"""

import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent


def copy_of_project(folder: pathlib.Path) -> None:
    """Copies the tracked files, as they are now, and makes the copy a repository of its own."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True)
    for name in listed.stdout.decode().split("\0"):
        source, target = PROJECT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)


def found(patch: pathlib.Path) -> str:
    """Returns the test that catches a fault, or why none does."""
    if not patch.is_file():
        return "NOT CAUGHT: there is no such patch"
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        copy_of_project(folder)
        applied = subprocess.run(
            ["git", "apply", str(patch)], cwd=folder, capture_output=True, text=True
        )
        if applied.returncode:
            return f"NOT CAUGHT: the patch does not apply: {applied.stderr.splitlines()[0]}"
        tests = re.search("^tests: (.+)$", patch.read_text(), re.MULTILINE)[1]
        command = [sys.executable, "-m", "pytest", "-x", "-n", "1", "-rfE", *shlex.split(tests)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    # A line of a test, failed or in a fixture of it; a file that cannot be collected has no "::".
    failed = re.search(r"^(?:FAILED|ERROR) (\S+::.*?)(?: - .*)?$", done.stdout, re.MULTILINE)
    if done.returncode and failed:
        return f"caught by {failed[1]}"
    return f"NOT CAUGHT: pytest exits with {done.returncode}"


def main() -> int:
    """Prints a line for each fault; returns 1 unless each is caught."""
    names = sys.argv[1:] or sorted(path.stem for path in HERE.glob("*.patch"))
    caught = True
    for name in names:
        said = found(HERE / f"{name}.patch")
        caught = caught and said.startswith("caught")
        print(f"{name}: {said}", flush=True)
    return 0 if caught else 1


if __name__ == "__main__":
    sys.exit(main())
