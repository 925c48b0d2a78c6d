"""A policy in a loop of one's own: arrays in and out, targets of the joints, and what `policykd describe` says."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policykd.agents.files.description import describe_policy
from policykd.agents.files.policy_file import load_policy
from policykd.cli.main import main
from policykd.envs.make import make_env
from policykd.envs.skills import get_skill
from policykd.errors import ContractError

STORED = Path(__file__).parents[1] / "data" / "flat-expert"


@pytest.fixture(scope="module")
def loaded():
    return load_policy(STORED)


@pytest.fixture(scope="module")
def observations():
    env = make_env([get_skill("biped/flat")], 3, seed=0, threads=1)
    return {name: values.float().numpy() for name, values in env.reset().items()}


def test_arrays_act_as_tensors_do(loaded, observations):
    policy = loaded.policy
    flat = np.concatenate([observations["proprio"], observations["terrain"]], axis=1)
    expected = policy(torch.from_numpy(flat)).detach().numpy()
    reversed_groups = dict(reversed(observations.items()))
    np.testing.assert_array_equal(policy.act(reversed_groups), expected)
    np.testing.assert_array_equal(policy.act(flat.astype(np.float64)), expected)
    one = policy.act({name: values[1] for name, values in observations.items()})
    assert one.shape == (11,)
    np.testing.assert_allclose(one, expected[1], atol=1e-6)
    np.testing.assert_allclose(policy.act(flat[1].tolist()), expected[1], atol=1e-6)


def test_observations_that_do_not_fit_are_refused(loaded, observations):
    policy = loaded.policy
    with pytest.raises(ContractError, match="98 features; proprio 49 \\+ terrain 50 are needed"):
        policy.act(np.zeros(98))
    with pytest.raises(ContractError, match=r"shape \(1, 1, 99\)"):
        policy.act(np.zeros((1, 1, 99)))
    with pytest.raises(ContractError, match="'terrain'"):
        policy.act({"proprio": observations["proprio"]})
    for column, text in ((0, "feature 0 of observation group proprio"), (51, "feature 2 of observation group terrain")):
        row = np.zeros((2, 99), np.float32)
        row[1, column] = np.nan
        with pytest.raises(ContractError, match=text):
            policy.act(row)


def test_targets_are_those_of_the_simulation(loaded):
    actions = np.array([[0.0] * 11, [1.0] * 11, [-3.0] * 11])
    stand = [0.2, -0.4, 0.2, 0.2, -0.4, 0.2, 0.0, 0.3, 0.0, 0.3, 0.0]
    targets = loaded.manifest.targets(actions)
    np.testing.assert_allclose(targets[0], stand)
    np.testing.assert_allclose(targets[1][:3], [1.4, 0.0, 0.9])  # the shank is at its limit
    np.testing.assert_allclose(targets[2][:3], [-0.5, -1.7, -0.5])  # the action is clamped, and so is the thigh
    np.testing.assert_array_equal(loaded.manifest.targets(actions[1]), targets[1])
    with pytest.raises(ContractError, match="the policy has 11 actions"):
        loaded.manifest.targets(np.zeros(10))
    discrete = replace(loaded.manifest, robot="discrete actions with 3 choices")
    with pytest.raises(ContractError, match="take the largest"):
        discrete.targets(np.zeros(11))


def test_a_description_has_columns_units_and_usual_values(loaded):
    found = describe_policy(loaded)
    assert [(one.group, one.first, one.last) for one in found.inputs] == [("proprio", 0, 48), ("terrain", 49, 98)]
    assert "velocities (m/s)" in found.inputs[0].units
    normalizer = loaded.policy.normalizer
    np.testing.assert_allclose(found.inputs[0].mean, normalizer.mean[:49].numpy())
    usual = normalizer.var[49:].sqrt().clamp_min(normalizer.min_std).numpy()
    np.testing.assert_allclose(found.inputs[1].std, usual)
    assert (found.robot, found.memory, found.skills) == ("biped", "", ("biped/flat",))
    assert found.parameters == loaded.manifest.parameters
    assert found.actions == loaded.manifest.actions


def test_the_command_prints_and_writes_it(tmp_path, capsys):
    out = tmp_path / "policy.json"
    assert main(["describe", str(STORED), "--out", str(out)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "30 actions/s" in printed
    assert "49-98 │ terrain │ 50 ground heights from -0.5 m to 3.0 m ahead" in printed
    assert "right_shank │ -1.7, -0.4, 0 │ -3 to 0 │ 200 │ 20 │ 125" in printed
    content = json.loads(out.read_text())
    assert [one["group"] for one in content["inputs"]] == ["proprio", "terrain"]
    assert len(content["inputs"][1]["mean"]) == 50
    assert [one["joint"] for one in content["actions"]][:2] == ["right_thigh", "right_shank"]


def test_the_version_is_printed(capsys):
    from policykd import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"policykd {__version__}\n"
