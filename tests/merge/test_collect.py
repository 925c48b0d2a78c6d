"""Collection: labels, mixture, routing and the bookkeeping of episodes."""

import pytest
import torch
from teacher_samples import make_teacher

from policykd.agents.policy import Policy
from policykd.envs.batched_env import BatchedEnv
from policykd.merge.collect import ActionNoise, Collection, collect

SIMS = 16


@pytest.fixture
def setup(teachers):
    teacher = teachers[0]
    env = BatchedEnv([teacher.skill], SIMS, seed=0, threads=1)
    student = Policy(teacher.skill.group_sizes, teacher.policy.actions, generator_seed=9)
    return teacher, student, env


def run(setup, **options):
    teacher, student, env = setup
    env.seed(3)
    noise = ActionNoise(options.pop("noise", 0.1))
    options = {"beta": 0.5, "mixing": "episode", **options}
    return collect([Collection(teacher, env, noise, torch.Generator().manual_seed(5))], student, **options)[0]


def test_labels_are_the_teachers_noise_free_means(setup):
    setup[0].policy.actor[-1].weight.data *= 10  # some means lie beyond what can be executed
    rollout = run(setup)
    with torch.no_grad():
        mean = setup[0].policy(rollout.observations)  # same groups, the teacher's own normalizer
    assert (mean.abs() > 1).any()
    torch.testing.assert_close(rollout.labels, mean.clamp(-1, 1))


@pytest.mark.parametrize(("beta", "share"), [(1.0, 0.0), (0.0, 1.0)])
def test_pure_mixtures(setup, beta, share):
    assert run(setup, beta=beta).student_acted.double().mean() == share


def test_per_episode_mixing_changes_hands_only_between_episodes():
    teacher = make_teacher("biped/flat", 1, episode_steps=96)  # long enough to fall
    student = Policy(teacher.skill.group_sizes, teacher.policy.actions, generator_seed=9)
    rollout = run((teacher, student, BatchedEnv([teacher.skill], SIMS, seed=0, threads=1)))
    ended = rollout.terminated | rollout.truncated
    changed = rollout.student_acted[1:] != rollout.student_acted[:-1]
    assert changed.any()
    assert not (changed & ~ended[:-1]).any()


def test_per_step_mixing_changes_hands_within_episodes(setup):
    rollout = run(setup, mixing="step")
    ended = rollout.terminated | rollout.truncated
    changed = rollout.student_acted[1:] != rollout.student_acted[:-1]
    assert (changed & ~ended[:-1]).any()
    assert 0.35 < rollout.student_acted.double().mean() < 0.65


def test_who_acts_decides_what_happens(setup):
    """Without noise, the expert's rollout does not depend on the student, and the student's does."""
    teacher, _student, env = setup
    expert = run(setup, beta=1.0, noise=0.0)
    other = Policy(teacher.skill.group_sizes, teacher.policy.actions, generator_seed=11)
    torch.nn.init.normal_(other.actor[-1].weight, std=0.05)
    torch.testing.assert_close(run((teacher, other, env), beta=1.0, noise=0.0).observations, expert.observations)
    assert not torch.allclose(run((teacher, other, env), beta=0.0, noise=0.0).observations, expert.observations)


def test_final_rows_are_where_the_next_row_is_not_the_next_state(setup):
    rollout = run(setup)
    ended = rollout.terminated | rollout.truncated
    expected = torch.nonzero(rollout.truncated.view(-1)).squeeze(1).tolist()
    expected += [(ended.shape[0] - 1) * SIMS + i for i in range(SIMS) if not ended[-1, i]]
    assert sorted(rollout.final_rows.tolist()) == sorted(expected)
    assert len(rollout.final_observations) == len(rollout.final_rows)


def test_equal_seeds_give_equal_rollouts(setup):
    first, second = run(setup), run(setup)
    for name, value in first.tensors().items():
        assert torch.equal(value, second.tensors()[name]), name
