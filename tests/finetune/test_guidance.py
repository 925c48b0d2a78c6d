"""Guidance by teachers: every loss and pseudo-reward by hand, who is taught, and runs with teachers."""

import math
from dataclasses import replace

import pytest
import torch
from point_tasks import NEW, OLD, SMALL, killed_at

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import load_policy
from policykd.agents.policy import Policy
from policykd.cli.commands.finetune import _teachers
from policykd.envs.make import make_env
from policykd.errors import ConfigError, UnknownNameError
from policykd.finetune import finetune
from policykd.finetune.config import GUIDANCE_NAMES
from policykd.finetune.guidance import GUIDANCES, Earned, Guide, Guided, Heard
from policykd.finetune.learner import Leash, LeashedPpo, guidance_weight, leash_of
from policykd.merge.teachers import Teacher

STATES = Guided(
    divergence=torch.tensor([2.0, 3.0, 4.0]), ratio=torch.tensor([0.5, 1.0, 1.7]), clip=0.2,
    teacher_values=torch.tensor([0.3, 0.5, 0.5]), values=torch.tensor([0.2, 0.6, 0.5]),
)  # fmt: skip
STEPS = Earned(
    teacher_log_probs=torch.tensor([[1.0, -2.0], [3.0, -4.0], [5.0, -6.0]]),
    log_probs=torch.tensor([[0.5, 0.25], [1.5, 2.0], [0.0, 1.0]]),
    ended=torch.tensor([[False, True], [False, False], [False, False]]),
)


@pytest.mark.parametrize(
    ("name", "losses", "rewards", "earns"),
    [
        ("kickstarting", [2.0, 3.0, 4.0], None, True),
        ("proximal", [0.8 * 2.0, 3.0, 1.7 * 4.0], None, True),
        ("value_gated", [2.0, 0.0, 0.0], None, True),
        ("entropy_regularized", [2.0, 3.0, 4.0], [[3.0, 0.0], [5.0, -6.0], [0.0, 0.0]], False),
        ("reverse_kl", None, [[0.5, -2.25], [1.5, -6.0], [5.0, -7.0]], False),
    ],
)
def test_every_guidance_by_hand(name, losses, rewards, earns):
    one = GUIDANCES[name]
    assert (one.loss is None, one.reward is None) == (losses is None, rewards is None)
    assert (one.earns, one.falls) == (earns, earns)
    if losses:
        assert one.loss(STATES).tolist() == pytest.approx(losses)
    if rewards:
        assert one.reward(STEPS).tolist() == [pytest.approx(row) for row in rewards]
    assert tuple(GUIDANCES) == GUIDANCE_NAMES


def test_pseudo_rewards_are_of_the_actions_that_were_drawn():
    """Log densities against torch's own Gaussian, spread 0.3."""
    actions, labels = torch.randn(4, 2, 3), torch.randn(4, 2, 3)
    log_std = torch.full((3,), math.log(0.3))
    log_probs, ended = torch.randn(4, 2), torch.zeros(4, 2, dtype=torch.bool)
    found = Heard(labels, torch.zeros(4, 2)).rewards(GUIDANCES["reverse_kl"], actions, log_probs, log_std, ended)
    expected = torch.distributions.Normal(labels, 0.3).log_prob(actions).sum(dim=2) - log_probs
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    none = Heard(labels, torch.zeros(4, 2)).rewards(GUIDANCES["proximal"], actions, log_probs, log_std, ended)
    assert not none.any()


def expert(place):
    """A policy that steers to a place: action units span -2 to 4."""
    policy = Policy(NEW.group_sizes, 1, Architecture((), (), initial_std=0.05), 0)
    with torch.no_grad():
        policy.actor[0].weight.zero_()
        policy.critic[0].weight.zero_()
        policy.actor[0].weight[0, 0] = -1.0
        policy.actor[0].bias.fill_(place - 1.0 / 3.0)
        policy.critic[0].bias.fill_(0.7)
        policy.normalizer.count.fill_(1.0)
    return policy.eval()


def teacher(skill=NEW, place=1.0):
    return Teacher(skill, expert(place), "expert", "1" * 64)


@torch.no_grad()
def test_only_simulations_of_a_teachers_skill_are_taught(student):
    env = make_env([OLD, NEW], 6, seed=0)
    guide = Guide(GUIDANCES["kickstarting"], env, {NEW.id: expert(1.0)})
    assert guide.known.tolist() == [False, True] * 3
    flat = torch.cat(list(env.reset().values()), dim=1)
    labels, values = guide.answers(flat, 1)
    assert values.tolist() == pytest.approx([0.0, 0.7] * 3)
    assert not labels[::2].any()
    torch.testing.assert_close(labels[1::2], expert(1.0)(flat[1::2]).clamp(-1, 1))


def learner_of(student, guidance, weight=1.0):
    env = make_env([OLD, NEW], 16, seed=0)
    config = replace(SMALL, guidance=guidance, guidance_weight=weight)
    return LeashedPpo(student.policy, env, config, 0, None, 0, Guide(GUIDANCES[guidance], env, {NEW.id: expert(1.0)}))


@pytest.mark.parametrize("guidance", ["proximal", "entropy_regularized", "reverse_kl"])
def test_rewards_of_a_guided_rollout(guidance, student):
    """Simulations without a teacher earn what the environment gives; the others as the guidance says."""
    plain = LeashedPpo(student.policy, make_env([OLD, NEW], 16, seed=0), SMALL, 0, None, 0)
    theirs, mine = plain.collect(), (learner := learner_of(student, guidance)).collect()
    assert torch.equal(mine.actions, theirs.actions)  # the student acts, and explores, in the same way
    assert torch.equal(mine.rewards[:, ::2], theirs.rewards[:, ::2])
    if guidance == "proximal":
        assert torch.equal(mine.rewards, theirs.rewards)
        return
    raw = mine.raw[:, 1::2]
    labels = expert(1.0)(raw.flatten(0, 1)).clamp(-1, 1).view(32, 8, 1)
    gaussian = torch.distributions.Normal(labels.detach(), student.policy.log_std.exp().item())
    log_probs = gaussian.log_prob(mine.actions[:, 1::2]).sum(dim=2)
    earned = GUIDANCES[guidance].reward(Earned(log_probs, mine.log_probs[:, 1::2], mine.ended[:, 1::2]))
    late = mine.ended[:, 1::2]  # the critic's value comes on top where time ran out
    expected = (1 - SMALL.ppo.gamma) * earned
    torch.testing.assert_close(mine.rewards[:, 1::2][~late], expected[~late].detach(), rtol=1e-4, atol=1e-4)
    assert learner._heard.values[:, 1::2].unique().tolist() == pytest.approx([0.7])


def test_the_loss_of_teachers_moves_the_actor_toward_them(student):
    """Without advantages, an update with kickstarting brings taught actions nearer to the teacher's."""
    learner = learner_of(student, "kickstarting")
    rollout = learner.collect()
    rollout.advantages.zero_()
    features = rollout.features[:, 1::2].flatten(0, 1)
    labels = learner._heard.labels[:, 1::2].flatten(0, 1)

    def error():
        with torch.no_grad():
            return float((student.policy.actor(features) - labels).square().mean())

    before = error()
    learner.update(rollout, 1e-3, Leash(torch.zeros(16), 0.0, guidance=0.0), actor=True)
    same = error()
    learner.update(rollout, 1e-3, Leash(torch.zeros(16), 0.0, guidance=1.0), actor=True)
    assert same == pytest.approx(before, rel=0.02)
    assert error() < 0.8 * before


def test_the_weight_falls_where_the_environment_rewards():
    config = replace(SMALL, guidance="kickstarting", guidance_weight=0.4, guidance_share=0.5)
    found = [guidance_weight(config, spent) for spent in (0.0, 0.25, 0.5, 1.0)]
    assert found == pytest.approx([0.4, 0.2, 0.0, 0.0])
    assert leash_of(config, [True], 0.25, 3.0).guidance == pytest.approx(0.2)
    for fixed in (replace(config, guidance="reverse_kl"), replace(config, guidance_share=0.0)):
        assert guidance_weight(fixed, 0.9) == 0.4


def test_a_guided_run_improves_and_resumes_in_the_same_weights(student_file, tmp_path):
    config = replace(SMALL, steps=8_192, segment_steps=2_048, warm_up_steps=1_024, guidance="kickstarting",
                     guidance_weight=0.5, ppo=replace(SMALL.ppo, learning_rate=3e-4))  # fmt: skip
    how = {"rehearsed": [OLD], "teachers": [teacher()]}
    whole = finetune(load_policy(student_file), [NEW], tmp_path / "whole", config, **how)
    start, end = (figures[NEW.id]["reward_per_step"] for figures in (whole.before, whole.after))
    assert end > start / 2, "rewards are negative: the loss is halved at least"
    parents = [parent.weights_sha256 for parent in load_policy(whole.policy_path).manifest.parents]
    assert parents[1:] == ["1" * 64]
    with killed_at(4_096):
        finetune(load_policy(student_file), [NEW], tmp_path / "killed", config, **how)
    again = finetune(load_policy(student_file), [NEW], tmp_path / "killed", config, resume=True, **how)
    hashes = [load_policy(result.policy_path).manifest.weights_sha256 for result in (whole, again)]
    assert hashes[0] == hashes[1]


def test_teachers_and_guidance_belong_together(student, student_file, tmp_path):
    guided = replace(SMALL, guidance="proximal")
    with pytest.raises(ConfigError, match="there are 0 teachers; give both, or neither"):
        finetune(student, [NEW], tmp_path, guided)
    with pytest.raises(ConfigError, match="guidance is '' and there are 1 teachers"):
        finetune(student, [NEW], tmp_path, SMALL, teachers=[teacher()])
    with pytest.raises(UnknownNameError, match="skill of the teacher expert"):
        finetune(student, [NEW], tmp_path, guided, teachers=[teacher(OLD)])
    with pytest.raises(UnknownNameError, match="did you mean proximal"):
        replace(SMALL, guidance="proximall")
    assert _teachers([], [NEW.id]) == []
    assert [t.skill.id for t in _teachers([str(student_file)], [NEW.id])] == [NEW.id]
