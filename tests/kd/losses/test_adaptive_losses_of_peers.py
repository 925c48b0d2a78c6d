"""SRD, PAD, OFA-KD and SemCKD, whose trained parts choose or transform, against literal loops."""

import itertools
import math

import numpy as np
import pytest
import torch
from loss_contract import LossContract, tensors

from policykd.errors import ConfigError
from policykd.kd.losses.ofa_kd import OFAKD, ofa_kd
from policykd.kd.losses.pad import PAD, pad
from policykd.kd.losses.semckd import SemCKD, semckd
from policykd.kd.losses.srd import SRD, srd

ALONE = {"temperature": "has no temperature", "weights": "has no weight inside"}
RAW = ALONE | {"invariance": "compares raw values: no invariance by design"}


def softmax(row, temperature=1.0):
    e = [math.exp(x / temperature) for x in row]
    return [x / sum(e) for x in e]


class TestSRD(LossContract):
    function = staticmethod(srd)
    module = SRD
    cases = {"authors": {}, "square": {"exponent": 2.0}, "wide": {"eps": 0.5}}
    quartic = True
    exempt = RAW | {
        "zero": "the logarithm of eps at the teacher; its gradient is tested below",
        "duplication": "a sum over the batch: twice the samples add log 2",
        "split": "a logarithm of a sum over the batch",
    }

    def arrays(self, seed=0):
        return {"student": self.normal(seed, 6, 4), "teacher": self.normal(seed + 50, 6, 4)}

    def oracle(self, arrays, exponent=4.0, eps=1e-6):
        total = eps
        for s, t in zip(arrays["student"].ravel(), arrays["teacher"].ravel(), strict=True):
            total += abs(s - t) ** exponent
        return [math.log(total)] * 6

    def check_module(self, arrays, case, expected):
        loss = self.build(**case, reduction="none").double()
        s, t = (arrays[n] for n in ("student", "teacher"))
        own, other = ((x - x.mean(0)) / np.sqrt(((x - x.mean(0)) ** 2).mean(0) + 1e-5) for x in (s, t))
        expected = self.oracle({"student": own, "teacher": other}, **case)
        np.testing.assert_allclose(loss(*map(torch.from_numpy, (s, t))), expected, rtol=1e-9)

    def test_floor_and_gradient_at_the_teacher(self):
        t = torch.randn(5, 3, dtype=torch.float64)
        s = t.clone().requires_grad_()
        value = srd(s, t, eps=1e-3)
        value.backward()
        assert float(value.detach()) == pytest.approx(math.log(1e-3))
        assert float(s.grad.abs().max()) == 0

    def test_the_projector_is_trained_and_scale_of_the_features_does_not_matter(self):
        torch.manual_seed(0)
        loss, s, t = SRD(5, 3), torch.randn(8, 5), torch.randn(8, 3)
        loss(s, t).backward()
        assert all(p.grad is not None for p in loss.parameters())
        torch.testing.assert_close(loss(s, 50 * t + 7), loss(s, t), rtol=1e-3, atol=1e-3)


class TestPAD(LossContract):
    function = staticmethod(pad)
    module = PAD
    module_args = {"student_dim": 4, "teacher_dim": 4}
    cases = {"default": {}, "wide": {"eps": 0.5}}
    exempt = RAW

    def arrays(self, seed=0):
        return {
            "student": self.normal(seed, 6, 4),
            "teacher": self.normal(seed + 50, 6, 4),
            "log_variance": 0.5 * self.normal(seed + 80, 6, 4),
        }

    def floor(self, arrays, **_):
        return arrays["log_variance"].mean(1)

    def oracle(self, arrays, eps=1e-6):
        rows = zip(*arrays.values(), strict=True)
        return [
            sum((b - a) ** 2 / (eps + math.exp(v)) + v for a, b, v in zip(s, t, u, strict=True)) / 4 for s, t, u in rows
        ]

    def check_module(self, arrays, case, expected):
        loss = self.build(**case, reduction="none").double()
        s, t = (tensors(arrays[n]) for n in ("student", "teacher"))
        squares = (loss.projector(s) - t).square() / (1 + case.get("eps", 1e-6))
        torch.testing.assert_close(loss(s, t), squares.mean(1))  # it starts with variance one
        torch.nn.init.normal_(loss.variance.weight)
        expected = pad(loss.projector(s), t, loss.variance(s), reduction="none", **case)
        torch.testing.assert_close(loss(s, t), expected)

    def test_default_module(self):
        loss = self.build()
        loss(torch.randn(3, 4), torch.randn(3, 4)).backward()
        assert all(p.grad is not None for p in loss.parameters())

    def test_13_default_constructor(self):
        module = self.build().double()
        value = module(*(tensors(self.arrays()[n]) for n in ("student", "teacher")))
        assert "PAD" in repr(module)
        assert value.shape == ()

    def test_the_best_variance_is_the_squared_error(self):
        s, t = torch.zeros(1, 1), torch.full((1, 1), 3.0)
        values = [float(pad(s, t, torch.full((1, 1), math.log(v)))) for v in (5.0, 9.0, 14.0)]
        assert values[1] == min(values)

    def test_a_wrong_shape_is_refused(self):
        with pytest.raises(ValueError, match=r"log_variance must be \(2, 3\)"):
            pad(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 1))


class TestOFAKD(LossContract):
    function = staticmethod(ofa_kd)
    module = OFAKD
    class_axis = 1
    scale = 2.0
    cases = {"authors": {}, "sharper": {"exponent": 1.5}, "warm": {"exponent": 0.8, "temperature": 2.0}}
    exempt = {
        "zero": "a cross-entropy: its value at the teacher is tested below",
        "monotone": "the label is enhanced: the teacher is not its minimum",
        "temperature": "has no factor T^2",
        "weights": "has no weight inside",
    }

    def arrays(self, seed=0):
        target = np.random.default_rng(seed + 9).integers(0, 5, 6)
        return {"student": self.normal(seed, 6, 5), "teacher": self.normal(seed + 50, 6, 5), "target": target}

    def oracle(self, arrays, exponent=1.0, temperature=1.0):
        values = []
        for s, t, y in zip(*arrays.values(), strict=True):
            p, q = softmax(t, temperature), softmax(s, temperature)
            values.append(-sum(((p[c] + (c == y)) ** exponent - (c == y)) * math.log(q[c]) for c in range(5)))
        return values

    def test_exponent_one_is_the_cross_entropy_with_the_teacher(self):
        s, t, y = (torch.from_numpy(x) for x in self.arrays().values())
        torch.testing.assert_close(ofa_kd(s, t, y), torch.nn.functional.cross_entropy(s, t.softmax(1)))
        same = t.clone().requires_grad_()
        ofa_kd(same, t, y).backward()
        assert float(same.grad.abs().max()) < 1e-12

    def test_a_larger_exponent_asks_for_the_label(self):
        t, y = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64), torch.tensor([1])
        pulls = []
        for exponent in (1.0, 1.5, 2.0):
            s = t.clone().requires_grad_()
            ofa_kd(s, t, y, exponent=exponent).backward()
            pulls.append(-float(s.grad[0, 1]))
        assert pulls == sorted(pulls)
        assert pulls[0] < pulls[1]

    def test_the_head_is_trained(self):
        loss = OFAKD(4, 5)
        loss(torch.randn(3, 4, 8, 8), torch.randn(3, 5), torch.tensor([0, 1, 4])).backward()
        assert all(p.grad is not None for p in loss.parameters())
        with pytest.raises(ConfigError, match="give both"):
            OFAKD(4)


class TestSemCKD(LossContract):
    function = staticmethod(semckd)
    module = SemCKD
    module_args = {"student_channels": [2, 3], "teacher_channels": [3, 2]}
    exempt = RAW | {"split": "the module's attention compares the samples of a batch"}

    def arrays(self, seed=0):
        shapes = [(6, 2, 2, 2), (6, 3), (6, 3), (6, 2, 1, 1), (6, 4), (6, 2)]
        attention = np.random.default_rng(seed + 3).dirichlet(np.ones(3), (6, 2))
        levels = [[self.normal(seed + k + base, *shape) for k, shape in enumerate(shapes)] for base in (0, 50)]
        return {"student": levels[0], "teacher": levels[1], "attention": attention}

    def oracle(self, arrays):
        values = np.zeros(6)
        for b, level, goal in itertools.product(range(6), range(2), range(3)):
            s, t = (arrays[side][3 * level + goal][b].ravel() for side in ("student", "teacher"))
            distance = sum((x - y) ** 2 for x, y in zip(s, t, strict=True)) / len(s)
            values[b] += arrays["attention"][b, level, goal] * distance / 2
        return values

    def maps(self):
        torch.manual_seed(0)
        student = [torch.randn(6, 2, 4, 4, dtype=torch.float64), torch.randn(6, 3, 2, 2, dtype=torch.float64)]
        teacher = [torch.randn(6, 3, 4, 4, dtype=torch.float64), torch.randn(6, 2, 2, 2, dtype=torch.float64)]
        return student, teacher

    def check_module(self, arrays, case, expected):
        loss, (student, teacher) = self.build(reduction="none", batch=8).double().eval(), self.maps()
        attention = loss.attention(student, teacher)
        assert attention.shape == (6, 2, 2)
        np.testing.assert_allclose(attention.sum(2).detach(), 1.0)
        for b, level in itertools.product(range(6), range(2)):
            scores = []
            for goal in range(2):
                vectors = []
                for maps, embed in ((student[level], loss.queries[level]), (teacher[goal], loss.keys[goal])):
                    row = [float((maps[b] * other).sum()) for other in maps]
                    row = np.array([x / math.sqrt(sum(y * y for y in row)) for x in row] + [0.0, 0.0])
                    hidden = np.maximum(
                        embed.first.weight.detach().numpy() @ row + embed.first.bias.detach().numpy(), 0
                    )
                    out = embed.second.weight.detach().numpy() @ hidden + embed.second.bias.detach().numpy()
                    vectors.append(out / np.linalg.norm(out))
                scores.append(float(vectors[0] @ vectors[1]))
            np.testing.assert_allclose(attention[b, level].detach(), softmax(scores), rtol=1e-9)
        small = torch.nn.functional.adaptive_avg_pool2d
        pairs = [
            (student[0], teacher[0]),
            (small(student[0], 2), teacher[1]),
            (student[1], small(teacher[0], 2)),
            (student[1], teacher[1]),
        ]
        projected = [project(s) for project, (s, _) in zip(loss.projectors, pairs, strict=True)]
        value = semckd(projected, [t for _, t in pairs], attention, reduction="none")
        torch.testing.assert_close(loss(student, teacher), value)

    def test_13_default_constructor(self):
        loss = self.build()
        student, teacher = ([x.float() for x in side] for side in self.maps())
        loss(student, teacher).backward()
        assert "SemCKD" in repr(loss)
        assert all(p.grad is not None for p in loss.parameters())

    def test_impossible_calls_are_refused(self):
        student, teacher = self.maps()
        with pytest.raises(ValueError, match="a batch of 6 samples, but SemCKD was built with batch=5"):
            self.build(batch=5).double()(student, teacher)
        with pytest.raises(ValueError, match="built for 2 student and 2 teacher levels, got 1 and 2"):
            self.build().double()(student[:1], teacher)
        with pytest.raises(ValueError, match="attention must be"):
            semckd(student, student, torch.ones(6, 1, 3))
        with pytest.raises(ConfigError, match="at least one student"):
            SemCKD([], [3])
