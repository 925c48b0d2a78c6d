"""Relevance of ground heights: what is hidden and kept, blocks and distances, and the experiment on a stored policy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd.mask_explanations import ConstantFill
from policykd.report.terrain_relevance import (
    EXPERIMENT,
    Explainer,
    Part,
    TerrainRecipe,
    recorded,
    terrain_columns,
    walking_policy,
)

STORED = str(Path(__file__).parents[1] / "data" / "flat-expert")
TINY = replace(
    EXPERIMENT.config,
    policy=STORED,
    simulations=4,
    recorded_steps=12,
    explained=2,
    mask_steps=3,
    mask_draws=4,
    judged_draws=10,
)


@pytest.fixture(scope="module")
def policy():
    return walking_policy(TINY.skill, STORED, TINY.train_steps)


@pytest.fixture(scope="module")
def record(policy):
    return recorded(policy, TINY, 0)


def test_a_record_repeats_and_moves(policy, record):
    assert record.shape == (12, 4, policy.observation_size)
    assert torch.equal(recorded(policy, TINY, 0), record)
    assert not torch.equal(recorded(policy, TINY, 1), record)
    assert float((record[1:] - record[:-1]).abs().mean()) > 1e-3


def test_the_scan_is_found_and_policies_without_it_are_refused(policy):
    assert terrain_columns(policy) == slice(49, 99)

    class Blind:
        groups = {"proprio": 49}

    with pytest.raises(ConfigError, match="needs the group terrain"):
        terrain_columns(Blind())


def test_only_the_ground_is_ever_hidden():
    whole = torch.arange(6.0)
    part = Part(ConstantFill(torch.full((6,), -1.0)), whole, slice(2, 5))
    found = part(whole[2:5], torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), torch.Generator())
    assert found.tolist() == [[2.0, -1.0, -1.0], [-1.0, -1.0, 4.0]]


def test_the_network_is_the_policy_on_the_other_inputs_of_the_moment(policy, record):
    explainer = Explainer(policy, record, TINY, 0)
    whole = explainer.moments()[0]
    heights = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    rows = whole.expand(3, -1).clone()
    rows[:, 49:99] = heights
    with torch.no_grad():
        expected = policy(rows * explainer.spread + explainer.mean) / explainer.unit
        torch.testing.assert_close(explainer.network(whole, heights), expected)


def test_moments_are_uneven_and_held_out(policy, record):
    explainer = Explainer(policy, record, TINY, 0)
    open_ = record[:, 2:].flatten(0, 1)
    moments = explainer.moments() * explainer.spread + explainer.mean
    for moment in moments:
        assert float((open_ - moment).abs().amax(1).min()) < 1e-4
    rough = open_[:, 49:99].std(1)
    assert float(moments[:, 49:99].std(1).min()) >= float(rough.sort().values[len(rough) * 2 // 3 - 1]) - 1e-4


def test_flat_ground_is_a_height_of_zero_and_blocks_go_ahead(policy, record):
    explainer = Explainer(policy, record, TINY, 0)
    flat = explainer.fills["flat ground"].value * explainer.spread + explainer.mean
    np.testing.assert_allclose(flat[49:99], 0.0, atol=1e-5)
    centers = explainer.centers()
    assert torch.bincount(explainer.groups).tolist() == [5] * 10
    assert bool((centers[1:] > centers[:-1]).all())
    assert float(centers[0]) < 0 < float(centers[-1]) < 3


def test_explaining_leaves_the_policy_as_it_was(policy, record):
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    explainer = Explainer(policy, record, TINY, 0)
    found = explainer.relevances(explainer.moments()[0], 0)
    assert len(found) == 6
    assert all(values.shape == (10,) for values in found.values())
    assert all(parameter.grad is None for parameter in policy.parameters())
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())


def test_a_small_cell_repeats():
    cell = EXPERIMENT.run(0, TINY)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, TINY) == cell
    assert sum(name.startswith("at ") for name in cell["in distribution"]) == 10


def test_without_a_policy_one_is_trained():
    trained = walking_policy("biped/flat", "", 2000)
    assert trained.observation_size == 99


@pytest.mark.parametrize("change", [{"kept": 10}, {"blocks": 1}, {"size_weight": -1.0}])
def test_configurations_out_of_range_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        TerrainRecipe(**change)
