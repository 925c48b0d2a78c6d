"""Collection with masks: what collection with lists records, of all skills in one environment; recorded as plain."""

import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from teacher_samples import TINY, make_teacher
from torch.utils._python_dispatch import TorchDispatchMode

from policykd.agents.policy import Policy
from policykd.envs import batched_env
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.resets import _Planar
from policykd.envs.robots.biped import BIPED
from policykd.envs.stepping import TorchBackend
from policykd.errors import ConfigError
from policykd.merge.collect import ActionNoise, Collection, collect
from policykd.merge.data.pool import Batch, Rows, StatePool
from policykd.merge.fitting import Fitting
from policykd.merge.labeling import Labeler
from policykd.merge.losses import DistillationLoss
from policykd.merge.masked_collect import collect_masked
from policykd.merge.retention import JointEpisodes, _Separate

sys.path.insert(0, str(Path(__file__).parents[1] / "envs"))
from tape import FROM_HOST, WAITS, name_of, record_tape
from torch_engine import TorchEngine

SIMS, STEPS = 12, 24
ORDERED = EnvConfig(tracks=SIMS, ordered=True)
CALM = ActionNoise(0.0)


def student_of(teacher):
    return Policy(teacher.skill.group_sizes, teacher.policy.actions, generator_seed=9)


def masked(teachers, student, noise=0.1, beta=0.5, mixing="episode", record=None, config=ORDERED, **options):
    env = MaskedEnv([t.skill for t in teachers], SIMS * len(teachers), config=config, seed=1, threads=1, **options)
    env.seed(3)
    env.draw_starts()
    return collect_masked(
        teachers, env, student, [ActionNoise(noise)] * len(teachers), torch.Generator().manual_seed(5), beta=beta,
        mixing=mixing, labeler=Labeler(teachers, batched=False), record=record,
    )  # fmt: skip


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_first_episodes_are_those_of_lists(monkeypatch, beta):
    monkeypatch.setattr(batched_env, "make_backend", TorchBackend)
    teacher = make_teacher("biped/steps", 1)
    student = student_of(teacher)
    env = BatchedEnv([teacher.skill], SIMS, config=ORDERED, seed=1, threads=1)
    env.seed(3)
    draw = torch.Generator().manual_seed(5)
    theirs = collect([Collection(teacher, env, CALM, draw)], student, beta=beta, mixing="episode")[0]
    monkeypatch.setattr(MaskedEnv, "draw_starts", lambda self: None)  # it would draw from the stream of the resets
    monkeypatch.setattr(MaskedEnv, "_restart_where", lambda self, mask: None)
    mine = masked([teacher], student, 0.0, beta)[0]
    ended = theirs.terminated | theirs.truncated
    first = (ended.cumsum(0) - ended.long()) == 0
    assert ended.any()
    assert 0.5 < first.double().mean() <= 1.0
    for name in ("rewards", "terminated", "truncated", "student_acted"):
        assert torch.equal(getattr(mine, name)[first], getattr(theirs, name)[first]), name
    for name in ("observations", "labels", "teacher_values", "distances"):
        torch.testing.assert_close(getattr(mine, name)[first.flatten()], getattr(theirs, name)[first.flatten()])


def test_every_skill_is_labeled_by_its_teacher_and_ends_are_kept():
    teachers = [make_teacher("biped/flat", 1), make_teacher("biped/gaps", 2)]
    rollouts = masked(teachers, student_of(teachers[0]), beta=0.7)
    for teacher, rollout in zip(teachers, rollouts, strict=True):
        assert rollout.rewards.shape == (STEPS, SIMS)
        with torch.no_grad():
            torch.testing.assert_close(rollout.labels, teacher.policy(rollout.observations).clamp(-1, 1))
            torch.testing.assert_close(rollout.teacher_values, teacher.policy.value(rollout.observations))
        assert rollout.truncated[-1].any()
        fell = (rollout.terminated & ~rollout.truncated).flatten()
        assert not fell[rollout.final_rows].any(), "no state comes after a fall"
        # Whatever was cut is there once: running out of steps, or the end of the rollout.
        due = rollout.truncated.clone()
        due[-1] |= ~rollout.terminated[-1]
        assert torch.equal(rollout.final_rows, due.flatten().nonzero().squeeze(1))
        assert rollout.final_observations.isfinite().all()
        assert len(rollout.final_observations) == len(rollout.final_rows)
    assert not torch.equal(rollouts[0].observations, rollouts[1].observations)
    shares = [float(r.student_acted.double().mean()) for r in rollouts]
    assert all(0.1 < share < 0.5 for share in shares)


def test_states_after_the_rollout_are_its_last_ones():
    """Without ends, the state after the last row is what a step more would have begun with."""
    teacher = make_teacher("biped/flat", 1, episode_steps=6)
    rollout = masked([teacher], student_of(teacher), 0.0, 1.0)[0]
    longer = replace(teacher, skill=replace(teacher.skill, episode_steps=7))
    more = masked([longer], student_of(teacher), 0.0, 1.0)[0]
    whole = ~more.terminated.any(dim=0)
    rows = [5 * SIMS + i for i in whole.nonzero().flatten().tolist()]
    assert len(rows) > 2
    place = {int(row): k for k, row in enumerate(rollout.final_rows)}
    found = torch.stack([rollout.final_observations[place[row]] for row in rows])
    torch.testing.assert_close(found, more.observations.view(7, SIMS, -1)[6][whole])


@pytest.mark.parametrize("mixing", ["episode", "step"])
def test_recorded_steps_are_plain_ones(mixing):
    teachers = [make_teacher("biped/flat", 1), make_teacher("biped/gaps", 2), make_teacher("biped/steps", 3)]
    student, options = student_of(teachers[0]), {"make_engine": TorchEngine, "config": EnvConfig(tracks=8)}
    found = [masked(teachers, student, mixing=mixing, record=record, **options) for record in (None, record_tape)]
    for mine, theirs in zip(*found, strict=True):
        for field in fields(theirs):
            assert torch.equal(getattr(mine, field.name), getattr(theirs, field.name)), field.name
        assert theirs.terminated.any()
    assert 0.3 < float(found[0][0].student_acted.double().mean()) < 0.7


def test_a_loss_that_is_not_finite_is_said_once_per_round(monkeypatch):
    """On a device no step looks at the values; the round does."""
    teacher = make_teacher("biped/flat", 1)
    student = student_of(teacher)
    fitting = Fitting(student, torch.zeros(1, 11), replace(TINY, learning_rate=1e-3))
    fitting._loss = fitting._loss.func  # without the options of the CPU
    observations, labels = torch.randn(6, student.observation_size), torch.full((6, 11), torch.nan)
    batch = Batch(observations, labels, torch.zeros(6, dtype=torch.long))
    pool = StatePool(1)
    monkeypatch.setattr(pool, "sample", lambda counts, generator: batch)
    with pytest.raises(ValueError, match="must be finite"):
        fitting.fit(pool, [6], 0, torch.Generator())
    bound = fitting._loss
    fitting._loss = lambda s, t: bound(s, t, check=False)
    with pytest.raises(ConfigError, match="the loss of round 1 is nan"):
        fitting.fit(pool, [6], 0, torch.Generator())


@pytest.mark.parametrize("masks", [False, True], ids=["lists", "masks"])
def test_joint_validations_are_of_every_skill_on_its_own(masks, monkeypatch):
    """From the same states, teachers and student have the outcomes of an environment of their skill alone.

    Not to the last digit: some processors round the products of larger batches in another order.
    """
    monkeypatch.setattr(batched_env, "make_backend", TorchBackend)
    monkeypatch.setattr("policykd.envs.make.is_card", lambda name: masks)
    monkeypatch.setattr(_Planar, "draw", lambda self, count, generator, like: still(count, like))
    teachers = [make_teacher("biped/flat", 1, 60), make_teacher("biped/gaps", 2, 60)]
    student, config = student_of(teachers[0]), replace(TINY, validation_episodes=5)
    joint, alone = JointEpisodes(teachers, config, 5), _Separate(teachers, config, 5)
    assert isinstance(joint._env, MaskedEnv) is masks
    for found, expected in ((joint.of_teachers(), alone.of_teachers()), (joint.of(student), alone.of(student))):
        for mine, theirs in zip(found, expected, strict=True):
            for name in ("total_reward", "length", "distance", "success"):
                torch.testing.assert_close(getattr(mine, name), getattr(theirs, name), rtol=1e-6, atol=1e-6)
    assert len({tuple(o.length.tolist()) for o in joint.of_teachers() + joint.of(student)}) >= 3
    assert joint.floors() == [0.0, 0.0]


def still(count, like):
    """Equal starts for all episodes, whatever environment they are in."""
    qpos = torch.as_tensor(BIPED.stand_pose.copy()).to(like).repeat(count, 1)
    return qpos, torch.zeros_like(qpos), qpos.new_zeros(count), qpos.new_zeros(count, 0)


def pool_of(teachers, rows=40):
    pool, student = StatePool(len(teachers)), student_of(teachers[0])
    draw = torch.Generator().manual_seed(0)
    for i, teacher in enumerate(teachers):
        observations = torch.randn(rows, student.observation_size, generator=draw)
        with torch.no_grad():
            labels = teacher.policy(observations).clamp(-1, 1)
        pool._parts[i].append(Rows(observations, labels, torch.zeros(rows)))
    return pool, student


def fitted(loss, record, updates=12):
    teachers = [make_teacher("biped/flat", 1), make_teacher("biped/gaps", 2)]
    pool, student = pool_of(teachers)
    config = replace(TINY, updates=updates, learning_rate=3e-3, loss=loss, rounds=3, averaging=0.8)
    fitting = Fitting(student, torch.full((2, 11), -1.0), config, record=record)
    losses = [fitting.fit(pool, [9, 7], k, torch.Generator().manual_seed(k)) for k in range(3)]
    return losses, torch.cat([p.detach().flatten() for p in student.parameters()])


def called(work, generators):
    """A recorder that records nothing: what changes is in tensors, and every step is called."""
    return work


@pytest.mark.parametrize("loss", ["mse", "forward_kl", "nll"])
def test_recorded_gradient_steps_are_plain_ones(loss, monkeypatch):
    usual, weights = fitted(loss, None)
    bind = DistillationLoss.bind
    monkeypatch.setattr(DistillationLoss, "bind", lambda self, config, check: bind(self, config, check=False))
    plain, recorded = fitted(loss, called), fitted(loss, record_tape)
    assert plain[0] == recorded[0]
    assert torch.equal(plain[1], recorded[1])
    # The same steps as on the CPU, where step size and share are numbers: apart by their rounding to float32.
    assert plain[0] == pytest.approx(usual, rel=1e-4)
    torch.testing.assert_close(plain[1], weights, rtol=1e-3, atol=1e-5)
    assert usual[2] < 0.9 * usual[0] if loss == "mse" else usual[2] < usual[0]


def test_a_round_of_gradient_steps_waits_once(monkeypatch):
    """The host reads the mean loss at the end of a round, and fetches the skills of the rows in the first step."""
    bind, seen = DistillationLoss.bind, []
    monkeypatch.setattr(DistillationLoss, "bind", lambda self, config, check: bind(self, config, check=False))

    class Waits(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if name_of(func) in WAITS + FROM_HOST:
                seen.append(name_of(func))
            return func(*args, **(kwargs or {}))

    with Waits():
        fitted("mse", None, updates=5)
    assert seen.count("_local_scalar_dense") == 3, "one per round"
    assert len(seen) <= 3 + 6, seen
