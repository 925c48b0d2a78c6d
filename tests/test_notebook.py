"""The notebook is valid, holds no outputs, and its cells run in order; no Jupyter is needed."""

import json
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

PATH = Path(__file__).parents[1] / "examples" / "policykd_in_a_notebook.ipynb"
NOTEBOOK = json.loads(PATH.read_text())
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_it_is_a_notebook_of_format_4_without_outputs():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert NOTEBOOK["metadata"]["kernelspec"]["language"] == "python"
    names = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(names)) == len(names)
    for cell in NOTEBOOK["cells"]:
        code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert cell.keys() == {"cell_type", "id", "metadata", "source"} | code
        assert cell["cell_type"] in ("code", "markdown")
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        if code:
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    assert '"/' not in PATH.read_text(), "a path of a machine"


def test_the_budget_is_one_variable_at_the_top():
    assert CODE[0].startswith("BUDGET = 1.0")
    assert not any(line.startswith("BUDGET") for code in CODE[1:] for line in code.splitlines())


def test_the_cells_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("subprocess.run", lambda *args, **rest: pytest.fail("policykd is installed already"))
    matplotlib.use("Agg")
    names, shown = {}, []
    for code in [CODE[0].replace("BUDGET = 1.0", "BUDGET = 0.002"), *CODE[1:]]:
        *lines, last = code.splitlines()
        exec(compile("\n".join(lines), PATH.name, "exec") if last.startswith("evaluation_heat_map") else code, names)
        if last.startswith("evaluation_heat_map"):
            shown.append(eval(last, names))  # a notebook shows the value of a cell's last line
    (figure,) = shown
    assert isinstance(figure, Figure)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["flat", "gaps-0.5", "student"]
    printed = capsys.readouterr().out
    assert printed.count("retention") == 2
    assert "biped/gaps@0.5: success" in printed
    folder = tmp_path / "notebook-results"
    assert (folder / "student" / "policy" / "manifest.json").exists()
    assert (folder / "strip.png").exists() or "OpenGL" in printed or "EGL" in printed
    names["plt"].close("all")
