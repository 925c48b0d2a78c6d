"""Losses that compare the samples of a batch with one another."""

import itertools
import math

import numpy as np
import pytest
import torch
from loss_contract import LossContract

from policykd.kd import functional as kf
from policykd.kd import losses

ROTATION = np.linalg.qr(np.random.default_rng(3).standard_normal((4, 4)))[0]
BY_DEFINITION = {
    "split": "compares samples: depends on the batch by definition",
    "temperature": "has no temperature",
    "weights": "has no weight inside",
}


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(row):
    norm = math.sqrt(dot(row, row))
    return [x / norm for x in row]


class RelationalContract(LossContract):
    """Widths of student (4) and teacher (7) differ on purpose."""

    def arrays(self, seed=0):
        return {"student": self.normal(seed, 6, 4), "teacher": self.normal(seed + 50, 6, 7)}


class TestSP(RelationalContract):
    function = staticmethod(kf.sp)
    module = losses.SP
    invariances = {"rotation": lambda x: x @ ROTATION, "one positive scale": lambda x: 2.5 * x}
    exempt = BY_DEFINITION | {"duplication": "rows of the Gram matrix are normalized over the batch"}

    def oracle(self, arrays):
        grams = []
        for rows in (arrays["student"], arrays["teacher"]):
            gram = [[dot(a, b) for b in rows] for a in rows]
            grams.append([unit(row) for row in gram])
        pairs = zip(*grams, strict=True)
        return [sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / 6 for a, b in pairs]

    def test_closed_form_gradient(self):
        s, t = (torch.from_numpy(x) for x in self.arrays().values())
        s.requires_grad_()
        kf.sp(s, t).backward()
        q = s.detach()
        gram = q @ q.T
        norm = gram.norm(dim=1, keepdim=True)
        g_s, g_t = gram / norm, torch.nn.functional.normalize(t @ t.T, dim=1)
        d = 2 / 36 * (g_s - g_t)
        d_gram = (d - (d * g_s).sum(1, keepdim=True) * g_s) / norm
        torch.testing.assert_close(s.grad, (d_gram + d_gram.T) @ q)

    @pytest.mark.parametrize(("batch", "expected"), [(2, 0.292893), (4, 0.25), (8, 0.161612)])
    def test_orthonormal_against_collapsed(self, batch, expected):
        assert float(kf.sp(torch.eye(batch), torch.ones(batch, 3))) == pytest.approx(expected, abs=1e-6)

    def test_bounds_and_single_sample(self):
        for seed in range(20):
            arrays = self.arrays(seed)
            s, t = (torch.from_numpy(x) for x in arrays.values())
            assert 0 <= kf.sp(s, t) <= 4 / 6
            assert kf.sp(s.abs(), t.abs()) <= 2 / 6
        assert kf.sp(torch.randn(1, 3), torch.randn(1, 5)) == 0


class TestCC(RelationalContract):
    function = staticmethod(kf.cc)
    module = losses.CC
    quartic = True  # the bilinear kernel without unit vectors
    cases = {
        "paper": {},
        "order 4": {"order": 4, "gamma": 0.7},
        "rbf": {"kernel": "rbf"},
        "bilinear": {"kernel": "bilinear"},
        "bilinear, no unit": {"kernel": "bilinear", "normalize": False},
    }
    invariances = {"rotation": lambda x: x @ ROTATION}
    exempt = BY_DEFINITION

    def oracle(self, arrays, kernel="taylor", gamma=0.4, order=2, normalize=True):
        def correlation(a, b):
            if kernel == "rbf":
                return math.exp(-gamma * sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))
            s = dot(a, b)
            terms = [(2 * gamma) ** p / math.factorial(p) * s**p for p in range(order + 1)]
            return math.exp(-2 * gamma) * sum(terms) if kernel == "taylor" else s

        values = []
        rows = {n: [unit(r) if normalize else list(r) for r in arrays[n]] for n in arrays}
        s, t = rows["student"], rows["teacher"]
        for i in range(6):
            gaps = [(correlation(s[i], s[j]) - correlation(t[i], t[j])) ** 2 for j in range(6)]
            values.append(sum(gaps) / 6)
        return values

    def test_row_scale(self):
        s, t = (torch.from_numpy(x) for x in self.arrays().values())
        torch.testing.assert_close(kf.cc(torch.arange(1, 7)[:, None] * s, t), kf.cc(s, t))


class TestCCAdjacent(LossContract):
    function = staticmethod(kf.cc)
    module = losses.CC
    cases = {"adjacent": {"variant": "adjacent"}}
    exempt = BY_DEFINITION | {
        "permutation": "multiplies the errors of neighbors in the batch",
        "duplication": "multiplies the errors of neighbors in the batch",
        "invariance": "is built from differences of features: no invariance but a common shift of both",
    }

    def arrays(self, seed=0):
        return {"student": self.normal(seed, 6, 4), "teacher": self.normal(seed + 50, 6, 4)}

    def oracle(self, arrays, variant):
        gap = np.abs(arrays["student"] - arrays["teacher"])
        return [6 / 5 * dot(gap[i], gap[i + 1]) for i in range(5)] + [0.0]

    def test_a_permutation_changes_it(self):
        s, t = (torch.from_numpy(x) for x in self.arrays().values())
        order = torch.tensor([3, 0, 5, 1, 4, 2])
        assert not torch.isclose(kf.cc(s[order], t[order], variant="adjacent"), kf.cc(s, t, variant="adjacent"))


class TestRKD(RelationalContract):
    function = staticmethod(kf.rkd)
    module = losses.RKD
    cases = {"default": {}, "distance": {"angle_weight": 0.0}, "angle": {"distance_weight": 0.0, "angle_weight": 1.0}}
    weights = {"distance_weight": 0.0, "angle_weight": 0.0}
    invariances = {"translation, rotation, scale": lambda x: 2.5 * x @ ROTATION + np.arange(4.0)}
    exempt = {k: v for k, v in BY_DEFINITION.items() if k != "weights"}

    def oracle(self, arrays, distance_weight=25.0, angle_weight=50.0):
        def huber(x):
            return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5

        distances, cosines = [], []
        for rows in (arrays["student"], arrays["teacher"]):
            d = [[math.dist(a, b) for b in rows] for a in rows]
            apart = [x for row in d for x in row if x > 0]
            distances.append([[x * len(apart) / sum(apart) for x in row] for row in d])
            cos = np.zeros((6, 6, 6))
            for j, i, k in itertools.product(range(6), repeat=3):
                if j not in (i, k):
                    cos[j, i, k] = dot(unit(rows[i] - rows[j]), unit(rows[k] - rows[j]))
            cosines.append(cos)
        values = []
        for i in range(6):
            first = sum(huber(distances[0][i][j] - distances[1][i][j]) for j in range(6)) / 6
            second = sum(huber(x) for x in (cosines[0][i] - cosines[1][i]).ravel()) / 36
            values.append(distance_weight * first + angle_weight * second)
        return values

    def test_coinciding_samples_have_finite_gradients(self):
        s = torch.ones(4, 3, requires_grad=True)
        kf.rkd(s, torch.randn(4, 5)).backward()
        assert torch.isfinite(s.grad).all()


class TestPKT(RelationalContract):
    function = staticmethod(kf.pkt)
    module = losses.PKT
    flat = 1e-5  # eps stands beside the probabilities: the minimum is at the teacher up to eps
    cases = {"code": {}, "paper": {"variant": "paper"}}
    invariances = {"rotation": lambda x: x @ ROTATION}
    exempt = BY_DEFINITION | {"duplication": "rows are probabilities over the batch"}

    def oracle(self, arrays, variant="code", eps=1e-7):
        conditionals = []
        for rows in (arrays["student"], arrays["teacher"]):
            scaled = [[x / (math.sqrt(dot(r, r)) + eps) for x in r] for r in rows]
            table = []
            for i, a in enumerate(scaled):
                row = [(dot(a, b) + 1) / 2 if variant == "code" or i != j else 0.0 for j, b in enumerate(scaled)]
                table.append([x / sum(row) for x in row])
            conditionals.append(table)
        values = []
        for p_s, p_t in zip(*conditionals, strict=True):
            terms = [t * math.log((t + eps) / (s + eps)) for s, t in zip(p_s, p_t, strict=True)]
            values.append(sum(terms) / (6 if variant == "code" else 1))
        return values

    def test_two_samples_have_one_other_each_without_the_diagonal(self):
        s, t = (torch.from_numpy(x)[:2] for x in self.arrays().values())
        assert abs(float(kf.pkt(s, t, variant="paper"))) < 1e-6
        with pytest.raises(ValueError, match="needs two samples, got 1"):
            kf.pkt(s[:1], t[:1], variant="paper")

    def test_row_scale(self):
        s, t = (torch.from_numpy(x) for x in self.arrays().values())
        scaled = torch.arange(1, 7)[:, None] * s
        torch.testing.assert_close(kf.pkt(scaled, t), kf.pkt(s, t), rtol=1e-5, atol=1e-9)
