"""Losses of independent labels and of real values: the contract, and torch's own functions as a second oracle."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loss_contract import LossContract

from policykd.kd import functional as kf
from policykd.kd import losses
from policykd.kd.registry import LOSSES


class TestBCE(LossContract):
    function = staticmethod(kf.bce)
    module = losses.BCE
    cases = {"plain": {}, "weighted": {"positive_weights": (1.0, 3.0, 0.5)}}
    exempt = {
        "zero": "it compares with labels, not with a teacher",
        "invariance": "a logit of an independent label has no free shift",
        "temperature": "it has none",
        "monotone": "it compares with labels, not with a teacher",
    }

    def arrays(self, seed=0):
        return {"student": self.normal(seed, 6, 3), "target": np.random.default_rng(seed + 1).integers(0, 2, (6, 3))}

    def oracle(self, arrays, positive_weights=(1.0, 1.0, 1.0)):
        z, q = arrays["student"], arrays["target"]
        p = 1 / (1 + np.exp(-z))
        return -(np.array(positive_weights) * q * np.log(p) + (1 - q) * np.log(1 - p)).mean(1)

    def test_soft_and_boolean_labels_are_those_of_torch(self):
        z, soft = torch.randn(4, 3), torch.rand(4, 3)
        torch.testing.assert_close(kf.bce(z, soft), F.binary_cross_entropy_with_logits(z, soft))
        hard = soft > 0.5
        torch.testing.assert_close(kf.bce(z, hard), F.binary_cross_entropy_with_logits(z, hard.float()))

    def test_bad_labels_are_refused(self):
        z = torch.randn(4, 3)
        with pytest.raises(ValueError, match=r"labels must be in \[0, 1\], got 0 to 2"):
            kf.bce(z, torch.tensor([[0, 1, 2]] * 4))
        with pytest.raises(ValueError, match=r"labels must be \(4, 3\), one per logit, got \(4,\)"):
            kf.bce(z, torch.zeros(4))
        with pytest.raises(ValueError, match="positive_weights must be 3 numbers"):
            kf.bce(z, z > 0, positive_weights=(1.0,))
        with pytest.raises(ValueError, match="positive_weights must be numbers above 0"):
            losses.BCE(positive_weights=(0.0, 1.0, 1.0))


class TestMSE(LossContract):
    function = staticmethod(kf.mse)
    module = losses.MSE
    exempt = {"invariance": "values have no free direction", "temperature": "it has none"}

    def arrays(self, seed=0):
        return {"student": self.normal(seed, 6, 3), "teacher": self.normal(seed + 50, 6, 3)}

    def oracle(self, arrays):
        return ((arrays["student"] - arrays["teacher"]) ** 2).mean(1)


class TestGaussianKL(LossContract):
    function = staticmethod(kf.gaussian_kl)
    module = losses.GaussianKL
    scale = 0.5
    cases = {"forward": {}, "reverse": {"direction": "reverse"}}
    exempt = {
        "invariance": "a Gaussian has no free direction",
        "temperature": "it has none",
        "monotone": "log deviations are not symmetric",
    }

    def arrays(self, seed=0):
        return {"student": self.normal(seed, 6, 4), "teacher": self.normal(seed + 50, 6, 4)}

    def oracle(self, arrays, direction="forward"):
        first, second = (
            arrays[n] for n in (("teacher", "student") if direction == "forward" else ("student", "teacher"))
        )
        values = []
        for p, q in zip(first, second, strict=True):
            total = 0.0
            for d in range(2):
                m, s, n, t = p[d], math.exp(p[d + 2]), q[d], math.exp(q[d + 2])
                total += math.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5
            values.append(total)
        return values

    test_08_precision_and_saturation = None  # a deviation of exp(50) is beyond float32 by definition


class TestGaussianNLL(LossContract):
    quartic = True  # with a clamped deviation the gradient is 1e6 times the error
    function = staticmethod(kf.gaussian_nll)
    module = losses.GaussianNLL
    cases = {"wide": {}, "clamped": {"min_std": 0.9, "max_std": 1.1}}
    exempt = {
        "zero": "it compares with labels, not with a teacher",
        "invariance": "a Gaussian has no free direction",
        "temperature": "it has none",
        "monotone": "it compares with labels, not with a teacher",
    }

    def arrays(self, seed=0):
        return {"student": self.normal(seed, 6, 4), "target": self.normal(seed + 50, 6, 2)}

    def oracle(self, arrays, min_std=1e-3, max_std=1e3):
        mean, std = arrays["student"][:, :2], np.clip(np.exp(arrays["student"][:, 2:]), min_std, max_std)
        gap = (arrays["target"] - mean) / std
        return (np.log(std) + 0.5 * gap**2 + 0.5 * math.log(2 * math.pi)).sum(1)

    def test_half_a_gaussian_is_refused(self):
        with pytest.raises(ValueError, match=r"means and log standard deviations \(B, 2 D\), got \(2, 3\)"):
            kf.gaussian_nll(torch.zeros(2, 3), torch.zeros(2, 1))


def test_every_loss_on_outputs_says_its_kinds():
    kinds = {name: info.load().kinds for name, info in LOSSES.items() if info.load().signal == "logits"}
    other = {name: own for name, own in kinds.items() if own != ("single_label",)}
    assert (
        other.items()
        >= {
            "bce": ("multi_label",),
            "binary_kd": ("single_label", "multi_label"),
            "mse": ("regression",),
            "mse_logits": ("single_label", "multi_label", "regression"),
            "gaussian_nll": ("regression",),
            "gaussian_kl": ("regression",),
        }.items()
    )
