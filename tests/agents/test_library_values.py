"""Checkpoints of rl_games, skrl and CleanRL at their edges, and how outputs become actions."""

from pathlib import Path

import numpy as np
import pytest
import torch

from policykd.agents.action_map import ActionMap
from policykd.agents.importing.options import ImportOptions
from policykd.agents.importing.other_libraries import (
    is_cleanrl,
    is_rl_games,
    is_skrl,
    read_cleanrl,
    read_rl_games,
    read_skrl,
)
from policykd.agents.importing.torch_files import _Tensors
from policykd.agents.importing.weights import arrays, dense_layer, named_activation, numbered_layers
from policykd.errors import ConfigError, PolicyFileError, UnknownNameError
from policykd.symbolic_pickle import PickleError

FILE = Path("run/own.onnx")


def flat(prefix, *shapes):
    found = {}
    for number, (a, b) in enumerate(shapes):
        found |= {
            f"{prefix}.{2 * number}.weight": np.full((b, a), number + 1.0),
            f"{prefix}.{2 * number}.bias": np.ones(b),
        }
    return found


def named(name, a, b):
    return {f"{name}.weight": np.full((b, a), 0.5), f"{name}.bias": np.zeros(b)}


ELU = ImportOptions(activation="ELU")


def test_rl_games_files_at_their_edges():
    body, mu, value = (
        flat("a2c_network.actor_mlp", (3, 4)),
        named("a2c_network.mu", 4, 2),
        named("a2c_network.value", 4, 1),
    )
    tree = {"model": {**body, **mu, **value}}
    assert is_rl_games(tree)
    assert not any(map(is_rl_games, ({}, {"model": {}}, {"model": 1}, [], {"model": {"x": 1}})))
    found = read_rl_games(tree, FILE, ELU)
    assert (found.source, found.groups, found.activation, found.log_std) == (
        "rl_games",
        {"observation": 3},
        "elu",
        None,
    )
    assert found.actions == ActionMap("rescale", (-1.0, -1.0), (1.0, 1.0))
    assert found.notes == ("the file holds no bounds of the actions; [-1, 1] is assumed", "without a normalizer")
    assert [len(layers) for layers in (found.actor, found.critic)] == [2, 2]
    assert found.critic[0] is found.actor[0]
    own = read_rl_games({"model": {**tree["model"], **flat("a2c_network.critic_mlp", (3, 5), (5, 4))}}, FILE, ELU)
    assert [len(layer.bias) for layer in own.critic] == [5, 4, 1]
    sigma = {"a2c_network.sigma": np.zeros(2)}
    statistics = {"running_mean_std.running_mean": np.ones((1, 3)), "running_mean_std.running_var": np.full(3, 4.0)}
    full = {"model": {**tree["model"], **sigma, **statistics}}
    found = read_rl_games(full, FILE, ImportOptions(activation="elu", low=(-2.0,), high=(3.0,)))
    assert found.log_std.tolist() == [0.0, 0.0]
    assert found.actions == ActionMap("rescale", (-2.0, -2.0), (3.0, 3.0))
    assert found.notes == ()
    assert found.standardization.mean.tolist() == [1.0] * 3
    assert found.standardization.divisor == pytest.approx([np.sqrt(4.00001)] * 3)
    assert found.standardization.clip == 5.0
    assert read_rl_games(full, FILE, ImportOptions(activation="elu", normalized=False)).standardization is None
    assert read_rl_games({"model": {**full["model"], "a2c_network.sigma": np.zeros((1, 2))}}, FILE, ELU).log_std is None
    logits = {"model": {**body, **named("a2c_network.logits", 4, 3), **value, "a2c_network.sigma": np.zeros(3)}}
    discrete = read_rl_games(logits, FILE, ELU)
    assert (discrete.actions, discrete.log_std, discrete.notes) == (
        ActionMap("argmax"),
        None,
        ("without a normalizer",),
    )
    linear = read_rl_games({"model": {**named("a2c_network.mu", 4, 2), **value}}, FILE, ELU)
    assert (linear.groups, len(linear.actor)) == ({"observation": 4}, 1)
    for name in ("a2c_network.rnn.rnn.weight_ih_l0", "a2c_network.actor_cnn.0.weight"):
        with pytest.raises(PolicyFileError, match="recurrent and convolutional networks"):
            read_rl_games({"model": {**tree["model"], name: np.zeros(1)}}, FILE, ELU)


def test_skrl_files_at_their_edges():
    policy = {**flat("net_container", (3, 4)), **named("policy_layer", 4, 2), **named("output_layer", 4, 1)}
    assert is_skrl({"policy": policy})
    assert not any(map(is_skrl, ({}, {"policy": 1}, {"policy": {"x": 1}}, [])))
    found = read_skrl({"policy": policy}, FILE, ELU)
    assert (found.source, found.groups, found.log_std, found.actions) == (
        "skrl",
        {"observation": 3},
        None,
        ActionMap("none"),
    )
    assert found.notes == ("without a normalizer",)
    assert len(found.actor[-1].bias) == 2
    scaler = {"running_mean": np.ones(3), "running_variance": np.full(3, 4.0)}
    tree = {"policy": {**policy, "log_std_parameter": np.ones(2)}, "observation_preprocessor": scaler,
            "state_preprocessor": {"running_mean": np.zeros(3), "running_variance": np.ones(3)}}  # fmt: skip
    found = read_skrl(tree, FILE, ImportOptions(activation="elu", low=(-1.0, -2.0), high=(1.0, 2.0)))
    assert found.standardization.mean.tolist() == [1.0] * 3
    assert found.standardization.divisor == pytest.approx([2.0 + 1e-8] * 3)
    assert (found.standardization.clip, found.log_std.tolist(), found.notes) == (5.0, [1.0, 1.0], ())
    assert found.actions == ActionMap("clip", (-1.0, -2.0), (1.0, 2.0))
    assert read_skrl(tree, FILE, ImportOptions(activation="elu", normalized=False)).standardization is None
    tree["policy"]["log_std_parameter"] = np.ones((1, 2))
    assert read_skrl(tree, FILE, ELU).log_std is None


def test_cleanrl_files_at_their_edges():
    ppo = {**flat("actor_mean", (3, 4), (4, 2)), **flat("critic", (3, 4), (4, 1))}
    raw = ImportOptions(normalized=False)
    assert all(map(is_cleanrl, (ppo, (ppo, 1), {"fc1.weight": 1, "fc2.weight": 2})))
    assert not any(map(is_cleanrl, ((), [], {}, {"fc1.weight": 1}, 3)))
    found = read_cleanrl(ppo, FILE, raw)
    assert (found.source, found.activation, found.log_std) == ("CleanRL PPO", "tanh", None)
    assert found.actions == ActionMap("clip", (-1.0, -1.0), (1.0, 1.0))
    assert [len(layers) for layers in (found.actor, found.critic)] == [2, 2]
    assert found.notes == ("the file holds no bounds of the actions; [-1, 1] is assumed",)
    spread = read_cleanrl({**ppo, "actor_logstd": np.full((1, 2), 0.5)}, FILE, raw)
    assert spread.log_std.tolist() == [0.5, 0.5]
    body = {
        **named("fc1", 3, 4),
        **named("fc2", 4, 4),
        "action_scale": np.array([[2.0, 1.0]]),
        "action_bias": np.array(1.0),
    }
    for head, name in (("fc_mu", "CleanRL TD3 or DDPG"), ("fc_mean", "CleanRL SAC")):
        found = read_cleanrl({**body, **named(head, 4, 2)}, FILE, ImportOptions())
        assert (found.source, found.squash, found.activation, len(found.actor)) == (name, True, "relu", 3)
        assert found.actions == ActionMap("rescale", (-1.0, 0.0), (3.0, 2.0))
    with pytest.raises(PolicyFileError, match="neither fc_mu nor fc_mean"):
        read_cleanrl(body, FILE, ImportOptions())


def test_weights_by_name():
    weights = {**flat("net", (3, 4), (4, 2)), "net.10.weight": np.ones((1, 2)), "net.4.bias": np.ones(2)}
    layers = numbered_layers(weights, "net")
    assert [layer.weight.shape for layer in layers] == [(4, 3), (2, 4), (1, 2)]  # by number, not by name
    assert layers[-1].bias.tolist() == [0.0]
    assert numbered_layers(weights, "other") == ()
    for bad in ({}, {"x.weight": np.ones(3)}):
        with pytest.raises(PolicyFileError, match="lack the layer x"):
            dense_layer(bad, "x")
    assert list(arrays({"_orig_mod.a": np.ones(1), "b": "text"}, "f")) == ["a"]
    with pytest.raises(PolicyFileError, match="f is not a state dictionary"):
        arrays([1], "f")
    assert named_activation("ReLU", "f", "lib") == "relu"
    for bad in (None, "", "swish"):
        with pytest.raises(PolicyFileError, match="activation"):
            named_activation(bad, "f", "lib")


def test_action_maps():
    outputs = torch.tensor([[-2.0, 0.5], [0.5, 2.0]])
    assert ActionMap("none").apply(outputs) is outputs
    assert ActionMap("argmax").apply(outputs).tolist() == [1, 1]
    assert ActionMap("clip", (-1.0, 0.0), (1.0, 1.0)).apply(outputs).tolist() == [[-1.0, 0.5], [0.5, 1.0]]
    rescale = ActionMap("rescale", (-1.0, 2.0), (3.0, 4.0))
    assert rescale.apply(outputs).tolist() == [[-1.0, 3.5], [2.0, 4.0]]
    assert (rescale.size, ActionMap("none").size) == (2, None)
    with pytest.raises(UnknownNameError, match="did you mean clip"):
        ActionMap("clips")
    for mode, low, high in (
        ("clip", (), ()),
        ("none", (0.0,), (1.0,)),
        ("clip", (0.0,), (1.0, 2.0)),
        ("argmax", (0.0,), (1.0,)),
    ):
        with pytest.raises(ConfigError, match=f"of mode {mode} has {len(low)} lower and {len(high)} upper"):
            ActionMap(mode, low, high)
    for low, high in ((1.0, 1.0), (2.0, 1.0)):
        with pytest.raises(ConfigError, match="must be below the upper bounds"):
            ActionMap("rescale", (0.0, low), (1.0, high))


@pytest.mark.parametrize(
    ("offset", "shape", "stride", "fits"),
    [
        (0, (3,), (1,), True),
        (1, (2,), (1,), True),
        (1, (3,), (1,), False),
        (0, (2,), (3,), False),
        (3, (0,), (1,), True),
    ],
)
def test_a_tensor_must_end_within_its_storage(offset, shape, stride, fits):
    reader = _Tensors(100)
    storage = np.arange(3.0)
    if fits:
        found = reader._tensor(storage, offset, shape, stride)
        assert found.tolist() == [float(offset + i * stride[0]) for i in range(shape[0])]
    else:
        with pytest.raises(PickleError, match="does not fit its storage of 3 numbers"):
            reader._tensor(storage, offset, shape, stride)


def test_the_tensors_of_a_checkpoint_do_not_follow_the_learner():
    from types import SimpleNamespace

    from policykd.agents.training.trainer import _parameters, _set_parameters

    kept = {}
    learner = SimpleNamespace(
        get_parameters=lambda: {"policy": 1}, set_parameters=kept.update, scale=torch.nn.Parameter(torch.ones(2))
    )
    state = _parameters(learner, ["scale"])
    with torch.no_grad():
        learner.scale.add_(5.0)
    assert state["policy"] == 1
    assert state["scale"].tolist() == [1.0, 1.0]
    assert not state["scale"].requires_grad
    _set_parameters(learner, state, ["scale"])
    assert learner.scale.tolist() == [1.0, 1.0]
    assert kept == {"policy": 1}
