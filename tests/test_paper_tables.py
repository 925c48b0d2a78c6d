"""Tables for papers: values in full in CSV, rounded and escaped in LaTeX, written beside the result."""

import csv
import io

import pytest

from policykd.errors import ConfigError, OutputError
from policykd.paper_tables import PaperTable, write_paper_tables
from policykd.stats import Interval

TABLE = PaperTable(
    ("skill", "success, %", "steps", "reward"),
    (
        ("biped/flat_1", Interval(0.98765, 0.9, 1.0), 12, -0.25),
        ("a & b", None, 7, None),
        ("50 % <x>", Interval(-1.0, -1.5, -0.5), 3, 2.0),
    ),
    (0, 2, 0, 3),
)


def test_csv_has_three_columns_per_interval_and_numbers_in_full():
    rows = list(csv.reader(io.StringIO(TABLE.to_csv())))
    assert rows[0] == ["skill", "success, %", "success, % low", "success, % high", "steps", "reward"]
    assert rows[1] == ["biped/flat_1", "0.98765", "0.9", "1.0", "12", "-0.25"]
    assert rows[2] == ["a & b", "", "", "", "7", ""]
    assert [float(x) for x in rows[3][1:4]] == [-1.0, -1.5, -0.5]
    assert len(rows) == 4


def test_latex_rounds_and_escapes():
    lines = TABLE.to_latex().splitlines()
    assert lines[0] == r"\begin{tabular}{lccc}"
    assert lines[1:4] == [r"\toprule", r"skill & success, \% & steps & reward \\", r"\midrule"]
    assert lines[4] == r"biped/flat\_1 & 0.99 [0.90, 1.00] & 12 & $-$0.250 \\"
    assert lines[5] == r"a \& b & -- & 7 & -- \\"
    assert lines[6] == r"50 \% \textless{}x\textgreater{} & $-$1.00 [$-$1.50, $-$0.50] & 3 & 2.000 \\"
    assert lines[7:] == [r"\bottomrule", r"\end{tabular}"]


def test_both_are_written_beside_the_result(tmp_path):
    files = write_paper_tables(tmp_path / "evaluation.json", TABLE)
    assert [file.name for file in files] == ["evaluation.csv", "evaluation.tex"]
    assert files[0].read_text() == TABLE.to_csv()
    assert files[1].read_text() == TABLE.to_latex()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_paper_tables(tmp_path / "file" / "evaluation.json", TABLE)


def test_rows_of_another_length_are_refused():
    with pytest.raises(ConfigError, match="2 columns has 1 entries in row 1"):
        PaperTable(("a", "b"), (("x", 1), ("y",)), (0, 0))
    with pytest.raises(ConfigError, match="2 columns has 3 entries in digits"):
        PaperTable(("a", "b"), (), (0, 0, 0))
