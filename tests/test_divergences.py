"""The numeric core: closed forms against loops and torch.distributions, limits, reductions, dtypes, errors."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from policykd import divergences as dv

LOGITS = {"forward": dv.categorical_kl, "jsd": dv.categorical_jsd, "mse": dv.mse, "huber": dv.huber}


def logits(seed=0, shape=(5, 7), dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2)]


def gaussians(seed=0, shape=(5, 3)):
    generator = torch.Generator().manual_seed(seed)
    mean_s, log_s, mean_t, log_t = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(4))
    return (mean_s, 0.5 * log_s), (mean_t, 0.5 * log_t)


def loop_kl(a, b, temperature):
    total = []
    for row_a, row_b in zip(a, b, strict=True):
        p = [math.exp(x / temperature) for x in row_a]
        q = [math.exp(x / temperature) for x in row_b]
        p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
        total.append(sum(x * math.log(x / y) for x, y in zip(p, q, strict=True)))
    return np.array(total)


def loop_jsd(s, t, beta, temperature):
    values = []
    for row_s, row_t in zip(s, t, strict=True):
        p = np.exp(np.array(row_t) / temperature)
        q = np.exp(np.array(row_s) / temperature)
        p, q = p / p.sum(), q / q.sum()
        m = beta * p + (1 - beta) * q
        values.append(beta * np.sum(p * np.log(p / m)) + (1 - beta) * np.sum(q * np.log(q / m)))
    return np.array(values)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_categorical_kl_equals_loop(temperature):
    s, t = logits()
    forward = dv.categorical_kl(s, t, temperature=temperature, reduction="none", scale_t2=False)
    reverse = dv.categorical_kl(s, t, temperature=temperature, direction="reverse", reduction="none")
    np.testing.assert_allclose(forward, loop_kl(t.tolist(), s.tolist(), temperature), rtol=0, atol=1e-10)
    np.testing.assert_allclose(reverse, temperature**2 * loop_kl(s.tolist(), t.tolist(), temperature), atol=1e-10)


def test_categorical_kl_equals_torch_distributions():
    s, t = logits(shape=(2, 3, 4))
    expected = kl_divergence(Categorical(logits=t), Categorical(logits=s))
    torch.testing.assert_close(dv.categorical_kl(s, t, reduction="none"), expected)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_categorical_jsd_equals_loop(beta):
    s, t = logits()
    values = dv.categorical_jsd(s, t, beta=beta, temperature=2.0, reduction="none")
    np.testing.assert_allclose(values, 4 * loop_jsd(s.tolist(), t.tolist(), beta, 2.0), atol=1e-10)


def test_categorical_jsd_ends_and_symmetry():
    s, t = logits()
    for end, direction in ((0.0, "forward"), (1.0, "reverse")):
        near = abs(end - 1e-6)
        exact = dv.categorical_kl(s, t, direction=direction)
        torch.testing.assert_close(dv.categorical_jsd(s, t, beta=end), exact)
        torch.testing.assert_close(dv.categorical_jsd(s, t, beta=near, normalize=True), exact, rtol=1e-4, atol=0)
    torch.testing.assert_close(dv.categorical_jsd(s, t), dv.categorical_jsd(t, s))
    assert dv.categorical_jsd(s, t) <= math.log(2)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_gaussian_kl_equals_torch_distributions(direction):
    s, t = gaussians()
    normal_s, normal_t = (Independent(Normal(mean, log_std.exp()), 1) for mean, log_std in (s, t))
    pair = (normal_t, normal_s) if direction == "forward" else (normal_s, normal_t)
    torch.testing.assert_close(dv.gaussian_kl(s, t, direction=direction, reduction="none"), kl_divergence(*pair))


@pytest.mark.parametrize("beta", [0.25, 0.5])
def test_gaussian_jsd_equals_loop(beta):
    s, t = gaussians()
    values = []
    for row in range(5):
        total = 0.0
        for a in range(3):
            m_s, m_t, v_s, v_t = (float(x[row, a]) for x in (s[0], t[0], (2 * s[1]).exp(), (2 * t[1]).exp()))
            v_g = 1 / (beta / v_t + (1 - beta) / v_s)
            m_g = v_g * (beta * m_t / v_t + (1 - beta) * m_s / v_s)

            def kl(m, v, m_g=m_g, v_g=v_g):
                return 0.5 * (math.log(v_g / v) + (v + (m - m_g) ** 2) / v_g - 1)

            total += beta * kl(m_t, v_t) + (1 - beta) * kl(m_s, v_s)
        values.append(total)
    np.testing.assert_allclose(dv.gaussian_jsd(s, t, beta=beta, reduction="none"), values, atol=1e-10)


def test_gaussian_jsd_ends():
    s, t = gaussians()
    for end, direction in ((0.0, "forward"), (1.0, "reverse")):
        exact = dv.gaussian_kl(s, t, direction=direction)
        torch.testing.assert_close(dv.gaussian_jsd(s, t, beta=end), exact)
        near = dv.gaussian_jsd(s, t, beta=abs(end - 1e-7), normalize=True)
        torch.testing.assert_close(near, exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize(("low", "high"), [(1e-3, 1e3), (0.5, 1.0)])
def test_gaussian_nll_equals_torch_distributions_within_its_bounds(low, high):
    g = torch.Generator().manual_seed(4)
    mean, log_std, action = (torch.randn(7, 3, dtype=torch.float64, generator=g) for _ in range(3))
    expected = -Independent(Normal(mean, log_std.exp().clamp(low, high)), 1).log_prob(action)
    found = dv.gaussian_nll((mean, log_std), action, min_std=low, max_std=high, reduction="none")
    torch.testing.assert_close(found, expected)
    assert torch.isfinite(dv.gaussian_nll((mean, log_std - 500), action, min_std=low, max_std=high))
    for bounds in ((0.0, 1.0), (2.0, 1.0)):
        with pytest.raises(ValueError, match="bounds"):
            dv.gaussian_nll((mean, log_std), action, min_std=bounds[0], max_std=bounds[1])


def test_gaussian_log_std_broadcasts_and_mse_limit():
    (mean_s, _), (mean_t, _) = gaussians()
    log_std = torch.full((3,), math.log(0.2), dtype=torch.float64)
    value = dv.gaussian_kl((mean_s, log_std), (mean_t, log_std))
    torch.testing.assert_close(value, 3 * dv.mse(mean_s, mean_t) / (2 * 0.2**2))


def test_mse_and_huber_equal_torch():
    s, t = logits(shape=(4, 2, 3))
    torch.testing.assert_close(dv.mse(s, t), torch.nn.functional.mse_loss(s, t))
    torch.testing.assert_close(dv.huber(s, t, delta=0.5), torch.nn.functional.huber_loss(s, t, delta=0.5))


@pytest.mark.parametrize("function", LOGITS.values(), ids=LOGITS)
def test_reductions_zero_gradients(function):
    s, t = logits(shape=(4, 3, 5))
    none = function(s, t, reduction="none")
    assert none.shape == (4, 3)
    torch.testing.assert_close(function(s, t, reduction="mean"), none.mean())
    torch.testing.assert_close(function(s, t, reduction="sum"), none.sum())
    torch.testing.assert_close(function(s, t, reduction="batchmean"), none.sum() / 4)
    assert function(t, t, reduction="none").abs().max() < 1e-12
    s.requires_grad_(), t.requires_grad_()
    function(s, t).backward()
    assert t.grad is None
    assert torch.autograd.gradcheck(lambda x: function(x, t.detach()), s.detach().requires_grad_())


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_gaussian_gradients_and_reductions(beta):
    (mean_s, log_s), teacher = gaussians()
    mean_s.requires_grad_(), log_s.requires_grad_()
    assert torch.autograd.gradcheck(lambda m, ls: dv.gaussian_jsd((m, ls), teacher, beta=beta), (mean_s, log_s))
    none = dv.gaussian_jsd((mean_s, log_s), teacher, beta=beta, reduction="none")
    torch.testing.assert_close(dv.gaussian_jsd((mean_s, log_s), teacher, beta=beta, reduction="sum"), none.sum())
    assert dv.gaussian_jsd(teacher, teacher, beta=beta).abs() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("function", LOGITS.values(), ids=LOGITS)
def test_low_precision_and_saturation(function, dtype):
    s, t = logits(dtype=dtype)
    exact = function(s.double(), t.double())
    value = function(s, t)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact, rtol=1e-4, atol=1e-5)
    s = torch.tensor([[50.0, -50.0, 0.0]], dtype=dtype, requires_grad=True)
    value = function(s, -s.detach())
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(s.grad).all()


def test_autocast_does_not_lower_precision():
    s, t = logits(dtype=torch.float32)
    plain = dv.categorical_kl(s, t)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(dv.categorical_kl(s, t), plain)


BAD = [
    ({"temperature": 0.0}, "temperature must be finite and above 0, got 0.0"),
    ({"temperature": float("nan")}, "temperature"),
    ({"reduction": "avg"}, "reduction must be one of none, mean, sum, batchmean, got 'avg'"),
    ({"direction": "up"}, "direction must be forward"),
]


@pytest.mark.parametrize(("options", "words"), BAD)
def test_bad_options(options, words):
    with pytest.raises(ValueError, match=words):
        dv.categorical_kl(*logits(), **options)


def test_bad_inputs():
    s, t = logits()
    with pytest.raises(ValueError, match=r"same shape, got student \(5, 6\) and teacher \(5, 7\)"):
        dv.categorical_kl(s[:, :6], t)
    bad = s.clone()
    bad[1, 2] = float("nan")
    with pytest.raises(ValueError, match=r"student logits must be finite, got 1 non-finite of 35 values.*\(1, 2\)"):
        dv.categorical_kl(bad, t)
    with pytest.raises(ValueError, match="teacher logits must be finite"):
        dv.categorical_kl(s, t / 0)
    with pytest.raises(TypeError, match=r"floating-point tensor, got a torch.int64"):
        dv.categorical_kl(s.long(), t)
    with pytest.raises(ValueError, match="one element"):
        dv.mse(s[:0], t[:0])
    with pytest.raises(ValueError, match=r"beta must be in \[0, 1\]"):
        dv.categorical_jsd(s, t, beta=1.5)
    with pytest.raises(ValueError, match="delta"):
        dv.huber(s, t, delta=0.0)
    with pytest.raises(TypeError, match="pair"):
        dv.gaussian_kl(s, t)
    with pytest.raises(ValueError, match=r"log_std must broadcast.*got \(4,\) for a mean of \(5, 7\)"):
        dv.gaussian_kl((s, s), (t, torch.zeros(4)))
    huge = torch.full((2, 2), 3e38)
    assert dv.mse(huge, huge) == 0  # the sum overflows, the values are finite


@pytest.mark.parametrize("function", [dv.gaussian_kl, dv.gaussian_jsd])
def test_nothing_of_the_teacher_is_trained(function):
    s, t = gaussians()
    mean, log_std = (x.clone().requires_grad_() for x in t)
    student = tuple(x.clone().requires_grad_() for x in s)
    function(student, (mean, log_std)).backward()
    assert mean.grad is None
    assert log_std.grad is None
    assert all(x.grad is not None for x in student)
