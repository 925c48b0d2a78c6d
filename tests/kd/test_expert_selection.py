"""Strata, pacing and selection of experts: known numbers and invariants."""

import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd import functional as kf
from policykd.kd.ensembles import selected_logits
from policykd.kd.expert_selection import assigned, check_capacity_order, difficulty, strata, unlocked

SCORES = torch.tensor([0.05, 0.2, 0.4, 0.55, 0.7, 0.95])


def at(epoch: float, scores: torch.Tensor = SCORES) -> list[int]:
    """Experts at an epoch, counted from one as in the paper."""
    available = unlocked(epoch, experts=3, curriculum_epochs=150)
    return (assigned(strata(scores, 3), available) + 1).tolist()


def test_known_strata_pacing_and_assignment():
    assert (strata(SCORES, 3) + 1).tolist() == [1, 1, 2, 2, 3, 3]
    stages = {0: 1, 49: 1, 50: 2, 99: 2, 100: 3, 200: 3}
    assert {epoch: unlocked(epoch, experts=3, curriculum_epochs=150) for epoch in stages} == stages
    assert at(0) == [1] * 6
    assert at(50) == [1, 1, 2, 2, 2, 2]
    assert at(100) == at(200) == [1, 1, 2, 2, 3, 3]
    assert unlocked(0, experts=3, curriculum_epochs=0) == 3


def test_experts_grow_with_epoch_and_difficulty():
    scores = torch.rand(50, generator=torch.Generator().manual_seed(0))
    over_time = torch.tensor([at(epoch, scores) for epoch in range(0, 160, 10)])
    assert (over_time.diff(dim=0) >= 0).all()
    assert (over_time[:, scores.argsort()].diff(dim=1) >= 0).all()
    served = over_time[-1].bincount(minlength=4)[1:]
    assert served.sum() == 50
    assert (served - 50 / 3).abs().max() <= 1


def test_only_the_order_of_difficulty_matters():
    scores = torch.rand(40, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(strata(scores[order], 4), strata(scores, 4)[order])
    torch.testing.assert_close(strata(scores + 3, 4), strata(scores, 4))
    torch.testing.assert_close(strata(scores.exp(), 4), strata(scores, 4))
    assert strata(torch.zeros(4), 2).tolist() == [0, 0, 1, 1]


def test_difficulty_is_one_minus_the_mean_probability_of_the_label():
    logits = torch.tensor([[[0.0, 0.0], [0.0, 3.0]], [[2.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    sigmoid = torch.tensor([2.0, 3.0], dtype=torch.float64).sigmoid()
    expected = torch.stack([1 - (0.5 + sigmoid[0]) / 2, 1 - (sigmoid[1] + 0.5) / 2])
    torch.testing.assert_close(difficulty(logits, torch.tensor([0, 1])), expected)
    assert difficulty(100 * logits[:, :1], torch.tensor([1])) > difficulty(100 * logits[:, :1], torch.tensor([0]))


def test_one_expert_is_standard_distillation():
    z, v = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64), torch.tensor([[2.0, 1.0, 4.0]], dtype=torch.float64)
    y = torch.tensor([2])
    own = assigned(strata(difficulty(v[None], y), 1), unlocked(0, experts=1, curriculum_epochs=10))
    loss = 0.1 * kf.ce(z, y) + 0.9 * kf.kd(z, selected_logits(v[None], own), temperature=4)
    assert loss.item() == pytest.approx(0.384786, abs=5e-7)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"must be \(M, N, C\)"):
        difficulty(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match="labels must be"):
        difficulty(torch.zeros(2, 4, 3), torch.full((4,), 3))
    with pytest.raises(ValueError, match=r"must be \(N,\)"):
        strata(torch.zeros(2, 2), 2)
    with pytest.raises(ConfigError, match="experts is 0"):
        strata(SCORES, 0)
    with pytest.raises(ConfigError, match="available is 0"):
        assigned(strata(SCORES, 2), 0)
    with pytest.raises(ConfigError, match="ascending order"):
        check_capacity_order([10, 30, 20])
    check_capacity_order([10, 20, 30])
