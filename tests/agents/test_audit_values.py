"""Episodes and audits with a scripted environment: totals, faults and figures written out."""

from types import SimpleNamespace

import pytest
import torch

from policykd.agents import audit as audits
from policykd.agents.architecture import Architecture
from policykd.agents.audit import Audit, GroupAudit, _change, _disturbance, audit_policy
from policykd.agents.episodes import EpisodeOutcomes, run_actions, run_episodes, run_random_episodes
from policykd.agents.policy import Policy
from policykd.envs.batched_env import EnvConfig
from policykd.errors import ConfigError, UnknownNameError
from policykd.seeding import integer_seed


class Line:
    """Three simulations whose reward is their first action; episodes end at their second, third and last step."""

    num_envs, num_actions, device, robot = 3, 2, torch.device("cpu"), None
    skill = SimpleNamespace(episode_steps=5, columns={"a": slice(0, 2)})
    ends = ((1, 0), (2, 1), (2, 0), (4, 2))

    def __init__(self):
        self.seeds, self.actions, self.checked = [], [], 0

    def seed(self, seed):
        self.seeds.append(seed)

    def check_overflow(self):
        self.checked += 1

    def reset(self):
        self._step, self._total = 0, torch.zeros(3)
        self.actions.clear()
        return {"a": torch.tensor([[0.1, 0.0], [0.2, 0.5], [0.3, 1.0]])}

    def step(self, actions):
        self.actions.append(actions)
        self._total = self._total + actions[:, 0]
        ids = torch.tensor([i for t, i in self.ends if t == self._step], dtype=torch.long)
        done = torch.zeros(3, dtype=torch.bool)
        done[ids] = True
        episodes = SimpleNamespace(
            ids=ids, total_reward=self._total[ids], distance=self._total[ids] * 2,
            length=torch.full((len(ids),), self._step + 1), success=ids != 1,
        )  # fmt: skip
        self._total = torch.where(done, torch.zeros(3), self._total)
        self._step += 1
        flat = torch.stack([actions[:, 0] + 0.25, actions[:, 1]], 1)
        return SimpleNamespace(
            flat=flat, terminated=done, truncated=torch.zeros(3, dtype=torch.bool), episodes=episodes
        )


def test_the_first_episode_of_every_simulation_counts():
    env, forgotten = Line(), []
    found = run_actions(lambda flat: flat, env, forgotten.append)
    # the first feature grows by 0.25 a step
    totals = [0.1 + 0.35, 0.2 + 0.45 + 0.7, 0.3 + 0.55 + 0.8 + 1.05 + 1.3]
    assert found.total_reward.tolist() == pytest.approx(totals)
    assert found.distance.tolist() == pytest.approx([2 * t for t in totals])
    assert found.length.tolist() == [2, 3, 5]
    assert found.success.tolist() == [True, False, True]
    assert found.reward_per_step.tolist() == pytest.approx([t / 5 for t in totals])
    assert (found.episode_steps, env.checked, len(env.actions)) == (5, 1, 5)
    assert [ended.tolist() for ended in forgotten][1:3] == [[True, False, False], [True, True, False]]
    env.ends = ((0, 0), (0, 1), (0, 2))
    run_actions(lambda flat: flat, env)
    assert len(env.actions) == 1  # no episode is open any more


def test_random_actions_are_uniform_from_minus_one_to_one():
    env = Line()
    run_random_episodes(env, 4)
    g = torch.Generator().manual_seed(integer_seed(4, "random actions"))
    for actions in env.actions:
        torch.testing.assert_close(actions, 2.0 * torch.rand(3, 2, generator=g) - 1.0)


def test_means_or_samples_act():
    policy, env = Policy({"a": 2}, 2, Architecture((4,), (4,)), 0), Line()
    run_episodes(policy, env)
    with torch.no_grad():
        expected = policy(torch.tensor([[0.1, 0.0], [0.2, 0.5], [0.3, 1.0]]))
    torch.testing.assert_close(env.actions[0], expected)
    torch.manual_seed(0)
    run_episodes(policy, env, noise=True)
    torch.manual_seed(0)
    torch.testing.assert_close(env.actions[0], torch.normal(expected, policy.log_std.exp().detach().expand(3, 2)))


def test_faults_replace_the_values_of_their_group_only():
    now, span = torch.arange(12.0).view(4, 3), slice(1, 2)
    history = [now + 100 * (i + 1) for i in range(3)]
    frozen = _disturbance("frozen", span, 2, 5)
    assert frozen(now, history)[:, 1].tolist() == (now[:, 1] + 100).tolist()
    assert torch.equal(frozen(now, []), now)
    for delay, step in ((1, 3), (2, 2), (3, 1), (9, 1)):
        delayed = _disturbance("delayed", span, delay, 5)
        found = delayed(now, history)
        assert found[:, 1].tolist() == (now[:, 1] + 100 * step).tolist()
        assert torch.equal(found[:, [0, 2]], now[:, [0, 2]])
        assert torch.equal(delayed(now, []), now)
    shuffled = _disturbance("shuffled", span, 2, 5)
    g = torch.Generator().manual_seed(integer_seed(5, "audit", "shuffled"))
    for _ in range(2):
        order = torch.randperm(4, generator=g)
        found = shuffled(now, history)
        assert found[:, 1].tolist() == now[order, 1].tolist()
        assert torch.equal(found[:, [0, 2]], now[:, [0, 2]])


def test_the_change_of_the_actions_is_a_root_mean_square():
    policy, states = (lambda x: 2.0 * x), torch.tensor([[[0.1, 0.2]], [[0.3, 5.0]]])
    found = _change(policy, states, lambda now, history: now + 0.1 * len(history))
    # the first step is not changed; 0.6 -> 0.8 in the second, and 1 -> 1 beyond the bounds
    assert found == pytest.approx((0.2**2 / 4) ** 0.5)


def test_a_group_is_unused_if_no_fault_changes_the_actions():
    def entry(group, change):
        return GroupAudit(group, "frozen", 1.0, 1.0, change)

    entries = (entry("a", 0.0), entry("a", 0.9e-3), entry("b", 0.0), entry("b", 1e-3))
    assert Audit("s", 2, 1, 1.0, 1.0, entries, {}).unused == ["a"]


def test_an_audit_runs_every_fault_of_every_group_on_equal_tracks(monkeypatch):
    made, env = [], Line()

    def make(skills, count, **options):
        made.append((skills, count, options))
        return env

    monkeypatch.setattr(audits, "make_env", make)
    seen = []

    def run(act, given):
        flat = given.reset()["a"]
        seen.extend(act(flat) for _ in range(2))
        total, success = torch.tensor([2.0, 4.0]), torch.tensor([True, False])
        return EpisodeOutcomes(total, torch.tensor([2, 2]), torch.zeros(2), success, 4)

    monkeypatch.setattr(audits, "run_actions", run)
    env.skill = SimpleNamespace(columns={"a": slice(0, 1), "b": slice(1, 2)}, episode_steps=5)
    policy = Policy({"a": 1, "b": 1}, 2, Architecture((4,), (4,)), 0)
    skill = SimpleNamespace(id="s", robot=None)
    found = audit_policy(policy, skill, episodes=3, delay=2, seed=6, threads=1)
    config = EnvConfig(tracks=3, ordered=True)
    assert made == [([skill], 3, {"seed": integer_seed(6, "audit"), "config": config, "threads": 1})]
    assert env.seeds == [integer_seed(6, "audit")] * 7
    assert [(g.group, g.fault) for g in found.groups] == [(g, f) for g in "ab" for f in audits.FAULTS]
    assert {(g.success, g.reward_per_step) for g in found.groups} == {(0.5, 0.75)}
    assert (found.skill, found.episodes, found.delay, found.success, found.reward_per_step) == ("s", 3, 2, 0.5, 0.75)
    assert found.dead == {}
    only = audit_policy(policy, skill, groups=["b"], episodes=3, threads=1)
    assert [g.group for g in only.groups] == ["b"] * 3
    for options, message in (
        ({"episodes": 1}, "episodes is 1"), ({"episodes": 100_001}, "episodes"), ({"delay": 0}, "delay is 0"),
        ({"delay": 1001}, "delay is 1001"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            audit_policy(policy, skill, **{"episodes": 3, **options})
    audit_policy(policy, skill, groups=["a"], episodes=2, delay=1000)
    with pytest.raises(UnknownNameError, match="observation group of the policy"):
        audit_policy(policy, skill, groups=["c"])
