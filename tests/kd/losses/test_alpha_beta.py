"""The alpha-beta divergence against literal loops, and its well-known special cases."""

import math

import pytest
import torch
from loss_contract import LossContract

from policykd.divergences import categorical_kl
from policykd.errors import ConfigError
from policykd.kd.losses.alpha_beta import AlphaBeta, alpha_beta


def softmax(row, temperature=1.0):
    e = [math.exp(x / temperature) for x in row]
    return [x / sum(e) for x in e]


class TestAlphaBeta(LossContract):
    function = staticmethod(alpha_beta)
    module = AlphaBeta
    class_axis = 1
    scale = 2.0
    cases = {
        "default": {},
        "warm": {"temperature": 4.0, "alpha": 0.5, "beta": 0.5},
        "forward": {"alpha": 1.0, "beta": 0.0},
        "reverse": {"alpha": 0.0, "beta": 1.0},
        "steep": {"alpha": 1.5, "beta": 0.5},
        "half": {"alpha": 0.5, "beta": 0.0, "scale_t2": False},
    }
    exempt = {"weights": "exponents are no weights; their limits are tested below", "temperature": "tested below"}

    def arrays(self, seed=0):
        return {"student": self.normal(seed, 6, 5), "teacher": self.normal(seed + 50, 6, 5)}

    def oracle(self, arrays, alpha=0.8, beta=0.2, temperature=1.0, scale_t2=True):
        values = []
        for s, t in zip(*arrays.values(), strict=True):
            total = 0.0
            for p, q in zip(softmax(t, temperature), softmax(s, temperature), strict=True):
                if beta == 0:
                    total += (p**alpha * math.log(p**alpha / q**alpha) - p**alpha + q**alpha) / alpha**2
                elif alpha == 0:
                    total += (q**beta * math.log(q**beta / p**beta) - q**beta + p**beta) / beta**2
                else:
                    own = alpha / (alpha + beta) * p ** (alpha + beta) + beta / (alpha + beta) * q ** (alpha + beta)
                    total += -(p**alpha * q**beta - own) / (alpha * beta)
            values.append(total * (temperature**2 if scale_t2 else 1))
        return values

    def test_special_cases(self):
        s, t = (torch.from_numpy(x) for x in self.arrays().values())
        p, q = t.softmax(1), s.softmax(1)
        torch.testing.assert_close(alpha_beta(s, t, alpha=1.0, beta=0.0), categorical_kl(s, t, temperature=1.0))
        torch.testing.assert_close(alpha_beta(s, t, alpha=0.0, beta=1.0), categorical_kl(t, s, temperature=1.0))
        torch.testing.assert_close(alpha_beta(s, t, alpha=1.0, beta=1.0), 0.5 * (p - q).square().sum(1).mean())
        hellinger = (p.sqrt() - q.sqrt()).square().sum(1).mean()
        torch.testing.assert_close(alpha_beta(s, t, alpha=0.5, beta=0.5), 2 * hellinger)
        torch.testing.assert_close(alpha_beta(s, t, alpha=0.3, beta=0.9), alpha_beta(t, s, alpha=0.9, beta=0.3))

    @pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.0, 0.7)])
    def test_an_exponent_of_zero_is_the_limit(self, alpha, beta):
        s, t = (torch.from_numpy(x) for x in self.arrays().values())
        near = {"alpha": max(alpha, 1e-5), "beta": max(beta, 1e-5)}
        assert float(alpha_beta(s, t, **near)) == pytest.approx(
            float(alpha_beta(s, t, alpha=alpha, beta=beta)), rel=1e-3
        )

    def test_high_temperature(self):
        s, t = (torch.from_numpy(x) for x in self.arrays().values())
        gap = (s - s.mean(1, keepdim=True)) - (t - t.mean(1, keepdim=True))
        limit = (gap**2).sum(1).mean() / (2 * 5 ** (0.8 + 0.2))
        assert float(alpha_beta(s, t, temperature=1e3)) == pytest.approx(float(limit), rel=1e-2)

    @pytest.mark.parametrize(
        "options", [{"alpha": -0.1}, {"beta": -1.0}, {"alpha": math.inf}, {"alpha": 0.0, "beta": 0.0}]
    )
    def test_impossible_exponents_are_refused(self, options):
        with pytest.raises(ConfigError, match=r"alpha|beta"):
            alpha_beta(torch.zeros(2, 3), torch.zeros(2, 3), **options)
