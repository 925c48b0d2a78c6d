"""The code of docs/kd.md runs from top to bottom, and its table names losses that exist."""

import re
from pathlib import Path

from policykd.kd import losses

PAGE = (Path(__file__).parents[2] / "docs" / "kd.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {}
    for block in BLOCKS:
        exec(compile(block, "docs/kd.md", "exec"), found)
    assert len(BLOCKS) == 8
    assert set(found["out"].terms) == {"ce", "kd"}
    assert len(found["run"].history) == 1


def test_an_own_model_and_loader_take_ten_lines():
    first = BLOCKS[0].split("\nobjective = ")[1].splitlines()
    assert len(first) <= 10


def test_the_table_names_what_exists():
    rows = [line for line in PAGE.split("## Names elsewhere")[1].splitlines() if line.startswith("| ")][2:]
    last = [re.findall(r"`(\w+)`", row.split("|")[4]) for row in rows]
    known = {*losses.__all__, "Stage", "Reconstruction", "Distiller", "TeacherCache", "adjacent"}
    known |= {"load_published"}
    assert {name for names in last for name in names} <= known
    assert len(rows) > 20
