"""Chains in ONNX files node by node, sizes of foreign layers, and files of other libraries at their edges."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from policykd.agents.action_map import ActionMap
from policykd.agents.importing import onnx_files
from policykd.agents.importing.foreign_policy import (
    NO_CLIP,
    ForeignPolicy,
    Layer,
    Standardization,
    check_sizes,
    policy_of,
)
from policykd.agents.importing.onnx_files import read_onnx
from policykd.errors import PolicyFileError

FILE = Path("run/own.onnx")

RNG = np.random.default_rng(0)
WEIGHT, BIAS = RNG.normal(size=(2, 3)).astype(np.float32), RNG.normal(size=2).astype(np.float32)
SQUARE = RNG.normal(size=(2, 2)).astype(np.float32)
ROWS = RNG.normal(size=(7, 3)).astype(np.float32)


def read(nodes, constants, *, outputs=("actions",), inputs=("obs",)):
    """Read a chain of nodes (kind, inputs, output, attributes) with constants by name."""
    from onnx import TensorProto, helper, numpy_helper

    made = [helper.make_node(kind, given, [out], name=f"{kind}-{out}", **how) for kind, given, out, how in nodes]
    values = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names] for names in (inputs, outputs)]
    tensors = [numpy_helper.from_array(np.asarray(v, dtype=np.float32), n) for n, v in constants.items()]
    model = helper.make_model(helper.make_graph(made, "g", *values, tensors))
    return read_onnx(model.SerializeToString(), FILE)


GEMM = ("Gemm", ["obs", "w", "b"], "actions", {"transB": 1})
FIRST = (*GEMM[:2], "h", {"transB": 1})
LAYER = {"w": WEIGHT, "b": BIAS}


def acts(foreign, rows=ROWS):
    with torch.no_grad():
        return foreign.actions.apply(policy_of(foreign)(torch.from_numpy(rows))).numpy()


def test_layers_are_products_with_or_without_transposition_and_bias():
    expected = ROWS @ WEIGHT.T
    for nodes, constants, bias in (
        ([GEMM], LAYER, BIAS),
        ([("Gemm", ["obs", "w", "b"], "actions", {})], {"w": WEIGHT.T, "b": BIAS}, BIAS),
        ([("Gemm", ["obs", "w"], "actions", {"transB": 1})], {"w": WEIGHT}, 0.0),
        ([("MatMul", ["obs", "w"], "actions", {})], {"w": WEIGHT.T}, 0.0),
        ([("MatMul", ["obs", "w"], "h", {}), ("Add", ["h", "b"], "actions", {})], {"w": WEIGHT.T, "b": BIAS}, BIAS),
        ([("MatMul", ["obs", "w"], "h", {}), ("Add", ["b", "h"], "actions", {})], {"w": WEIGHT.T, "b": BIAS}, BIAS),
    ):
        foreign = read(nodes, constants)
        np.testing.assert_allclose(acts(foreign), expected + bias, rtol=1e-5, atol=1e-6)
        assert foreign.groups == {"observation": 3}
        assert (foreign.source, foreign.squash, foreign.activation) == ("ONNX", False, "tanh")
        assert (foreign.standardization, foreign.actions) == (None, ActionMap("none"))


@pytest.mark.parametrize("kind", ["Elu", "Relu", "Tanh"])
@pytest.mark.parametrize("squash", [False, True])
def test_activations_between_layers_and_behind_the_last(kind, squash):
    nodes = [
        ("Flatten", ["obs"], "flat", {}), ("Gemm", ["flat", "w", "b"], "h", {"transB": 1}), (kind, ["h"], "a", {}),
        ("Gemm", ["a", "v", "b"], "last" if squash else "actions", {"transB": 1}),
    ]  # fmt: skip
    nodes += [("Tanh", ["last"], "actions", {})] if squash else []
    foreign = read(nodes, {**LAYER, "v": SQUARE})
    assert (foreign.activation, foreign.squash, len(foreign.actor)) == (kind.lower(), squash, 2)
    function = {"Elu": nn.functional.elu, "Relu": torch.relu, "Tanh": torch.tanh}[kind]
    hidden = function(torch.from_numpy(ROWS @ WEIGHT.T + BIAS)).numpy()
    expected = hidden @ SQUARE.T + BIAS
    np.testing.assert_allclose(acts(foreign), np.tanh(expected) if squash else expected, rtol=1e-4, atol=1e-5)


MEAN, DIVISOR = np.float32([0.5, -1.0, 2.0]), np.float32([2.0, 4.0, 0.5])


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        ([("Sub", "mean"), ("Div", "divisor")], (ROWS - MEAN) / DIVISOR),
        ([("Add", "mean"), ("Mul", "divisor")], (ROWS + MEAN) * DIVISOR),
        ([("Sub", "mean")], ROWS - MEAN),
        ([("Div", "divisor")], ROWS / DIVISOR),
        ([("Sub", "mean"), ("Div", "divisor"), ("Clip", "bounds")], ((ROWS - MEAN) / DIVISOR).clip(-0.7, 0.7)),
        ([("Sub", "one"), ("Div", "two")], (ROWS - 1.0) / 2.0),
    ],
)
def test_normalizers_in_front(front, expected):
    constants = {**LAYER, "mean": MEAN, "divisor": DIVISOR, "one": [1.0], "two": [2.0], "low": -0.7, "high": 0.7}
    nodes, current = [], "obs"
    for number, (kind, name) in enumerate(front):
        more = ["low", "high"] if name == "bounds" else [name]
        nodes.append((kind, [current, *more], f"n{number}", {}))
        current = f"n{number}"
    foreign = read([*nodes, ("Gemm", [current, "w", "b"], "actions", {"transB": 1})], constants)
    np.testing.assert_allclose(acts(foreign), expected @ WEIGHT.T + BIAS, rtol=1e-4, atol=1e-5)
    clipped = any(kind == "Clip" for kind, _ in front)
    assert foreign.standardization.clip == (pytest.approx(0.7) if clipped else NO_CLIP)


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([("Clip", ["last", "low", "high"], "actions", {})], {"low": [-0.5, -0.25], "high": [0.75, 0.5]}),
        ([("Max", ["last", "low"], "m", {}), ("Min", ["m", "high"], "actions", {})],
         {"low": [-0.5, -0.25], "high": [0.75, 0.5]}),
        ([("Min", ["last", "high"], "m", {}), ("Max", ["low", "m"], "actions", {})],
         {"low": [-0.5, -0.25], "high": [0.75, 0.5]}),
    ],
)  # fmt: skip
def test_bounds_of_actions_behind(nodes, constants):
    foreign = read([("Gemm", ["obs", "w", "b"], "last", {"transB": 1}), *nodes], {**LAYER, **constants})
    assert (foreign.actions.mode, foreign.actions.low, foreign.actions.high) == ("clip", (-0.5, -0.25), (0.75, 0.5))
    np.testing.assert_allclose(acts(foreign), (ROWS @ WEIGHT.T + BIAS).clip([-0.5, -0.25], [0.75, 0.5]), rtol=1e-4)


def test_one_bound_counts_for_all_actions_and_a_single_side_for_none():
    old = [("Gemm", ["obs", "w", "b"], "last", {"transB": 1}), ("Clip", ["last"], "actions", {"min": -1.5, "max": 2.0})]
    assert read(old, LAYER).actions == ActionMap("clip", (-1.5, -1.5), (2.0, 2.0))
    upper = [("Gemm", ["obs", "w", "b"], "last", {"transB": 1}), ("Min", ["last", "high"], "actions", {})]
    assert read(upper, {**LAYER, "high": 2.0}).actions == ActionMap("none")


def test_the_output_that_acts_is_chosen_by_its_name():
    nodes = [("Gemm", ["obs", "w", "b"], "mu", {"transB": 1}), ("Gemm", ["obs", "v", "b"], "value", {"transB": 1}),
             ("Tanh", ["mu"], "other", {})]  # fmt: skip
    constants = {**LAYER, "v": -WEIGHT}
    assert np.array_equal(read(nodes, constants, outputs=("value", "mu")).actor[0].weight, WEIGHT)
    assert np.array_equal(read(nodes, constants, outputs=("value", "other")).actor[0].weight, -WEIGHT)
    logits = read([("Gemm", ["obs", "w", "b"], "logits", {"transB": 1})], LAYER, outputs=("logits",))
    assert logits.actions == ActionMap("argmax")


def test_constants_may_be_nodes():
    from onnx import numpy_helper

    nodes = [("Constant", [], "w", {"value": numpy_helper.from_array(WEIGHT)}), ("Gemm", ["obs", "w"], "actions",
             {"transB": 1})]  # fmt: skip
    np.testing.assert_allclose(acts(read(nodes, {})), ROWS @ WEIGHT.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([("Gemm", ["obs", "w", "b"], "actions", {"transB": 1, "alpha": 0.5})], "scales its product"),
        ([("Gemm", ["obs", "w", "b"], "actions", {"transB": 1, "beta": 0.5})], "scales its product"),
        ([("Gemm", ["obs", "w", "b"], "actions", {"transB": 1, "transA": 1})], "scales its product"),
        ([("Elu", ["obs"], "actions", {"alpha": 0.5})], "another alpha than 1"),
        ([("Tanh", ["obs"], "actions", {})], "own.onnx holds no dense layers"),
        ([FIRST, ("Relu", ["h"], "actions", {})], r"ends with \['relu'\]"),
        ([FIRST, ("Tanh", ["h"], "t", {}), ("Tanh", ["t"], "actions", {})], "ends with"),
        ([FIRST, ("Mul", ["h", "b"], "actions", {})], r"\(Mul\) behind a layer"),
        ([FIRST, ("Add", ["h", "m"], "actions", {})], r"\(Add\) behind a layer"),
        ([FIRST, ("Tanh", ["h"], "t", {}), ("Add", ["t", "b"], "actions", {})], "behind a"),
        ([("Sub", ["obs", "m"], "s", {}), ("Add", ["s", "m"], "t", {}), ("Gemm", ["t", "w"], "actions", {})], "second"),
        ([("Div", ["obs", "m"], "s", {}), ("Sub", ["s", "m"], "t", {}), ("Gemm", ["t", "w"], "actions", {})], "second"),
        ([("Div", ["obs", "m"], "s", {}), ("Div", ["s", "m"], "t", {}), ("Gemm", ["t", "w"], "actions", {})], "second"),
        (
            [("Clip", ["obs", "x", "y"], "s", {}), ("Gemm", ["s", "w"], "actions", {})],
            "different bounds",
        ),
        ([("Max", ["obs", "m"], "s", {}), ("Gemm", ["s", "w"], "actions", {})], "different bounds"),
        ([("Tanh", ["obs"], "t", {}), ("Gemm", ["t", "w", "b"], "actions", {"transB": 1})], "exactly one activation"),
        ([FIRST, ("Gemm", ["h", "v", "b"], "actions", {"transB": 1})], "exactly one activation"),
        ([FIRST, ("Max", ["h", "x"], "k", {}), ("Tanh", ["k"], "actions", {})], r"\(Tanh\) stands behind the bounds"),
        ([FIRST, ("Min", ["h", "y"], "k", {}), ("Gemm", ["k", "v"], "actions", {})], r"\(Gemm\) stands behind the"),
        (
            [("Clip", ["obs", "x", "z"], "c", {}), ("Sub", ["c", "m"], "s", {}), ("Gemm", ["s", "w"], "actions", {})],
            r"\(Sub\) stands behind the bounds of the features",
        ),
    ],
)
def test_graphs_that_are_no_chain_of_layers_are_refused_by_node(nodes, message):
    constants = {**LAYER, "v": SQUARE, "m": MEAN, "x": -1.0, "y": 2.0, "z": 1.0}
    with pytest.raises(PolicyFileError, match=message):
        read(nodes, constants)


def test_mixed_activations_and_several_inputs_are_refused():
    mixed = [("Gemm", ["obs", "w", "b"], "h", {"transB": 1}), ("Elu", ["h"], "a", {}),
             ("Gemm", ["a", "v", "b"], "i", {"transB": 1}), ("Relu", ["i"], "c", {}),
             ("Gemm", ["c", "v", "b"], "actions", {"transB": 1})]  # fmt: skip
    with pytest.raises(PolicyFileError, match=r"activations \['elu', 'relu'\]"):
        read(mixed, {**LAYER, "v": SQUARE})
    with pytest.raises(PolicyFileError, match=r"has the inputs obs, state; a chain has one"):
        read([GEMM], LAYER, inputs=("obs", "state"))
    assert len(read([GEMM], LAYER, inputs=("obs", "w")).actor) == 1  # older files list constants as inputs
    near = [("Gemm", ["obs", "w", "b"], "h", {"transB": 1}), ("Elu", ["h"], "a", {"alpha": 1.0000001}),
            ("Gemm", ["a", "v", "b"], "actions", {"transB": 1})]  # fmt: skip
    assert read(near, {**LAYER, "v": SQUARE}).activation == "elu"


def test_graphs_that_run_in_circles_are_refused():
    circle = [("Tanh", ["x"], "y", {}), ("Tanh", ["y"], "x", {}), ("Tanh", ["x"], "actions", {})]
    with pytest.raises(PolicyFileError, match="does not come from the input 'obs'"):
        read(circle, {})
    assert onnx_files._limits(None, "Max", [1.0]) == (1.0, None)
    assert onnx_files._limits(None, "Min", [1.0]) == (None, 1.0)
    assert onnx_files._limits(None, "Clip", [1.0, 2.0]) == (1.0, 2.0)


def foreign(**changes):
    layers = (Layer(np.ones((4, 3), np.float32), np.zeros(4, np.float32)), Layer(np.ones((2, 4)), np.zeros(2)))
    given = {"source": "x", "groups": {"a": 1, "b": 2}, "actor": layers, "activation": "elu",
             "actions": ActionMap("none"), **changes}  # fmt: skip
    return ForeignPolicy(**given)


GOOD = Layer(np.ones((4, 3)), np.zeros(4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actor": (Layer(np.ones((4, 2)), np.zeros(4)),)}, "actor layer 0 has weights .4, 2. .* 3 inputs come in"),
        ({"actor": (GOOD, Layer(np.ones((2, 3)), np.zeros(2)))}, "actor layer 1 .* 4 inputs come in"),
        ({"actor": (Layer(np.ones((4, 3)), np.zeros(3)),)}, "biases .3,."),
        ({"actor": (Layer(np.ones(3), np.zeros(3)),)}, "actor layer 0"),
        ({"critic": (Layer(np.ones((1, 4)), np.zeros(1)),)}, "critic layer 0"),
        ({"actor": (Layer(np.full((4, 3), np.nan), np.zeros(4)),)}, "actor layer 0 holds NaN"),
        ({"actor": (Layer(np.ones((4, 3)), np.full(4, np.inf)),)}, "holds NaN or infinity"),
        ({"actions": ActionMap("clip", (0.0,) * 3, (1.0,) * 3)}, "has 2 outputs; the action space has 3"),
        ({"standardization": Standardization(np.zeros(2), np.ones(3))}, "has .2,. means and .3,. divisors"),
        ({"standardization": Standardization(np.zeros(3), np.ones(2))}, "divisors"),
        ({"standardization": Standardization(np.zeros(2), np.ones(2))}, "the policy reads 3"),
        ({"standardization": Standardization(np.full(3, np.nan), np.ones(3))}, "not finite"),
        ({"standardization": Standardization(np.zeros(3), np.array([1.0, 0.0, 1.0]))}, "not positive"),
    ],
)
def test_layers_and_statistics_must_fit(changes, message):
    with pytest.raises(PolicyFileError, match=message):
        check_sizes(foreign(**changes))


def test_a_converted_policy_computes_what_its_layers_say():
    given = foreign(
        standardization=Standardization(np.array([1.0, 2.0, 3.0]), np.array([2.0, 1e-3, 4.0]), 1.5),
        log_std=np.array([0.25, -0.5]), squash=True, mean_clip=3.0,
        critic=(Layer(np.full((5, 3), 0.5), np.ones(5)), Layer(np.ones((1, 5)), np.zeros(1))),
        actions=ActionMap("clip", (0.0,) * 2, (1.0,) * 2),
    )  # fmt: skip
    policy = policy_of(given)
    assert not policy.training
    assert (policy.architecture.hidden, policy.architecture.critic_hidden) == ((4,), (5,))
    rows = np.array([[0.0, 2.0, 5.0], [9.0, 1.0, 3.0]])
    features = ((rows - [1.0, 2.0, 3.0]) / [2.0, 1e-3, 4.0]).clip(-1.5, 1.5)
    hidden = features.sum(1, keepdims=True).repeat(4, 1)
    hidden = np.where(hidden > 0, hidden, np.expm1(hidden))
    expected = np.tanh(hidden.sum(1, keepdims=True).repeat(2, 1).clip(-3, 3))
    with torch.no_grad():
        np.testing.assert_allclose(policy(torch.from_numpy(rows).float()), expected, rtol=1e-5)
        critic = 0.5 * features.sum(1, keepdims=True) + 1
        value = 5 * np.where(critic > 0, critic, np.expm1(critic))[:, 0]
        np.testing.assert_allclose(policy.value(torch.from_numpy(rows).float()), value, rtol=1e-5)
    assert policy.log_std.tolist() == [0.25, -0.5]
    assert not policy.normalizer.fresh
    bare = policy_of(foreign())
    assert (bare.normalizer.clip, bare.normalizer.min_std) == (NO_CLIP, 1e-12)
    assert float(bare.value(torch.ones(1, 3)).detach()) == 0.0
