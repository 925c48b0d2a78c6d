"""What is written into cells; whole tables are tested where commands print them."""

from policykd.evaluation.results import Episodes, Evaluation
from policykd.evaluation.table import evaluation_table


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
