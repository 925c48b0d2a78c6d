"""Losses on logits, each under the contract and against literal loops."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loss_contract import LossContract

from policykd.kd import functional as kf
from policykd.kd import losses

INDEPENDENT = {"weights": "has no weight inside", "temperature": "has no temperature"}


def softmax(row, temperature=1.0):
    e = [math.exp(x / temperature) for x in row]
    return [x / sum(e) for x in e]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def dkd_row(s, t, y, temperature=4.0, tckd_weight=1.0, nckd_weight=8.0, scale_t2=True):
    p_s, p_t = softmax(s, temperature), softmax(t, temperature)
    rest = [c for c in range(len(s)) if c != y]
    binary = kl([p_t[y], 1 - p_t[y]], [p_s[y], 1 - p_s[y]])
    others = kl([p_t[c] / (1 - p_t[y]) for c in rest], [p_s[c] / (1 - p_s[y]) for c in rest])
    return (tckd_weight * binary + nckd_weight * others) * (temperature**2 if scale_t2 else 1)


def centered_limit(student, teacher):
    gap = student - teacher
    gap = gap - gap.mean(1, keepdims=True)
    return (gap**2).sum(1) / (2 * gap.shape[1])


class LogitContract(LossContract):
    class_axis = 1
    scale = 2.0

    def arrays(self, seed=0):
        return {"student": self.normal(seed, 6, 5), "teacher": self.normal(seed + 50, 6, 5)}


class WithLabels(LogitContract):
    def arrays(self, seed=0):
        return super().arrays(seed) | {"target": np.random.default_rng(seed + 9).integers(0, 5, 6)}


class LabelsAlone(WithLabels):
    exempt = {
        "zero": "has no teacher: it is zero only at a certain and right student",
        "monotone": "has no teacher",
        "temperature": "has no temperature",
    }

    def arrays(self, seed=0):
        arrays = super().arrays(seed)
        del arrays["teacher"]
        return arrays


class TestCE(LabelsAlone):
    function = staticmethod(kf.ce)
    module = losses.CE
    cases = {"hard": {}, "smoothed": {"label_smoothing": 0.1}}
    weights = {"label_smoothing": 0.0}

    def oracle(self, arrays, label_smoothing=0.0):
        values = []
        for row, label in zip(arrays["student"], arrays["target"], strict=True):
            p = softmax(row)
            q = [(1 - label_smoothing) * (c == label) + label_smoothing / 5 for c in range(5)]
            values.append(-sum(b * math.log(a) for a, b in zip(p, q, strict=True)))
        return values

    def test_soft_targets(self):
        arrays = self.arrays()
        q = torch.tensor(np.random.default_rng(0).dirichlet(np.ones(5), 6))
        value = kf.ce(torch.tensor(arrays["student"]), q, reduction="none")
        for i, row in enumerate(arrays["student"]):
            assert float(value[i]) == pytest.approx(-sum(q[i, c] * math.log(softmax(row)[c]) for c in range(5)))


class TestTFKD(LabelsAlone):
    function = staticmethod(kf.tfkd)
    module = losses.TFKD
    cases = {"paper": {}, "code": {"variant": "code", "temperature": 10.0}, "sure": {"certainty": 0.999}}
    weights = {"certainty": 0.5}
    exempt = LabelsAlone.exempt | {"temperature": "softens the virtual teacher alone: its limits are tested below"}

    def oracle(self, arrays, certainty=0.99, temperature=20.0, variant="paper"):
        values = []
        for row, label in zip(arrays["student"], arrays["target"], strict=True):
            p = [certainty if c == label else (1 - certainty) / 4 for c in range(5)]
            soft = softmax([math.log(x) for x in p] if variant == "paper" else p, temperature)
            values.append(kl(soft, softmax(row)) / (5 if variant == "code" else 1))
        return values

    def test_limits_of_the_temperature(self):
        s, y = (torch.from_numpy(x) for x in self.arrays().values())
        smoothed = kf.ce(s, y, label_smoothing=0.1)  # 0.92 on the label of five classes, 0.02 elsewhere
        entropy = -(0.92 * math.log(0.92) + 4 * 0.02 * math.log(0.02))
        assert float(kf.tfkd(s, y, certainty=0.92, temperature=1.0)) == pytest.approx(float(smoothed) - entropy)
        uniform = kf.ce(s, torch.full((6, 5), 0.2, dtype=torch.float64)) - math.log(5)
        assert float(kf.tfkd(s, y, temperature=1e6)) == pytest.approx(float(uniform), rel=1e-4)


class TestKD(LogitContract):
    function = staticmethod(kf.kd)
    module = losses.KD
    cases = {
        "paper": {},
        "temperature 1": {"temperature": 1.0},
        "no T2": {"scale_t2": False},
        "element_mean": {"variant": "element_mean"},
    }
    exempt = {"weights": "has no weight inside"}

    def oracle(self, arrays, temperature=4.0, scale_t2=True, variant="paper"):
        factor = (temperature**2 if scale_t2 else 1.0) / (5 if variant == "element_mean" else 1)
        rows = zip(arrays["student"], arrays["teacher"], strict=True)
        return [factor * kl(softmax(t, temperature), softmax(s, temperature)) for s, t in rows]

    def temperature_limit(self, arrays, variant="paper", **_):
        return centered_limit(arrays["student"], arrays["teacher"]) / (5 if variant == "element_mean" else 1)


class TestLSKD(LogitContract):
    function = staticmethod(kf.lskd)
    module = losses.LSKD
    cases = {"paper": {}, "code": {"variant": "code", "temperature": 3.0}}
    invariances = {"scale": lambda x: 2.5 * x}
    exempt = {"weights": "has no weight inside"}

    def standardized(self, row, variant):
        mean = sum(row) / len(row)
        variance = sum((x - mean) ** 2 for x in row) / (len(row) - (variant == "code"))
        return [(x - mean) / (math.sqrt(variance) + 1e-7) for x in row]

    def oracle(self, arrays, temperature=2.0, variant="paper"):
        values = []
        for s, t in zip(arrays["student"], arrays["teacher"], strict=True):
            s, t = self.standardized(s, variant), self.standardized(t, variant)
            values.append(temperature**2 * kl(softmax(t, temperature), softmax(s, temperature)))
        return values

    def temperature_limit(self, arrays, variant="paper", **_):
        rows = {n: np.array([self.standardized(r, variant) for r in arrays[n]]) for n in arrays}
        return centered_limit(rows["student"], rows["teacher"])

    def test_equal_logits_are_finite(self):
        student = torch.zeros(2, 4, requires_grad=True)
        kf.lskd(student, torch.randn(2, 4)).backward()
        assert torch.isfinite(student.grad).all()


class TestDKD(WithLabels):
    function = staticmethod(kf.dkd)
    module = losses.DKD
    cases = {"default": {}, "temperature 1": {"temperature": 1.0, "nckd_weight": 2.0}, "no T2": {"scale_t2": False}}
    weights = {"tckd_weight": 0.0, "nckd_weight": 0.0}

    def oracle(self, arrays, **options):
        return [dkd_row(s, t, y, **options) for s, t, y in zip(*arrays.values(), strict=True)]

    def temperature_limit(self, arrays, tckd_weight=1.0, nckd_weight=8.0, **_):
        gap = arrays["student"] - arrays["teacher"]
        values = []
        for row, y in zip(gap, arrays["target"], strict=True):
            rest = np.delete(row, y)
            log_odds = row[y] - rest.mean()
            values.append(tckd_weight * 0.5 * (1 / 5) * (4 / 5) * log_odds**2 + nckd_weight * rest.var() / 2)
        return values

    def test_is_kd_with_the_teachers_weight(self):
        s, t, y = (torch.from_numpy(x) for x in self.arrays().values())
        for temperature in (1.0, 4.0):
            p = (t / temperature).softmax(1).gather(1, y[:, None])[:, 0]
            options = {"temperature": temperature, "reduction": "none"}
            tckd = kf.dkd(s, t, y, nckd_weight=0.0, **options)
            nckd = kf.dkd(s, t, y, tckd_weight=0.0, nckd_weight=1.0, **options)
            torch.testing.assert_close(tckd + (1 - p) * nckd, kf.kd(s, t, **options))

    def test_two_classes_have_no_others(self):
        s, t = torch.randn(4, 2), torch.randn(4, 2)
        assert float(kf.dkd(s, t, torch.tensor([0, 1, 0, 1]), tckd_weight=0.0)) == pytest.approx(0.0, abs=1e-6)


class TestDIST(LogitContract):
    function = staticmethod(kf.dist)
    module = losses.DIST
    cases = {"paper": {}, "code": {"variant": "code"}, "temperature 4": {"temperature": 4.0, "inter_weight": 2.0}}
    weights = {"inter_weight": 0.0, "intra_weight": 0.0}
    exempt = {
        "split": "depends on the batch by definition (columns of the batch are correlated)",
        "temperature": "grows like T**2: the correlation tends to that of the centered logits",
    }

    def floor(self, arrays, variant="paper", **options):
        return self.oracle(arrays, variant=variant, **options) if variant == "code" else 0.0

    def test_01_zero_at_the_teacher(self, case):
        if case.get("variant") == "code":
            pytest.skip("the code's 1e-8 in the denominator moves the minimum off zero")
        super().test_01_zero_at_the_teacher(case)

    def test_03_duplicated_batch(self, case):
        if case.get("variant") == "code":
            pytest.skip("the code's 1e-8 is not scaled with the norm of a column, which grows with the batch")
        super().test_03_duplicated_batch(case)

    def rho(self, a, b, variant):
        a, b = [x - sum(a) / len(a) for x in a], [x - sum(b) / len(b) for x in b]
        norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
        return sum(x * y for x, y in zip(a, b, strict=True)) / (norms + (1e-8 if variant == "code" else 0.0))

    def oracle(self, arrays, temperature=1.0, inter_weight=1.0, intra_weight=1.0, variant="paper"):
        p_s, p_t = ([softmax(row, temperature) for row in arrays[n]] for n in ("student", "teacher"))
        columns = zip(zip(*p_s, strict=True), zip(*p_t, strict=True), strict=True)
        intra = [1 - self.rho(a, b, variant) for a, b in columns]
        shared = intra_weight * sum(intra) / len(intra)
        rows = zip(p_s, p_t, strict=True)
        return [temperature**2 * (inter_weight * (1 - self.rho(a, b, variant)) + shared) for a, b in rows]


class TestMLKD(LogitContract):
    function = staticmethod(kf.mlkd)
    module = losses.MLKD
    cases = {
        "default": {},
        "one temperature": {"temperatures": (1.0,), "instance_weight": 0.5, "class_weight": 2.0},
        "no T2": {"temperatures": (4.0, 2.0), "scale_t2": False, "batch_weight": 3.0},
    }
    weights = {"instance_weight": 0.0, "batch_weight": 0.0, "class_weight": 0.0}
    exempt = {
        "split": "depends on the batch by definition (Gram matrices over samples)",
        "duplication": "its Gram matrices grow with the batch by definition",
        "temperature": "takes several; its Gram terms vanish and the rest is KD, tested below",
    }

    def oracle(
        self,
        arrays,
        temperatures=(2.0, 3.0, 4.0, 5.0, 6.0),
        instance_weight=1.0,
        batch_weight=1.0,
        class_weight=1.0,
        scale_t2=True,
    ):
        values = np.zeros(6)
        for temperature in temperatures:
            s, t = ([softmax(row, temperature) for row in arrays[n]] for n in ("student", "teacher"))

            def gap(i, j, s=s, t=t):
                return sum(a * b for a, b in zip(t[i], t[j], strict=True)) - sum(
                    a * b for a, b in zip(s[i], s[j], strict=True)
                )

            def class_gap(c, d, s=s, t=t):
                return sum(row[c] * row[d] for row in t) - sum(row[c] * row[d] for row in s)

            classes = sum(class_gap(c, d) ** 2 for c in range(5) for d in range(5)) / 5
            for i in range(6):
                values[i] += instance_weight * kl(t[i], s[i]) * (temperature**2 if scale_t2 else 1)
                values[i] += batch_weight * sum(gap(i, j) ** 2 for j in range(6)) + class_weight * classes
        return values

    def test_is_kd_at_a_high_temperature(self):
        s, t = (torch.from_numpy(x) for x in self.arrays().values())
        assert float(kf.mlkd(s, t, temperatures=(2e4,))) == pytest.approx(
            centered_limit(s.numpy(), t.numpy()).mean(), rel=1e-3
        )


class TestWSLD(WithLabels):
    function = staticmethod(kf.wsld)
    module = losses.WSLD
    cases = {"default": {}, "temperature 4": {"temperature": 4.0}, "no T2": {"scale_t2": False}}
    exempt = {
        "weights": "has no weight inside",
        "temperature": "a cross-entropy: T**2 times the entropy of the soft label grows without bound",
    }

    def oracle(self, arrays, temperature=2.0, scale_t2=True):
        values = []
        for s, t, y in zip(*arrays.values(), strict=True):
            weight = 1 - math.exp(-math.log(softmax(s)[y]) / math.log(softmax(t)[y]))
            pairs = zip(softmax(t, temperature), softmax(s, temperature), strict=True)
            soft = -sum(a * math.log(b) for a, b in pairs)
            values.append(weight * soft * (temperature**2 if scale_t2 else 1))
        return values

    def floor(self, arrays, temperature=2.0, scale_t2=True):
        """The weight of a student that equals the teacher, times the entropy of the soft label."""
        rows = [softmax(t, temperature) for t in arrays["teacher"]]
        factor = (1 - math.exp(-1)) * (temperature**2 if scale_t2 else 1)
        return [factor * -sum(p * math.log(p) for p in row) for row in rows]

    def test_09_gradients(self, case):
        """The weights are held, so the gradient is not that of the value: it is ``T w (p_s - p_t) / B``."""
        arrays = self.arrays()
        s, t, y = (torch.from_numpy(x) for x in arrays.values())
        s.requires_grad_()
        t.requires_grad_()
        kf.wsld(s, t, y, **case).backward()
        assert t.grad is None
        temperature, scale_t2 = case.get("temperature", 2.0), case.get("scale_t2", True)
        entropies = [[-math.log(softmax(row)[c]) for row, c in zip(arrays[n], y, strict=True)] for n in
                     ("student", "teacher")]  # fmt: skip
        for i in range(6):
            weight = 1 - math.exp(-entropies[0][i] / entropies[1][i])
            p_s, p_t = (softmax(arrays[n][i], temperature) for n in ("student", "teacher"))
            factor = weight / temperature * (temperature**2 if scale_t2 else 1) / 6
            np.testing.assert_allclose(s.grad[i], [factor * (a - b) for a, b in zip(p_s, p_t, strict=True)], rtol=1e-9)

    def test_a_teacher_that_is_certain_and_right(self):
        logits = torch.tensor([[800.0, 0.0, 0.0]], requires_grad=True)
        value = kf.wsld(logits, logits.detach(), torch.tensor([0]))
        value.backward()
        assert float(value.detach()) == 0.0
        assert torch.isfinite(logits.grad).all()


class TestCWTM(WithLabels):
    function = staticmethod(kf.cwtm)
    module = losses.CWTM
    exempt = {
        "zero": "compares with the labels: it is zero only at a certain and right student",
        "monotone": "compares with the labels",
        "split": "depends on the batch by definition (weights are shares of its confidence)",
        "weights": "has no weight inside",
        "temperature": "has no temperature",
    }

    def oracle(self, arrays):
        tops = [max(softmax(t)) for t in arrays["teacher"]]
        rows = zip(arrays["student"], arrays["target"], tops, strict=True)
        return [6 * top / sum(tops) * -math.log(softmax(s)[y]) for s, y, top in rows]

    def test_is_cross_entropy_where_the_teacher_is_equally_sure_of_all(self):
        s, t, y = (torch.from_numpy(x) for x in self.arrays().values())
        even = t[:1].expand(6, 5)
        torch.testing.assert_close(kf.cwtm(s, even, y), kf.ce(s, y))
        torch.testing.assert_close(kf.cwtm(s, even + 5.0, y), kf.cwtm(s, even.roll(1, 1), y))


class TestMSELogits(LogitContract):
    function = staticmethod(kf.mse_logits)
    module = losses.MSELogits
    cases = {"code": {}, "paper": {"variant": "paper"}, "centered": {"variant": "centered"}}
    exempt = INDEPENDENT

    def oracle(self, arrays, variant="code"):
        gap = arrays["student"] - arrays["teacher"]
        if variant == "centered":
            return centered_limit(arrays["student"], arrays["teacher"])
        return [sum(x * x for x in row) * (0.5 if variant == "paper" else 1 / 5) for row in gap]

    def test_02_documented_invariances(self, case):
        if case.get("variant") != "centered":
            pytest.skip("sees the level of the logits on purpose")
        super().test_02_documented_invariances(case)


class TestJSD(LogitContract):
    function = staticmethod(kf.jsd)
    module = losses.JSD
    cases = {
        "half": {},
        "beta 0.1": {"beta": 0.1, "temperature": 2.0},
        "forward": {"beta": 0.0},
        "reverse": {"beta": 1.0},
        "normalised": {"beta": 0.3, "normalize": True},
        "no T2": {"temperature": 2.0, "scale_t2": False},
    }
    weights = {"beta": 0.0}

    def oracle(self, arrays, beta=0.5, temperature=1.0, normalize=False, scale_t2=True):
        values = []
        for s, t in zip(arrays["student"], arrays["teacher"], strict=True):
            p_s, p_t = softmax(s, temperature), softmax(t, temperature)
            m = [beta * b + (1 - beta) * a for a, b in zip(p_s, p_t, strict=True)]
            value = beta * kl(p_t, m) + (1 - beta) * kl(p_s, m)
            value = kl(p_t, p_s) if beta == 0 else kl(p_s, p_t) if beta == 1 else value
            factor = beta * (1 - beta) if normalize else 1.0
            values.append(value / factor * (temperature**2 if scale_t2 else 1.0))
        return values

    def temperature_limit(self, arrays, beta=0.5, normalize=False, **_):
        factor = 1.0 if normalize or beta in (0.0, 1.0) else beta * (1 - beta)
        return factor * centered_limit(arrays["student"], arrays["teacher"])

    def test_11_weights_are_continuous(self, case):
        if not case.get("normalize"):
            pytest.skip("without normalize the ends are defined as the KLs and beta jumps there, as documented")
        for end in (0.0, 1.0):
            arrays = self.arrays()
            near, at_end = (float(self.value(arrays, **(case | {"beta": b}))) for b in (abs(end - 1e-7), end))
            assert near == pytest.approx(at_end, rel=1e-5)


class TestCATKD(LossContract):
    function = staticmethod(kf.cat_kd)
    module = losses.CATKD
    cases = {"default": {}, "maps kept": {"pool_size": None}}
    invariances = {"positive scale": lambda x: 3.0 * x}
    exempt = INDEPENDENT

    def arrays(self, seed=0):
        return {"student": self.normal(seed, 6, 3, 4, 4), "teacher": self.normal(seed + 50, 6, 3, 4, 4)}

    def unit_maps(self, maps, pool_size):
        rows = []
        for image in maps:
            for channel in image:
                n = pool_size or 4
                step = 4 // n
                cells = [channel[i * step : (i + 1) * step, j * step : (j + 1) * step].mean()
                         for i in range(n) for j in range(n)]  # fmt: skip
                norm = math.sqrt(sum(c * c for c in cells))
                rows.append([c / norm for c in cells])
        return rows

    def oracle(self, arrays, pool_size=2):
        a, b = self.unit_maps(arrays["student"], pool_size), self.unit_maps(arrays["teacher"], pool_size)
        squares = [sum((x - y) ** 2 for x, y in zip(p, q, strict=True)) / len(p) for p, q in zip(a, b, strict=True)]
        return np.array(squares).reshape(6, 3).mean(1)


class TestSDD(LossContract):
    function = staticmethod(kf.sdd)
    module = losses.SDD
    class_axis = 1
    scale = 2.0
    cases = {
        "kd": {},
        "dkd": {"base": "dkd"},
        "three scales": {"cells": (1, 2, 4), "complementary_weight": 3.0},
    }
    weights = {"complementary_weight": 1.0, "tckd_weight": 0.0}
    exempt = {"temperature": "its limit is that of the base loss, which is tested there"}

    def arrays(self, seed=0):
        labels = np.random.default_rng(seed + 9).integers(0, 3, 6)
        maps = {"student": self.normal(seed, 6, 3, 4, 4), "teacher": self.normal(seed + 50, 6, 3, 4, 4)}
        return maps | {"target": labels}

    def oracle(self, arrays, cells=(1, 2), base="kd", complementary_weight=2.0):
        values = []
        for s, t, y in zip(*arrays.values(), strict=True):
            terms, whole_right = [], None
            for n in cells:
                step = 4 // n
                for i in range(n):
                    for j in range(n):
                        window = (slice(None), slice(i * step, (i + 1) * step), slice(j * step, (j + 1) * step))
                        z_s, z_t = s[window].mean((1, 2)), t[window].mean((1, 2))
                        right = int(np.argmax(z_t)) == y
                        whole_right = right if whole_right is None else whole_right
                        as_kd = 16 * kl(softmax(z_t, 4), softmax(z_s, 4))
                        loss = as_kd if base == "kd" else dkd_row(z_s, z_t, y)
                        terms.append(loss * (1.0 if right == whole_right else complementary_weight))
            values.append(sum(terms) / len(terms))
        return values

    def test_cells_and_base_loss(self):
        arrays = self.arrays()
        s, t, y = (torch.from_numpy(x) for x in arrays.values())
        torch.testing.assert_close(kf.sdd(s, t, y, cells=(1,)), kf.kd(s.mean((2, 3)), t.mean((2, 3))))
        from policykd.kd.losses.sdd import cell_logits

        assert cell_logits(s, (1, 2)).shape == (6, 3, 5)
        assert cell_logits(s, (1, 2, 4)).shape == (6, 3, 21)


def test_lskd_takes_two_classes():
    student, teacher = torch.tensor([[1.0, 3.0]]), torch.tensor([[5.0, 1.0]])
    assert float(kf.lskd(student, teacher, scale_t2=False, temperature=1.0)) > 0
    assert float(kf.lskd(student, student)) == pytest.approx(0.0, abs=1e-6)


def test_sdd_with_dkd_is_the_mean_over_regions_of_the_released_code():
    """The released code passes R * B targets to DKD, which divides by their number; seed-free check on (1, 2, 4)."""
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn(4, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    y = torch.tensor([0, 1, 2, 0])
    cells, total = [(1, 1), (2, 2), (4, 4)], 0.0
    whole_right = t.mean((2, 3)).argmax(1) == y
    for size in cells:
        for row, (z_s, z_t) in enumerate(
            zip(*(F.adaptive_avg_pool2d(m, size).flatten(2) for m in (s, t)), strict=True)
        ):
            for region in range(z_s.shape[1]):
                right = z_t[:, region].argmax() == y[row]
                weight = 1.0 if right == whole_right[row] else 2.0
                total += weight * float(kf.dkd(z_s[None, :, region], z_t[None, :, region], y[row : row + 1]))
    expected = total / (4 * 21)
    assert float(kf.sdd(s, t, y, cells=(1, 2, 4), base="dkd")) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(TypeError, match="cell_reduction"):
        kf.sdd(s, t, y, cell_reduction="sum")


def test_class_weights_are_those_of_torch():
    logits, labels, soft = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0]), torch.randn(6, 3).softmax(1)
    weight = torch.tensor([0.5, 2.0, 1.0])
    for target in (labels, soft):
        for smoothing in (0.0, 0.1):
            for reduction in ("mean", "sum", "none"):
                ours = kf.ce(
                    logits, target, class_weights=(0.5, 2.0, 1.0), label_smoothing=smoothing, reduction=reduction
                )
                theirs = F.cross_entropy(logits, target, weight, label_smoothing=smoothing, reduction=reduction)
                torch.testing.assert_close(ours, theirs)
    for bad, message in (((1.0, -1.0, 1.0), "at least 0"), ((1.0, 2.0), "must be 3 numbers")):
        with pytest.raises(ValueError, match=message):
            kf.ce(logits, labels, class_weights=bad)
