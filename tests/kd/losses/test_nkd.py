"""NKD against literal loops."""

import math

import numpy as np
import pytest
import torch
from loss_contract import LossContract

from policykd.kd.losses.kd import kd
from policykd.kd.losses.nkd import NKD, nkd


def softmax(row, temperature=1.0):
    e = [math.exp(x / temperature) for x in row]
    return [x / sum(e) for x in e]


class TestNKD(LossContract):
    function = staticmethod(nkd)
    module = NKD
    class_axis = 1
    scale = 2.0
    cases = {"authors": {}, "warm": {"temperature": 3.0, "gamma": 0.5}, "label alone": {"gamma": 0.0}}
    weights = {"gamma": 0.0}
    exempt = {
        "zero": "both parts are cross-entropies, and the first asks for more confidence than the teacher's",
        "monotone": "the teacher is not its minimum",
        "temperature": "softens the other classes alone; its limit is tested below",
    }

    def arrays(self, seed=0):
        target = np.random.default_rng(seed + 9).integers(0, 5, 6)
        return {"student": self.normal(seed, 6, 5), "teacher": self.normal(seed + 50, 6, 5), "target": target}

    def oracle(self, arrays, gamma=1.5, temperature=1.0):
        values = []
        for s, t, y in zip(*arrays.values(), strict=True):
            first = -softmax(t)[y] * math.log(softmax(s)[y])
            rest = [c for c in range(5) if c != y]
            q_s, q_t = (softmax([row[c] for c in rest], temperature) for row in (s, t))
            second = -sum(a * math.log(b) for a, b in zip(q_t, q_s, strict=True))
            values.append(first + gamma * temperature**2 * second)
        return values

    def test_the_second_part_without_its_entropy_is_kd_on_the_other_classes(self):
        s, t, y = (torch.from_numpy(x) for x in self.arrays().values())
        keep = torch.ones_like(s, dtype=torch.bool).scatter(1, y[:, None], False)
        rest_s, rest_t = s[keep].reshape(6, 4), t[keep].reshape(6, 4)
        entropy = -(rest_t.softmax(1) * rest_t.log_softmax(1)).sum(1).mean()
        second = nkd(s, t, y, gamma=1.0) - nkd(s, t, y, gamma=0.0)
        torch.testing.assert_close(second - entropy, kd(rest_s, rest_t, temperature=1.0))

    def test_two_classes_leave_the_label_alone(self):
        s, t, y = torch.randn(4, 2), torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
        torch.testing.assert_close(nkd(s, t, y, gamma=9.0), nkd(s, t, y, gamma=0.0))

    def test_one_class_is_refused(self):
        with pytest.raises(ValueError, match="at least 2 classes"):
            nkd(torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2, dtype=torch.long))
