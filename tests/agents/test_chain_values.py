"""Chains of modules and state dictionaries of other libraries: rsl_rl, TorchScript, recurrent layers, activations."""

from pathlib import Path

import numpy as np
import pytest

from policykd.agents.action_map import ActionMap
from policykd.agents.importing import rsl_rl, torchscript
from policykd.agents.importing.options import ImportOptions
from policykd.agents.importing.recurrence import Recurrence, recurrence
from policykd.agents.importing.weights import chain_activations
from policykd.errors import PolicyFileError
from policykd.symbolic_pickle import Record

FILE = Path("runs/model_1.pt")
ELU, RAW = ImportOptions(activation="elu"), ImportOptions(activation="elu", normalized=False)


def layer(prefix, a, b):
    return {f"{prefix}.weight": np.full((b, a), 0.5, np.float32), f"{prefix}.bias": np.ones(b, np.float32)}


def gru(prefix, inputs, hidden, gates=3):
    return {
        f"{prefix}.weight_ih_l0": np.ones((gates * hidden, inputs)), f"{prefix}.bias_ih_l0": np.zeros(gates * hidden),
        f"{prefix}.weight_hh_l0": np.ones((gates * hidden, hidden)), f"{prefix}.bias_hh_l0": np.ones(gates * hidden),
    }  # fmt: skip


NEW = {**layer("mlp.0", 3, 4), **layer("mlp.2", 4, 2)}
OLD = {key.replace("mlp", "actor"): value for key, value in NEW.items()}
STATISTICS = {"_mean": np.array([[1.0, 2.0, 3.0]]), "_std": np.array([[0.5, 1.0, 2.0]])}


def test_checkpoints_of_rsl_rl_are_recognized():
    assert rsl_rl.matches({"actor_state_dict": {}})
    assert rsl_rl.matches({"model_state_dict": {"std": 1, "actor.0.weight": 1}})
    for other in ([], {}, {"model_state_dict": []}, {"model_state_dict": {"critic.0.weight": 1}}, "actor_state_dict"):
        assert not rsl_rl.matches(other)


def test_rsl_rl_with_everything_that_a_checkpoint_may_lack():
    bare = rsl_rl.read({"actor_state_dict": NEW}, FILE, ELU)
    assert (bare.source, bare.groups, bare.activation) == ("rsl_rl 4 or newer", {"observation": 3}, "elu")
    assert (bare.critic, bare.log_std, bare.standardization, bare.recurrence) == ((), None, None, None)
    assert (bare.actions, bare.notes) == (ActionMap("none"), ("without a normalizer",))
    critic = {**layer("mlp.0", 3, 5), **layer("mlp.2", 5, 1)}
    weights = {**NEW, "distribution.std_param": np.array([1.0, 0.0]),
               **{f"obs_normalizer.{name}": value for name, value in STATISTICS.items()}}  # fmt: skip
    full = rsl_rl.read({"actor_state_dict": weights, "critic_state_dict": critic}, FILE, ELU)
    assert [len(part.bias) for part in full.critic] == [5, 1]
    np.testing.assert_allclose(full.log_std, [0.0, np.log(1e-6)], rtol=1e-12)
    assert full.standardization.mean.tolist() == [1.0, 2.0, 3.0]
    np.testing.assert_allclose(full.standardization.divisor, [0.51, 1.01, 2.01], rtol=1e-12)
    assert full.notes == ()
    assert rsl_rl.read({"actor_state_dict": weights}, FILE, RAW).notes == ("without a normalizer",)
    wider = {**layer("mlp.0", 4, 5), **layer("mlp.2", 5, 1)}
    assert rsl_rl.read({"actor_state_dict": NEW, "critic_state_dict": wider}, FILE, ELU).critic == ()
    spread = {**NEW, "distribution.log_std_param": np.array([[0.25, -1.0]])}
    assert rsl_rl.read({"actor_state_dict": spread}, FILE, ELU).log_std.tolist() == [0.25, -1.0]


def test_rsl_rl_of_older_versions():
    old = {**OLD, **layer("critic.0", 3, 1), "std": np.array([1.0, np.e])}
    tree = {"model_state_dict": old, "obs_norm_state_dict": STATISTICS}
    found = rsl_rl.read(tree, FILE, ELU)
    assert (found.source, found.critic, found.standardization.mean.tolist()) == ("rsl_rl 1 to 3", (), [1.0, 2.0, 3.0])
    np.testing.assert_allclose(found.log_std, [0.0, 1.0], atol=1e-12)
    own = {**old, **{f"actor_obs_normalizer.{name}": 2.0 * value for name, value in STATISTICS.items()}}
    preferred = rsl_rl.read({**tree, "model_state_dict": own}, FILE, ELU)
    assert preferred.standardization.mean.tolist() == [2.0, 4.0, 6.0]
    for statistics in ([1], {"_mean": np.ones(3)}, {"_std": np.ones(3)}):
        assert rsl_rl.read({**tree, "obs_norm_state_dict": statistics}, FILE, ELU).standardization is None
    with pytest.raises(PolicyFileError, match=r"no dense layers of an actor; its weights are \['a', 'b'"):
        rsl_rl.read({"model_state_dict": {name: np.ones(1) for name in "hgfedcba"}}, FILE, ELU)
    for name in ("std", "log_std"):
        with pytest.raises(PolicyFileError, match="has 2 outputs and a spread of 3 numbers"):
            rsl_rl.read({"model_state_dict": {**OLD, name: np.ones(3)}}, FILE, ELU)


def test_recurrent_policies_of_rsl_rl():
    body = {**layer("mlp.0", 4, 5), **layer("mlp.2", 5, 2)}
    tree = {"actor_state_dict": {**body, **gru("rnn.rnn", 7, 4)},
            "critic_state_dict": {**layer("mlp.0", 7, 5), **layer("mlp.2", 5, 1)}}  # fmt: skip
    found = rsl_rl.read(tree, FILE, ELU)
    assert (found.groups, found.recurrence.kind, found.recurrence.hidden) == ({"observation": 7}, "gru", 4)
    assert found.critic == (), "a recurrent checkpoint's critic reads its own memory"
    old = {key.replace("mlp", "actor"): value for key, value in body.items()}
    lstm = {**gru("memory_a.rnn", 7, 4, 4), **gru("memory_c.rnn", 9, 4, 4)}
    found = rsl_rl.read({"model_state_dict": {**old, **lstm}}, FILE, ELU)
    assert (found.recurrence.kind, found.recurrence.inputs) == ("lstm", 7)


def test_recurrent_layers_are_told_apart_by_their_shapes():
    for gates, kind in ((3, "gru"), (4, "lstm")):
        found = recurrence(gru("m", 5, 2, gates), "m")
        assert isinstance(found, Recurrence)
        assert (found.kind, found.inputs, found.hidden) == (kind, 5, 2)
        assert {name: values.shape for name, values in found.arrays.items()} == {
            "weight_ih": (2 * gates, 5), "weight_hh": (2 * gates, 2),
            "bias_ih": (2 * gates,), "bias_hh": (2 * gates,),
        }  # fmt: skip
        assert found.arrays["bias_ih"].sum() == 0
        assert found.arrays["bias_hh"].sum() == 2 * gates
    assert recurrence({}, "m") is None
    assert recurrence(gru("other", 5, 2), "m") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"m.weight_ih_l1": np.ones((6, 5))}, "has several layers; one is imported"),
        ({"m.bias_hh_l0": None}, "lacks weights or biases"),
        ({"m.weight_hh_l0": None}, "lacks weights or biases"),
        ({"m.weight_ih_l0": np.ones(6)}, r"neither an LSTM nor a GRU: \[.6,."),
        ({"m.weight_ih_l0": np.ones((6, 5, 1))}, "neither an LSTM nor a GRU"),
        ({"m.weight_hh_l0": np.ones(6)}, "neither an LSTM nor a GRU"),
        ({"m.weight_hh_l0": np.ones((6, 2, 1))}, "neither an LSTM nor a GRU"),
        ({"m.weight_hh_l0": np.ones((8, 2))}, "neither an LSTM nor a GRU"),
        ({"m.weight_hh_l0": np.ones((6, 0))}, "neither an LSTM nor a GRU"),
        ({"m.bias_ih_l0": np.ones(5)}, "neither an LSTM nor a GRU"),
        ({"m.bias_hh_l0": np.ones((6, 1))}, "neither an LSTM nor a GRU"),
    ],
)
def test_recurrent_layers_that_do_not_fit_are_refused(changes, message):
    weights = {key: value for key, value in {**gru("m", 5, 2), **changes}.items() if value is not None}
    with pytest.raises(PolicyFileError, match=message):
        recurrence(weights, "m")


def test_rows_that_are_not_a_multiple_of_the_hidden_state_are_refused():
    """Seven rows are three times two and one: not a GRU with a row too many."""
    weights = {"m.weight_ih_l0": np.ones((7, 5)), "m.weight_hh_l0": np.ones((7, 2)),
               "m.bias_ih_l0": np.ones(7), "m.bias_hh_l0": np.ones(7)}  # fmt: skip
    with pytest.raises(PolicyFileError, match="neither an LSTM nor a GRU"):
        recurrence(weights, "m")


@pytest.mark.parametrize(
    ("found", "layers", "expected"),
    [
        ([], 1, ("tanh", False)),
        ([(1, "tanh")], 1, ("tanh", True)),
        ([(1, "elu")], 2, ("elu", False)),
        ([(1, "relu"), (2, "tanh")], 2, ("relu", True)),
        ([(1, "relu"), (2, "relu")], 3, ("relu", False)),
    ],
)
def test_one_activation_stands_between_two_layers(found, layers, expected):
    assert chain_activations(found, layers, "f") == expected


@pytest.mark.parametrize(
    ("found", "layers", "message"),
    [
        ([(1, "elu"), (2, "relu")], 3, r"activations \['elu', 'relu'\] and ends with \[\]"),
        ([(1, "elu"), (2, "tanh")], 3, r"activations \['elu', 'tanh'\]"),
        ([(1, "relu")], 1, r"ends with \['relu'\]"),
        ([(1, "tanh"), (1, "tanh")], 1, r"ends with \['tanh', 'tanh'\]"),
        ([], 2, "exactly one activation between every two of its 2 layers"),
        ([(0, "elu"), (1, "elu")], 2, "exactly one activation"),
        ([(1, "elu"), (1, "elu")], 2, "exactly one activation"),
        ([(2, "elu")], 3, "exactly one activation"),
    ],
)
def test_other_activations_are_refused(found, layers, message):
    with pytest.raises(PolicyFileError, match=f"f .*{message}"):
        chain_activations(found, layers, "f")


def module(kind, **attributes):
    return Record(f"__torch__.some.where.{kind}", state=attributes)


def linear(a, b, bias=True):
    return module("Linear", weight=np.full((b, a), 0.5, np.float32), bias=np.ones(b) if bias else None)


def sequence(*modules):
    return module("Sequential", training=True, **{str(number): child for number, child in enumerate(modules)})


def read(tree, options=ImportOptions()):
    return torchscript.read(tree, FILE, options)


NORMALIZER = module("EmpiricalNormalization", _mean=np.ones((1, 3)), _std=np.full((1, 3), 2.0))


def test_trees_of_torchscript_are_recognized():
    assert torchscript.matches(sequence())
    for other in (Record("torch.nn.Sequential"), {"__torch__.": 1}, None):
        assert not torchscript.matches(other)


def test_chains_of_modules():
    found = read(sequence(linear(3, 4), module("Dropout"), module("ReLU"), linear(4, 2, bias=False)))
    assert (found.source, found.groups) == ("TorchScript Sequential", {"observation": 3})
    assert (found.activation, found.squash, found.actions) == ("relu", False, ActionMap("none"))
    assert (found.standardization, found.recurrence, found.notes) == (None, None, ("without a normalizer",))
    assert [part.bias.tolist() for part in found.actor] == [[1.0] * 4, [0.0] * 2]
    squashed = read(sequence(linear(3, 4), module("ELU", alpha=1.0), sequence(linear(4, 2), module("Tanh"))))
    assert (squashed.activation, squashed.squash, len(squashed.actor)) == ("elu", True, 2)


def test_normalizers_and_memories_stand_in_front_in_any_order_of_the_attributes():
    memory = module("GRU", **{key[2:]: value for key, value in gru("m", 3, 4).items()}, batch_first=False)
    state = np.zeros(4)
    tree = module("PolicyExporterGRU", actor=linear(4, 2), memory=memory, normalizer=NORMALIZER, hidden_state=state)
    found = read(tree)
    assert (found.groups, found.recurrence.kind, len(found.actor)) == ({"observation": 3}, "gru", 1)
    assert (found.standardization.mean.tolist(), found.standardization.divisor.tolist()) == ([1.0] * 3, [2.01] * 3)
    assert found.notes == ("keeps a state (gru, 4): it is reset at the beginning of every episode",)
    assert read(tree, ImportOptions(normalized=False)).standardization is None
    assert read(tree, ImportOptions(normalized=True)).standardization is not None
    epsilon = module("EmpiricalNormalization", _mean=np.ones(3), _std=np.ones(3), eps=0.5)
    found = read(module("Policy", actor=linear(3, 2), obs_normalizer=epsilon))
    assert found.standardization.divisor.tolist() == [1.5] * 3
    lstm = module("LSTM", **{key[2:]: value for key, value in gru("m", 3, 4, 4).items()})
    found = read(module("P", actor=linear(4, 2), memory_a=lstm, cell_state=np.zeros(1)))
    assert found.recurrence.kind == "lstm"
    assert found.notes[0] == "without a normalizer"
    assert found.notes[1].startswith("keeps a state (lstm, 4)")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (sequence(), "holds no dense layers"),
        (sequence(module("Flatten"), linear(3, 2)), r"module '0' \(Flatten\), which cannot be described"),
        (sequence(module("LayerNorm", weight=np.ones(3), inner=linear(3, 3))), r"module '0' \(LayerNorm\)"),
        (module("Scaled", scale=np.ones(3), actor=linear(3, 2)), r"module 'Scaled' \(Scaled\)"),
        (sequence(module("Linear", weight=None)), "linear module '0' without weights"),
        (sequence(sequence(module("Linear", weight=np.ones(3)))), "linear module '0.0' without weights"),
        (sequence(linear(3, 4), module("ELU"), linear(5, 2)), "'2' reads 5 numbers, but 4 come in"),
        (sequence(linear(3, 4), module("ELU", alpha=0.5), linear(4, 2)), "ELU '1' with another alpha than 1"),
        (sequence(linear(3, 4), linear(4, 2)), "exactly one activation"),
        (sequence(linear(3, 4), module("ELU"), linear(4, 4), module("Tanh"), linear(4, 2)), "activations"),
        (sequence(linear(3, 3), NORMALIZER), "normalizer '1' behind other modules"),
        (sequence(NORMALIZER, NORMALIZER, linear(3, 3)), "normalizer '1' behind other modules"),
        (sequence(module("EmpiricalNormalization", _mean=np.ones(3)), linear(3, 2)), "'0' without statistics"),
        (sequence(module("EmpiricalNormalization", _std=np.ones(3)), linear(3, 2)), "'0' without statistics"),
        (sequence(linear(3, 4), module("GRU")), "recurrent module '1' behind other layers"),
    ],
)
def test_modules_that_are_not_part_of_a_chain_are_named(tree, message):
    with pytest.raises(PolicyFileError, match=f"{FILE.name} .*{message}"):
        read(tree)


def test_a_second_memory_and_layers_that_do_not_fit_one_are_refused():
    memory = module("GRU", **{key[2:]: value for key, value in gru("m", 3, 4).items()})
    with pytest.raises(PolicyFileError, match="recurrent module '1' behind other layers"):
        read(sequence(memory, memory, linear(4, 2)))
    with pytest.raises(PolicyFileError, match="'1' reads 3 numbers, but 4 come in"):
        read(sequence(memory, linear(3, 2)))
    with pytest.raises(PolicyFileError, match="normalizer '1' behind other modules"):
        read(sequence(memory, NORMALIZER, linear(4, 2)))
