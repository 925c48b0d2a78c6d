"""Features that hardly moved in training: their means stand for them, or the policy does not read them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from policykd.agents.action_map import ActionMap
from policykd.agents.importing.dead_inputs import find_dead, note_on_dead, without_dead_inputs
from policykd.agents.importing.foreign_policy import ForeignPolicy, Layer, Standardization, check_sizes, policy_of
from policykd.agents.importing.recurrence import Recurrence
from policykd.errors import ConfigError, PolicyFileError, UnknownNameError

MEAN, DIVISOR = np.array([0.5, 2.0, -1.0, 3.0, 0.1]), np.array([1.0, 1e-4, 0.3, 1e-4, 2.0])
DEAD, ALIVE = [1, 3], [0, 2, 4]


def layer(outputs, inputs, seed):
    draw = np.random.default_rng(seed)
    return Layer(draw.normal(size=(outputs, inputs)).astype(np.float32), draw.normal(size=outputs).astype(np.float32))


@pytest.fixture
def foreign():
    statistics = Standardization(MEAN, DIVISOR, 10.0)
    return ForeignPolicy(
        "x", {"a": 2, "b": 3}, (layer(8, 5, 0), layer(2, 8, 1)), "tanh", ActionMap("none"),
        critic=(layer(4, 5, 2), layer(1, 4, 3)), standardization=statistics, notes=("new", note_on_dead(statistics)),
    )  # fmt: skip


@pytest.mark.parametrize(("way", "groups"), [("mean", {"a": 2, "b": 3}), ("drop", {"a": 1, "b": 2})])
def test_actions_and_values_are_those_at_the_means(foreign, way, groups):
    rows = torch.from_numpy(np.random.default_rng(4).normal(size=(20, 5)).astype(np.float32))
    usual = rows.clone()
    usual[:, DEAD] = torch.from_numpy(MEAN[DEAD]).float()
    changed = without_dead_inputs(foreign, way, "x.zip")
    assert changed.groups == groups
    assert changed.notes == (
        "new",
        f"2 dead inputs of x.zip {'are not read' if way == 'drop' else 'count as their means'}",
    )
    own, found = policy_of(foreign), policy_of(changed)
    read = rows[:, ALIVE] if way == "drop" else rows
    with torch.no_grad():
        assert torch.allclose(found(read), own(usual), atol=1e-5)
        assert torch.allclose(found.value(read), own.value(usual), atol=1e-5)
        assert (own(rows) - own(usual)).abs().max() > 0.1, "raw, they drown the policy"
        assert found.normalizer(read).abs().max() < 10, "and are no states far from those of the training"


def test_stacked_observations_lose_them_in_every_frame(foreign):
    stacked = replace(foreign, groups={"observation": 10}, actor=(layer(8, 10, 0), foreign.actor[1]), critic=())
    dropped = without_dead_inputs(stacked, "drop", "x.zip")
    assert dropped.groups == {"observation": 6}
    assert np.array_equal(dropped.actor[0].weight, stacked.actor[0].weight[:, [0, 2, 4, 5, 7, 9]])
    check_sizes(dropped, whole=False)


def test_what_cannot_be_done_is_said(foreign):
    assert without_dead_inputs(foreign, "", "x.zip") is foreign
    assert find_dead(foreign.standardization).tolist() == DEAD
    assert note_on_dead(None) == ""
    with pytest.raises(UnknownNameError, match=r"unknown treatment of dead inputs 'zero'.* \(valid: drop, mean\)"):
        without_dead_inputs(foreign, "zero", "x.zip")
    for given in (None, Standardization(MEAN, np.ones(5))):
        with pytest.raises(ConfigError, match=r"x\.zip has no feature .*; leave out --dead-inputs"):
            without_dead_inputs(replace(foreign, standardization=given), "mean", "x.zip")
    memory = Recurrence("gru", np.ones((24, 5)), np.ones((24, 8)), np.zeros(24), np.zeros(24))
    with pytest.raises(PolicyFileError, match=r"x\.zip has a recurrent layer"):
        without_dead_inputs(replace(foreign, recurrence=memory), "mean", "x.zip")
