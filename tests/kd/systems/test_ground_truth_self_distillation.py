"""Self-distillation with weighted ground truth on the diabetes data: known errors and refused settings."""

from dataclasses import replace

import numpy as np
import pytest

from policykd.errors import ConfigError
from policykd.kd.systems.ground_truth_self_distillation import EXPERIMENT, GroundTruthRecipe


def test_diabetes_cells_show_the_known_errors_in_the_mean():
    recipe = replace(EXPERIMENT.config, tuning_ridges=(0.1,), tuning_folds=2)  # of the tuned ridge alone, not used here
    cells = [EXPERIMENT.run(seed, recipe) for seed in range(12)]

    def mean(arm, metric):
        return np.mean([cell[arm][metric] for cell in cells])

    EXPERIMENT.check_cell(cells[0])
    known = {
        ("small ridge: first fit", "mse limit"): 0.544,
        ("small ridge: no weight", "mse last step"): 0.535,
        ("small ridge: no weight", "mse limit"): 1.006,
        ("small ridge: low weight", "mse last step"): 0.522,
        ("small ridge: low weight", "mse limit"): 0.522,
        ("small ridge: high weight", "mse limit"): 0.530,
        ("large ridge: first fit", "mse limit"): 0.625,
        ("large ridge: no weight", "mse last step"): 1.005,
        ("large ridge: low weight", "mse limit"): 0.795,
        ("large ridge: high weight", "mse limit"): 0.706,
    }
    for (arm, metric), value in known.items():
        assert mean(arm, metric) == pytest.approx(value, abs=0.03), (arm, metric)
    for cell in cells:  # within a split the order is sharper than the means
        assert cell["small ridge: low weight"]["mse last step"] == pytest.approx(
            cell["small ridge: low weight"]["mse limit"], abs=1e-3
        )
        assert cell["large ridge: no weight"]["mse best later step"] > cell["large ridge: first fit"]["mse limit"]
    whole, tuned = EXPERIMENT.run(0, EXPERIMENT.config), "tuned ridge"
    assert EXPERIMENT.run(0, EXPERIMENT.config) == whole
    assert whole | {tuned: cells[0][tuned]} == cells[0]


@pytest.mark.parametrize("change", [{"samples": 5}, {"steps": 1}, {"small_ridge": 0.0}, {"high_weight": 1.5}])
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        GroundTruthRecipe(**change)
