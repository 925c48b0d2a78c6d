"""Rounds of self-distillation with networks and kernels, and the experiment."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd import functional as kf
from policykd.kd.experiments.system import Fit
from policykd.kd.kernel_self_distillation import limit_factors, step_factors
from policykd.kd.networks import MLP
from policykd.kd.systems.revisiting_self_distillation import EXPERIMENT, self_distillation_rounds
from policykd.kd.tasks.base import Split
from policykd.kd.training.config import OptimizerConfig, TrainConfig
from policykd.kd.training.evaluate import predict
from policykd.kd.training.loop import distil, seeded, train_classifier
from policykd.seeding import integer_seed


def test_kernel_rounds():
    d = np.array([10.0, 1.0, 0.1])
    shrinkage = d / (d + 1)
    rounds = step_factors(shrinkage, [0.0, 0.0, 0.0])
    np.testing.assert_allclose(rounds[1], [0.909091, 0.5, 0.090909], atol=5.1e-7)
    np.testing.assert_allclose(rounds[2], [0.826446, 0.25, 0.008264], atol=5.1e-7)
    np.testing.assert_allclose(rounds[3], [0.751315, 0.125, 0.000751], atol=5.1e-7)
    np.testing.assert_allclose(limit_factors(d, 1.0, 0.4), [0.8, 0.285714, 0.038462], atol=5.1e-7)
    np.testing.assert_allclose(limit_factors(d, 1.0, 0.4), d / (d + 2.5), atol=1e-15)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_copy_of_the_teacher_has_no_loss_and_no_gradient(temperature):
    torch.manual_seed(0)
    network = MLP((4,), (5,), classes=3).double()
    x = torch.randn(6, 4, dtype=torch.float64)
    value = kf.kd(network(x), network(x), temperature=temperature)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-14)
    for parameter in network.parameters():
        torch.testing.assert_close(parameter.grad, torch.zeros_like(parameter), rtol=0, atol=1e-14)


SETTING = TrainConfig(epochs=3, batch_size=8, seed=5, optimizer=OptimizerConfig("adam", lr=1e-2, weight_decay=0.0))


def rows(count=24):
    draw = torch.Generator().manual_seed(0)
    return Split(torch.randn(count, 4, generator=draw), torch.arange(count) % 3)


def test_rounds_start_from_new_weights_and_without_the_teacher_repeat_the_training():
    make = partial(MLP, (4,), (5,), classes=3)
    networks = self_distillation_rounds(make, rows(), SETTING, rounds=2, temperature=4.0, kd_weight=0.0)
    assert len(networks) == 3
    for number, network in enumerate(networks):
        alone = replace(SETTING, seed=integer_seed(5, "order of round", number))
        again = train_classifier(seeded(make, 5, "round", number), rows(), alone)
        for a, b in zip(network.parameters(), again.parameters(), strict=True):
            torch.testing.assert_close(a, b)
    starts = [seeded(make, 5, "round", number).fc.weight for number in range(3)]
    assert not torch.equal(starts[0], starts[1])
    taught = self_distillation_rounds(make, rows(), SETTING, rounds=1, temperature=4.0, kd_weight=1.0)
    torch.testing.assert_close(taught[0].fc.weight, networks[0].fc.weight)
    assert not torch.equal(taught[1].fc.weight, networks[1].fc.weight)


def test_a_round_without_labels_reads_none():
    make, data = partial(MLP, (4,), (5,), classes=3), rows()
    first = self_distillation_rounds(make, data, SETTING, rounds=1, temperature=4.0, kd_weight=1.0)
    # the student of round 1 depends on the labels through its teacher only
    other = Split(data.x, (data.y + 1) % 3)
    order = replace(SETTING, seed=integer_seed(5, "order of round", 1))
    student = distil(
        seeded(make, 5, "round", 1),
        predict(first[0], data)[0],
        other,
        order,
        temperature=4.0,
        kd_weight=1.0,
        ce_weight=0.0,
    )
    torch.testing.assert_close(student.fc.weight, first[1].fc.weight)


def test_kernel_rounds_on_digits_show_the_known_accuracies():
    short = {"wide": Fit((128,), epochs=1), "flat": Fit((64,), epochs=1)}
    config = replace(EXPERIMENT.config, **short, probes=2)
    cells = [EXPERIMENT.run(seed, config) for seed in range(2)]
    EXPERIMENT.check_cell(cells[0])
    known = {
        "small": (0.848, 0.955, 0.914 - 0.848),
        "middle": (0.952, 0.926, 0.006),
        "large": (0.958, 0.876, 0.946 - 0.958),
    }
    for name, (first, last, gain) in known.items():
        mean = {
            metric: np.mean([cell[f"kernel, {name} ridge"][metric] for cell in cells])
            for metric in ("accuracy", "accuracy last round", "gain of round 1")
        }
        assert mean["accuracy"] == pytest.approx(first, abs=0.02)
        assert mean["accuracy last round"] == pytest.approx(last, abs=0.02)
        assert mean["gain of round 1"] == pytest.approx(gain, abs=0.015)


def test_rounds_are_checked():
    with pytest.raises(ConfigError, match="rounds is 0"):
        self_distillation_rounds(MLP, rows(), SETTING, rounds=0, temperature=1.0, kd_weight=0.5)
    with pytest.raises(ConfigError, match="early_rounds"):
        replace(EXPERIMENT.config, early_rounds=9)
    with pytest.raises(ConfigError, match="flat_rounds"):
        replace(EXPERIMENT.config, flat_rounds=2)  # the comparisons read three rounds
