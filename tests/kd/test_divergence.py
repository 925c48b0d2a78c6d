"""A training that diverges ends as one error that names what to do, whichever loop and command runs it."""

from dataclasses import dataclass

import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd import functional as kf
from policykd.kd.experiments.experiment import Comparison, Experiment
from policykd.kd.experiments.runner import run_experiment
from policykd.kd.losses import KD
from policykd.kd.networks import MLP
from policykd.kd.objective.objective import Objective
from policykd.kd.training.config import OptimizerConfig, TrainConfig
from policykd.kd.training.distiller import Distiller
from policykd.kd.training.loop import minimize, seeded

X, Y = torch.randn(24, 4, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 3
WILD = TrainConfig(epochs=6, batch_size=4, optimizer=OptimizerConfig(lr=1e30))


def network(role="student"):
    return seeded(lambda: MLP((4,), (5,), classes=3), 0, role)


def distil(config=WILD):
    student, teacher = network(), network("teacher").eval()
    minimize(lambda batch, epoch: kf.kd(student(batch.x), teacher(batch.x)), student, (X, Y), config)


def test_a_loss_that_refuses_logits_of_diverged_weights_is_a_divergence():
    with pytest.raises(FloatingPointError, match=r"not finite after .* epochs, .* lower the learning rate"):
        distil()
    with pytest.raises(FloatingPointError, match="beyond all bounds"):
        Distiller(network(), network("teacher").eval(), Objective(kd=KD()), WILD).fit((X, Y))


def test_a_loss_that_refuses_its_data_keeps_its_own_error():
    student = network()
    with pytest.raises(ValueError, match="same shape"):
        minimize(lambda batch, epoch: kf.kd(student(batch.x), batch.x), student, (X, Y), TrainConfig(epochs=1))


@dataclass(frozen=True)
class Config:
    lr: float = 1e30


def run(seed, config):
    distil(TrainConfig(epochs=6, batch_size=4, seed=seed, optimizer=OptimizerConfig(lr=config.lr)))
    return {"a": {"score": 1.0}}


def test_a_system_that_diverges_is_named_with_its_seed_and_saves_nothing(tmp_path):
    claim = Comparison("score", student="a", better="higher", text="the score is above 0")
    toy = Experiment("toy", "Toy", "None", "It trains.", Config(), run, (claim,))
    with pytest.raises(ConfigError, match="toy diverged on seed 0: the outputs are not finite"):
        run_experiment(toy, tmp_path, seeds=2)
    assert not list((tmp_path / "cells").iterdir())
