"""What is written into cells; whole tables are tested where commands print them."""

from policykd.evaluation.results import RANDOM, Episodes, Evaluation
from policykd.evaluation.table import evaluation_table, paper_table


def test_the_table_has_a_row_per_policy_and_skill_and_marks_experts():
    ids = ("biped/flat", "biped/gaps")
    evaluation = Evaluation(("a", "b"), ids, 4, 0, False, dict.fromkeys(ids, 256))
    for row, policy in enumerate(("a", "b")):
        for skill in ids:
            reward = (0.5 + row, 0.7, 0.6, 0.9)
            cell = Episodes((90.0,) * 4, reward, (256,) * 4, (1.0, 2.0, 3.0, 4.0), (True, False, True, bool(row)))
            evaluation.cells[policy, skill] = cell
    table = evaluation_table(evaluation.with_experts({"biped/flat": "a"}))
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    headings = ["skill", "policy", "success", "reward per step", "retention", "distance, m"]
    assert [column.header for column in table.columns] == headings
    assert columns[0] == ["biped/flat", "biped/flat", "biped/gaps", "biped/gaps"]
    assert columns[1] == ["a *", "b", "a", "b"]
    assert columns[2][0].startswith("0.50 (")
    assert columns[2][1].startswith("0.75 (")
    assert columns[4][0] == "1.000"
    assert columns[4][2] == "-"
    assert "mean actions" in str(table.title)
    assert "4 episodes per cell" in str(table.title)


def test_skills_are_set_apart_by_a_line():
    ids = ("biped/flat", "biped/gaps", "biped/steps")
    evaluation = Evaluation(("a", "b"), ids, 2, 0, False, dict.fromkeys(ids, 256))
    for skill in ids:
        for policy in ("a", "b"):
            evaluation.cells[policy, skill] = Episodes((9.0, 9.0), (0.5, 0.6), (256, 256), (1.0, 2.0), (True, False))
    assert [row.end_section for row in evaluation_table(evaluation).rows] == [False, True] * 3


def environments(*successes):
    """An evaluation of a policy and random actions in environments with rewards of any size, one per success."""
    ids = tuple(f"gym:{name}-v1" for name, _ in zip("ab", successes, strict=False))
    evaluation = Evaluation(("p", RANDOM), ids, 2, 0, False, dict.fromkeys(ids, 10))
    for skill, success in zip(ids, successes, strict=True):
        for policy, total, reached in (("p", 30.0, True), (RANDOM, -20.0, success)):
            cell = Episodes((total, total), (total / 10,) * 2, (10, 10), (0.0, 0.0), (True, reached))
            evaluation.cells[policy, skill] = cell
    return evaluation


def test_environments_have_a_return_and_a_success_only_where_they_report_one():
    evaluation = environments(True, False)
    assert [evaluation.judges(skill) for skill in evaluation.skills] == [False, True]
    table = evaluation_table(evaluation)
    columns = {str(column.header): [str(cell) for cell in column.cells] for column in table.columns}
    assert list(columns) == ["skill", "policy", "success", "reward per step", "return", "retention", "distance, m"]
    assert columns["return"] == ["30.0", "-20.0"] * 2
    assert columns["success"][:2] == ["-", "-"], "every episode counts, those of random actions included"
    assert columns["success"][2].startswith("1.00")
    assert columns["success"][3].startswith("0.50")
    assert columns["distance, m"] == ["-"] * 4
    paper = paper_table(evaluation)
    assert paper.head[3:] == ("success", "reward per step", "return", "retention", "distance, m")
    assert paper.rows[0][3] is None
    assert paper.rows[0][5].estimate == 30.0
