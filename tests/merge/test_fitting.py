"""Fitting, step by step: step sizes, clipping, whose spread, the average of the weights."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from teacher_samples import TINY

from policykd.agents.architecture import Architecture
from policykd.agents.policy import Policy
from policykd.errors import ConfigError
from policykd.merge import fitting as fitting_module
from policykd.merge.data.pool import Batch
from policykd.merge.fitting import Fitting
from policykd.merge.losses import LOSSES

FEATURES, ACTIONS = 3, 2
SPREAD = torch.tensor([[-1.0, -1.5], [-0.3, -0.2]])


class OneBatch:
    """Stands in for a dataset: every minibatch is the same one."""

    def __init__(self, batch):
        self.batch = batch

    def sample(self, counts, generator):
        return self.batch


def make_student():
    return Policy({"a": FEATURES}, ACTIONS, Architecture(hidden=(4,), critic_hidden=(4,)), 0)


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(1)
    labels = torch.rand(6, ACTIONS, generator=g) - 0.5
    return Batch(torch.randn(6, FEATURES, generator=g), labels, torch.tensor([0, 0, 0, 1, 1, 1]))


@pytest.mark.parametrize(("round_", "share"), [(0, 1.0), (1, 0.775), (2, 0.325), (3, 0.1), (4, 0.1)])
def test_the_step_size_falls_along_a_cosine_to_a_tenth(round_, share, batch):
    config = replace(TINY, rounds=4, learning_rate=2e-3, updates=1)
    fitting = Fitting(make_student(), SPREAD, config)
    fitting.fit(OneBatch(batch), (3, 3), round_, torch.Generator())
    assert fitting._optimizer.param_groups[0]["lr"] == pytest.approx(2e-3 * share)


@pytest.mark.parametrize(("wanted", "usable", "used"), [(1, 8, 1), (3, 8, 3), (4, 2, 2)])
def test_gradient_steps_use_the_threads_of_the_merge_and_no_more_than_there_are_cores(
    wanted, usable, used, batch, monkeypatch
):
    monkeypatch.setattr(fitting_module, "usable_cores", lambda: usable)
    seen, before = [], torch.get_num_threads()

    class Watched(OneBatch):
        def sample(self, counts, generator):
            seen.append(torch.get_num_threads())
            return super().sample(counts, generator)

    Fitting(make_student(), SPREAD, replace(TINY, updates=2, fit_threads=wanted)).fit(
        Watched(batch), (3, 3), 0, torch.Generator()
    )
    assert seen == [used, used]
    assert torch.get_num_threads() == before


def test_threads_of_gradient_steps_are_at_least_one():
    with pytest.raises(ConfigError, match=r"merge\.fit_threads"):
        replace(TINY, fit_threads=0)


def test_a_single_round_keeps_its_step_size(batch):
    fitting = Fitting(make_student(), SPREAD, replace(TINY, rounds=1, learning_rate=1e-3))
    fitting.fit(OneBatch(batch), (3, 3), 0, torch.Generator())
    assert fitting._optimizer.param_groups[0]["lr"] == 1e-3


def test_updates_equal_adam_with_clipped_gradients(batch):
    """An independent loop: Adam on the mean squared error, gradients up to norm 1, and the average of the weights."""
    far = Batch(batch.observations, 40.0 * batch.labels.clamp(-0.9, 0.9), batch.skill)  # gradients far above norm 1
    config = replace(TINY, rounds=1, updates=5, learning_rate=1e-2, averaging=0.9, loss="mse")
    student = make_student()
    own, kept = copy.deepcopy(student), [p.detach().clone() for p in [*student.actor.parameters(), student.log_std]]
    fitting = Fitting(student, SPREAD, config)
    fitting.fit(OneBatch(far), (3, 3), 0, torch.Generator())
    parameters = [*own.actor.parameters(), own.log_std]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    for step in range(5):
        mean = own(far.observations)
        same = (far.labels.abs() >= 1) & (mean * far.labels >= 1)
        loss = (torch.where(same, far.labels, mean) - far.labels).square().mean()
        optimizer.zero_grad()
        loss.backward()
        assert torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]) > 1
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        keep = min(0.9, (1 + step) / (10 + step))
        kept = [keep * k + (1 - keep) * p.detach() for k, p in zip(kept, parameters, strict=True)]
    for mine, expected in zip([*student.actor.parameters(), student.log_std], kept, strict=True):
        torch.testing.assert_close(mine.detach(), expected, rtol=1e-4, atol=1e-6)


def test_every_skill_has_the_spread_of_its_own_teacher(batch):
    config = replace(TINY, loss="forward_kl")
    student = make_student()
    fitting = Fitting(student, SPREAD, config)
    with torch.no_grad():
        mean = student(batch.observations)
    variance = (2 * student.log_std.detach()).exp()
    spread = SPREAD[batch.skill]
    kl = (
        student.log_std.detach() - spread + ((2 * spread).exp() + (mean - batch.labels).square()) / (2 * variance) - 0.5
    )
    assert fitting.loss(batch) == pytest.approx(float(kl.sum(1).mean()), rel=1e-5)


def test_beyond_the_bound_of_what_is_executed_nothing_is_learned(batch):
    student = make_student()
    with torch.no_grad():
        mean = student(batch.observations)
    labels = torch.where(mean >= 0, 1.0, -1.0)
    outside = Batch(batch.observations * 1e3, labels, batch.skill)
    fitting = Fitting(student, SPREAD, TINY)
    with torch.no_grad():
        mean = student(outside.observations)
    counted = ~((outside.labels.abs() >= 1) & (mean * outside.labels >= 1))
    expected = float(((mean - outside.labels).square() * counted).mean())
    assert fitting.loss(outside) == pytest.approx(expected, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(("loss", "choices", "bounded"), [("nll", (), True), ("mse", (), False), ("nll", (2,), False)])
def test_only_a_spread_that_is_learned_is_bounded(loss, choices, bounded):
    fitting = Fitting(make_student(), SPREAD, replace(TINY, loss=loss, min_std=0.3, max_std=0.31), choices)
    before = fitting._learner.log_std.detach().clone()
    fitting._set_share(0)
    fitting._average()
    assert torch.equal(fitting._learner.log_std, before) is not bounded
    keep = 1 / 10  # (1 + 0) / (10 + 0): the student follows the learner
    expected = keep * before + (1 - keep) * fitting._learner.log_std
    torch.testing.assert_close(fitting._student.log_std.detach(), expected.detach())


def test_the_spread_that_is_learned_stays_within_its_bounds(batch):
    config = replace(TINY, loss="nll", min_std=0.3, max_std=0.31, updates=3, learning_rate=0.5)
    fitting = Fitting(make_student(), SPREAD, config)
    fitting.fit(OneBatch(batch), (3, 3), 0, torch.Generator())
    std = fitting._learner.log_std.exp()
    assert (std >= 0.3 - 1e-6).all()
    assert (std <= 0.31 + 1e-6).all()
    assert math.isfinite(fitting.loss(batch))
    assert set(LOSSES) >= {"nll"}
