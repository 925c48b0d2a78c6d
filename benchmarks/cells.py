"""Cells of a benchmark as JSON lines, and the words with which its commands name experts.

A line is appended as soon as a cell is known, so that an interrupted benchmark loses at most the cells that were
running.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from policykd.errors import OutputError
from policykd.storage import prepare_folder, write_text


def experts_in_words(experts: Sequence[Path]) -> str:
    """Return experts as a command names them: by their last two folders, which do not depend on the machine."""
    return " ".join("/".join(path.parts[-2:]) for path in experts)


def read_cells(path: Path) -> list[dict[str, Any]]:
    """Return the finished cells of a file, without a last line that was cut off; none if the file does not exist.

    Raises:
        OutputError: for a line that is not a JSON object.
    """
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0] if path.exists() else ""
    cells = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            cell = json.loads(line)
        except ValueError:
            cell = None
        if not isinstance(cell, dict):
            raise OutputError(f"{path}, line {number} is not a JSON object; delete the line, and the cell is run again")
        cells.append(cell)
    return cells


def append_cell(path: Path, cell: Mapping[str, Any]) -> None:
    """Append a cell to a file; a last line that was cut off goes."""
    prepare_folder(path.parent)
    lines = [*read_cells(path), cell]
    write_text(path, "".join(f"{json.dumps(line)}\n" for line in lines))
