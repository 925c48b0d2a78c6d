"""Losses on feature maps of single samples, functions and modules."""

import itertools
import math

import numpy as np
import pytest
import torch
from loss_contract import LossContract, tensors

from policykd.kd import functional as kf
from policykd.kd import losses
from policykd.kd.losses.ofd import ofd_margin

ALONE = {"temperature": "has no temperature", "weights": "has no weight inside"}
RAW = ALONE | {"invariance": "compares raw values: no invariance by design"}


def unit(values):
    norm = math.sqrt(sum(x * x for x in values))
    return [x / norm for x in values]


class MapContract(LossContract):
    shapes = ((6, 3, 2, 2), (6, 3, 2, 2))

    def arrays(self, seed=0):
        return {"student": self.normal(seed, *self.shapes[0]), "teacher": self.normal(seed + 50, *self.shapes[1])}


def halve(maps):
    """Average 4 x 4 maps down to 2 x 2, by loops."""
    out = np.zeros((*maps.shape[:2], 2, 2))
    for i, j in itertools.product(range(2), repeat=2):
        out[:, :, i, j] = maps[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3))
    return out


class TestAT(MapContract):
    function = staticmethod(kf.at)
    module = losses.AT
    shapes = ((6, 3, 4, 4), (6, 5, 2, 2))
    cases = {"code": {}, "paper": {"variant": "paper"}, "power 4": {"power": 4.0}}
    invariances = {"positive scale": lambda x: 2.5 * x, "sign": lambda x: -x}
    exempt = ALONE

    def attention(self, maps, power):
        return [unit([sum(abs(c[i, j]) ** power for c in image) / len(image) for i in range(2) for j in range(2)])
                for image in maps]  # fmt: skip

    def oracle(self, arrays, power=2.0, variant="code"):
        student = arrays["student"] if arrays["student"].shape[2] == 2 else halve(arrays["student"])
        rows = zip(self.attention(student, power), self.attention(arrays["teacher"], power), strict=True)
        squares = [sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) for a, b in rows]
        return [x / 4 if variant == "code" else math.sqrt(x) for x in squares]

    def test_levels_add_up(self):
        s, t = (torch.from_numpy(x) for x in self.arrays().values())
        torch.testing.assert_close(losses.AT()([s, 2 * s], [t, t]), 2 * kf.at(s, t))


class TestFitNet(MapContract):
    function = staticmethod(kf.fitnet)
    module = losses.FitNet
    cases = {"code": {}, "paper": {"variant": "paper"}}
    exempt = RAW

    def oracle(self, arrays, variant="code"):
        gaps = (arrays["student"] - arrays["teacher"]).reshape(6, -1)
        return [sum(x * x for x in row) * (0.5 if variant == "paper" else 1 / 12) for row in gaps]

    @pytest.mark.parametrize(("size", "goal"), [(4, 2), (2, 4), (5, 3), (4, 4)])
    def test_regressor_reaches_the_teachers_shape(self, size, goal):
        loss = losses.FitNet((3, size, size), (5, goal, goal))
        assert loss.regressor(torch.randn(2, 3, size, size)).shape == (2, 5, goal, goal)
        loss(torch.randn(2, 3, size, size), torch.randn(2, 5, goal, goal)).backward()
        assert all(p.grad is not None for p in loss.parameters())


class TestNST(MapContract):
    function = staticmethod(kf.nst)
    module = losses.NST
    shapes = ((6, 3, 2, 2), (6, 4, 2, 2))
    cases = {"poly": {}, "linear": {"kernel": "linear"}}
    invariances = {"scale per map": lambda x: x * np.arange(1.0, x.shape[1] + 1)[:, None, None]}
    exempt = ALONE

    def oracle(self, arrays, kernel="poly"):
        def mean_kernel(a, b):
            products = [sum(x * y for x, y in zip(u, v, strict=True)) for u in a for v in b]
            return sum(p * p if kernel == "poly" else p for p in products) / len(products)

        values = []
        for image_s, image_t in zip(arrays["student"], arrays["teacher"], strict=True):
            s, t = ([unit(channel.ravel()) for channel in image] for image in (image_s, image_t))
            values.append(mean_kernel(t, t) + mean_kernel(s, s) - 2 * mean_kernel(s, t))
        return values


class TestICKD(MapContract):
    function = staticmethod(kf.ickd)
    module = losses.ICKD
    quartic = True
    cases = {"paper": {}, "code": {"variant": "code"}}
    invariances = {"order of places": lambda x: x[:, :, ::-1, ::-1].copy()}
    exempt = ALONE

    def oracle(self, arrays, variant="paper"):
        values = []
        for image_s, image_t in zip(arrays["student"], arrays["teacher"], strict=True):
            grams = []
            for image in (image_s, image_t):
                rows = [[float((a * b).sum()) for b in image] for a in image]
                grams.append([unit(r) if variant == "code" else r for r in rows])
            total = sum((x - y) ** 2 for a, b in zip(*grams, strict=True) for x, y in zip(a, b, strict=True))
            values.append(total / (3 if variant == "code" else 9))
        return values

    def test_connector(self):
        loss = losses.ICKD(4, 3)
        loss(torch.randn(2, 4, 2, 2), torch.randn(2, 3, 2, 2)).backward()
        assert all(p.grad is not None for p in loss.parameters())


class TestFT(MapContract):
    function = staticmethod(kf.ft)
    module = losses.FT
    module_args = {"student_channels": 3, "teacher_channels": 3}
    cases = {
        "paper l1": {},
        "paper l2": {"norm": "l2"},
        "code l1": {"variant": "code"},
        "code l2": {"variant": "code", "norm": "l2"},
    }
    invariances = {"positive scale": lambda x: 2.5 * x}
    exempt = ALONE

    def oracle(self, arrays, norm="l1", variant="paper"):
        values = []
        for s, t in zip(arrays["student"], arrays["teacher"], strict=True):
            if variant == "code":
                s, t = (np.array([[(x[:, i, j] ** 2).mean() for j in range(2)] for i in range(2)]) for x in (s, t))
            gap = [x - y for x, y in zip(unit(s.ravel()), unit(t.ravel()), strict=True)]
            total = sum(abs(x) if norm == "l1" else x * x for x in gap)
            root = math.sqrt(total) if norm == "l2" and variant == "paper" else total
            values.append(root / 4 if variant == "code" else root)
        return values

    def check_module(self, arrays, case, expected):
        loss = self.build(**case, reduction="none").double().eval()
        s, t = (tensors(v) for v in arrays.values())
        torch.testing.assert_close(loss(s, t), kf.ft(loss.translator(s), loss.paraphraser(t), reduction="none", **case))

    def test_paraphraser_is_frozen_and_trains_alone(self):
        loss = self.build()
        loss(torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)).backward()
        assert all(p.grad is None for p in loss.paraphraser.parameters())
        assert all(p.grad is not None for p in loss.translator.parameters())
        assert not loss.train().paraphraser.training
        loss.paraphraser.requires_grad_(True)
        loss.paraphraser.reconstruction_loss(torch.randn(2, 3, 4, 4)).backward()
        assert all(p.grad is not None for p in loss.paraphraser.parameters())


class TestVID(MapContract):
    function = staticmethod(kf.vid)
    module = losses.VID
    module_args = {"student_channels": 3, "teacher_channels": 3}
    fixed = ("variance",)
    exempt = RAW

    def arrays(self, seed=0):
        return super().arrays(seed) | {"variance": np.array([0.5, 2.0, 5.0])}

    def floor(self, arrays):
        return 0.5 * np.log(arrays["variance"]).mean()

    def oracle(self, arrays):
        values = []
        for s, t in zip(arrays["student"], arrays["teacher"], strict=True):
            terms = [0.5 * ((y - x) ** 2 / v + math.log(v))
                     for a, b, v in zip(s, t, arrays["variance"], strict=True)
                     for x, y in zip(a.ravel(), b.ravel(), strict=True)]  # fmt: skip
            values.append(sum(terms) / len(terms))
        return values

    def check_module(self, arrays, case, expected):
        loss = self.build(reduction="none").double()
        s, t = (tensors(arrays[n]) for n in ("student", "teacher"))
        torch.testing.assert_close(loss(s, t), kf.vid(loss.regressor(s), t, loss.variance, reduction="none"))

    def test_variance_is_trained_and_positive(self):
        loss = self.build()
        loss(torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)).backward()
        assert all(p.grad is not None for p in loss.parameters())
        loss.scale.data.fill_(-1e4)
        assert (loss.variance > 0).all()
        loss.half().scale.data.fill_(1e4)
        assert torch.isfinite(loss.variance).all()


class TestFSP(LossContract):
    function = staticmethod(kf.fsp)
    module = losses.FSP
    cases = {"code": {}, "paper": {"variant": "paper"}}
    invariances = {"order of places": lambda x: x[:, :, ::-1, ::-1].copy()}
    gradient_batch = 2  # of independent samples with 60 entries
    exempt = ALONE
    scale = 0.7

    def arrays(self, seed=0):
        def levels(s):
            return [self.normal(s, 6, 2, 4, 4), self.normal(s + 1, 6, 3, 2, 2), self.normal(s + 2, 6, 4, 2, 2)]

        return {"student": levels(seed), "teacher": levels(seed + 50)}

    def pooled(self, maps, variant):
        if maps.shape[2] == 2 or variant == "code":
            return maps if maps.shape[2] == 2 else halve(maps)
        out = np.zeros((*maps.shape[:2], 2, 2))
        for i, j in itertools.product(range(2), repeat=2):
            out[:, :, i, j] = maps[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((2, 3))
        return out

    def oracle(self, arrays, variant="code"):
        values = np.zeros(6)
        for level in range(2):
            flows = []
            for side in ("student", "teacher"):
                low, high = (self.pooled(arrays[side][level + k], variant) for k in range(2))
                flow = np.zeros((6, low.shape[1], high.shape[1]))
                for b, i, j in itertools.product(range(6), range(low.shape[1]), range(high.shape[1])):
                    flow[b, i, j] = sum(low[b, i, y, x] * high[b, j, y, x] for y in range(2) for x in range(2)) / 4
                flows.append(flow)
            squares = (flows[0] - flows[1]) ** 2
            values += squares.mean((1, 2)) if variant == "code" else squares.sum((1, 2))
        return values


class TestAB(LossContract):
    function = staticmethod(kf.ab)
    module = losses.AB
    cases = {"paper": {}, "code": {"variant": "code"}, "margin 2": {"margin": 2.0}}
    exempt = RAW | {
        "zero": "asks for a margin: the teacher itself is not at zero",
        "monotone": "asks for a margin: the teacher itself is not at zero",
    }

    def arrays(self, seed=0):
        def levels(s):
            return [self.normal(s, 6, 2, 2, 2), self.normal(s + 1, 6, 3)]

        return {"student": levels(seed), "teacher": levels(seed + 50)}

    def oracle(self, arrays, margin=1.0, variant="paper"):
        values = np.zeros(6)
        for level in range(2):
            weight = (0.5, 1.0)[level] * 3 / 1000 if variant == "code" else 1.0
            for b in range(6):
                pairs = zip(arrays["student"][level][b].ravel(), arrays["teacher"][level][b].ravel(), strict=True)
                for s, t in pairs:
                    off, on = t <= 0 and s > -margin, t > 0 and s <= margin
                    values[b] += weight * ((s + margin) ** 2 * off + (s - margin) ** 2 * on)
        return values

    def test_zero_beyond_the_margin_and_connectors(self):
        t = torch.randn(4, 3, 2, 2)
        assert kf.ab(2 * t.sign(), t) == 0
        loss = losses.AB([5], [3])
        loss([torch.randn(4, 5, 4, 4)], [t]).backward()
        assert all(p.grad is not None for p in loss.parameters())


class TestOFD(LossContract):
    function = staticmethod(kf.ofd)
    module = losses.OFD
    module_args = {"student_channels": [2, 3], "teacher_channels": [2, 3]}
    fixed = ("margin",)
    exempt = RAW

    def arrays(self, seed=0):
        def levels(s):
            return [self.normal(s, 6, 2, 2, 2), self.normal(s + 1, 6, 3, 2, 2)]

        margin = [np.array([-0.8, -0.3]), np.array([-0.5, -1.0, -0.2])]
        return {"student": levels(seed), "teacher": levels(seed + 50), "margin": margin}

    def oracle(self, arrays):
        values = np.zeros(6)
        for level, weight in enumerate((0.5, 1.0)):
            s, t, margin = (arrays[n][level] for n in ("student", "teacher", "margin"))
            for b, c, i, j in itertools.product(range(6), range(s.shape[1]), range(2), range(2)):
                goal = max(t[b, c, i, j], margin[c])
                if not s[b, c, i, j] <= goal <= 0:
                    values[b] += weight * (s[b, c, i, j] - goal) ** 2
        return values

    def check_module(self, arrays, case, expected):
        loss = self.build(reduction="none").double().eval()
        s, t, margin = (tensors(v) for v in arrays.values())
        loss.set_margins(margin)
        fused = [connector(x) for connector, x in zip(loss.connectors, s, strict=True)]
        torch.testing.assert_close(loss(s, t), kf.ofd(fused, t, margin, reduction="none"))

    def test_margins_equal_scipy(self):
        from scipy.stats import norm

        rng = np.random.default_rng(0)
        for mean, std in zip(rng.normal(size=20), rng.uniform(0.1, 3, 20), strict=True):
            tail = norm.cdf(-mean / std)
            expected = mean - std * norm.pdf(mean / std) / tail if tail > 0.001 else -3 * std
            value = ofd_margin(torch.tensor([mean]), torch.tensor([std]))
            assert float(value) == pytest.approx(expected, rel=1e-10)

    def test_margins_from_batch_norms_are_saved(self):
        norms = [torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(3)]
        norms[1].bias.data.fill_(-0.5)
        loss = losses.OFD(**self.module_args, batch_norms=norms)
        other = self.build()
        other.load_state_dict(loss.state_dict())
        assert float(other.margins[0][0]) == pytest.approx(-0.797885, abs=1e-6)


class TestReviewKD(LossContract):
    function = staticmethod(kf.reviewkd)
    module = losses.ReviewKD
    module_args = {"student_channels": [2, 3], "teacher_channels": [2, 3]}
    gradient_batch = 2  # of independent samples with 131 entries
    cases = {"default": {}, "pools 2 1": {"pools": (2, 1)}}
    exempt = RAW

    def arrays(self, seed=0):
        def levels(s):
            return [self.normal(s, 6, 2, 8, 8), self.normal(s + 1, 6, 3)]

        return {"student": levels(seed), "teacher": levels(seed + 50)}

    def oracle(self, arrays, pools=(4, 2, 1)):
        values = np.zeros(6)
        gap = arrays["student"][0] - arrays["teacher"][0]
        weights = 1.0
        values += (gap**2).mean((1, 2, 3))
        for k, n in enumerate(pools, start=1):
            step = 8 // n
            cells = [gap[:, :, i * step : (i + 1) * step, j * step : (j + 1) * step].mean((2, 3)) ** 2
                     for i in range(n) for j in range(n)]  # fmt: skip
            values += 2.0**-k * np.mean(cells, axis=0).mean(1)
            weights += 2.0**-k
        vector = ((arrays["student"][1] - arrays["teacher"][1]) ** 2).mean(1)
        return values / weights + vector

    def check_module(self, arrays, case, expected):
        loss = self.build(**case, reduction="none").double().eval()
        s, t = (tensors(v) for v in arrays.values())
        fused = loss.fuse(s, [(8, 8), (1, 1)])
        assert [f.shape for f in fused] == [(6, 2, 8, 8), (6, 3, 1, 1)]
        goals = [t[0], t[1][..., None, None]]
        torch.testing.assert_close(loss(s, t), kf.reviewkd(fused, goals, reduction="none", **case))

    def test_fusion_trains_and_matches_sizes(self):
        loss = losses.ReviewKD([4, 6, 8], [5, 7, 9], mid_channels=8)
        s = [torch.randn(2, c, n, n) for c, n in ((4, 8), (6, 4), (8, 2))]
        t = [torch.randn(2, c, n, n) for c, n in ((5, 16), (7, 4), (9, 2))]
        loss(s, t).backward()
        assert all(p.grad is not None for p in loss.parameters())
