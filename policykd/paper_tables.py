"""Tables for papers and spreadsheets, next to the JSON of a result: LaTeX (booktabs) and CSV.

It formats numbers that others computed and calculates nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from policykd.errors import ConfigError
from policykd.stats import BRACKETS, Interval, format_interval
from policykd.storage import write_text

Cell = str | int | float | Interval | None
"""What a cell holds; None where a figure does not exist."""

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


@dataclass(frozen=True)
class PaperTable:
    """A table of figures with their intervals.

    Attributes:
        head: names of the columns.
        rows: one cell per column.
        digits: digits behind the decimal point in LaTeX, per column; CSV has every number in full.

    Raises:
        ConfigError: for a row or digits of another length than the head.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    digits: tuple[int, ...]

    def __post_init__(self) -> None:
        for what, length in (("digits", len(self.digits)), *((f"row {i}", len(r)) for i, r in enumerate(self.rows))):
            if length != len(self.head):
                raise ConfigError(f"a table of {len(self.head)} columns has {length} entries in {what}")

    def to_csv(self) -> str:
        """Return the table as CSV; a column of intervals becomes three: estimate, low and high."""
        wide = [any(isinstance(row[i], Interval) for row in self.rows) for i in range(len(self.head))]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            part
            for name, three in zip(self.head, wide, strict=True)
            for part in ([name, f"{name} low", f"{name} high"] if three else [name])
        )
        for row in self.rows:
            writer.writerow(part for cell, three in zip(row, wide, strict=True) for part in _numbers(cell, three))
        return text.getvalue()

    def to_latex(self) -> str:
        r"""Return the table as a LaTeX ``tabular`` for the package booktabs; numbers are centered, texts are not."""
        columns = "".join("l" if any(isinstance(r[i], str) for r in self.rows) else "c" for i in range(len(self.head)))
        lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _line(map(_escaped, self.head)), r"\midrule"]
        lines += [_line(map(_shown, row, self.digits)) for row in self.rows]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def write_paper_tables(path: Path, table: PaperTable) -> list[Path]:
    """Write a table next to a result's JSON file, with the endings ``.csv`` and ``.tex``.

    Args:
        path: the JSON file.
        table: the table.

    Returns:
        The files.

    Raises:
        OutputError: if they cannot be written.
    """
    files = {path.with_suffix(".csv"): table.to_csv(), path.with_suffix(".tex"): table.to_latex()}
    for file, text in files.items():
        write_text(file, text)
    return list(files)


def _numbers(cell: Cell, three: bool) -> Sequence[object]:
    """Return what CSV holds of a cell, one value or three."""
    if isinstance(cell, Interval):
        return [cell.estimate, cell.low, cell.high]
    value = "" if cell is None else cell
    return [value, "", ""] if three else [value]


def _shown(cell: Cell, digits: int) -> str:
    if cell is None:
        return "--"
    if isinstance(cell, Interval):
        return format_interval(cell, digits, style=BRACKETS).replace("-", "$-$")
    if isinstance(cell, float):
        return f"{cell:.{digits}f}".replace("-", "$-$")
    return _escaped(str(cell))


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
