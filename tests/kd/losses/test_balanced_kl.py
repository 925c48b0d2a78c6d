"""Balanced divergences against worked numbers, and their rules."""

import pytest
import torch
import torch.nn.functional as F

from policykd.errors import ConfigError
from policykd.kd.losses.balanced_kl import Balance, Fixed, Soft, balanced_kl, entropies, own_first_kl, peer_first_kl
from policykd.kd.metrics import calibration_error

T = torch.tensor([[2.0, 0, 0], [1, 0.5, 0]], dtype=torch.double)  # teacher
S = torch.tensor([[1.0, 0, 0], [3, 0, 0]], dtype=torch.double)  # student: under-confident, then over-confident


def close(tensor, expected):
    torch.testing.assert_close(tensor, torch.tensor(expected, dtype=tensor.dtype), atol=1e-6, rtol=0)


def terms(rule, **options):
    return balanced_kl(S, T, rule=rule, reduction="none", **{"temperature": 1.0, **options})


def test_the_worked_values_at_temperature_one():
    close(T.softmax(1), [[0.786986, 0.106507, 0.106507], [0.506480, 0.307196, 0.186324]])
    close(S.softmax(1), [[0.576117, 0.211942, 0.211942], [0.909443, 0.045279, 0.045279]])
    close(entropies(T), [0.665573, 1.020191])
    close(entropies(S), [0.975328, 0.366594])
    close(terms(Fixed(1, 0)), [0.098886, 0.555290])
    close(terms(Fixed(0, 1)), [0.111983, 0.381593])
    forward, reverse = Balance(2.0)(entropies(S), entropies(T))
    close(forward, [1.0, 2.0])
    close(reverse, [2.0, 1.0])
    close(terms(Balance(2.0)), [0.322852, 1.492174])
    assert float(balanced_kl(S, T, temperature=1.0)) == pytest.approx(0.907513, abs=1e-6)


def test_at_temperature_two_the_entropies_of_temperature_one_decide():
    close(terms(Balance(2.0), temperature=2.0), [0.373055, 1.909205])


def test_calibration_error_of_the_card():
    confidence = torch.tensor([0.95, 0.9, 0.8, 0.6, 0.55], dtype=torch.double)
    correct = torch.tensor([1, 1, 0, 1, 0], dtype=torch.bool)
    for bins in (10, 15):
        assert calibration_error(confidence, correct, bins=bins) == pytest.approx(0.22)


RULES = [Balance(), Balance(3.0, flipped=True), Fixed(), Fixed(1.0, 0.0), Soft()]


@pytest.mark.parametrize("rule", RULES)
def test_equal_predictions_cost_nothing_and_constants_do_not_count(rule):
    torch.testing.assert_close(balanced_kl(S, S + 3.0, rule=rule), torch.zeros((), dtype=torch.double))
    torch.testing.assert_close(balanced_kl(S + 5.0, T - 1.0, rule=rule), balanced_kl(S, T, rule=rule))
    assert bool((terms(rule) > 0).all())


def test_exchanging_the_networks_leaves_a_balanced_sum_unchanged():
    """At delta = 1, and at any other: what is weighted is the divergence from the less sure network, whoever it is."""
    assert torch.equal(terms(Balance(1.0)), terms(Fixed()))
    for delta in (1.0, 2.0):
        swapped = balanced_kl(T, S, rule=Balance(delta), temperature=1.0, reduction="none")
        torch.testing.assert_close(swapped, terms(Balance(delta)))
    swapped = balanced_kl(T, S, rule=Fixed(1, 2), temperature=1.0, reduction="none")
    assert not torch.allclose(swapped, terms(Fixed(1, 2)))


def test_rules():
    low, high = torch.tensor([0.2, 0.7]), torch.tensor([0.5, 0.7])
    over, under = Balance(3.0)(low, high), Balance(3.0)(high, low)
    assert [w.tolist() for w in over] == [[3.0, 1.0], [1.0, 1.0]]  # over-confident, equal
    assert [w.tolist() for w in under] == [[1.0, 1.0], [3.0, 1.0]]
    assert [w.tolist() for w in Balance(3.0, flipped=True)(low, high)] == [[1.0, 1.0], [3.0, 1.0]]
    assert [w.tolist() for w in Fixed(0.5, 2.0)(low, high)] == [[0.5, 0.5], [2.0, 2.0]]
    forward, reverse = Soft(tau=0.1)(low, high)
    close(forward, [2 / (1 + torch.e**-3), 1.0])
    close(forward + reverse, [2.0, 2.0])
    sharp, _ = Soft(tau=1e-6)(low, high)
    close(sharp, [2.0, 1.0])


def test_the_reverse_divergence_has_its_closed_form_gradient():
    z = S.clone().requires_grad_()
    balanced_kl(z, T, rule=Fixed(0, 1), temperature=1.0, reduction="sum").backward()
    p, gap = S.softmax(1), S.log_softmax(1) - T.log_softmax(1)
    torch.testing.assert_close(z.grad, p * (gap - (p * gap).sum(1, keepdim=True)))


def test_the_weights_carry_no_gradient():
    z = S.clone().requires_grad_()
    balanced_kl(z, T, temperature=1.0, reduction="sum").backward()
    expected = torch.zeros_like(S)
    for row, (forward, reverse) in enumerate(((1.0, 2.0), (2.0, 1.0))):
        own = S[row : row + 1].clone().requires_grad_()
        balanced_kl(own, T[row : row + 1], rule=Fixed(forward, reverse), temperature=1.0, reduction="sum").backward()
        expected[row] = own.grad[0]
    torch.testing.assert_close(z.grad, expected)


def test_far_logits_stay_finite():
    z = torch.tensor([[50.0, -50, 0]], requires_grad=True)
    value = balanced_kl(z, -z.detach(), temperature=1.0)
    value.backward()
    assert bool(torch.isfinite(value))
    assert bool(torch.isfinite(z.grad).all())


def test_one_direction_each_is_deep_mutual_learning():
    """wR = 0 for the student and KL(student || teacher) for the teacher, against torch's own divergence."""
    student_term = balanced_kl(S, T, rule=Fixed(1, 0), temperature=2.0)
    expected = 4 * F.kl_div((S / 2).log_softmax(1), (T / 2).softmax(1), reduction="batchmean")
    torch.testing.assert_close(student_term, expected)
    torch.testing.assert_close(peer_first_kl(S, T), expected)
    expected = 4 * F.kl_div((T / 2).log_softmax(1), (S / 2).softmax(1), reduction="batchmean")
    torch.testing.assert_close(peer_first_kl(T, S), expected)


def test_the_teachers_term_puts_itself_first():
    close(own_first_kl(T, S, temperature=1.0).reshape(1), [(0.098886 + 0.555290) / 2])


@pytest.mark.parametrize("build", [lambda: Balance(0.5), lambda: Soft(0.0)])
def test_rules_out_of_range_are_refused(build):
    with pytest.raises(ConfigError):
        build()


def test_temperatures_and_shapes_are_checked():
    with pytest.raises(ValueError, match="temperature"):
        balanced_kl(S, T, temperature=0.0)
    with pytest.raises(ValueError, match="same shape"):
        balanced_kl(S, T[:, :2])
