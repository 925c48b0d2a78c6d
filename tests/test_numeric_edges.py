"""Numbers at the edges of functions that many rooms use: sums over events, bounds that are included, counts."""

import numpy as np
import pytest
import torch

from policykd import stats
from policykd.divergences import gaussian_jsd, gaussian_kl


def test_a_divergence_is_summed_over_the_last_axis_of_any_number_of_axes():
    draw = torch.Generator().manual_seed(0)
    mean, other, log_p, log_q = (torch.randn(2, 3, 4, generator=draw, dtype=torch.float64) for _ in range(4))
    found = gaussian_kl((mean, log_p), (other, log_q), direction="forward", reduction="none")
    student = torch.distributions.Normal(mean, log_p.exp())
    teacher = torch.distributions.Normal(other, log_q.exp())
    torch.testing.assert_close(found, torch.distributions.kl_divergence(teacher, student).sum(-1))
    assert found.shape == (2, 3)


@pytest.mark.parametrize("beta", [-0.001, 1.001, float("nan")])
def test_a_share_outside_zero_and_one_is_refused(beta):
    pair = (torch.zeros(1, 2), torch.zeros(2))
    with pytest.raises(ValueError, match="beta"):
        gaussian_jsd(pair, pair, beta=beta)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_the_ends_of_the_share_are_the_two_directions(beta):
    student, teacher = (torch.zeros(1, 2), torch.zeros(2)), (torch.ones(1, 2), torch.full((2,), 0.3))
    direction = "reverse" if beta else "forward"
    expected = gaussian_kl(student, teacher, direction=direction)
    torch.testing.assert_close(gaussian_jsd(student, teacher, beta=beta), expected)


def test_a_hundred_resamples_are_the_fewest():
    values = np.arange(6.0)
    stats._checked(values, 0.95, resamples=100)
    with pytest.raises(ValueError, match="resamples is 99"):
        stats._checked(values, 0.95, resamples=99)


@pytest.mark.parametrize("resamples", [1, 7, 100])
def test_as_many_samples_are_drawn_as_were_asked_for(resamples, monkeypatch):
    rows = np.arange(12.0).reshape(6, 2)
    whole = stats._resampled(rows, resamples, 3, lambda drawn: drawn.mean(axis=1))
    assert whole.shape == (resamples, 2)
    monkeypatch.setattr(stats, "_CHUNK", 2 * rows.size)
    parts = stats._resampled(rows, resamples, 3, lambda drawn: drawn.mean(axis=1))
    assert parts.shape == (resamples, 2)
