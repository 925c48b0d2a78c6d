"""CWD, DIST+, KTA, SimKD and KDSVD on feature maps, against literal loops."""

import itertools
import math

import numpy as np
import pytest
import torch
from loss_contract import LossContract, tensors

from policykd.errors import ConfigError
from policykd.kd.losses.cwd import CWD, cwd
from policykd.kd.losses.dist_plus import DISTPlus, dist_plus
from policykd.kd.losses.kdsvd import KDSVD, kdsvd
from policykd.kd.losses.kta import KTA, kta
from policykd.kd.losses.simkd import SimKD, simkd

ALONE = {"temperature": "has no temperature", "weights": "has no weight inside"}


def unit(values):
    norm = math.sqrt(sum(x * x for x in values))
    return [x / norm for x in values]


def correlation(a, b):
    a, b = (np.asarray(x, dtype=np.float64) - np.mean(x) for x in (a, b))
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


class MapContract(LossContract):
    shape = (6, 3, 2, 2)

    def arrays(self, seed=0):
        return {"student": self.normal(seed, *self.shape), "teacher": self.normal(seed + 50, *self.shape)}


class TestCWD(MapContract):
    function = staticmethod(cwd)
    module = CWD
    cases = {"authors": {}, "sharp": {"temperature": 1.0}, "no T2": {"scale_t2": False}}
    invariances = {"shift per channel": lambda x: x + np.arange(1.0, x.shape[1] + 1)[:, None, None]}
    exempt = {"weights": "has no weight inside"}

    def oracle(self, arrays, temperature=4.0, scale_t2=True):
        values = []
        for s, t in zip(*arrays.values(), strict=True):
            total = 0.0
            for a, b in zip(s, t, strict=True):
                q, p = ([math.exp(v / temperature) for v in x.ravel()] for x in (a, b))
                q, p = [v / sum(q) for v in q], [v / sum(p) for v in p]
                total += sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
            values.append(total / 3 * (temperature**2 if scale_t2 else 1))
        return values

    def temperature_limit(self, arrays, **_):
        gap = (arrays["student"] - arrays["teacher"]).reshape(6, 3, 4)
        gap = gap - gap.mean(2, keepdims=True)
        return (gap**2).sum(2).mean(1) / (2 * 4)

    def test_the_connector_is_trained_and_sizes_may_differ(self):
        loss = CWD(5, 3)
        loss(torch.randn(4, 5, 8, 8), torch.randn(4, 3, 4, 4)).backward()
        assert all(p.grad is not None for p in loss.parameters())
        with pytest.raises(ConfigError, match="give both"):
            CWD(5)


class TestDISTPlus(MapContract):
    function = staticmethod(dist_plus)
    module = DISTPlus
    cases = {"both": {}, "channels": {"spatial_weight": 0.0}, "places": {"channel_weight": 0.0, "spatial_weight": 2.0}}
    weights = {"channel_weight": 0.0, "spatial_weight": 0.0}
    invariances = {"positive scale": lambda x: 2.5 * x, "shift": lambda x: x + 3.0}
    exempt = {"temperature": "has no temperature"}

    def oracle(self, arrays, channel_weight=1.0, spatial_weight=1.0):
        values = []
        for s, t in zip(*arrays.values(), strict=True):
            channels = [1 - correlation(s[:, i, j], t[:, i, j]) for i, j in itertools.product(range(2), repeat=2)]
            places = 1 - correlation(s.sum(0).ravel(), t.sum(0).ravel())
            values.append(channel_weight * np.mean(channels) + spatial_weight * places)
        return values

    def test_the_connector_is_trained(self):
        loss = DISTPlus(5, 3)
        loss(torch.randn(4, 5, 4, 4), torch.randn(4, 3, 4, 4)).backward()
        assert all(p.grad is not None for p in loss.parameters())


class TestKTA(MapContract):
    function = staticmethod(kta)
    module = KTA
    module_args = {"student_channels": 3, "teacher_channels": 3}
    cases = {"l1": {}, "l2": {"norm": "l2"}, "no affinities": {"affinity_weight": 0.0}}
    weights = {"affinity_weight": 0.0}
    invariances = {"positive scale": lambda x: 2.5 * x}
    exempt = {"temperature": "has no temperature"}

    def oracle(self, arrays, norm="l1", affinity_weight=1.0):
        values = []
        for s, t in zip(*arrays.values(), strict=True):
            gap = [a - b for a, b in zip(unit(s.ravel()), unit(t.ravel()), strict=True)]
            total = sum(map(abs, gap)) / len(gap) if norm == "l1" else math.sqrt(sum(x * x for x in gap))
            places = [[unit(x.reshape(3, 4)[:, p]) for p in range(4)] for x in (s, t)]
            affinity = 0.0
            for p, q in itertools.product(range(4), repeat=2):
                own, other = (sum(a * b for a, b in zip(x[p], x[q], strict=True)) for x in places)
                affinity += (own - other) ** 2 / 16
            values.append(total + affinity_weight * affinity)
        return values

    def check_module(self, arrays, case, expected):
        loss = self.build(**case, reduction="none").double().eval()
        s, t = (tensors(v) for v in arrays.values())
        torch.testing.assert_close(loss(s, t), kta(loss.adapter(s), loss.paraphraser(t), reduction="none", **case))

    def test_the_translator_is_frozen(self):
        loss = self.build().train()
        assert not loss.paraphraser.training
        loss(torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)).backward()
        assert all(p.grad is None for p in loss.paraphraser.parameters())
        assert all(p.grad is not None for p in loss.adapter.parameters())


class TestSimKD(MapContract):
    function = staticmethod(simkd)
    module = SimKD
    exempt = ALONE | {"invariance": "compares raw values: no invariance by design"}

    def oracle(self, arrays):
        return [np.mean([(a - b) ** 2 for a, b in zip(s.ravel(), t.ravel(), strict=True)])
                for s, t in zip(*arrays.values(), strict=True)]  # fmt: skip

    def test_prediction_goes_through_the_teachers_classifier(self):
        torch.manual_seed(0)
        loss, classifier = SimKD(3, 4).eval(), torch.nn.Linear(4, 5)
        student = torch.randn(2, 3, 4, 4)
        expected = classifier(torch.nn.functional.adaptive_avg_pool2d(loss.projector(student), 1).flatten(1))
        torch.testing.assert_close(loss.predict(student, classifier), expected)
        assert loss.projector(student).shape == (2, 4, 4, 4)
        loss(student, torch.randn(2, 4, 2, 2)).backward()
        assert all(p.grad is not None for p in loss.parameters())

    def test_a_perfect_projection_predicts_like_the_teacher(self):
        maps, classifier = torch.rand(3, 4, 2, 2), torch.nn.Linear(4, 5)
        torch.testing.assert_close(SimKD().predict(maps, classifier), classifier(maps.mean((2, 3))))


class TestKDSVD(LossContract):
    function = staticmethod(kdsvd)
    module = KDSVD
    cases = {"rank 1": {}, "rank 2": {"rank": 2}}
    gradient_batch = 2  # of independent samples with 78 entries
    invariances = {"order of places": lambda x: x[:, :, ::-1, ::-1].copy(), "scale and sign": lambda x: -2.5 * x}
    exempt = ALONE | {"monotone": "small changes may reorder singular vectors"}

    def arrays(self, seed=0):
        def levels(s):
            return [self.normal(s, 6, 4, 3, 3), self.normal(s + 1, 6, 5, 2, 3), self.normal(s + 2, 6, 3, 2, 2)]

        return {"student": levels(seed), "teacher": levels(seed + 50)}

    def vectors(self, image, count):
        """Right singular vectors as eigenvectors of the Gram matrix, largest first."""
        matrix = image.reshape(len(image), -1).T
        values, vectors = np.linalg.eigh(matrix.T @ matrix)
        order = np.argsort(-values)[:count]
        return np.sqrt(np.maximum(values[order], 0)), vectors[:, order]

    def oracle(self, arrays, rank=1):
        totals = []
        for b in range(6):
            total, before = 0.0, None
            for s_maps, t_maps in zip(arrays["student"], arrays["teacher"], strict=True):
                strength, goal = self.vectors(t_maps[b], rank)
                limit = min(rank + 3, s_maps[b].shape[0], s_maps[b][0].size)
                _, own = self.vectors(s_maps[b], limit)
                now = ([], [])
                for k in range(rank):
                    v = goal[:, k] * np.sign(goal[np.abs(goal[:, k]).argmax(), k])
                    cosines = own.T @ v
                    best = np.abs(cosines).argmax()
                    scale = strength[k] / math.sqrt(sum(strength**2))
                    now[0].append(own[:, best] * np.sign(cosines[best]) * scale)
                    now[1].append(v * scale)
                if before is not None:
                    for k in range(rank):
                        for i, j in itertools.product(range(len(now[0][k])), range(len(before[0][k]))):
                            r = [math.exp(-((now[x][k][i] - before[x][k][j]) ** 2) / 8) for x in (0, 1)]
                            total += (r[0] - r[1]) ** 2
                before = now
            totals.append(total)
        return totals

    def test_a_small_change_of_the_teacher_raises_the_loss(self):
        arrays = self.identity()
        rng = np.random.default_rng(0)
        values = [
            float(self.value(arrays | {"student": [x + s * rng.standard_normal(x.shape) for x in arrays["student"]]}))
            for s in (0.0, 0.01, 0.05)
        ]
        assert values[0] < 1e-12 < values[1] < values[2]

    def test_equal_singular_values_have_a_finite_gradient(self):
        student = [torch.eye(4).reshape(1, 4, 2, 2).requires_grad_() for _ in range(2)]
        kdsvd(student, [torch.randn(1, 4, 2, 2) for _ in range(2)]).backward()
        assert all(torch.isfinite(x.grad).all() for x in student)

    def test_impossible_levels_are_refused(self):
        maps = [torch.randn(2, 3, 2, 2), torch.randn(2, 4, 2, 2)]
        with pytest.raises(ValueError, match="at least 2"):
            kdsvd(maps[:1], maps[:1])
        with pytest.raises(ValueError, match="need equal channels"):
            kdsvd(maps, maps[::-1])
        with pytest.raises(ValueError, match="at least 5 places and channels"):
            kdsvd(maps, maps, rank=5)
        with pytest.raises(ConfigError, match="rank must be at least 1"):
            KDSVD(rank=0)
