"""Discrete actions: environments, imports, categorical losses, merges, and what is refused."""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "envs"))
from foreign_envs import Steps

from policykd.agents.architecture import Architecture
from policykd.agents.audit import audit_policy
from policykd.agents.episodes import run_episodes
from policykd.agents.export.export import export_policy
from policykd.agents.files.policy_file import load_policy, save_policy
from policykd.agents.importing.importer import import_policy
from policykd.agents.policy import Policy
from policykd.agents.training import TrainConfig, train_expert
from policykd.envs.foreign.skill import gym_skill
from policykd.envs.make import make_env
from policykd.errors import ConfigError, ContractError
from policykd.merge import MergeConfig, Teacher, merge_experts
from policykd.merge.conflicts import check_conflicts, measure_conflicts
from policykd.merge.data.folder import LabeledData
from policykd.merge.losses import categorical, log_probabilities

STEPS = "foreign_envs:policykd-tests/Steps-v0"
SKILL = gym_skill(f"gym:{STEPS}")


def greedy(skill=SKILL, goal=1.0):
    """Return a policy that goes to the goal: right below it, left above it, with long steps while it is far."""
    policy = Policy(skill.group_sizes, skill.robot.num_actions, Architecture((2,), (2,), activation="relu"), 0)
    policy.normalizer.min_std = 1e-6
    policy.normalizer.var.fill_(1.0)
    policy.normalizer.count.fill_(1.0)
    with torch.no_grad():
        first, last = policy.actor[0], policy.actor[2]
        first.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
        first.bias.copy_(torch.tensor([-goal, goal]))  # how far above, how far below
        last.weight.copy_(torch.tensor([[9.0, 0.0], [0.0, 0.0], [0.0, 9.0], [0.0, 0.0], [9.0, 9.0]]))
        last.bias.copy_(torch.tensor([0.0, 0.5, 0.0, 1.0, 0.0]))
    return policy.eval()


def test_the_largest_logit_of_every_action_is_taken():
    env, single = make_env([SKILL], 1), gym.make(STEPS)
    env.seed(5)
    flat = torch.cat(list(env.reset().values()), dim=1)
    row = single.reset(seed=5)[0]
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        assert np.allclose(flat.numpy()[0], row, atol=1e-6)
        logits = torch.randn(1, 5, generator=generator) * 5
        step = env.step(logits)
        row, reward, terminated, truncated, _ = single.step(np.array([logits[0, :3].argmax(), logits[0, 3:].argmax()]))
        assert float(step.reward[0]) == pytest.approx(reward, abs=1e-6)
        flat = step.flat
        if terminated or truncated:
            row = single.reset()[0]


def test_noise_samples_from_the_softmax():
    class Constant(Policy):
        def forward(self, observations):
            return torch.log(torch.tensor([0.7, 0.2, 0.1, 0.5, 0.5])).expand(len(observations), -1)

    policy, taken = Constant(SKILL.group_sizes, 5), []
    env = make_env([SKILL], 200, seed=0)
    inner = env._chosen
    env._chosen = lambda logits: taken.extend(inner(logits)) or inner(logits)
    torch.manual_seed(0)
    run_episodes(policy, env, noise=True)
    counts = np.bincount([row[0] for row in taken], minlength=3) / len(taken)
    assert counts == pytest.approx([0.7, 0.2, 0.1], abs=0.02)


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jsd", "nll"])
def test_losses_equal_their_formulas(name):
    generator = torch.Generator().manual_seed(1)
    s, t = (torch.randn(6, 5, generator=generator).double() for _ in range(2))
    found = float(categorical(MergeConfig(loss=name), (3, 2))(s, log_probabilities(t, (3, 2))))

    def probabilities(logits):
        e = np.exp(logits - logits.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    def kl(p, q):
        return (p * np.log(p / q)).sum(1).mean()

    total = 0.0
    for block in (slice(0, 3), slice(3, 5)):
        q, p = probabilities(s.numpy()[:, block]), probabilities(t.numpy()[:, block])
        m = 0.5 * (p + q)
        total += {
            "forward_kl": kl(p, q),
            "reverse_kl": kl(q, p),
            "jsd": 0.5 * kl(p, m) + 0.5 * kl(q, m),
            "nll": -np.log(q[np.arange(6), p.argmax(1)]).mean(),
        }[name]
    assert found == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("name", ["PPO", "A2C", "DQN", "QRDQN", "PPO of several"])
def test_imported_choices_are_those_of_the_library(name, tmp_path):
    library = pytest.importorskip("sb3_contrib" if name == "QRDQN" else "stable_baselines3")
    several = name == "PPO of several"
    env = gym.wrappers.TimeLimit(Steps(several=several), 30)
    model = getattr(library, name.partition(" ")[0])("MlpPolicy", env, seed=0, device="cpu")
    with torch.no_grad():
        for key, value in model.policy.named_parameters():
            if key.startswith("action_net.weight"):
                value.mul_(300.0)
            elif key.endswith("net.0.weight"):
                value.mul_(4.0)
    model.save(tmp_path / "model.zip")
    env_id = STEPS if several else f'{STEPS}?{{"several": false}}'
    report = import_policy(tmp_path / "model.zip", tmp_path / "policy", env=env_id, episodes=2, anyway=True)
    policy = load_policy(tmp_path / "policy").policy
    rows = np.random.default_rng(0).normal(0, 3, (500, 2))
    logits = policy(torch.from_numpy(rows).float())
    own = np.stack([part.argmax(1).numpy() for part in logits.split([3, 2] if several else [3], dim=1)], axis=1)
    found = model.predict(rows, deterministic=True)[0].reshape(500, -1)
    assert (own == found).all()
    assert len(np.unique(found)) > 1, "the choices depend on the observation"
    assert any("--loss nll" in note for note in report.notes) == name.endswith("DQN")


def test_a_student_learns_the_choices_of_its_teacher(tmp_path):
    config = MergeConfig(
        rounds=2, envs=4, updates=100, minibatch=64, learning_rate=1e-2, loss="forward_kl", validation_episodes=4,
        architecture=Architecture((16,), (16,)), target_retention=2.0, threads=1,
    )  # fmt: skip
    teacher = Teacher(SKILL, greedy(), "expert", "0" * 64)
    result = merge_experts([teacher], tmp_path / "student", config)
    assert result.retention[SKILL.id] > 0.9
    loaded = load_policy(result.policy_path)
    assert loaded.manifest.robot == "discrete actions with 3 and 2 choices"
    rows = torch.stack([torch.linspace(-1.0, 1.0, 200), torch.ones(200)], dim=1)
    same = loaded.policy(rows)[:, :3].argmax(1) == greedy()(rows)[:, :3].argmax(1)
    assert same.double().mean() > 0.9
    rollout = LabeledData.open(tmp_path / "student" / "data").find(0, SKILL.id)
    assert torch.allclose(rollout.labels[:, :3].exp().sum(1), torch.ones(len(rollout.labels)), atol=1e-5)


def test_teachers_that_choose_differently_are_refused():
    other = greedy(goal=-1.0)
    teachers = [
        Teacher(SKILL, greedy(), "a", "0" * 64),
        Teacher(gym_skill(f'gym:{STEPS}?{{"goal": -1.0}}'), other, "b", "1" * 64),
    ]
    (found,) = measure_conflicts(teachers)
    assert 0.4 < found.disagreement <= 1.0
    same = [Teacher(SKILL, greedy(), "a", "0" * 64), Teacher(SKILL, greedy(), "b", "1" * 64)]
    assert measure_conflicts(same)[0].disagreement == 0.0
    check_conflicts(same)


def test_what_needs_continuous_actions_is_refused_by_name(tmp_path):
    teacher = Teacher(SKILL, greedy(), "expert", "0" * 64)
    with pytest.raises(ConfigError, match=r"merge.loss is mse.* forward_kl, reverse_kl, jsd, nll"):
        merge_experts([teacher], tmp_path / "x", MergeConfig())
    with pytest.raises(ConfigError, match="noise_model is dart"):
        merge_experts([teacher], tmp_path / "x", MergeConfig(loss="nll", noise_model="dart"))
    with pytest.raises(ContractError, match="policykd train needs continuous actions; these are discrete actions"):
        train_expert([SKILL], tmp_path / "y", TrainConfig())
    with pytest.raises(ContractError, match="policykd audit needs continuous actions"):
        audit_policy(greedy(), SKILL)
    save_policy(tmp_path / "p", greedy(), robot=SKILL.robot, skills=[SKILL.id], operation="import", seed=0)
    with pytest.raises(ContractError, match="policykd export needs continuous actions"):
        export_policy(tmp_path / "p", tmp_path / "e")
    with pytest.raises(ContractError, match=r"FrozenLake-v1 observes Discrete"):
        gym_skill("gym:FrozenLake-v1")
