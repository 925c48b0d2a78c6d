"""Conflicts by hand, and where students start and fittings go on."""

from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace

import pytest
import torch
from small_policies import small_policy
from teacher_samples import TINY, make_teacher

from policykd.agents.architecture import Architecture
from policykd.agents.policy import Policy
from policykd.errors import ConfigError, ContractError, UnknownNameError
from policykd.merge import conflicts, teachers_from
from policykd.merge.data.pool import Batch
from policykd.merge.fitting import Fitting
from policykd.merge.student import check_start, first_student
from policykd.seeding import integer_seed


class Cycle:
    """Two simulations that show the action of before; the first one's episode ends at every third step."""

    def __init__(self, skills, count, seed):
        self.made = (skills, count, seed)
        self._step = 0

    def reset(self):
        return {"a": torch.tensor([[0.1, 0.2], [0.3, 0.4]])}

    def step(self, action):
        self._step += 1
        ended = torch.tensor([self._step % 3 == 0, False])
        return SimpleNamespace(flat=0.5 * action + 0.1, terminated=ended, truncated=torch.zeros(2, dtype=torch.bool))


def linear_teacher(name, factor, shift):
    policy = Policy({"a": 2}, 2, Architecture((), (2,)), 0)
    with torch.no_grad():
        policy.actor[-1].weight.copy_(factor * torch.eye(2))
        policy.actor[-1].bias.fill_(shift)
    skill = SimpleNamespace(id=name, columns={"a": slice(0, 2)}, robot=None, absent_groups=())
    return SimpleNamespace(policy=policy, skill=skill, source=name)


@torch.no_grad()
def test_disagreements_are_relative_to_the_spread_of_both_teachers_actions(monkeypatch):
    made = []

    def make(skills, count, seed):
        made.append((skills[0].id, count, seed))
        return Cycle(skills, count, seed)

    monkeypatch.setattr(conflicts, "make_env", make)
    teachers = [linear_teacher("x", 1.0, 0.0), linear_teacher("y", -0.5, 0.3), linear_teacher("z", 1.0, 2.0)]
    teachers.append(linear_teacher("w", 1.0, -2.0))  # actions on both sides of the limits
    found = conflicts.measure_conflicts(teachers, seed=4)
    assert made == [(name, 8, integer_seed(4, "conflicts", i)) for i, name in enumerate("xyzw")]

    def visited(teacher):
        env, flat, states = Cycle(None, 8, 0), torch.tensor([[0.1, 0.2], [0.3, 0.4]]), []
        for _ in range(100):
            states.append(flat)
            flat = env.step(teacher.policy(flat)).flat
        return torch.cat(states)

    states = [visited(t) for t in teachers]
    expected = {}
    for i, j in combinations(range(4), 2):
        both = torch.cat([states[i], states[j]])
        one, other = (teachers[k].policy(both).clamp(-1, 1) for k in (i, j))
        together = torch.cat([one, other])
        spread = ((together - together.mean(0)) ** 2).sum(0) / (len(together) - 1)
        expected[i, j] = float(((one - other) ** 2).mean().sqrt() / spread.mean().sqrt())
    assert {(c.first, c.second): c.disagreement for c in found} == pytest.approx(expected, rel=1e-4)
    values = [c.disagreement for c in found]
    assert values == sorted(values, reverse=True)


def test_equal_teachers_agree_even_where_they_do_nothing(monkeypatch):
    monkeypatch.setattr(conflicts, "make_env", lambda skills, count, seed: Cycle(skills, count, seed))
    still = [linear_teacher("x", 0.0, 0.0), linear_teacher("y", 0.0, 0.0)]
    assert [c.disagreement for c in conflicts.measure_conflicts(still)] == [0.0]
    barely = [linear_teacher("x", 0.0, 0.0), linear_teacher("y", 0.0, 1e-7)]  # far below any spread that counts
    assert conflicts.measure_conflicts(barely)[0].disagreement == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize(("disagreement", "refused"), [(0.5, False), (0.51, True)])
def test_teachers_of_one_environment_that_contradict_each_other_are_refused(monkeypatch, disagreement, refused):
    class Skill(SimpleNamespace):
        pass

    monkeypatch.setattr(conflicts, "GymSkill", Skill)
    seen = []

    def measure(teachers, seed):
        seen.append(seed)
        return [conflicts.Conflict(0, 2, disagreement), conflicts.Conflict(0, 1, 0.0)]

    monkeypatch.setattr(conflicts, "measure_conflicts", measure)
    teachers = [SimpleNamespace(source=n, skill=Skill(id=n, groups=("observation",))) for n in "abc"]
    if refused:
        with pytest.raises(ContractError, match=f"a on a and c on c .* differ by {disagreement:.0%} of the spread"):
            conflicts.check_conflicts(teachers, 3)
    else:
        conflicts.check_conflicts(teachers, 3)
    assert seen == [3]
    told = SimpleNamespace(source="d", skill=Skill(id="d", groups=("observation", conflicts.TASK_ID)))
    own = SimpleNamespace(source="e", skill=SimpleNamespace(id="e", groups=("observation",)))
    for others in ([teachers[0], told], [teachers[0], own], teachers[:1]):
        conflicts.check_conflicts(others, 3)
    assert seen == [3]


# Starts, teachers and fitting


def test_the_newest_of_three_teachers_is_the_last():
    three = [make_teacher(f"biped/{name}", i) for i, name in enumerate(("flat", "gaps", "steps"))]
    rows = torch.randn(5, three[0].policy.observation_size)
    for start, place in (("newest", 2), ("biped/gaps", 1)):
        student = first_student(three, replace(TINY, start=start), None)
        torch.testing.assert_close(student(rows), three[place].policy(rows))
        assert student.training
    with pytest.raises(UnknownNameError, match="biped/walls"):
        first_student(three, replace(TINY, start="biped/walls"), None)


def test_a_policy_is_given_where_a_merge_starts_from_one_and_nowhere_else():
    init = SimpleNamespace(policy=small_policy())
    check_start(replace(TINY, start="previous"), init)
    check_start(TINY, None)
    with pytest.raises(ConfigError, match="give the policy to start from"):
        check_start(replace(TINY, start="previous"), None)
    with pytest.raises(ConfigError, match="would not be used"):
        check_start(TINY, init)


def test_experts_must_be_given_and_named():
    with pytest.raises(ConfigError, match="no expert was given"):
        teachers_from([])
    with pytest.raises(UnknownNameError, match="expert 'b'"):
        teachers_from([("a", SimpleNamespace())], {"b": ["biped/flat"]})


def test_a_label_at_the_bound_and_a_mean_just_there_need_no_correction():
    student = small_policy()
    with torch.no_grad():
        student.actor[-1].weight.zero_()
        student.actor[-1].bias.copy_(torch.tensor([1.0, 1.2]))
    fitting = Fitting(student, torch.zeros(1, 2), TINY)
    skill = torch.zeros(1, dtype=torch.long)
    for labels, error in (([1.0, 1.0], 0.0), ([1.0, 0.9], 0.3**2 / 2), ([-1.0, 1.0], 2.0**2 / 2)):
        batch = Batch(torch.zeros(1, 3), torch.tensor([labels]), skill)
        assert fitting.loss(batch) == pytest.approx(error, abs=1e-6)


def test_a_fitting_continues_with_learner_and_moments():
    def batch(counts, generator):
        rows = torch.randn(4, 3, generator=generator)
        return Batch(rows, rows[:, :2].clamp(-1, 1), torch.zeros(4, dtype=torch.long))

    config, states = replace(TINY, updates=3, rounds=2), SimpleNamespace(sample=batch)
    whole, part, rest = (small_policy() for _ in range(3))
    spread = torch.zeros(1, 2)
    one = Fitting(whole, spread, config)
    for round_ in range(2):
        one.fit(states, [4], round_, torch.Generator().manual_seed(round_))
    two = Fitting(part, spread, config)
    two.fit(states, [4], 0, torch.Generator().manual_seed(0))
    rest.load_state_dict(part.state_dict())
    three = Fitting(rest, spread, config)
    three.load_state_dict(two.state_dict())
    three.fit(states, [4], 1, torch.Generator().manual_seed(1))
    for mine, expected in zip(rest.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-6, atol=1e-8)
