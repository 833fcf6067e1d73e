"""examples/quickstart.ipynb runs, and is committed as it ran."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "quickstart.ipynb"


@pytest.mark.slow
def test_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer training steps, in an empty folder."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("steps=300", "steps=4").replace("draws=3", "draws=1")
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    data = [out.get("data", {}) for out in shown]
    assert sum("image/png" in each for each in data) == 2
    assert sum("<td>" in each.get("text/html", "") for each in data) == 2, "both evaluations"
    assert {path.name for path in tmp_path.iterdir()} == {"d3.csv", "digits.pt"}


def test_committed_outputs_are_small_and_of_no_machine() -> None:
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "run once, from top to bottom"
    text = NOTEBOOK.read_text("utf-8")
    assert os.fspath(Path.home()) not in text
    assert "/tmp/" not in text
    assert len(text) < 150_000
    assert "Warning" not in text
    assert '"output_type": "error"' not in text
