"""docs/colab.ipynb runs, on the CPU and a small job, without the cells that Colab alone needs."""

import json
import sys

import nbclient
import nbformat
import pytest

from tests.conftest import PROJECT

SMALL = 'EPOCHS = 1\nDEVICES = "cpu"\nBATCH_SIZES = "10"\nROUNDS = 2'


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Jupyter's own
def test_the_notebook_trains_compares_and_shows_the_chart(tiny_data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tiny_data_dir))
    monkeypatch.setenv("JUPYTER_PATH", str(kernel_of_this_python(tmp_path / "jupyter")))
    notebook = nbformat.read(PROJECT / "docs" / "colab.ipynb", as_version=4)
    notebook.cells = [each for each in notebook.cells if "colab" not in tags(each)]
    (parameters,) = (each for each in notebook.cells if "parameters" in tags(each))
    names = [line.partition(" =")[0] for line in SMALL.splitlines()]
    assert [line.partition(" =")[0] for line in parameters.source.splitlines()] == names
    parameters.source = SMALL
    enter = nbformat.v4.new_code_cell(f"%cd {tmp_path}\nimport sys\nsys.dont_write_bytecode = True")
    notebook.cells.insert(0, enter)
    for cell in notebook.cells:
        for program in ("train.py", "compare.py"):
            cell.source = cell.source.replace(f" {program}", f" {PROJECT / program}")
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    printed = json.dumps([each.get("outputs", []) for each in notebook.cells])
    assert "test accuracy" in printed and "baseline" in printed
    assert "image/png" in printed and "error: " not in printed


def tags(cell):
    return cell.metadata.get("tags", [])


def kernel_of_this_python(folder):
    """Returns a folder in which Jupyter finds this very Python as the kernel python3."""
    spec = folder / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    content = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(content))
    return folder
