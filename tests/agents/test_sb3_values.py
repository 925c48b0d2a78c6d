"""Zips of stable-baselines3: networks, spaces, notes and configurations at their edges."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from policykd.agents.action_map import ActionMap
from policykd.agents.importing import stable_baselines3 as sb3
from policykd.agents.importing.foreign_policy import Standardization
from policykd.errors import PolicyFileError


def space(kind, **given):
    return sb3._Space(kind, **given)


def layers(prefix, *sizes):
    found = {}
    for number, (a, b) in enumerate(pairwise(sizes)):
        found |= {f"{prefix}.{2 * number}.weight": np.ones((b, a)), f"{prefix}.{2 * number}.bias": np.zeros(b)}
    return found


def dense(name, a, b):
    return {f"{name}.weight": np.ones((b, a)), f"{name}.bias": np.zeros(b)}


BOX = space("Box", low=(-1.0, -2.0), high=(1.0, 2.0), size=2)
ON = {
    **layers("mlp_extractor.policy_net", 3, 4),
    **layers("mlp_extractor.value_net", 3, 5),
    **dense("action_net", 4, 2),
    **dense("value_net", 5, 1),
}


def test_on_policy_networks():
    found = sb3._network({**ON, "log_std": np.zeros(2)}, {}, BOX)
    assert (found.algorithm, found.activation, found.default_activation) == ("PPO, A2C or TRPO", "tanh", True)
    assert (found.squash, found.rescale, found.mean_clip, found.inputs) == (False, False, None, 3)
    assert [len(layer.bias) for layer in found.actor] == [4, 2]
    assert [len(layer.bias) for layer in found.critic] == [5, 1]
    assert found.log_std.tolist() == [0.0, 0.0]
    assert sb3._network({**ON, "log_std": np.zeros((4, 2))}, {}, BOX).log_std is None
    settings = {"policy_kwargs": {"squash_output": True, "activation_fn": "<class 'torch.nn.ReLU'>"},
                "policy_class": {"__module__": "stable_baselines3.a2c.policies"}}  # fmt: skip
    found = sb3._network(ON, settings, BOX)
    assert (found.algorithm, found.activation, found.default_activation) == ("A2C", "relu", False)
    assert (found.squash, found.rescale) == (True, True)
    shared = {**ON, **layers("mlp_extractor.shared_net", 7, 3)}
    found = sb3._network(shared, {}, BOX)
    assert found.inputs == 7
    assert [len(layer.bias) for layer in found.critic] == [3, 5, 1]
    bare = {**dense("action_net", 3, 2), **dense("value_net", 3, 1)}
    assert [len(sb3._network(bare, {}, BOX).actor), len(sb3._network(bare, {}, BOX).critic)] == [1, 1]


def test_off_policy_networks():
    latent = layers("actor.latent_pi", 3, 4)
    sac = sb3._network({**latent, **dense("actor.mu", 4, 2)}, {}, BOX)
    assert (sac.algorithm, sac.activation, sac.squash, sac.rescale) == ("SAC or TQC", "relu", True, True)
    assert (sac.mean_clip, len(sac.actor), sac.critic) == (None, 2, ())
    gsde = {**latent, **dense("actor.mu.0", 4, 2)}
    assert sb3._network(gsde, {}, BOX).mean_clip == 2.0
    assert sb3._network(gsde, {"policy_kwargs": {"clip_mean": 3}}, BOX).mean_clip == 3.0
    assert sb3._network(gsde, {}, BOX).algorithm == "SAC or TQC with gSDE"
    td3 = sb3._network(layers("actor.mu", 3, 4, 2), {}, BOX)
    assert (td3.algorithm, td3.mean_clip, len(td3.actor)) == ("TD3 or DDPG", None, 2)
    linear = {**dense("actor.mu", 3, 2), "actor.log_std": np.zeros(2)}
    assert len(sb3._network(linear, {}, BOX).actor) == 1
    with pytest.raises(PolicyFileError, match="its actor has no layers"):
        sb3._network({"actor.mu.x": np.zeros(1)}, {}, BOX)


def test_random_search_networks():
    deep, single = layers("action_net", 3, 4, 2), dense("action_net", 3, 2)
    found = sb3._network(deep, {}, BOX)
    assert (found.algorithm, found.activation, found.squash, found.default_activation) == ("ARS", "relu", True, True)
    named = {"policy_class": {"__module__": "sb3_contrib.ars.policies.ARSLinearPolicy"}}
    assert [len(sb3._network(single, named, BOX).actor), sb3._network(single, named, BOX).squash] == [1, False]
    assert not sb3._network(layers("action_net", 3, 2), {}, BOX).squash
    assert not sb3._network(layers("action_net", 3, 2), {}, BOX).default_activation
    assert not sb3._network(deep, {}, space("Discrete", size=2)).squash
    assert not sb3._network(deep, {"policy_kwargs": {"squash_output": False}}, BOX).squash


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"features_extractor.cnn.0.weight": 1}, r"images through convolutions \(features_extractor.cnn.0.weight\)"),
        ({"pi_features_extractor.linear.weight": 1}, "features extractor of its own"),
        ({"x": 1, "a": 2}, r"its weights \['a', 'x'\]"),
    ],
)
def test_networks_that_are_not_imported(weights, message):
    with pytest.raises(PolicyFileError, match=message):
        sb3._network(weights, {}, BOX)
    with pytest.raises(PolicyFileError, match="its activation is GELU; Tanh, ReLU, ELU, SiLU are imported"):
        sb3._network(ON, {"policy_kwargs": {"activation_fn": "<class 'torch.nn.modules.GELU'>"}}, BOX)


def test_groups_and_actions_of_spaces():
    parts = (("a", space("Box", size=2)), ("b", space("Box", size=None)))
    assert sb3._groups(space("Box"), 3) == sb3._groups(space("an unknown space"), 3) == {"observation": 3}
    assert sb3._groups(space("Dict", parts=parts), 3) == {"a": 2, "b": 1}
    for bad in (
        space("Dict", parts=parts[:1]),
        space("Dict", parts=(*parts, ("c", space("Discrete", size=1)))),
        space("X"),
    ):
        with pytest.raises(PolicyFileError, match=f"space is {bad.kind} and its network has 3 inputs"):
            sb3._groups(bad, 3)
    network = sb3._network(ON, {}, BOX)
    assert sb3._action_map(space("Discrete", size=2), network) == ActionMap("argmax")
    assert sb3._action_map(BOX, network) == ActionMap("clip", (-1.0, -2.0), (1.0, 2.0))
    assert sb3._action_map(BOX, replace(network, rescale=True)).mode == "rescale"
    for bad in (space("Box"), space("MultiBinary", low=(0.0,), high=(1.0,))):
        with pytest.raises(PolicyFileError, match=f"action space is {bad.kind}"):
            sb3._action_map(bad, network)


def test_notes_name_what_was_assumed_or_left_out():
    network = sb3._network({**ON, "log_std": np.zeros(2)}, {}, BOX)
    statistics = Standardization(np.zeros(4), np.array([1.0, 1e-4, 0.9e-3, 1.1e-3]))
    assert sb3._notes(network, statistics) == (
        "the file names no activation; tanh is the library's default",
        "2 of 4 features had a variance below 1e-6 in training (1 to 2): dead inputs, which must be fed their means "
        "(--dead-inputs mean) or left out (--dead-inputs drop)",
    )
    named = replace(network, default_activation=False, critic=())
    assert sb3._notes(named, None) == ("without a normalizer", "without a critic of states")
    assert sb3._notes(named, Standardization(np.zeros(1), np.ones(1))) == ("without a critic of states",)


def test_training_configurations_are_found_next_to_a_zip(tmp_path):
    path = tmp_path / "Walker-v4.zip"
    assert sb3._training_config(path) == {}
    (tmp_path / "Walker-v4").mkdir()
    (tmp_path / "Walker-v4" / "config.yml").write_text("!!python/object:a.B\n- - [normalize, true]\n  - [n_envs, 4]\n")
    assert sb3._training_config(path) == {"normalize": True, "n_envs": 4}
    (tmp_path / "config.yml").write_text("normalize: !!python/name:x ''\nenv_wrapper: [a, b]\n")
    assert sb3._training_config(path) == {"normalize": "", "env_wrapper": ["a", "b"]}
    (tmp_path / "config.yml").write_text("- [gamma, 0.9]\n- [n_envs, 2]\n")
    assert sb3._training_config(path) == {"gamma": 0.9, "n_envs": 2}
    (tmp_path / "config.yml").write_text("{")
    with pytest.raises(PolicyFileError, match=r"config\.yml is not valid YAML"):
        sb3._training_config(path)
    assert sb3._beside(Path("a/b.zip"), "x") == (Path("a/x"), Path("a/b/x"))


# Episodes and audits
