# ruff: noqa: RUF001
"""The documentation's figures are those of the committed results, and the check says so where they are not."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from doc_figures.check import compare_all, compare_generated, pages
from doc_figures.formats import interval, spread
from doc_figures.pages import compare_phrase, compare_table, find_tables, rewrite_table
from doc_figures.registry import PHRASES, TABLES

ROOT = Path(__file__).parents[2]
DOCS, RESULTS = ROOT / "docs", ROOT / "benchmarks" / "results"


def test_tables_and_phrases_say_what_the_results_say():
    assert [str(one) for one in compare_all(DOCS, RESULTS)] == []


def test_all_results_that_the_pages_link_to_are_behind_a_table_or_a_phrase():
    used = {file for figures in (*TABLES.values(), *PHRASES.values()) for file in figures.files}
    text = "".join(page.read_text() for page in pages(DOCS))
    linked = {file.relative_to(RESULTS).as_posix() for file in RESULTS.rglob("*.json") if file.name in text}
    assert linked <= used


def test_the_readme_has_no_measured_table():
    tables = find_tables((ROOT / "README.md").read_text())
    assert tables
    assert not any(found.is_measured for found in tables)


def changed(tmp_path, file, change):
    """Return a folder with the results, links but for one file with a change."""
    for path in RESULTS.rglob("*.json"):
        link = tmp_path / path.relative_to(RESULTS)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(path)
    content = json.loads((RESULTS / file).read_text())
    change(content)
    (tmp_path / file).unlink()
    (tmp_path / file).write_text(json.dumps(content))
    return tmp_path


def lower_retention(content):
    next(one for one in content["cells"] if one["policy"] == "student" and one["skill"] == "quadruped/gaps")["summary"][
        "retention"
    ]["low"] -= 0.01


def lose_a_skill(content):
    next(run for run in content["runs"] if run["curriculum"] == "plaid")["matrix"]["success"][-1][0] = 0.1


@pytest.mark.parametrize(
    ("file", "change", "expected"),
    [
        (
            "demo-quadruped-evaluation.json",
            lower_retention,
            "docs/figures.md, table demo, row 'gaps', column \"student's retention\": the page says '1.000 "
            "(0.956–1.046)', the results say '1.000 (0.946–1.046)' (demo-quadruped-evaluation.json)",
        ),
        (
            "compare-gaits.json",
            lose_a_skill,
            "docs/curricula.md, table where-plaid-wins, row 'five conflicting gaits, 7.55 M', column 'plaid': the "
            "page says "
            "'1.00, 0.88, 1 of 3', the results say '1.00, 0.88, 2 of 3' (compare-standard.json, "
            "compare-terrains-hard.json, "
            "compare-gaits.json)",
        ),
        (
            "training.json",
            lambda content: content.update(bound=7.0),
            "docs/figures.md, text: the page says 'would be 6.15 times as fast as the best plain arm', the results say "
            "'would be 7.00 times as fast as the best plain arm' (training.json)",
        ),
        (
            "fuzz.json",
            lambda content: content["formats"]["ONNX"]["faults"].append("one"),
            "docs/fuzz.md, table fuzz, row 'ONNX', column 'faults': the page says '0', the results say '1' (fuzz.json)",
        ),
        (
            "kd/step.json",
            lambda content: content["tokens"]["processor"].update(ratio=1.5),
            "docs/figures.md, text: the page says 'against the same by hand: 1.011 (0.984–1.037)', the results say "
            "'against the same by hand: 1.500 (0.984–1.037)' (kd/step.json)",
        ),
    ],
)
def test_a_changed_result_is_named_with_page_row_and_both_values(tmp_path, file, change, expected):
    assert expected in [str(one) for one in compare_all(DOCS, changed(tmp_path, file, change))]


PAGE = """# Page

<!-- figures: speed -->
| arm | steps | ratio |
| --- | --- | --- |
| ours, 256 | **12** | |
|  | 7 | 1.5 (1.0–2.0) |

| what | how many |
| --- | --- |
| seeds | 12, 13, 0.5, 0.7, 22 |

<!-- by hand: the paper's -->
| a | b |
| --- | --- |
| 0.1 | 0.2, 0.3, 0.4, 0.5 |
"""


def test_tables_are_found_with_their_marks():
    speed, plain, hand = find_tables(PAGE)
    assert (speed.mark, speed.head, speed.body[1]) == ("speed", ("arm", "steps", "ratio"), ("", "7", "1.5 (1.0–2.0)"))
    assert (plain.mark, plain.by_hand, plain.is_measured) == (None, None, True)
    assert (hand.mark, hand.by_hand, hand.is_measured) == (None, "the paper's", True)
    (other,) = find_tables("<!-- fuzz: begin -->\n| a |\n| --- |\n| 1 |\n")
    assert (other.mark, other.written, speed.written) == ("fuzz", True, False)
    assert not find_tables(PAGE.replace("12, 13, 0.5, 0.7, 22", "12, 13, 0.5, 0.7"))[1].is_measured


def test_a_table_is_compared_cell_by_cell_and_written():
    found = find_tables(PAGE)[0]
    same = [(None, "12", ""), (None, "7", "1.5 (1.0–2.0)")]
    assert compare_table("page.md", "speed", found, same, ()) == []
    assert rewrite_table(PAGE, found, same) == PAGE
    other = [(None, "12", ""), (None, "8", "1.5 (1.0–2.0)")]
    (difference,) = compare_table("page.md", "speed", found, other, ("a.json",))
    assert str(difference) == (
        "docs/page.md, table speed, row 'ours, 256', column 'steps': the page says '7', the results say '8' (a.json)"
    )
    written = rewrite_table(PAGE, found, other)
    assert written == PAGE.replace("|  | 7 |", "| | 8 |")
    assert compare_table("page.md", "speed", find_tables(written)[0], other, ()) == []
    (difference,) = compare_table("page.md", "speed", found, same[:1], ())
    assert (difference.page_says, difference.results_say) == ("2 rows", "1 rows")
    assert "| x | 1 | 2 |" in rewrite_table(PAGE, found, [("x", "1", "2")])


def test_a_phrase_is_found_over_line_ends_and_without_emphasis():
    text = "Steps: **39,126** per\nsecond with 16 simulations, and 12 with 3."
    assert compare_phrase("page.md", text, "39,126 per second with 16 simulations", ()) == []
    (difference,) = compare_phrase("page.md", text, "39,127 per second with 16 simulations", ())
    assert difference.page_says == "'39,126 per second with 16 simulations'"


def test_measured_tables_without_a_mark_and_marks_without_a_table_are_named(tmp_path):
    for page in pages(DOCS):
        (tmp_path / page.name).write_text(page.read_text())
    gpu = (DOCS / "gpu.md").read_text()
    (tmp_path / "gpu.md").write_text(gpu.replace("<!-- figures: engines -->", "<!-- figures: motors -->"))
    (tmp_path / "page.md").write_text(PAGE.replace("<!-- figures: speed -->", "<!-- by hand: no file -->"))
    assert [str(one) for one in compare_all(tmp_path, RESULTS)] == [
        "docs/page.md, table in line 9: the page says figures under 'what, how many', the results say nothing: "
        "mark it as figures or by hand",
        "docs/gpu.md, table engines: the page says nothing, the results say a table (engines.json)",
        "docs/gpu.md, table motors: the page says a mark, the results say nothing of this name",
    ]


def test_the_first_line_in_which_a_generated_page_differs_is_named(tmp_path):
    (tmp_path / "a.md").write_text("one\ntwo\nthree\n")
    made = {"a.md": "one\n2\n3\n", "b.md": "x\n"}
    assert [str(one) for one in compare_generated(tmp_path, made)] == [
        "docs/a.md, line 2: the page says 'two', the results say '2'",
        "docs/b.md, line 1: the page says None, the results say 'x'",
    ]
    assert compare_generated(tmp_path, {"a.md": "one\ntwo\nthree\n"}) == []


def test_figures_are_written_in_one_way():
    assert interval([0.5, 0.25, 1234.5]) == "0.50 (0.25–1,234.50)"
    assert interval({"estimate": -0.001, "low": -0.02, "high": 0.0}, 2, " to ") == "0.00 (-0.02 to 0.00)"
    assert interval({"median": 1, "min": 0, "max": 2}, 0) == "1 (0–2)"
    assert spread([1.0, 2.0, 6.0], 1) == "3.0 (1.0 to 6.0)"
    with pytest.raises(KeyError, match="not an interval"):
        interval({"mean": 1.0})
