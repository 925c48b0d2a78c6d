"""The contract of a loss: fourteen properties that every loss inherits.

A test class names the function, its module twin and its variants (`cases`), makes inputs (`arrays`) and writes the
value per sample as literal NumPy loops (`oracle`). A property that does not hold by definition is listed in `exempt`
with the reason, and shows up as a skipped test that says it.

All properties run in float64. Property 8 runs in float32, bfloat16 and float16: the value is that of float64 arithmetic
on the rounded inputs to 2e-4, it comes back in float32, autocast does not change a bit of it, and value and gradient
are finite at inputs of +-50. (`quartic` losses have a gradient there that float16 cannot hold: the value alone.)
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

REDUCE = {"mean": lambda v: v.mean(), "sum": lambda v: v.sum(), "batchmean": lambda v: v.sum() / len(v)}


def each(value, change):
    """Apply a change to an array, or to every level of a list of arrays."""
    return [change(v) for v in value] if isinstance(value, list) else change(value)


def tensors(value, dtype=torch.float64, grad=False):
    def convert(array):
        tensor = torch.from_numpy(np.array(array))
        if tensor.is_floating_point():
            tensor = tensor.to(dtype).requires_grad_(grad)
        return tensor

    return each(value, convert)


def as_array(tensor):
    return tensor.double().numpy() if tensor.is_floating_point() else tensor.numpy()


def leaves(value):
    return value if isinstance(value, list) else [value]


class LossContract:
    """Inherit, fill in, and fourteen properties are tested for every case."""

    function = None
    module = None
    module_args: dict = {}
    cases: dict[str, dict] = {"default": {}}
    exempt: dict[str, str] = {}
    fixed = ()  # names of inputs that are not per sample
    class_axis = None  # axis of the classes in student and teacher
    batch = 6
    gradient_batch = None  # samples whose gradient is checked entry by entry; None for all
    weights: dict[str, float] = {}  # option -> value that the loss must approach continuously
    invariances: dict = {}  # name -> change of the student that leaves the value alone
    scale = 1.0
    flat = 1e-9  # size of the gradient that still counts as zero
    quartic = False  # grows with the fourth power of the features: its gradient at +-50 does not fit into float16

    # ---- to fill in -------------------------------------------------------------------------------------------------
    def arrays(self, seed=0):
        raise NotImplementedError

    def oracle(self, arrays, **options):
        raise NotImplementedError

    def floor(self, arrays, **options):
        """Value per sample where the student equals the teacher."""
        return 0.0

    def temperature_limit(self, arrays, **options):
        raise NotImplementedError

    # ---- helpers ----------------------------------------------------------------------------------------------------
    def normal(self, seed, *shape):
        return self.scale * np.random.default_rng(seed).standard_normal(shape)

    def value(self, arrays, dtype=torch.float64, **options):
        inputs = {name: tensors(value, dtype) for name, value in arrays.items()}
        return type(self).function(**inputs, **options)

    def with_gradient(self, arrays, dtype=torch.float64, **options):
        inputs = {name: tensors(value, dtype, grad=name == "student") for name, value in arrays.items()}
        value = type(self).function(**inputs, **options)
        value.backward()
        return value, [leaf.grad for leaf in leaves(inputs["student"])]

    def per_sample(self, arrays, change):
        return {n: v if n in self.fixed else each(v, change) for n, v in arrays.items()}

    def identity(self, seed=0):
        arrays = self.arrays(seed)
        return arrays | {"student": copy.deepcopy(arrays["teacher"])}

    def build(self, **options):
        return type(self).module(**(type(self).module_args | options))

    def applies(self, name):
        if name in self.exempt:
            pytest.skip(self.exempt[name])

    # ---- the fourteen properties ------------------------------------------------------------------------------------
    def test_01_zero_at_the_teacher(self, case):
        self.applies("zero")
        arrays = self.identity()
        value, gradients = self.with_gradient(arrays, **case)
        assert abs(float(value.detach()) - np.mean(self.floor(arrays, **case))) < 1e-10
        assert all(float(g.abs().max()) < self.flat for g in gradients)

    def test_02_documented_invariances(self, case):
        self.applies("invariance")
        assert self.invariances or self.class_axis is not None
        changes = dict(self.invariances)
        if self.class_axis is not None:
            changes["logit shift"] = lambda x: x + 3.7
        arrays = self.arrays()
        before = self.value(arrays, reduction="none", **case)
        for name, change in changes.items():
            after = self.value(arrays | {"student": each(arrays["student"], change)}, reduction="none", **case)
            torch.testing.assert_close(after, before, rtol=1e-7, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")

    def test_03_duplicated_batch(self, case):
        self.applies("duplication")
        arrays = self.arrays()
        twice = self.per_sample(arrays, lambda v: np.concatenate([v, v]))
        torch.testing.assert_close(self.value(twice, **case), self.value(arrays, **case), rtol=1e-9, atol=1e-12)

    def test_04_split_batch(self, case):
        assert type(self).module.batch_coupled == ("split" in self.exempt)
        self.applies("split")
        arrays = self.arrays()
        parts = [self.per_sample(arrays, lambda v, s=s: v[s]) for s in (slice(0, 2), slice(2, self.batch))]
        joined = (2 * self.value(parts[0], **case) + (self.batch - 2) * self.value(parts[1], **case)) / self.batch
        torch.testing.assert_close(joined, self.value(arrays, **case), rtol=1e-9, atol=1e-12)

    def test_05_high_temperature_limit(self, case):
        self.applies("temperature")
        arrays = self.arrays()
        expected = np.mean(self.temperature_limit(arrays, **case))
        value = float(self.value(arrays, **(case | {"temperature": 2e4, "scale_t2": True})))
        assert value == pytest.approx(expected, rel=1e-3)

    def test_06_permutation(self, case):
        self.applies("permutation")
        arrays, rng = self.arrays(), np.random.default_rng(7)
        before = self.value(arrays, reduction="none", **case)
        order = rng.permutation(self.batch)
        shuffled = self.value(self.per_sample(arrays, lambda v: v[order]), reduction="none", **case)
        torch.testing.assert_close(shuffled, before[torch.from_numpy(order)], rtol=1e-9, atol=1e-12)
        if self.class_axis is not None:
            classes = rng.permutation(arrays["student"].shape[self.class_axis])
            moved = {n: np.take(v, classes, self.class_axis) for n, v in arrays.items() if n in ("student", "teacher")}
            if "target" in arrays:
                target = arrays["target"]
                moved["target"] = np.argsort(classes)[target] if target.ndim == 1 else target[:, classes]
            after = self.value(moved, reduction="none", **case)
            torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-12)

    def test_07_reductions(self, case):
        arrays = self.arrays()
        none = self.value(arrays, reduction="none", **case)
        assert none.shape == (self.batch,)
        for name, reduce in REDUCE.items():
            torch.testing.assert_close(self.value(arrays, reduction=name, **case), reduce(none), rtol=1e-12, atol=0)
        with pytest.raises(ValueError, match="reduction must be one of"):
            self.value(arrays, reduction="average", **case)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
    def test_08_precision_and_saturation(self, case, dtype):
        arrays = self.arrays()
        rounded = {n: each(tensors(v, dtype), as_array) for n, v in arrays.items()}
        value, exact = self.value(arrays, dtype, **case), self.value(rounded, **case)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), exact, rtol=2e-4, atol=1e-6)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(self.value(arrays, dtype, **case), value)
        saturated = {n: each(v, lambda x: 50.0 * np.sign(x)) for n, v in arrays.items() if n in ("student", "teacher")}
        extreme = arrays | saturated
        value, gradients = self.with_gradient(extreme, dtype, **case)
        assert torch.isfinite(value)
        if not (self.quartic and dtype == torch.float16):
            assert all(torch.isfinite(g).all() for g in gradients)

    def test_09_gradients(self, case):
        arrays = self.per_sample(self.arrays(), lambda v: v[: self.gradient_batch])
        inputs = {name: tensors(value, grad=name in ("student", "teacher")) for name, value in arrays.items()}
        type(self).function(**inputs, **case).backward()
        assert all(leaf.grad is None for leaf in leaves(inputs.get("teacher", [])))
        students = leaves(inputs["student"])
        assert all(leaf.grad is not None for leaf in students)

        def of_student(*levels):
            student = list(levels) if isinstance(inputs["student"], list) else levels[0]
            return type(self).function(**(inputs | {"student": student}), **case)

        fresh = [leaf.detach().clone().requires_grad_() for leaf in students]
        assert torch.autograd.gradcheck(of_student, fresh, eps=1e-6, atol=1e-5, rtol=1e-4)

    def test_10_corruption_raises_the_loss(self, case):
        self.applies("monotone")
        means = []
        for size in (0.0, 0.05, 0.2, 0.5):
            total = 0.0
            for seed in range(8):
                arrays, rng = self.identity(seed), np.random.default_rng(100 + seed)
                noisy = each(arrays["student"], lambda v, r=rng, s=size: v + s * r.standard_normal(v.shape))
                total += float(self.value(arrays | {"student": noisy}, **case))
            means.append(total)
        assert means == sorted(means)
        assert means[-1] > means[0] + 1e-9

    def test_11_weights_are_continuous(self, case):
        self.applies("weights")
        arrays = self.arrays()
        for name, end in self.weights.items():
            near, at_end = (float(self.value(arrays, **(case | {name: w}))) for w in (abs(end - 1e-9), end))
            assert near == pytest.approx(at_end, rel=1e-6, abs=1e-6)

    def test_12_state_dict_round_trip(self, case):
        first, second = self.build(**case), self.build(**case)
        second.load_state_dict(first.state_dict(), strict=True)
        for key, value in first.state_dict().items():
            torch.testing.assert_close(second.state_dict()[key], value, rtol=0, atol=0, equal_nan=True)
        assert repr(first) == repr(second)

    def test_13_default_constructor(self):
        module = self.build()
        assert module.name in repr(module).lower() or type(module).__name__ in repr(module)
        inputs = [tensors(self.arrays()[n]) for n in self.arrays() if n not in self.fixed]
        value = module.double()(*inputs)
        assert value.shape == ()
        assert torch.isfinite(value)

    def test_14_equals_the_oracle(self, case):
        for seed in range(2):
            arrays = self.arrays(seed)
            expected = np.asarray(self.oracle(arrays, **case), dtype=np.float64)
            np.testing.assert_allclose(self.value(arrays, reduction="none", **case), expected, rtol=1e-10, atol=1e-10)
            self.check_module(arrays, case, expected)

    def check_module(self, arrays, case, expected):
        inputs = [tensors(v) for n, v in arrays.items() if n not in self.fixed]
        value = self.build(**case, reduction="none").double()(*inputs)
        np.testing.assert_allclose(value.detach(), expected, rtol=1e-10, atol=1e-10)
