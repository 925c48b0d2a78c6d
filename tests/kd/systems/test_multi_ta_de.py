"""Weights of an ensemble by differential evolution: optima that are known in closed form, and their invariants."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from policykd.errors import ConfigError, UnknownNameError
from policykd.kd import functional as kf
from policykd.kd.ensembles import (
    EvolutionConfig,
    ensemble_accuracy,
    ensemble_logits,
    ensemble_nll,
    ensemble_probabilities,
    evolve_weights,
    normalized,
)
from policykd.kd.experiments.system import Fit
from policykd.kd.systems.multi_ta_de import EXPERIMENT


def of_true_class(*members):
    """Two-class probabilities (M, N, 2) with these probabilities of class 0, the label of every sample."""
    p = np.array(members)
    return np.stack([p, 1 - p], axis=-1), np.zeros(p.shape[1], dtype=int)


def random_members(members=3, samples=40, classes=4, seed=0):
    draw = np.random.default_rng(seed)
    y = draw.integers(0, classes, samples)
    logits = draw.normal(size=(members, samples, classes)) + 2 * np.eye(classes)[y] * draw.uniform(
        0, 1, (members, 1, 1)
    )
    p = np.exp(logits)
    return p / p.sum(-1, keepdims=True), y


def test_closed_form_of_two_members():
    p, y = of_true_class((0.8, 0.2), (0.4, 0.6))
    found = evolve_weights(p, y, seed=0)
    np.testing.assert_allclose(found.weights, [0.25, 0.75], atol=1e-4)
    np.testing.assert_allclose(ensemble_probabilities(p, found.weights)[:, 0], 0.5, atol=1e-4)
    assert found.value == pytest.approx(0.693147, abs=5e-7)
    for weights, nll in (([1, 1], 0.713558), ([1, 0], 0.916291), ([0, 1], 0.713558)):
        assert ensemble_nll(p, y, weights) == pytest.approx(nll, abs=5e-7)


def test_symmetric_members():
    p, y = of_true_class((0.9, 0.3), (0.3, 0.9))
    found = evolve_weights(p, y, seed=0)
    np.testing.assert_allclose(found.weights, 0.5, atol=1e-4)
    assert found.value == pytest.approx(0.510826, abs=5e-7)
    assert ensemble_nll(p, y, [1, 0]) == pytest.approx(0.654667, abs=5e-7)
    assert ensemble_nll(p, y, [0, 1]) == pytest.approx(0.654667, abs=5e-7)


DOMINANT = np.array(
    [
        [[0.7, 0.3], [0.6, 0.4], [0.2, 0.8], [0.45, 0.55]],
        [[0.2, 0.8], [0.4, 0.6], [0.9, 0.1], [0.3, 0.7]],
        [[0.5, 0.5], [0.8, 0.2], [0.4, 0.6], [0.9, 0.1]],
    ]
)
DOMINANT_Y = np.array([0, 0, 1, 0])


def test_one_dominant_member():
    for member, accuracy, nll in ((0, 0.75, 0.472288), (1, 0.0, 1.508072), (2, 1.0, 0.383119)):
        alone = np.eye(3)[member]
        assert ensemble_accuracy(DOMINANT, DOMINANT_Y, alone) == accuracy
        assert ensemble_nll(DOMINANT, DOMINANT_Y, alone) == pytest.approx(nll, abs=5e-7)
    assert ensemble_accuracy(DOMINANT, DOMINANT_Y, [1, 1, 1]) == 0.5
    assert ensemble_nll(DOMINANT, DOMINANT_Y, [1, 1, 1]) == pytest.approx(0.640987, abs=5e-7)
    found = evolve_weights(DOMINANT, DOMINANT_Y, seed=0)
    np.testing.assert_allclose(found.weights, [0, 0, 1], atol=1e-4)
    assert found.value == pytest.approx(0.383119, abs=5e-6)


def test_the_optimum_is_no_worse_than_one_member_or_equal_weights_and_any_seed_finds_it():
    p, y = random_members()
    values = [evolve_weights(p, y, seed=seed) for seed in (0, 1)]
    for found in values:
        assert found.weights.sum() == pytest.approx(1)
        assert (found.weights >= 0).all()
        others = [ensemble_nll(p, y, w) for w in (*np.eye(3), np.ones(3))]
        assert found.value <= min(others) + 1e-9
        assert found.value == pytest.approx(ensemble_nll(p, y, found.weights))
    np.testing.assert_allclose(values[0].weights, values[1].weights, atol=1e-3)


def test_order_and_copies_of_members():
    p, y = random_members(seed=3)
    found, order = evolve_weights(p, y, seed=0), [2, 0, 1]
    np.testing.assert_allclose(evolve_weights(p[order], y, seed=0).weights, found.weights[order], atol=1e-3)
    doubled = evolve_weights(np.concatenate([p, p[:1]]), y, seed=0)
    assert doubled.value == pytest.approx(found.value, abs=1e-6)
    assert doubled.weights[0] + doubled.weights[3] == pytest.approx(found.weights[0], abs=1e-3)


def test_nll_is_convex_in_the_normalized_weights():
    p, y = random_members(seed=4)
    draw = np.random.default_rng(0)
    for _ in range(50):
        a, b = normalized(draw.uniform(size=3)), normalized(draw.uniform(size=3))
        assert ensemble_nll(p, y, (a + b) / 2) <= (ensemble_nll(p, y, a) + ensemble_nll(p, y, b)) / 2 + 1e-12


def test_accuracy_as_the_goal():
    found = evolve_weights(DOMINANT, DOMINANT_Y, seed=0, goal="accuracy")
    assert found.value == 0.0
    assert ensemble_accuracy(DOMINANT, DOMINANT_Y, found.weights) == 1.0
    p, y = random_members(seed=5)
    found = evolve_weights(p, y, seed=1, goal="accuracy", config=EvolutionConfig(generations=50))
    assert 1 - found.value == ensemble_accuracy(p, y, found.weights)
    assert 1 - found.value >= max(ensemble_accuracy(p, y, w) for w in np.eye(3))


def test_normalization():
    np.testing.assert_array_equal(normalized([0, 0]), [0.5, 0.5])
    np.testing.assert_allclose(normalized(np.array([[0, 2], [0, 6]])), [[0.5, 0.25], [0.5, 0.75]])


def test_softened_ensembles_against_their_definition():
    logits = torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    w = np.array([1.0, 2.0, 5.0])

    def softmax(z):
        e = np.exp(z)
        return e / e.sum(-1, keepdims=True)

    z, v = logits.numpy(), w / w.sum()
    expected = {
        "softened": np.einsum("m,mnc->nc", v, softmax(z / 4)),
        "resoftened": softmax(np.log(np.einsum("m,mnc->nc", v, softmax(z))) / 4),
        "logits": softmax(np.einsum("m,mnc->nc", v, z) / 4),
    }
    for softening, probabilities in expected.items():
        out = ensemble_logits(logits, w, temperature=4, softening=softening)
        np.testing.assert_allclose((out / 4).softmax(-1), probabilities, atol=1e-12)


@pytest.mark.parametrize("softening", ["softened", "resoftened", "logits"])
def test_one_member_is_standard_distillation_from_it(softening):
    member = torch.randn(1, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    student = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    p, y = member.detach().softmax(-1).numpy(), np.zeros(6, dtype=int)
    found = evolve_weights(p, y, seed=0)
    assert found.weights.tolist() == [1.0]
    assert found.value == pytest.approx(ensemble_nll(p, y, [1.0]))
    teacher = ensemble_logits(member, found.weights, temperature=4, softening=softening)
    loss = kf.kd(student, teacher, temperature=4)
    torch.testing.assert_close(loss, kf.kd(student, member[0], temperature=4))
    loss.backward()
    assert member.grad is None


def test_bad_input_is_refused():
    p, y = random_members()
    with pytest.raises(ConfigError, match=r"\(M, N, C\)"):
        evolve_weights(p[0], y, seed=0)
    with pytest.raises(ConfigError, match="sum to one"):
        evolve_weights(2 * p, y, seed=0)
    with pytest.raises(ConfigError, match=r"integers in \[0, 3\]"):
        evolve_weights(p, y + 4, seed=0)
    with pytest.raises(ConfigError, match="3 members need 3 weights"):
        ensemble_nll(p, y, [1, 1])
    with pytest.raises(ConfigError, match="not negative"):
        normalized([1, -1])
    with pytest.raises(UnknownNameError, match="goal 'loss'"):
        evolve_weights(p, y, seed=0, goal="loss")
    with pytest.raises(UnknownNameError, match="softening"):
        ensemble_logits(torch.zeros(2, 3, 4), [1, 1], temperature=1, softening="mean")
    with pytest.raises(ConfigError, match="with M weights"):
        ensemble_logits(torch.zeros(2, 3, 4), [1, 1, 1], temperature=1)
    with pytest.raises(ValueError, match="temperature"):
        ensemble_logits(torch.zeros(2, 3, 4), [1, 1], temperature=0)
    with pytest.raises(ConfigError, match="population is 2"):
        EvolutionConfig(population=2)


def test_a_cell_is_paired_and_repeatable():
    config = replace(
        EXPERIMENT.config,
        **{role: Fit((8,), epochs=3) for role in ("teacher", "large_assistant", "middle_assistant", "small_assistant")},
        student=Fit((8,), epochs=2),
        long_epochs=2,
        kd_weight=0.0,
        ce_weight=1.0,
    )
    cell = EXPERIMENT.run(0, config)
    EXPERIMENT.check_cell(cell)
    assert len({figures["accuracy"] for figures in cell.values()}) == 1  # without the teacher's term all are one arm
    weight = cell["evolved ensemble"]["corrupted weight"]
    assert 0 <= weight <= 1
    assert cell["equal ensemble"]["corrupted weight"] == 0.25
    assert cell["evolved ensemble"]["validation nll"] <= cell["best assistant"]["validation nll"] + 1e-6
    assert cell["evolved ensemble"]["validation nll"] <= cell["equal ensemble"]["validation nll"] + 1e-6
    assert EXPERIMENT.run(0, config) == cell


def test_weights_that_the_stacked_training_would_ignore_are_refused():
    with pytest.raises(ConfigError, match="set both so that they sum to 1"):
        replace(EXPERIMENT.config, kd_weight=0.5)
    with pytest.raises(ConfigError, match="assistant_kd_weight is 2"):
        replace(EXPERIMENT.config, assistant_kd_weight=2.0)
