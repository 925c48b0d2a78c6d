"""Generated trials, and the arms of the experiment on few electrodes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd.experiments.system import Fit
from policykd.kd.systems.sk_kd import EXPERIMENT, SKKDRecipe, source_trials


def test_generated_trials_share_one_mixture():
    config = SKKDRecipe(noise=1e-6)
    train, test = source_trials((200, 300), config, np.random.default_rng(0))
    both = torch.cat([train.x, test.x])
    assert torch.linalg.matrix_rank(both.double(), rtol=1e-4) == config.sources
    assert sorted(train.y.unique().tolist()) == [0, 1, 2, 3]


def test_arms_differ_by_the_similarity_term_alone():
    fits = {"teacher": Fit((32,), steps=40, batch_size=120), "student": Fit((16,), steps=40, batch_size=120)}
    config = SKKDRecipe(**fits, test_samples=200, sk_weight=0.0)
    cell = EXPERIMENT.run(0, config)
    EXPERIMENT.check_cell(cell)
    assert cell["sk"] == cell["ce"]
    assert cell["kd + sk"] == cell["kd"] != cell["ce"]
    weighted = EXPERIMENT.run(0, replace(config, sk_weight=10.0))
    assert weighted["ce"] == cell["ce"]
    assert weighted["sk"]["gram gap"] < cell["ce"]["gram gap"]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"kept": (0, 22)}, "kept is 22"), ({"sk_weight": -1.0}, "sk_weight"), ({"samples": 60}, "student.batch_size")],
)
def test_configurations_out_of_range_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        SKKDRecipe(**change)
