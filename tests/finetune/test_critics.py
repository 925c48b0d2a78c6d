"""A critic that reads what the policy does not: it learns from it, is resumed, and asks for groups that are there."""

import copy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from point_tasks import NEW, SMALL, killed_at

from policykd.agents.files.policy_file import load_policy, save_policy
from policykd.agents.policy import Policy
from policykd.agents.training import PpoConfig
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError, UnknownNameError
from policykd.finetune import finetune
from policykd.finetune.critics import OwnCritic, PrivilegedCritic
from policykd.finetune.learner import Leash, LeashedPpo

BLIND, SEEING = get_skill("biped/steps", ("proprio",)), get_skill("biped/steps", ("proprio", "terrain"))
CONFIG = replace(
    SMALL, privileged=("terrain",), steps=384, segment_steps=128, warm_up_steps=128, validation_episodes=2,
    final_episodes=2, finalists=1, ppo=PpoConfig(envs=8, rollout_steps=16, minibatch=64, epochs=2),
)  # fmt: skip
FREE = Leash(torch.zeros(8), 0.0)


def blind():
    policy = Policy(BLIND.group_sizes, 11, generator_seed=0).eval()
    policy.update_normalizer(torch.randn(64, policy.observation_size, generator=torch.Generator().manual_seed(0)))
    return policy


def learner_of(policy, config=CONFIG):
    env = BatchedEnv([SEEING], 8, config=EnvConfig(tracks=16), threads=1)
    return LeashedPpo(policy, env, config, 0, None, 0)


def test_the_critic_reads_more_than_the_policy():
    policy = blind()
    learner = learner_of(policy)
    assert isinstance(learner._critic, PrivilegedCritic)
    rollout = learner.collect()
    assert rollout.features.shape[2] == policy.observation_size
    flat = torch.cat(list(learner._env.reset().values()), dim=1)
    other = flat.clone()
    other[:, SEEING.columns["terrain"]] += 1.0
    own = OwnCritic(policy, SEEING.columns)
    with torch.no_grad():
        assert torch.equal(own.value(flat), own.value(other))
        assert not torch.allclose(learner._critic.value(flat), learner._critic.value(other))
    assert isinstance(learner_of(blind(), replace(CONFIG, privileged=()))._critic, OwnCritic)


def test_both_critics_learn_and_the_actor_rests_while_they_warm_up():
    policy = blind()
    before, learner = copy.deepcopy(policy), learner_of(policy)
    critic, every = learner._critic, torch.arange(128)

    def errors(rollout, targets):
        with torch.no_grad():
            critic.prepare(settled=True)
            own = learner._critic._own.loss(rollout, every, targets)
            return float(critic.loss(rollout, every, targets) - own), float(own)

    rollout = learner.collect()
    targets = (rollout.advantages + rollout.values).flatten()
    learner.update(rollout, 1e-3, FREE, actor=False)
    first = errors(rollout, targets)
    for _ in range(20):
        learner.update(rollout, 1e-3, FREE, actor=False)
    last = errors(rollout, targets)
    assert last[0] < first[0] / 2
    assert last[1] < first[1] / 2
    for mine, theirs in zip(before.actor.parameters(), policy.actor.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_normalizer_of_its_inputs_is_settled_by_the_warm_up():
    learner = learner_of(blind())
    normalizer = learner._critic._network.normalizer
    states = [copy.deepcopy(normalizer.state_dict())]
    for actor in (False, True):
        learner.update(learner.collect(), 1e-3, FREE, actor=actor)
        states.append(copy.deepcopy(normalizer.state_dict()))
    same = [all(torch.equal(a[name], b[name]) for name in a) for a, b in pairwise(states)]
    assert same == [False, True]


@pytest.fixture
def walker_file(tmp_path):
    path = tmp_path / "student"
    save_policy(path, blind(), robot=BLIND.robot, skills=[BLIND.id], operation="merge", seed=0)
    return path


def test_an_interrupted_run_measures_what_a_whole_one_does(walker_file, tmp_path):
    whole = finetune(load_policy(walker_file), [BLIND], tmp_path / "whole", CONFIG)
    with killed_at(256):
        finetune(load_policy(walker_file), [BLIND], tmp_path / "killed", CONFIG)
    finetune(load_policy(walker_file), [BLIND], tmp_path / "killed", CONFIG, resume=True)
    logs = [(tmp_path / name / "progress.jsonl").read_text() for name in ("whole", "killed")]
    assert logs[0] == logs[1]
    assert load_policy(whole.policy_path).policy.groups == {"proprio": BLIND.group_sizes["proprio"]}


def test_groups_that_are_not_there_are_refused(walker_file, student, tmp_path):
    def refused(loaded, target, config, error, text):
        with pytest.raises(error, match=text):
            finetune(loaded, [target], tmp_path / "run", config)
        assert not (tmp_path / "run").exists()

    walker = load_policy(walker_file)
    refused(walker, BLIND, replace(CONFIG, privileged=("proprio",)), ConfigError, "the policy reads proprio itself")
    refused(walker, BLIND, replace(CONFIG, privileged=("terain",)), UnknownNameError, "did you mean terrain")
    refused(student, NEW, replace(SMALL, privileged=("terrain",)), ConfigError, "privileged groups are for policykd's")
    with pytest.raises(ConfigError, match="privileged groups need warm_up_steps"):
        replace(CONFIG, warm_up_steps=0)
