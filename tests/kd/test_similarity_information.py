"""Measures of what a teacher's answers hold: known values, the chain rule, and what the diagnostics keep."""

import math

import numpy as np
import pytest
import torch

from policykd.divergences import categorical_kl
from policykd.errors import ConfigError
from policykd.kd.similarity_information import (
    class_mean_answers,
    non_target_entropy,
    permuted_non_targets,
    response_entropy,
    similarity_information,
    smoothed_labels,
    sweet_spot,
)

FIRST = torch.tensor([0])
KNOWN = torch.tensor([[0.9, 0.06, 0.03, 0.01]], dtype=torch.float64).log()
LOGITS = torch.tensor([[6, 3, 2, 0]], dtype=torch.float64)


def batch(n=12, classes=5, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(n, classes, dtype=torch.float64, generator=draw), torch.arange(n) % classes


def close(value, expected, digits=6):
    assert float(value) == pytest.approx(
        expected, abs=1.01 * 10**-digits
    )  # the numbers were worked out from rounded ones


def test_known_distribution():
    close(response_entropy(KNOWN), 0.414878)
    close(response_entropy(KNOWN).exp(), 1.514186)
    close(non_target_entropy(KNOWN, FIRST), 0.897946)
    close(non_target_entropy(KNOWN, FIRST, normalize=True), 0.817345)
    close(similarity_information(KNOWN, FIRST), 0.0897946, digits=7)
    binary = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    close(binary, 0.325083)
    close(binary + similarity_information(KNOWN, FIRST), 0.414878)


@pytest.mark.parametrize(
    ("temperature", "p", "entropy", "shape", "information"),
    [
        (1, (0.934072, 0.046505, 0.017108, 0.002315), 0.290041, 0.713866, 0.047064),
        (4, (0.484643, 0.228929, 0.178290, 0.108138), 1.236538, 1.055311, 0.543862),
        (20, None, 1.380318, 1.096701, 0.776052),
    ],
)
def test_known_logits_at_three_temperatures(temperature, p, entropy, shape, information):
    if p is not None:
        np.testing.assert_allclose((LOGITS / temperature).softmax(1)[0], p, atol=5.1e-7)
    close(response_entropy(LOGITS, temperature=temperature), entropy)
    close(non_target_entropy(LOGITS, FIRST, temperature=temperature), shape)
    close(similarity_information(LOGITS, FIRST, temperature=temperature), information)


def test_special_distributions():
    y = torch.tensor([1])
    sure = torch.tensor([[0.0, 200.0, 0.0, 0.0]], dtype=torch.float64)
    close(similarity_information(sure, y), 0, digits=12)
    uniform = torch.zeros(1, 4, dtype=torch.float64)
    close(similarity_information(uniform, y), 3 / 4 * math.log(3), digits=12)
    s = 0.2
    smooth = torch.full((1, 4), s / 4, dtype=torch.float64)
    smooth[0, 1] += 1 - s
    close(similarity_information(smooth.log(), y), s * 3 / 4 * math.log(3), digits=12)
    two = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    assert non_target_entropy(two, y).item() == 0
    assert non_target_entropy(two, y, normalize=True).item() == 0


def test_chain_rule_and_bound_against_numpy():
    logits, y = batch()
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    right = p[np.arange(12), y]
    binary = -(right * np.log(right) + (1 - right) * np.log(1 - right))
    si = similarity_information(logits, y, reduction="none").numpy()
    entropy = response_entropy(logits, reduction="none").numpy()
    np.testing.assert_allclose(entropy, -(p * np.log(p)).sum(1), atol=1e-12)
    np.testing.assert_allclose(si + binary, entropy, atol=1e-12)
    assert (si <= entropy).all()


def test_a_confident_teacher_keeps_its_digits():
    logits = torch.tensor([[60.0, 3.0, 2.0, 0.0]])
    exact = non_target_entropy(LOGITS, FIRST)  # the wrong classes' logits are the same
    assert non_target_entropy(logits, FIRST).item() == pytest.approx(exact.item(), rel=1e-5)
    logits.requires_grad_()
    similarity_information(logits, FIRST).backward()
    assert torch.isfinite(logits.grad).all()


def test_temperature_inflates_information_without_adding_any():
    values = [float(non_target_entropy(*batch(), temperature=t, normalize=True)) for t in (1, 4, 20, 1000)]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(1, abs=1e-5)


def test_shuffling_wrong_classes_keeps_the_measures_and_loses_the_knowledge():
    logits, y = batch(50)
    shuffled = permuted_non_targets(logits, y, temperature=4, generator=torch.Generator().manual_seed(1))
    for measure in (response_entropy, lambda z, **k: similarity_information(z, y, **k)):
        torch.testing.assert_close(
            measure(shuffled, temperature=4, reduction="none"), measure(logits, temperature=4, reduction="none")
        )
    before, after = (logits / 4).softmax(1), (shuffled / 4).softmax(1)
    torch.testing.assert_close(before.gather(1, y[:, None]), after.gather(1, y[:, None]))
    torch.testing.assert_close(before.sort(1).values, after.sort(1).values)
    student = torch.arange(5.0, dtype=torch.float64).expand(50, 5)
    changed = categorical_kl(student, logits, reduction="none") - categorical_kl(student, shuffled, reduction="none")
    assert (changed.abs() > 1e-6).float().mean() > 0.8


def test_shuffles_are_uniform_and_never_move_the_label():
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]]).expand(6000, 4)
    y = torch.full((6000,), 1)
    shuffled = permuted_non_targets(logits, y, temperature=1, generator=torch.Generator().manual_seed(0))
    place = (shuffled.softmax(1) - logits[0].softmax(0)[0]).abs().argmin(1)
    counts = place.bincount(minlength=4)
    assert counts[1] == 0
    assert (counts[[0, 2, 3]].float() / 6000 - 1 / 3).abs().max() < 0.02


def test_smoothing_and_class_means_as_teachers():
    logits, y = batch(50)
    p = (logits / 4).softmax(1)
    right = p.gather(1, y[:, None]).mean()
    smooth = (smoothed_labels(logits, y, temperature=4) / 4).softmax(1)
    torch.testing.assert_close(smooth.gather(1, y[:, None])[:, 0], right.expand(50))
    assert smooth.sort(1).values[:, :-1].std(1).max() < 1e-12
    means = (class_mean_answers(logits, y, temperature=4) / 4).softmax(1)
    for label in range(5):
        torch.testing.assert_close(means[y == label], p[y == label].mean(0).expand(10, 5))


def test_choice_without_students():
    assert sweet_spot([0.90, 0.97, 0.98, 0.965], [1.5, 0.8, 0.3, 1.0]) == 3
    assert sweet_spot([0.90, 0.97, 0.98, 0.965], [1.5, 0.8, 0.3, 1.0], tolerance=0) == 2
    with pytest.raises(ConfigError, match="got 2 and 1"):
        sweet_spot([0.9, 0.8], [1.0])
    with pytest.raises(ConfigError, match="tolerance is -1"):
        sweet_spot([0.9], [1.0], tolerance=-1)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="temperature"):
        response_entropy(LOGITS, temperature=0)
    with pytest.raises(ValueError, match="labels must be in"):
        similarity_information(LOGITS, torch.tensor([4]))
    with pytest.raises(ValueError, match="finite"):
        non_target_entropy(torch.full((1, 3), float("nan")), FIRST)
