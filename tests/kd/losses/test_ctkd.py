"""Curriculum temperature: KD at a trained temperature whose gradient is reversed."""

import math

import numpy as np
import pytest
import torch
from loss_contract import LossContract, tensors

from policykd.errors import ConfigError
from policykd.kd.losses.ctkd import CTKD, ctkd, curriculum
from policykd.kd.losses.kd import kd


def softmax(row, temperature=1.0):
    e = [math.exp(x / temperature) for x in row]
    return [x / sum(e) for x in e]


class TestCTKD(LossContract):
    function = staticmethod(ctkd)
    module = CTKD
    invariances = {"logit shift": lambda x: x + 3.7, "shift per sample": lambda x: x + np.arange(6.0)[:, None]}
    scale = 2.0
    fixed = ("temperature",)
    exempt = {"weights": "has no weight inside", "temperature": "the temperature is an input"}

    def arrays(self, seed=0):
        return {
            "student": self.normal(seed, 6, 5),
            "teacher": self.normal(seed + 50, 6, 5),
            "temperature": np.array([3.0]),
        }

    def oracle(self, arrays):
        warm = float(arrays["temperature"][0])
        values = []
        for s, t in zip(arrays["student"], arrays["teacher"], strict=True):
            p, q = softmax(t, warm), softmax(s, warm)
            values.append(warm**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
        return values

    def check_module(self, arrays, case, expected):
        loss = self.build(lowest=1.0, span=4.0, start=0.0, reduction="none").double()
        assert float(loss.temperature) == 3.0
        s, t = (tensors(arrays[n]) for n in ("student", "teacher"))
        np.testing.assert_allclose(loss(s, t).detach(), expected, rtol=1e-10)

    @pytest.mark.parametrize("strength", [1.0, 0.25, 0.0])
    def test_the_temperatures_gradient_is_reversed_and_scaled(self, strength):
        s, t = (tensors(self.arrays()[n]) for n in ("student", "teacher"))
        loss = self.build(strength=strength).double()
        loss(s.requires_grad_(), t).backward()

        def value(level):
            warm = 1.0 + 20.0 / (1.0 + math.exp(-level))
            return float(kd(s.detach(), t, temperature=warm))

        slope = (value(1.0 + 1e-5) - value(1.0 - 1e-5)) / 2e-5
        assert float(loss.level.grad) == pytest.approx(-strength * slope, rel=1e-5, abs=1e-12)
        (plain,) = torch.autograd.grad(kd(s, t, temperature=float(loss.temperature.detach())), s)
        torch.testing.assert_close(s.grad, plain)  # the student's gradient is not reversed

    def test_the_temperature_follows_the_harder_side(self):
        s, t = (tensors(self.arrays()[n]) for n in ("student", "teacher"))
        loss = self.build().double()
        optimizer = torch.optim.SGD(loss.parameters(), 0.5)
        before = float(loss(s, t).detach())
        for _ in range(20):
            optimizer.zero_grad()
            loss(s, t).backward()
            optimizer.step()
        assert float(loss(s, t).detach()) > before

    def test_curriculum(self):
        assert [round(curriculum(e), 6) for e in (0, 5, 10, 99)] == [0.0, 0.5, 1.0, 1.0]
        assert curriculum(1, 4) == pytest.approx(0.5 - 0.5 * math.cos(math.pi / 4))

    def test_impossible_temperatures_are_refused(self):
        for wrong in (torch.zeros(1), torch.ones(2)):
            with pytest.raises(ValueError, match="one value above 0"):
                ctkd(torch.zeros(2, 3), torch.zeros(2, 3), wrong)
        with pytest.raises(ConfigError, match="span must be above 0"):
            CTKD(span=0.0)
