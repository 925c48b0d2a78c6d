"""Collection against a loop written out here: a scripted environment, and every draw repeated."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from policykd.agents.architecture import Architecture
from policykd.agents.policy import Policy
from policykd.merge.collect import ActionNoise, Collection, collect, dart_noise, shares, split
from policykd.merge.critic import _regress, fit_critic, fit_critic_to_teachers, value_targets
from policykd.merge.data.pool import StatePool
from policykd.merge.data.rollout import LabeledRollout
from policykd.merge.teachers import Teacher, on_device

SIMS, ACTIONS = 3, 2
GROUPS = {"far": 2, "near": 3}
COLUMNS = {"far": slice(0, 2), "near": slice(2, 5)}
#              simulation 0 falls at step 1; 1 runs out of steps at step 2; 2 falls in the last step
FALLS = {(1, 0), (4, 2)}
ENDS = {(2, 1)}


class Scripted:
    """An environment of three simulations whose next state is a linear function of state and action."""

    def __init__(self, steps=5, start=0.5):
        self.skill = SimpleNamespace(episode_steps=steps, columns=COLUMNS, id="scripted")
        self.num_envs, self.actions, self.checked, self._start = SIMS, [], 0, start

    def reset(self):
        self.state, self._step = self._start * torch.arange(1.0, 16.0).view(SIMS, 5) / 15, 0
        return {name: self.state[:, span] for name, span in COLUMNS.items()}

    def check_overflow(self):
        self.checked += 1

    def step(self, action):
        self.actions.append(action)
        moved = 0.5 * self.state.flip(1) + action.sum(1, keepdim=True)
        fell, out = (torch.tensor([(self._step, i) in which for i in range(SIMS)]) for which in (FALLS, ENDS))
        ids = torch.nonzero(fell | out).squeeze(1)
        fresh = torch.full_like(moved, 0.1 * (self._step + 1))
        self.state = torch.where((fell | out)[:, None], fresh, moved)
        self._step += 1
        reward = 0.1 * self._step + torch.arange(SIMS) / 10
        return SimpleNamespace(
            flat=self.state, reward=reward, terminated=fell, truncated=out, final_flat=moved[ids],
            episodes=SimpleNamespace(ids=ids),
        )  # fmt: skip


def policy(groups, seed):
    made = Policy(groups, ACTIONS, Architecture((4,), (4,)), seed)
    nn.init.normal_(made.actor[-1].weight, std=2.0, generator=torch.Generator().manual_seed(seed))
    made.normalizer.update(torch.randn(50, made.observation_size, generator=torch.Generator().manual_seed(seed)))
    return made


def teacher_of(groups, seed=1):
    return Teacher(SimpleNamespace(columns=COLUMNS, id="scripted"), policy(groups, seed), "expert", "0" * 64)


def loop(teacher, student, noise, beta, mixing, seed, reads):
    """The rollout by its description, one simulation after the other where order does not matter."""
    env, g = Scripted(), torch.Generator().manual_seed(seed)
    rows, finals = [], []
    flat = torch.cat(list(env.reset().values()), dim=-1)
    acts = torch.rand(SIMS, generator=g) < beta
    for t in range(5):
        label = teacher.policy(torch.cat([flat[:, COLUMNS[name]] for name in teacher.policy.groups], 1)).clamp(-1, 1)
        seen = torch.cat([flat[:, COLUMNS[name]] for name in reads], 1)
        own = student(seen)
        action = torch.stack([label[i] if acts[i] else own[i] for i in range(SIMS)])
        step = env.step(action + noise * torch.randn(SIMS, ACTIONS, generator=g))
        rows.append((seen, label, step.reward, step.terminated, step.truncated, ~acts))
        for k, i in enumerate(step.episodes.ids.tolist()):
            if step.truncated[i]:
                finals.append((t * SIMS + i, step.final_flat[k]))
        drawn = torch.rand(SIMS, generator=g) < beta
        ended = step.terminated | step.truncated
        acts = drawn if mixing == "step" else torch.where(ended, drawn, acts)
        flat = step.flat
    finals += [(4 * SIMS + i, flat[i]) for i in range(SIMS) if not ended[i]]
    return rows, finals, env


@pytest.mark.parametrize("mixing", ["episode", "step"])
@pytest.mark.parametrize("reads", [("far", "near"), ("near",)])
@torch.no_grad()
def test_a_rollout_equals_the_loop(mixing, reads):
    """Also where the student reads less than the teacher, whose values and distances still are of all it reads."""
    teacher, student = teacher_of(GROUPS), policy({name: GROUPS[name] for name in reads}, 2)
    rows, finals, theirs = loop(teacher, student, 0.3, 0.5, mixing, 6, reads)
    env = Scripted()
    source = Collection(teacher, env, ActionNoise(0.3), torch.Generator().manual_seed(6))
    (found,) = collect([source], student, beta=0.5, mixing=mixing)
    assert env.checked == 1
    for mine, expected in zip(env.actions, theirs.actions, strict=True):
        torch.testing.assert_close(mine, expected)
    columns = list(zip(*rows, strict=True))
    torch.testing.assert_close(found.observations, torch.cat(columns[0]))
    torch.testing.assert_close(found.labels, torch.cat(columns[1]))
    for name, column in zip(("rewards", "terminated", "truncated", "student_acted"), columns[2:], strict=True):
        torch.testing.assert_close(getattr(found, name), torch.stack(column))
    assert 0 < int(found.student_acted.sum()) < 15
    assert found.final_rows.tolist() == [row for row, _ in finals] == [2 * SIMS + 1, 4 * SIMS, 4 * SIMS + 1]
    last = torch.stack([state for _, state in finals])
    torch.testing.assert_close(found.final_observations, torch.cat([last[:, COLUMNS[name]] for name in reads], 1))
    everything = torch.cat(_states(theirs))
    normal = teacher.policy.normalizer
    scaled = (everything - normal.mean) / normal.var.sqrt().clamp_min(normal.min_std)
    torch.testing.assert_close(found.distances, scaled.clamp(-normal.clip, normal.clip).abs().amax(1))
    torch.testing.assert_close(found.teacher_values, teacher.policy.value(everything))


def _states(env):
    """Repeat the states of an environment from its actions."""
    again = Scripted()
    again.reset()
    states = []
    for action in env.actions:
        states.append(again.state)
        again.step(action)
    return states


def test_skills_of_other_lengths_are_collected_for_the_longest():
    teacher, student = teacher_of(GROUPS), policy(GROUPS, 2)
    sources = [
        Collection(teacher, Scripted(steps), ActionNoise(0.0), torch.Generator().manual_seed(0)) for steps in (3, 5)
    ]
    assert [len(r.rewards) for r in collect(sources, student, beta=1.0, mixing="episode")] == [5, 5]


def test_noise_has_its_size_and_shape():
    g = torch.Generator().manual_seed(0)
    white = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ActionNoise(0.5).draw(4, 2, g), 0.5 * white)
    factor = torch.tensor([[1.0, 0.0], [2.0, 3.0]])
    shaped = ActionNoise(0.5, factor).draw(4, 2, torch.Generator().manual_seed(0))
    expected = torch.stack([0.5 * white[:, 0], 0.5 * (2 * white[:, 0] + 3 * white[:, 1])], 1)
    torch.testing.assert_close(shaped, expected)


def rollout(labels, observations=None, acted=None, values=None, distances=None):
    n = len(labels)
    zero = torch.zeros(n)
    grid = torch.zeros(n, 1, dtype=torch.bool)
    return LabeledRollout(
        observations=torch.zeros(n, 5) if observations is None else observations,
        labels=labels, rewards=zero[:, None], terminated=grid, truncated=grid,
        student_acted=grid if acted is None else acted[:, None], final_rows=torch.zeros(0, dtype=torch.long),
        final_observations=torch.zeros(0, 5), teacher_values=zero if values is None else values,
        distances=zero if distances is None else distances,
    )  # fmt: skip


@torch.no_grad()
def test_errors_too_small_to_have_a_shape_give_independent_noise():
    """The threshold is a mean square over all actions of 1e-12."""
    student = policy(GROUPS, 3)
    exact = student(torch.zeros(4, 5)).clamp(-1.0, 1.0)
    for error, shaped in ((0.0, False), (0.9e-6, False), (1.1e-6, True), (1e-3, True)):
        labels = exact - torch.tensor([error, 0.0])
        found = dart_noise(student, rollout(labels), 0.2)
        assert found.std == 0.2
        assert (found.shape is not None) == shaped
    torch.testing.assert_close((found.shape @ found.shape.T), torch.tensor([[2.0, 0.0], [0.0, 0.0]]), atol=1e-3, rtol=0)


def test_shares_by_hand():
    assert shares([1.0, 3.0], 0.5) == pytest.approx([0.25 + 0.125, 0.25 + 0.375])
    assert shares([1.0, 3.0], 0.0) == [0.5, 0.5]
    assert shares([0.0, 0.0, 0.0, 0.0], 0.9) == [0.25] * 4
    assert shares([1.0, 0.0], 0.9) == pytest.approx([0.95, 0.05])


@pytest.mark.parametrize(
    ("total", "parts", "counts"),
    [
        (10, [0.5, 0.3, 0.2], [5, 3, 2]),
        (7, [0.5, 0.3, 0.2], [4, 2, 1]),  # 3.5, 2.1, 1.4
        (8, [0.45, 0.35, 0.2], [4, 3, 1]),  # 3.6, 2.8, 1.6: two are left for the fractions 0.8 and 0.6
        (2, [0.6, 0.3, 0.1], [1, 1, 1]),  # at least one each
        (3, [0.98, 0.01, 0.01], [2, 1, 1]),
        (3, [1 / 3, 1 / 3, 1 / 3], [1, 1, 1]),
        (30, [0.1 + 0.2, 0.7], [9, 21]),  # 0.30000000000000004 of 30
    ],
)
def test_whole_numbers_in_proportion_to_shares(total, parts, counts):
    assert split(total, parts) == counts


def test_a_pool_draws_the_given_number_of_every_skill():
    pool = StatePool(2)
    for skill, size in ((0, 4), (1, 6)):
        labels = torch.arange(float(2 * size)).view(size, 2) + 100 * skill
        pool.add(skill, rollout(labels, labels.repeat(1, 3)[:, :5]))
    batch = pool.sample([3, 2], torch.Generator().manual_seed(1))
    g = torch.Generator().manual_seed(1)
    first, second = torch.randint(4, (3,), generator=g), torch.randint(6, (2,), generator=g)
    expected = torch.cat([pool.rows(0).labels[first], pool.rows(1).labels[second]])
    assert torch.equal(batch.labels, expected)
    assert torch.equal(batch.observations, expected.repeat(1, 3)[:, :5])
    assert batch.skill.tolist() == [0, 0, 0, 1, 1]


def test_a_pool_counts_all_states_and_masks_those_far_away():
    pool = StatePool(2, rounds_kept=2, support=2.0)
    assert (pool.states, pool.masked) == (0, [0.0, 0.0])
    for number in range(3):
        distances = torch.tensor([1.0, 2.0, 2.1, 3.0])
        values = torch.full((4,), float(number))
        pool.add(1, rollout(torch.full((4, 2), float(number)), values=values, distances=distances))
    assert pool.states == 12
    assert pool.masked == [0.0, 0.5]
    kept = pool.rows(1)
    assert kept.labels[:, 0].tolist() == kept.teacher_values.tolist() == [1.0, 1.0, 2.0, 2.0]
    pool.add(1, rollout(torch.full((1, 2), 9.0)))
    assert pool.rows(1).labels[:, 0].tolist() == [2.0, 2.0, 9.0]


CONFIG = SimpleNamespace(gamma=0.9, gae_lambda=0.8, updates=11, minibatch=4, learning_rate=0.01)


def regressed(student, states, targets, updates, generator, optimizer=None):
    """Adam on the mean squared error of the values, written out."""
    optimizer = optimizer or torch.optim.Adam(student.critic.parameters(), lr=0.01)
    for _ in range(updates):
        rows = torch.randint(len(targets), (4,), generator=generator)
        loss = ((student.value(states[rows]) - targets[rows]) ** 2).sum() / 4
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return optimizer


def equal(a, b):
    for mine, expected in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-7)


def test_regression_is_adam_on_the_squared_error():
    states = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.rand(9, generator=torch.Generator().manual_seed(1))
    mine, own = policy(GROUPS, 3), policy(GROUPS, 3)
    optimizer = torch.optim.Adam(mine.critic.parameters(), lr=0.01)
    _regress(mine, optimizer, states, targets, 3, CONFIG, torch.Generator().manual_seed(2))
    regressed(own, states, targets, 3, torch.Generator().manual_seed(2))
    equal(mine, own)


def critic_rollout(seed):
    g = torch.Generator().manual_seed(seed)
    fell = torch.rand(6, 2, generator=g) < 0.2
    return LabeledRollout(
        observations=torch.randn(12, 5, generator=g), labels=torch.zeros(12, 2), rewards=torch.rand(6, 2, generator=g),
        terminated=fell, truncated=torch.zeros_like(fell), student_acted=torch.ones_like(fell),
        final_rows=torch.nonzero(~fell[-1]).squeeze(1) + 10, final_observations=torch.randn(int((~fell[-1]).sum()), 5,
        generator=g), teacher_values=torch.rand(12, generator=g), distances=torch.zeros(12),
    )  # fmt: skip


@pytest.mark.parametrize(("updates", "each"), [(11, 2), (3, 1)])
def test_the_critic_is_fitted_in_five_rounds_to_targets_of_itself(updates, each):
    rollouts = [critic_rollout(0), critic_rollout(1)]
    mine, own = policy(GROUPS, 3), policy(GROUPS, 3)
    config = SimpleNamespace(**{**vars(CONFIG), "updates": updates})
    fit_critic(mine, rollouts, config, torch.Generator().manual_seed(2))
    g, optimizer = torch.Generator().manual_seed(2), None
    for _ in range(5):
        parts = [value_targets(own, r, gamma=0.9, gae_lambda=0.8) for r in rollouts]
        states = torch.cat([r.observations[rows] for r, (rows, _) in zip(rollouts, parts, strict=True)])
        optimizer = regressed(own, states, torch.cat([t for _, t in parts]), each, g, optimizer)
    equal(mine, own)
    equal(mine.actor, policy(GROUPS, 3).actor)


def test_the_critic_learns_the_teachers_values_of_as_many_states_of_every_skill():
    pool = StatePool(2)
    sizes = (5, 8)
    for skill, size in enumerate(sizes):
        g = torch.Generator().manual_seed(skill)
        values = torch.rand(size, generator=g)
        pool.add(skill, rollout(torch.zeros(size, 2), torch.randn(size, 5, generator=g), values=values))
    mine, own = policy(GROUPS, 3), policy(GROUPS, 3)
    fit_critic_to_teachers(mine, pool, 2, CONFIG, torch.Generator().manual_seed(4))
    g = torch.Generator().manual_seed(4)
    chosen = [torch.randperm(size, generator=g)[:5] for size in sizes]
    states = torch.cat([pool.rows(i).observations[c] for i, c in enumerate(chosen)])
    targets = torch.cat([pool.rows(i).teacher_values[c] for i, c in enumerate(chosen)])
    regressed(own, states, targets, 11, g)
    equal(mine, own)


@torch.no_grad()
def test_lambda_returns_of_three_steps_by_hand():
    """One simulation that runs on and one that falls in its second step and then is taken over by the expert."""
    student = policy(GROUPS, 3)
    g = torch.Generator().manual_seed(5)
    observations = torch.randn(6, 5, generator=g)
    last = torch.randn(1, 5, generator=g)
    value = student.value(observations).view(3, 2).tolist()
    beyond = float(student.value(last))
    yes, no = torch.ones(3, 2, dtype=torch.bool), torch.zeros(3, 2, dtype=torch.bool)
    fell, acted = no.clone(), yes.clone()
    fell[1, 1], acted[2, 1] = True, False
    reward = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    zero = torch.zeros(6)
    data = LabeledRollout(observations, torch.zeros(6, 2), reward, fell, no, acted, torch.tensor([4]), last, zero, zero)
    rows, targets = value_targets(student, data, gamma=0.9, gae_lambda=0.8)
    two = 0.1 * 0.5 + 0.9 * beyond
    one = 0.1 * 0.3 + 0.9 * (0.2 * value[2][0] + 0.8 * two)
    first = 0.1 * 0.1 + 0.9 * (0.2 * value[1][0] + 0.8 * one)
    fallen = 0.1 * 0.4
    before = 0.1 * 0.2 + 0.9 * (0.2 * value[1][1] + 0.8 * fallen)
    assert rows.tolist() == [0, 1, 2, 3, 4]
    assert targets.tolist() == pytest.approx([first, before, one, fallen, two], abs=1e-6)


def test_teachers_on_another_device_share_a_policy_that_teaches_twice():
    one, two = teacher_of(GROUPS, 1), teacher_of(GROUPS, 2)
    again = replace(two, source="again")
    assert on_device([one, two, again], torch.device("cpu")) == [one, two, again]
    moved = on_device([one, two, again], torch.device("meta"))
    assert moved[1].policy is moved[2].policy is not two.policy
    assert {str(p.device) for t in moved for p in t.policy.parameters()} == {"meta"}
    assert [t.source for t in moved] == ["expert", "expert", "again"]
    assert str(next(two.policy.parameters()).device) == "cpu"


def test_a_teacher_assesses_states_of_its_own_groups_only():
    teacher = teacher_of({"near": 3})
    flat = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    flat[0, 2:] = 100.0  # beyond the clip
    values, distances = teacher.assess(flat, COLUMNS)
    torch.testing.assert_close(values, teacher.policy.value(flat[:, 2:]).detach())
    assert not values.requires_grad
    assert float(distances[0]) == teacher.policy.normalizer.clip
    assert (distances[1:] < 10).all()
