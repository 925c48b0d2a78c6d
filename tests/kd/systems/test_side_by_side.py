"""Students that are trained as one stack end where they would have ended alone."""

import pytest
import torch
from torch import nn

from policykd.errors import ConfigError
from policykd.kd.networks import MLP
from policykd.kd.tasks.base import Split
from policykd.kd.training.config import OptimizerConfig, TrainConfig
from policykd.kd.training.loop import distil, minimize, seeded, train_classifier
from policykd.kd.training.stacked import SideBySide, distil_side_by_side

CONFIG = TrainConfig(epochs=4, batch_size=8, seed=3, optimizer=OptimizerConfig("adam", lr=1e-2, weight_decay=0.0))


def student(seed=0):
    return seeded(lambda: MLP((6,), (5,), classes=3), seed, "student").double()


def data():
    draw = torch.Generator().manual_seed(0)
    return Split(torch.randn(21, 6, dtype=torch.float64, generator=draw), torch.arange(21) % 3)


def targets(count):
    return torch.randn(count, 21, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def same(first, second):
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_a_stack_gives_every_networks_logits():
    networks = [student(0), student(1)]
    x = data().x
    torch.testing.assert_close(SideBySide(networks)(x), torch.stack([network(x) for network in networks]))
    assert [name for name, _ in SideBySide(networks).named_parameters()] == [f"stacked.{i}" for i in range(4)]


def test_each_student_ends_where_it_would_have_alone():
    split, taught = data(), targets(3)
    together = [student(0), student(0), student(1)]
    distil_side_by_side(together, taught, split, CONFIG, temperature=3.0, kd_weights=(0.9, 0.0, 0.5))
    same(together[0], distil(student(0), taught[0], split, CONFIG, temperature=3.0, kd_weight=0.9, ce_weight=0.1))
    same(together[1], train_classifier(student(0), split, CONFIG))
    same(together[2], distil(student(1), taught[2], split, CONFIG, temperature=3.0, kd_weight=0.5, ce_weight=0.5))
    assert not any(network.training for network in together)


def test_targets_may_change_with_the_epoch():
    split, taught = data(), targets(2)
    together = [student(0)]
    distil_side_by_side(together, lambda epoch: taught[[epoch % 2]], split, CONFIG, temperature=1.0, kd_weights=(1.0,))
    alone = student(0)

    def loss(batch, epoch):
        p = taught[epoch % 2][batch.index].softmax(1)
        return (p * (p.log() - alone(batch.x).log_softmax(1))).sum(1).mean()

    minimize(loss, alone, split, CONFIG)
    same(together[0], alone)


def test_what_would_tie_students_together_is_refused():
    with pytest.raises(ConfigError, match="buffers"):
        SideBySide([nn.BatchNorm1d(3)])
    with pytest.raises(ConfigError, match="2 students, 3 targets and 2 weights"):
        distil_side_by_side([student(), student()], targets(3), data(), CONFIG, temperature=1.0, kd_weights=(1.0, 1.0))
    clipped = TrainConfig(epochs=1, batch_size=8, clip_norm=1.0)
    with pytest.raises(ConfigError, match="clip_norm"):
        distil_side_by_side([student()], targets(1), data(), clipped, temperature=1.0, kd_weights=(1.0,))
