"""docs/colab.ipynb runs, on the CPU and a small job, without the cells that Colab alone needs."""

import json

import nbclient
import nbformat
import pytest

from tests.conftest import PROJECT

SMALL = 'EPOCHS = 1\nDEVICES = "cpu"\nBATCH_SIZES = "10"\nROUNDS = 2'


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Jupyter's own
def test_the_notebook_trains_compares_and_shows_the_chart(tiny_data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tiny_data_dir))
    notebook = nbformat.read(PROJECT / "docs" / "colab.ipynb", as_version=4)
    cells = [nbformat.v4.new_code_cell(f"%cd {tmp_path}")]
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags:
            cell.source = SMALL
        for program in ("train.py", "compare.py"):
            cell.source = cell.source.replace(f" {program}", f" {PROJECT / program}")
        if "colab" not in tags:
            cells.append(cell)
    notebook.cells = cells
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    printed = json.dumps(cells)
    assert "test accuracy" in printed and "baseline" in printed
    assert "image/png" in printed and "error: " not in printed
