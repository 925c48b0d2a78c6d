"""Evaluations without a simulator: the numbers of results, tables and curves, and the arguments of every run."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from policykd.agents.architecture import Architecture
from policykd.agents.episodes import EpisodeOutcomes
from policykd.agents.policy import Policy
from policykd.envs.batched_env import EnvConfig
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError, OutputError, UnknownNameError
from policykd.evaluation import curves
from policykd.evaluation.evaluate import _run, evaluate
from policykd.evaluation.matrix import SkillMatrix
from policykd.evaluation.results import RANDOM, Episodes, Evaluation
from policykd.evaluation.table import evaluation_table
from policykd.plain import as_plain
from policykd.seeding import integer_seed
from policykd.stats import bootstrap, format_interval, paired_difference, paired_ratio, proportion
from told import Told

module = sys.modules[evaluate.__module__]
FLAT, GAPS = (get_skill(f"biped/{name}") for name in ("flat", "gaps"))
FREE = replace(get_skill("biped/steps"), task=type("Free", (type(FLAT.task),), {"bounded": False})())


class FakeEnv:
    """Notes how it was made and seeded; its policies walk as far as their first weight says."""

    made: list = []

    def __init__(self, skills, count, **options):
        (self.skill,) = skills
        self.num_envs, self.options, self.device = count, options, torch.device("cpu")
        self.seeds = []
        self.made.append(self)

    def seed(self, seed):
        self.seeds.append(seed)


def outcomes(count, value):
    ramp = value + torch.arange(count, dtype=torch.float64)
    return EpisodeOutcomes(ramp, torch.arange(1, count + 1), 2 * ramp, torch.arange(count) % 2 == 0, 4)


@pytest.fixture
def fakes(monkeypatch):
    FakeEnv.made, ran = [], []

    def run(policy, env, noise):
        ran.append((policy, env.skill.id, noise, float(torch.rand(1))))
        return outcomes(env.num_envs, float(policy.log_std.detach()[0]))

    monkeypatch.setattr(module, "make_env", FakeEnv)
    monkeypatch.setattr(module, "run_episodes", lambda policy, env, noise: run(policy, env, noise))
    monkeypatch.setattr(module, "run_random_episodes", lambda env, seed: outcomes(env.num_envs, -float(seed)))
    return FakeEnv.made, ran


class Ended(Told):
    def end(self, name, message=""):
        self.all.append((name, "end"))


def policy(std):
    made = Policy({"proprio": 49}, 11, Architecture((4,), (4,)), 0)
    made.log_std.data.fill_(std)
    return made


def test_every_policy_runs_on_every_skill_from_the_same_seed(fakes):
    told, policies = Ended(), {"a": policy(1.0), "b": policy(2.0)}
    found = evaluate(policies, [FLAT, GAPS], episodes=3, seed=9, threads=2, device="cpu", noise=True, progress=told)
    made, ran = fakes
    tracks = integer_seed(9, "evaluation")
    config = EnvConfig(tracks=3, ordered=True)
    assert [(env.skill.id, env.num_envs, env.options, env.seeds) for env in made] == [
        (skill, 3, {"seed": tracks, "config": config, "threads": 2, "device": "cpu"}, [tracks, tracks])
        for skill in ("biped/flat", "biped/gaps")
    ]
    drawn = torch.Generator().manual_seed(integer_seed(9, "evaluation noise"))
    drawn = float(torch.rand(1, generator=drawn))
    assert [(skill, noise, number) for _, skill, noise, number in ran] == [
        (skill, True, pytest.approx(drawn)) for skill in ("biped/flat",) * 2 + ("biped/gaps",) * 2
    ]
    assert all(one is not given for one, *_ in ran for given in policies.values())  # copies run
    assert found.policies == ("a", "b")
    assert found.skills == ("biped/flat", "biped/gaps")
    assert (found.episodes, found.seed, found.noise) == (3, 9, True)
    assert found.episode_steps == {"biped/flat": 256, "biped/gaps": 256}
    assert found.cells["b", "biped/gaps"] == Episodes(
        (2.0, 3.0, 4.0), (0.5, 0.75, 1.0), (1, 2, 3), (4.0, 6.0, 8.0), (True, False, True)
    )
    success = {"success": pytest.approx(2 / 3)}
    assert told.all == [
        ("evaluate", 4, "cells"),
        *(("evaluate", i, success) for i in (1, 2, 3, 4)),
        ("evaluate", "end"),
    ]


def test_random_actions_are_run_where_rewards_are_not_bounded(fakes):
    found = evaluate({"a": policy(1.0)}, [FLAT, FREE], episodes=2, seed=9)
    assert found.policies == ("a", RANDOM)
    assert set(found.cells) == {("a", "biped/flat"), ("a", FREE.id), (RANDOM, FREE.id)}
    assert found.cells[RANDOM, FREE.id].total_reward == (-9.0, -8.0)
    tracks = integer_seed(9, "evaluation")
    assert [env.seeds for env in fakes[0]] == [[tracks], [tracks, tracks]]
    assert evaluate({"a": policy(1.0)}, [FLAT], episodes=2).policies == ("a",)


def test_the_callers_random_numbers_do_not_depend_on_an_evaluation(fakes):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    evaluate({"a": policy(1.0)}, [FLAT], episodes=2)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(("episodes", "refused"), [(0, True), (1, False), (100_000, False), (100_001, True)])
def test_the_number_of_episodes_is_limited(fakes, monkeypatch, episodes, refused):
    monkeypatch.setattr(module, "run_episodes", lambda policy, env, noise: outcomes(2, 1.0))
    if refused:
        with pytest.raises(ConfigError, match=r"episodes .*\[1, 100000\]"):
            evaluate({"a": policy(1.0)}, [FLAT], episodes=episodes)
    else:
        assert evaluate({"a": policy(1.0)}, [FLAT], episodes=episodes).episodes == episodes


def test_a_run_seeds_its_environment_first(fakes):
    env = FakeEnv([FLAT], 2)
    first, second = (_run(policy(1.0), env, 4, False) for _ in range(2))
    assert env.seeds == [integer_seed(4, "evaluation")] * 2
    assert torch.equal(first.total_reward, second.total_reward)


EXPERT = Episodes((1.5, 3.0, 2.5), (0.3, 0.6, 0.5), (5, 5, 5), (1.0, 2.0, 4.0), (True, True, True))
STUDENT = Episodes((1.0, 2.0, 2.0), (0.2, 0.4, 0.4), (5, 4, 5), (1.0, 1.0, 3.0), (True, False, True))
CHANCE = Episodes((0.5, 0.5, 1.0), (0.1, 0.1, 0.2), (5, 5, 5), (0.0, 0.0, 0.0), (False, False, False))


def evaluation(**others):
    cells = {"expert": EXPERT, "student": STUDENT, **others}
    steps, experts = {"biped/flat": 5}, {"biped/flat": "expert"}
    found = Evaluation(tuple(cells), ("biped/flat",), 3, 2, False, steps, experts)
    found.cells.update({(name, "biped/flat"): cell for name, cell in cells.items()})
    return found


def test_summaries_are_the_statistics_of_their_columns():
    own = evaluation().summaries["student", "biped/flat"]
    seed = integer_seed(2, "intervals", "biped/flat")
    assert own.success == proportion(STUDENT.success)
    assert own.reward_per_step == bootstrap(STUDENT.reward_per_step, seed=seed)
    assert own.reward_while_up == bootstrap((0.2, 0.5, 0.4), seed=seed)
    assert own.length == bootstrap(STUDENT.length, seed=seed)
    assert own.distance == bootstrap(STUDENT.distance, seed=seed)
    assert own.retention == paired_ratio((0.2, 0.4, 0.4), (0.3, 0.6, 0.5), seed=seed)
    assert own.shortfall == paired_difference((1.0, 1.0, 1.0), (1.0, 0.0, 1.0), seed=seed)


def test_where_random_actions_were_run_retention_is_above_them():
    own = evaluation(**{RANDOM: CHANCE}).summaries["student", "biped/flat"]
    seed = integer_seed(2, "intervals", "biped/flat")
    expected = paired_ratio((0.1, 0.3, 0.2), (0.2, 0.5, 0.3), signed=True, seed=seed)
    assert (own.retention.low, own.retention.estimate, own.retention.high) == pytest.approx(
        (expected.low, expected.estimate, expected.high)
    )
    poor = replace(EXPERT, reward_per_step=(0.1, 0.6, 0.2))  # no better than random in two of three episodes
    assert evaluation(**{"expert": poor, RANDOM: CHANCE}).summaries["student", "biped/flat"].retention is None


def test_an_expert_at_exactly_zero_gives_no_retention_and_above_it_does():
    for worst, known in ((0.0, False), (1e-9, True), (-0.1, False)):
        expert = replace(EXPERT, reward_per_step=(worst, 0.6, 0.5))
        assert (evaluation(expert=expert).summaries["student", "biped/flat"].retention is not None) == known


def test_other_experts_replace_those_of_before():
    found = evaluation().with_experts({"biped/flat": "student"})
    assert dict(found.experts) == {"biped/flat": "student"}
    assert found.summaries["student", "biped/flat"].retention.estimate == 1.0
    assert evaluation().with_experts({}).summaries["student", "biped/flat"].retention is None
    with pytest.raises(UnknownNameError, match="evaluated skill"):
        evaluation().with_experts({"biped/gaps": "student"})
    with pytest.raises(UnknownNameError, match="evaluated policy"):
        evaluation().with_experts({"biped/flat": "nothing"})


def test_a_stored_evaluation_holds_every_field(tmp_path):
    content = evaluation().to_json()
    assert list(content) == [
        "format_version", "policykd_version", "policies", "skills", "episodes", "seed", "noise", "episode_steps",
        "experts", "cells",
    ]  # fmt: skip
    assert content["format_version"] == 1
    assert content["cells"][1]["policy"] == "student"
    assert content["cells"][1]["summary"]["retention"]["estimate"] == pytest.approx(1.0 / 1.4)
    assert content["cells"][1]["length"] == (5, 4, 5)
    assert Evaluation.from_json(content) == evaluation()
    with pytest.raises(OutputError, match=r"the evaluation is not valid: cells.*; evaluate again"):
        Evaluation.from_json({**content, "cells": [{"policy": "a"}]})
    with pytest.raises(OutputError, match=r"seed is 1\.5"):
        Evaluation.from_json({**content, "seed": 1.5})
    assert Evaluation.from_json({**content, "note": "of a later version"}) == evaluation()


def cells_of(found):
    table = evaluation_table(found)
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    return table, [list(row) for row in zip(*columns, strict=True)]


def test_the_table_rounds_success_reward_retention_and_distance():
    table, rows = cells_of(replace(evaluation(), noise=True))
    assert str(table.title) == "3 episodes per cell on shared tracks, sampled actions, 95 % intervals"
    assert table.title_justify == "left"
    assert [column.justify for column in table.columns] == ["left", "left", "right", "right", "right", "right"]
    assert all(column.no_wrap for column in table.columns)
    assert [row[:2] for row in rows] == [["biped/flat", "expert *"], ["biped/flat", "student"]]
    own = evaluation().summaries["student", "biped/flat"]
    shown = ((own.success, 2), (own.reward_per_step, 3), (own.retention, 3), (own.distance, 1))
    assert rows[1][2:] == [format_interval(figure, digits) for figure, digits in shown]


def test_the_table_leaves_out_what_was_not_run():
    found = evaluation()
    found = replace(found, policies=("expert", "student", RANDOM))
    assert [row[1] for row in cells_of(found)[1]] == ["expert *", "student"]


CURVE = [(100.0, 0.5), (200.0, 1.0)]


@pytest.mark.parametrize(("budget", "refused"), [(0.99, True), (1.0, False), (1e15, False), (1.01e15, True)])
def test_budgets_of_an_area_are_limited(budget, refused):
    if refused:
        with pytest.raises(ConfigError, match="budget"):
            curves.area(CURVE, budget)
    else:
        assert 0.0 < curves.area(CURVE, budget) <= 1.0


@pytest.mark.parametrize(
    ("budget", "start", "expected"),
    [(100.0, 0.0, 0.25), (200.0, 0.0, 0.5), (200.0, 0.5, 0.625), (300.0, 0.0, 2 / 3), (50.0, 0.5, 0.5)],
)
def test_areas_by_hand(budget, start, expected):
    assert curves.area(CURVE, budget, start=start) == pytest.approx(expected)


def test_steps_must_rise_from_above_zero():
    for bad in ([(0.0, 0.5)], [(1.0, 0.1), (1.0, 0.2)]):
        with pytest.raises(ConfigError, match="steps rising"):
            curves.area(bad, 10.0)


def test_rows_without_steps_or_score_are_no_validations():
    log = [{"steps": 5}, {"reward_per_step": 0.5}, {"steps": 7, "reward_per_step": 1}, {"steps": 8, "success": 0.25}]
    assert curves.curve_of(log) == [(7.0, 1.0)]
    assert curves.curve_of(log, "success") == [(8.0, 0.25)]


def test_forward_transfer_counts_both_starts():
    scratch = [(400.0, 0.5)]
    # areas: from 0.5 to 1 over 400 is 0.75, from 0.25 to 0.5 is 0.375
    found = curves.forward_transfer([(400.0, 1.0)], scratch, 400.0, start=0.5, scratch_start=0.25)
    assert found == pytest.approx((0.75 - 0.375) / (1 - 0.375))
    with pytest.raises(ConfigError, match=r"scratch curve is 1\.000"):
        curves.forward_transfer(CURVE, [(1.0, 1.0)], 4.0, scratch_start=1.0)
    assert curves.forward_transfer(CURVE, [(1.0, 0.999)], 4.0, scratch_start=0.999) < 0


MATRIX = SkillMatrix(
    ("a", "b"), ("x", "y"), ((0.8, 0.2), (0.4, 0.6)), ((1.0, 0.1), (0.9, 0.8)), (0.8, 0.5), (0.08, 0.05), (0, 1)
)


def test_everything_that_derives_from_a_matrix_is_stored():
    content = MATRIX.to_json()
    assert content["derived"] == {
        "normalised": [pytest.approx([1.0, 0.4]), pytest.approx([0.5, 1.2])],
        "retention": pytest.approx({"x": 0.5, "y": 1.2}),
        "mean_retention": pytest.approx(0.85),
        "forgetting": pytest.approx({"x": 0.5, "y": 0.0}),
        "relative_forgetting": pytest.approx({"x": -0.5, "y": 0.0}),
        "mean_absolute_forgetting": pytest.approx(0.5),
        "backward_transfer": pytest.approx(-0.5),
        "jumpstart": {"x": None, "y": pytest.approx(0.4 - 0.1)},
    }
    fields = [name for name in MATRIX.__dataclass_fields__ if name != "random"]  # left out where it is empty
    assert {name: content[name] for name in fields} == {name: as_plain(getattr(MATRIX, name)) for name in fields}
    assert "random" not in content
    floors = replace(MATRIX, random=(-1.0, -2.0))
    assert SkillMatrix.from_json(floors.to_json()) == floors
    assert SkillMatrix.from_json({**content, "note": 1}) == MATRIX
    with pytest.raises(OutputError, match="the matrix"):
        SkillMatrix.from_json({**content, "learned": "zero"})
    with pytest.raises(OutputError, match=r"learned\[1\]"):
        SkillMatrix.from_json({**content, "learned": [0, 1.5]})


def test_a_negative_score_after_learning_keeps_the_sign_of_relative_forgetting():
    worse = replace(MATRIX, scores=((-0.4, 0.2), (-0.8, 0.6)))
    assert worse.relative_forgetting.tolist() == pytest.approx([-1.0, 0.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": ((0.8, 0.2),)}, "scores of the matrix must be 2 rows of 2"),
        ({"success": ((1.0, 0.1), (0.9,))}, "success of the matrix must be 2 rows of 2"),
        ({"scores": ((0.8, np.inf), (0.4, 0.6))}, "finite"),
        ({"experts": (0.8,)}, "experts of the matrix must hold one number for each of the 2 skills"),
        ({"untrained": (0.1,) * 3}, "untrained"),
        ({"learned": (0,)}, "learned"),
        ({"experts": (0.8, -0.5)}, "score of 0"),
        ({"learned": (-1, 1)}, "indices of the 2 stages"),
        ({"learned": (0, 2)}, "indices of the 2 stages"),
    ],
)
def test_matrices_that_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(MATRIX, **change)


def test_stored_records_must_be_complete_and_numbers_must_be_numbers():
    """A file does not inherit defaults: a field that it leaves out is refused, and so is text in place of a number."""
    content = evaluation().to_json()
    for name in ("cells", "experts"):
        with pytest.raises(OutputError, match=f"{name} is missing"):
            Evaluation.from_json({key: value for key, value in content.items() if key != name})
    with pytest.raises(OutputError, match="seed is '2'"):
        Evaluation.from_json({**content, "seed": "2"})
    with pytest.raises(OutputError, match=r"cells\[0\]"):
        Evaluation.from_json({**content, "cells": [{**content["cells"][0], "total_reward": ["1.5", 3.0, 2.5]}]})
    with pytest.raises(OutputError, match="experts"):
        SkillMatrix.from_json({**MATRIX.to_json(), "experts": ["0.8", 0.5]})


def test_an_expert_may_be_worse_than_random_in_single_episodes():
    def cell(*rewards):
        return Episodes(rewards, rewards, (1,) * 8, (1.0,) * 8, (True,) * 8)

    expert, student = cell(-0.1, *(0.5,) * 7), cell(0.0, *(0.25,) * 7)
    found = evaluation(**{"expert": expert, "student": student, RANDOM: cell(*(0.0,) * 8)})
    assert found.summaries["student", "biped/flat"].retention.estimate == pytest.approx(1.75 / 3.4)


def test_a_skill_may_be_learned_in_any_of_more_stages_than_skills():
    rows = ((0.8, 0.2), (0.4, 0.6), (0.2, 0.5))
    longer = replace(MATRIX, stages=("a", "b", "c"), scores=rows, success=rows, learned=(0, 2))
    assert longer.old.tolist() == [True, False]
    with pytest.raises(ConfigError, match="indices of the 3 stages"):
        replace(longer, learned=(0, 3))
