"""Values of the merge's losses, each against a formula written out here."""

import math
from dataclasses import replace

import pytest
import torch
from teacher_samples import TINY

from policykd.merge.losses import LOSSES

MEAN_S, MEAN_T = torch.tensor([[0.2, -0.4], [1.5, 0.1]]), torch.tensor([[0.0, -0.1], [0.2, 0.1]])
LOG_S, LOG_T = torch.tensor([-1.0, -0.5]), torch.tensor([-0.7, -1.2])
STUDENT, TEACHER = (MEAN_S, LOG_S), (MEAN_T, LOG_T)


def kl(mean_p, log_p, mean_q, log_q):
    """KL(p || q) of diagonal Gaussians, (n,)."""
    p, q = log_p.exp().square(), log_q.exp().square()
    return (log_q - log_p + (p + (mean_p - mean_q).square()) / (2 * q) - 0.5).sum(-1)


def jsd(beta):
    """Geometric Jensen-Shannon divergence over ``beta (1 - beta)``, by the weighted Gaussian in between."""
    precision_s, precision_t = (-2 * LOG_S).exp(), (-2 * LOG_T).exp()
    precision = (1 - beta) * precision_s + beta * precision_t
    mean = ((1 - beta) * precision_s * MEAN_S + beta * precision_t * MEAN_T) / precision
    log = -0.5 * precision.log()
    return (beta * kl(MEAN_T, LOG_T, mean, log) + (1 - beta) * kl(MEAN_S, LOG_S, mean, log)) / (beta * (1 - beta))


ERROR = MEAN_S - MEAN_T
EXPECTED = {
    "mse": ERROR.square().mean(1),
    "huber": torch.where(ERROR.abs() <= 0.5, 0.5 * ERROR.square(), 0.5 * (ERROR.abs() - 0.25)).mean(1),
    "forward_kl": kl(MEAN_T, LOG_T, MEAN_S, LOG_S),
    "reverse_kl": kl(MEAN_S, LOG_S, MEAN_T, LOG_T),
    "nll": (0.5 * ((MEAN_T - MEAN_S) / LOG_S.exp()).square() + LOG_S + 0.5 * math.log(2 * math.pi)).sum(1),
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_loss_equals_its_formula(name):
    assert float(LOSSES[name].bind(TINY)(STUDENT, TEACHER)) == pytest.approx(float(EXPECTED[name].mean()), rel=1e-5)


@pytest.mark.parametrize("beta", [0.2, 0.5, 0.9])
def test_jsd_is_normalized_and_follows_its_beta(beta):
    found = float(LOSSES["jsd"].bind(replace(TINY, jsd_beta=beta))(STUDENT, TEACHER))
    assert found == pytest.approx(float(jsd(beta).mean()), rel=1e-5)


def test_nll_bounds_the_spread_from_below_and_above():
    bounds = replace(TINY, min_std=0.5, max_std=0.55)
    log = LOG_S.exp().clamp(0.5, 0.55).log()
    expected = (0.5 * ((MEAN_T - MEAN_S) / log.exp()).square() + log + 0.5 * math.log(2 * math.pi)).sum(1).mean()
    assert float(LOSSES["nll"].bind(bounds)(STUDENT, TEACHER)) == pytest.approx(float(expected), rel=1e-5)


def test_every_loss_has_a_formula_here():
    assert set(LOSSES) == {*EXPECTED, "jsd"}
