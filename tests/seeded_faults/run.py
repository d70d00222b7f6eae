"""Shows that the tests notice faults: python tests/seeded_faults/run.py [NAME ...]

Each NAME.patch beside this file breaks the program in one place, and its line `tests:` says what to
run. The script applies each patch to a copy of the files and runs these tests there. pytest and CI
do not run it.
"""

import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
OTHERS = shutil.ignore_patterns(".*", "__pycache__")


def found(patch):
    """Returns the test that catches a fault, or why none does."""
    with tempfile.TemporaryDirectory() as place:
        folder = shutil.copytree(HERE.parent.parent, f"{place}/copy", ignore=OTHERS)
        subprocess.run(["git", "apply", str(patch)], cwd=folder, check=True)
        tests = re.search("^tests: (.+)$", patch.read_text(), re.MULTILINE)[1]
        command = f"{sys.executable} -m pytest -x -n 1 -rfE {tests}"
        done = subprocess.run(shlex.split(command), cwd=folder, capture_output=True, text=True)
    # A line of a test, failed or in a fixture of it; a file that cannot be collected has no "::".
    failed = re.search(r"^(?:FAILED|ERROR) (\S+::.*?)(?: - .*)?$", done.stdout, re.MULTILINE)
    return f"caught by {failed[1]}" if failed else f"NOT CAUGHT: pytest exits {done.returncode}"


def main():
    """Prints a line for each fault; returns 1 unless each is caught."""
    answers = []
    for name in sys.argv[1:] or sorted(path.stem for path in HERE.glob("*.patch")):
        answers.append(found(HERE / f"{name}.patch"))
        print(f"{name}: {answers[-1]}", flush=True)
    return any(answer.startswith("NOT") for answer in answers)


if __name__ == "__main__":
    sys.exit(main())
