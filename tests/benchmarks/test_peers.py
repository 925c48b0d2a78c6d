"""The comparison with other methods: its table says what the cells say, its loss is the published one."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import peer_trial
import peers
from peer_methods import _proximal_loss
from peer_trial import AllSkills, Trial
from policykd.agents.architecture import Architecture
from policykd.agents.policy import Policy
from policykd.envs.batched_env import BatchedEnv
from policykd.envs.skills import get_skill

SKILLS = ("biped/flat", "biped/gaps")


def cell(seed, retention, reached, method="policykd merge"):
    return {
        "method": method, "seed": seed, "states": 200_000, "seconds": 20.0 + seed, "cpu_seconds": 10.0 + seed,
        "states_to": {"0.95": reached, "0.98": None},
        "retention": {"a": {"estimate": retention}, "b": {"estimate": 1.0}},
        "success": {"a": {"estimate": 0.5}, "b": {"estimate": 1.0}},
    }  # fmt: skip


def test_rows_are_means_and_ranges_over_seeds_of_the_weakest_skill():
    rows = peers.markdown([cell(0, 0.8, 80_000), cell(1, 0.9, None), cell(0, 0.7, None, "joint PPO")]).splitlines()
    assert rows[2] == (
        "| policykd merge | 2 | 200,000 | 80,000 (1 of 2) | - (0 of 2) | 0.850 (0.800 to 0.900) "
        "| 0.500 (0.500 to 0.500) | 10 (10 to 11) |"
    )
    assert rows[3] == "| joint PPO | 1 | 200,000 | - (0 of 1) | - (0 of 1) | 0.700 | 0.500 | 10 |"
    assert len(rows) == 4


def test_a_retention_that_is_not_defined_is_the_weakest():
    assert peers.weakest({"retention": {"a": None, "b": {"estimate": 0.9}}}, "retention") == 0.0


def test_the_table_replaces_the_old_one(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- peers: begin -->\nold\n<!-- peers: end -->\nafter\n")
    peers.write_table(page, [cell(0, 0.8, None)])
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("<!-- peers: end -->\nafter\n")
    assert "| policykd merge | 1 |" in text


def test_a_finished_cell_is_not_run_again_and_a_missing_library_is_named(tmp_path, capsys, monkeypatch):
    (tmp_path / "policykd-merge-0.json").write_text("{}")  # its experts do not exist: running it would fail
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    methods = ("policykd merge", "rsl_rl distillation", "imitation DAgger")
    peers.main(peers.Options((Path("none"),), methods, seeds=1, out=tmp_path))
    said = capsys.readouterr().out
    assert "rsl_rl distillation needs the package rsl-rl-lib; left out" in said
    assert "imitation DAgger needs the package imitation; left out" in said


@pytest.fixture
def trial():
    skills = [get_skill(name) for name in SKILLS]
    policies = [
        Policy(s.group_sizes, s.robot.num_actions, Architecture((4,), (4,)), i).eval() for i, s in enumerate(skills)
    ]
    with torch.no_grad():
        for number, policy in enumerate(policies):
            policy.actor[-1].bias.fill_(0.25 * (number + 1))
            policy.actor[-1].weight.zero_()
    made = Trial.__new__(Trial)
    made.budget, made.seed = peer_trial.Budget(envs=3), 0
    made.teachers = [SimpleNamespace(skill=s, policy=p) for s, p in zip(skills, policies, strict=True)]
    return made


def test_every_row_is_labeled_by_the_expert_of_its_skill(trial):
    env = trial.simulation
    rows = torch.from_numpy(env.reset())
    assert rows.shape == (6, trial.features)
    labels = trial.label(rows)
    assert torch.allclose(labels[:3], torch.tensor(0.25), atol=1e-6)
    assert torch.allclose(labels[3:], torch.tensor(0.5), atol=1e-6)


def test_the_simulations_side_by_side_are_those_of_the_skills(trial):
    env = trial.simulation
    first = env.reset()
    alone = BatchedEnv([get_skill(SKILLS[1])], 3, seed=peer_trial.integer_seed(0, "collection") + 1, threads=1)
    assert np.array_equal(first[3:], torch.cat(list(alone.reset().values()), dim=1).numpy())
    actions = np.linspace(-0.5, 0.5, 6 * env.action_space.shape[0]).reshape(6, -1).astype(np.float32)
    observations, rewards, dones, infos = env.step(actions)
    step = alone.step(torch.from_numpy(actions[3:]))
    assert np.array_equal(observations[3:], step.flat.numpy())
    assert np.array_equal(rewards[3:], step.reward.numpy())
    assert (len(dones), len(infos), env.steps) == (6, 6, 6)
    assert isinstance(env, AllSkills)


def test_the_loss_is_ppos_and_the_weighted_distance_to_the_teacher():
    policy = Policy({"x": 1}, 1, Architecture((2,), (2,)), 0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
        policy.log_std.fill_(0.0)
    # mean 0, std 1, value 0: log probabilities of the actions 0 and 1 are c and c - 0.5
    c = -0.5 * np.log(2 * np.pi)
    batch = {
        "rows": torch.zeros(2, 1), "actions": torch.tensor([[0.0], [1.0]]),
        "log_prob": torch.tensor([c - np.log(2.0), c - 0.5], dtype=torch.float32),  # ratios 2 and 1
        "advantages": torch.tensor([1.0, -1.0]), "values": torch.tensor([0.0, 2.0]),
        "labels": torch.tensor([[1.0], [0.0]]), "teacher_std": torch.ones(2, 1),
    }  # fmt: skip
    scale = 1.0 / (np.sqrt(2.0) + 1e-8)
    surrogate = (1.2 * scale - scale) / 2  # the first ratio is clipped
    value_loss = 0.5 * (1.0 + 1.0) / 2  # returns 1 and 1
    distance = (2.0 * 0.5 + 1.0 * 0.0) / 2  # the first ratio is not clipped above
    assert _proximal_loss(policy, batch).item() == pytest.approx(-surrogate + value_loss + distance, abs=1e-5)
