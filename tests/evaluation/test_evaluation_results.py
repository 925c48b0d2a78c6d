"""Summaries of outcomes: what counts as an expert for a retention, and episodes of unequal length."""

import numpy as np
import pytest

from policykd.evaluation.results import RANDOM, Episodes, Evaluation


def episodes(rewards, lengths=(10, 10, 10)):
    total = tuple(10.0 * r for r in rewards)
    return Episodes(total, tuple(rewards), lengths, (1.0,) * 3, (True,) * 3)


def evaluation(expert, student, **cells):
    found = Evaluation(("expert", "student", *cells), ("skill",), 3, 0, False, {"skill": 10}, {"skill": "expert"})
    found.cells.update({("expert", "skill"): episodes(expert), ("student", "skill"): episodes(student)})
    found.cells.update({(name, "skill"): episodes(values) for name, values in cells.items()})
    return found


def test_an_expert_with_a_worthless_episode_gives_no_retention():
    assert evaluation((0.5, 0.0, 0.5), (0.5, 0.5, 0.5)).summaries["student", "skill"].retention is None
    assert evaluation((0.5, 0.1, 0.5), (0.5, 0.5, 0.5)).summaries["student", "skill"].retention is not None


def test_retention_is_measured_from_random_actions_where_they_were_run():
    found = evaluation((-2.0, -1.0, -3.0), (-4.0, -3.0, -5.0), **{RANDOM: (-12.0, -11.0, -13.0)})
    assert found.summaries["student", "skill"].retention.estimate == pytest.approx(0.8)
    assert found.summaries[RANDOM, "skill"].retention.estimate == pytest.approx(0.0)
    useless = evaluation((-12.0, -11.0, -14.0), (-4.0, -3.0, -5.0), **{RANDOM: (-12.0, -11.0, -13.0)})
    assert useless.summaries["student", "skill"].retention is None


def test_the_reward_while_up_divides_by_the_length_of_each_episode():
    cell = episodes((1.0, 2.0, 3.0), (10, 5, 20))
    assert np.allclose(cell.reward_while_up, (1.0, 4.0, 1.5))
    with pytest.raises(ValueError, match="zip"):
        _ = episodes((1.0, 2.0, 3.0), (10, 5)).reward_while_up
