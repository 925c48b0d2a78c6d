"""Patches of digits: their masks, how they are judged, and the experiment."""

from dataclasses import replace

import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd.experiments.system import Fit
from policykd.kd.mask_explanations import NeighborFill, distortion, largest_mask
from policykd.kd.systems.in_distribution_interpretability import (
    EXPERIMENT,
    PATCHES,
    InterpretabilityCell,
    InterpretabilityRecipe,
)

TINY = replace(EXPERIMENT.config, teacher=Fit((8,), epochs=2), explained=2, mask_steps=3, mask_draws=4, judged_draws=10)


def test_patches_are_squares_of_two():
    image = PATCHES.reshape(8, 8)
    assert image[:2, :2].unique().tolist() == [0]
    assert image[6:, 6:].unique().tolist() == [15]
    assert image[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert torch.bincount(PATCHES).tolist() == [4] * 16


def test_masks_are_judged_by_real_digits():
    cell = InterpretabilityCell(0, TINY)
    x, relevances = cell.test.x[0], torch.arange(16.0)
    mask = largest_mask(relevances, PATCHES, 4)
    assert mask.reshape(8, 8)[6:].min() == 1.0
    assert float(mask.sum()) == 16.0
    draws = cell.draws("judge", 5)
    expected = distortion(cell.probabilities, x, mask, NeighborFill(cell.train.x), draws=10, generator=draws)
    assert cell.judged(x, relevances, 5)["distortion"] == expected


def test_every_arm_ranks_all_patches():
    cell = InterpretabilityCell(0, TINY)
    found = cell.relevances(cell.test.x[0], 0)
    assert list(found)[:3] == ["in distribution", "independent noise", "zeros"]
    assert all(values.shape == (16,) for values in found.values())
    torch.testing.assert_close(found["ink"].sum(), cell.test.x[0].sum())


@pytest.mark.parametrize("change", [{"kept": 16}, {"explained": 0}, {"size_weight": -1.0}])
def test_configurations_out_of_range_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        InterpretabilityRecipe(**change)


def test_a_small_cell_repeats():
    cell = EXPERIMENT.run(0, TINY)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, TINY) == cell
    assert next(iter(cell)) == "classifier"
