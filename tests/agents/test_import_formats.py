"""Checkpoints of other libraries: each layout is built by hand with torch, and the policy acts as its formula says."""

import tracemalloc
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from policykd.agents.action_map import ActionMap
from policykd.agents.importing.foreign_policy import policy_of
from policykd.agents.importing.formats import read_foreign
from policykd.agents.importing.options import ImportOptions
from policykd.errors import PolicyFileError

INPUTS, ACTIONS = 6, 3
ELU = ImportOptions(activation="elu")
MEAN = torch.linspace(-1.0, 1.0, INPUTS)
STD = torch.tensor([1e-4, 0.1, 0.5, 1.0, 3.0, 20.0])
ROWS = MEAN + STD * torch.randn(200, INPUTS, generator=torch.Generator().manual_seed(0)) * 3


def dense(*sizes, activation=nn.ELU):
    torch.manual_seed(sum(sizes))
    modules = []
    for a, b in pairwise(sizes):
        modules += [nn.Linear(a, b), activation()]
    with torch.no_grad():
        modules[-2].weight.mul_(4.0)
    return nn.Sequential(*modules[:-1])


def prefixed(prefix, module):
    return {f"{prefix}{name}": value for name, value in module.state_dict().items()}


def check(path, expected, options=ELU, tolerance=1e-5):
    """The policy in a file returns these actions for ROWS."""
    foreign = read_foreign(path, options)
    with torch.no_grad():
        found = foreign.actions.apply(policy_of(foreign)(ROWS))
        assert (found - expected).abs().max() < tolerance * max(1.0, float(expected.abs().max()))
    assert float(expected.std()) > 0.1
    return foreign


def normalization():
    return {"_mean": MEAN[None], "_var": (STD**2)[None], "_std": STD[None], "count": torch.tensor(10)}


@torch.no_grad()
def test_rsl_rl_from_version_4_on(tmp_path):
    actor, critic = dense(INPUTS, 16, 8, ACTIONS), dense(INPUTS, 4, 1)
    weights = {**prefixed("mlp.", actor), **{f"obs_normalizer.{k}": v for k, v in normalization().items()}}
    for key, values in (
        ("std_param", torch.full((ACTIONS,), 0.3)),
        ("log_std_param", torch.full((ACTIONS,), 0.3).log()),
    ):
        file = {
            "actor_state_dict": {**weights, f"distribution.{key}": values},
            "critic_state_dict": prefixed("mlp.", critic),
        }
        torch.save({**file, "iter": 3, "infos": None}, tmp_path / "model_3.pt")
        foreign = check(tmp_path / "model_3.pt", actor((ROWS - MEAN) / (STD + 0.01)))
        assert np.allclose(foreign.log_std, np.log(0.3))


@torch.no_grad()
@pytest.mark.parametrize("version", [2, 3])
def test_rsl_rl_before_version_4(version, tmp_path):
    actor = dense(INPUTS, 16, 8, ACTIONS)
    weights = {**prefixed("actor.", actor), **prefixed("critic.", dense(9, 4, 1)), "std": torch.ones(ACTIONS)}
    extra = {}
    if version == 3:
        weights |= {f"actor_obs_normalizer.{k}": v for k, v in normalization().items()}
    else:
        extra = {"obs_norm_state_dict": normalization()}
    torch.save({"model_state_dict": weights, "optimizer_state_dict": {}, "iter": 1, **extra}, tmp_path / "model_1.pt")
    check(tmp_path / "model_1.pt", actor((ROWS - MEAN) / (STD + 0.01)))
    check(tmp_path / "model_1.pt", actor(ROWS), ImportOptions(activation="elu", normalized=False))


def test_rsl_rl_says_what_is_missing_or_strange(tmp_path):
    actor = dense(INPUTS, 8, ACTIONS)
    torch.save({"model_state_dict": prefixed("actor.", actor)}, tmp_path / "model_1.pt")
    with pytest.raises(PolicyFileError, match=r"model_1.pt names no activation \(rsl_rl keeps it"):
        read_foreign(tmp_path / "model_1.pt")
    with pytest.raises(PolicyFileError, match=r"activation of model_1.pt is swish; elu, relu, silu, tanh"):
        read_foreign(tmp_path / "model_1.pt", ImportOptions(activation="swish"))
    strange = {**prefixed("actor.", actor), "estimator.0.weight": torch.zeros(2, 2)}
    torch.save({"model_state_dict": strange}, tmp_path / "model_1.pt")
    with pytest.raises(PolicyFileError, match=r"has a part 'estimator.0.weight' next to its actor"):
        read_foreign(tmp_path / "model_1.pt", ELU)
    wide = {"mlp.0.weight": torch.zeros(2 * ACTIONS, INPUTS), "mlp.0.bias": torch.zeros(2 * ACTIONS)}
    torch.save({"actor_state_dict": {**wide, "distribution.std_param": torch.ones(ACTIONS)}}, tmp_path / "model_1.pt")
    with pytest.raises(PolicyFileError, match=r"a head with a spread that depends on the state"):
        read_foreign(tmp_path / "model_1.pt", ELU)


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
def test_rl_games(prefix, tmp_path):
    body, mu, value = dense(INPUTS, 16, 8), nn.Linear(8, ACTIONS), nn.Linear(8, 1)
    body.append(nn.ELU())
    statistics = {"running_mean": MEAN.double(), "running_var": STD.double() ** 2, "count": torch.tensor(5.0).double()}
    model = {
        **{f"running_mean_std.{k}": v for k, v in statistics.items()},
        **prefixed("a2c_network.actor_mlp.", body), **prefixed("a2c_network.mu.", mu),
        **prefixed("a2c_network.value.", value), "a2c_network.sigma": torch.zeros(ACTIONS),
    }  # fmt: skip
    model = {prefix + k: v for k, v in model.items()}
    torch.save({"model": model, "epoch": 3, "last_mean_rewards": np.float32(402.4)}, tmp_path / "run.pth")
    normalized = ((ROWS - MEAN) / (STD**2 + 1e-5).sqrt()).clamp(-5.0, 5.0)
    expected = mu(body(normalized)).clamp(-1.0, 1.0)
    foreign = check(tmp_path / "run.pth", expected)
    assert any(r"[-1, 1] is assumed" in note for note in foreign.notes)
    low, high = (-1.0, 0.0, 2.0), (1.0, 0.5, 9.0)
    scaled = torch.tensor(low) + (expected + 1) / 2 * (torch.tensor(high) - torch.tensor(low))
    check(tmp_path / "run.pth", scaled, ImportOptions(activation="elu", low=low, high=high))


@torch.no_grad()
@pytest.mark.parametrize(
    "names", [("observation_preprocessor", "output_layer"), ("state_preprocessor", "policy_layer")]
)
def test_skrl(names, tmp_path):
    body, output = dense(INPUTS, 16, 8), nn.Linear(8, ACTIONS)
    body.append(nn.ELU())
    scaler = {"running_mean": MEAN.double(), "running_variance": STD.double() ** 2, "current_count": torch.tensor(9.0)}
    policy = {
        **prefixed("net_container.", body),
        **prefixed(f"{names[1]}.", output),
        "log_std_parameter": torch.zeros(ACTIONS),
    }
    torch.save({"policy": policy, "value": {}, names[0]: scaler, "value_preprocessor": {}}, tmp_path / "agent_9.pt")
    expected = output(body(((ROWS - MEAN) / (STD + 1e-8)).clamp(-5.0, 5.0)))
    check(tmp_path / "agent_9.pt", expected)
    check(tmp_path / "agent_9.pt", expected.clamp(-0.2, 0.3), ImportOptions(activation="elu", low=(-0.2,), high=(0.3,)))


@torch.no_grad()
def test_cleanrl(tmp_path):
    actor, critic = dense(INPUTS, 16, 8, ACTIONS, activation=nn.Tanh), dense(INPUTS, 4, 1, activation=nn.Tanh)
    state = {**prefixed("actor_mean.", actor), **prefixed("critic.", critic), "actor_logstd": torch.zeros(1, ACTIONS)}
    torch.save(state, tmp_path / "ppo.cleanrl_model")
    with pytest.raises(PolicyFileError, match=r"ppo.cleanrl_model holds no observation statistics .* --no-normalizer"):
        read_foreign(tmp_path / "ppo.cleanrl_model")
    check(tmp_path / "ppo.cleanrl_model", actor(ROWS).clamp(-1.0, 1.0), ImportOptions(normalized=False))
    scale, bias = torch.tensor([[2.0, 1.0, 0.5]]), torch.tensor([[1.0, 0.0, 3.0]])
    for head in ("fc_mu", "fc_mean"):
        net = dense(INPUTS, 16, 8, ACTIONS, activation=nn.ReLU)
        names = dict(zip(("0.", "2.", "4."), ("fc1.", "fc2.", f"{head}."), strict=True))
        state = {names[k[:2]] + k[2:]: v for k, v in net.state_dict().items()}
        state |= {"action_scale": scale, "action_bias": bias, "fc_logstd.weight": torch.zeros(ACTIONS, 8)}
        whole = (state, {"fc1.weight": torch.zeros(1, 1)}, {}) if head == "fc_mu" else state
        torch.save(whole, tmp_path / "off.cleanrl_model")
        check(tmp_path / "off.cleanrl_model", torch.tanh(net(ROWS)) * scale + bias)


class EmpiricalNormalization(nn.Module):
    """The normalizer of rsl_rl, as deployed files hold it."""

    def __init__(self):
        super().__init__()
        self.eps = 0.01
        for name, value in normalization().items():
            self.register_buffer(name, value)

    def forward(self, x):
        return (x - self._mean) / (self._std + self.eps)


class Deployed(nn.Module):
    """An exported policy."""

    def __init__(self, normalizer, actor):
        super().__init__()
        self.actor, self.normalizer = actor, normalizer

    def forward(self, x):
        return self.actor(self.normalizer(x))


class DeployedLstm(nn.Module):
    """An exported recurrent policy that keeps its state."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(3)
        self.actor, self.memory = dense(8, 16, ACTIONS), kind(INPUTS, 8)
        self.register_buffer("hidden_state", torch.zeros(1, 1, 8))

    def forward(self, x):
        out, _ = self.memory(x[None])
        return self.actor(out.squeeze(0))


@torch.no_grad()
def test_torchscript_chains(tmp_path):
    actor = dense(INPUTS, 16, 8, ACTIONS)
    for module, expected in (
        (Deployed(EmpiricalNormalization(), actor), actor((ROWS - MEAN) / (STD + 0.01))),
        (Deployed(nn.Identity(), actor), actor(ROWS)),
        (actor, actor(ROWS)),
        (nn.Sequential(*actor, nn.Tanh()), torch.tanh(actor(ROWS))),
    ):
        torch.jit.script(module).save(str(tmp_path / "policy.pt"))
        foreign = check(tmp_path / "policy.pt", expected, ImportOptions())
        unknown = "Deployed is not a known exporter: what its own code adds to its modules is left out"
        assert (unknown in foreign.notes) == isinstance(module, Deployed)
    assert foreign.actions == ActionMap("rescale", (-1.0,) * ACTIONS, (1.0,) * ACTIONS), "a tanh bounds them"
    swish = dense(INPUTS, 8, ACTIONS, activation=nn.SiLU)
    torch.jit.script(swish).save(str(tmp_path / "policy.pt"))
    assert check(tmp_path / "policy.pt", swish(ROWS), ImportOptions()).activation == "silu"


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_archives_are_read(kind, tmp_path):
    module = DeployedLstm(kind)
    torch.jit.script(module).save(str(tmp_path / "motion.pt"))
    foreign = read_foreign(tmp_path / "motion.pt")
    assert (foreign.recurrence.kind, foreign.recurrence.inputs, foreign.recurrence.hidden) == (
        kind.__name__.lower(),
        INPUTS,
        8,
    )
    assert np.array_equal(foreign.recurrence.hidden_weight, module.memory.weight_hh_l0.detach().numpy())
    assert policy_of(foreign).recurrent


class Estimator(Deployed):
    """A policy with a part that is not a chain."""

    def __init__(self):
        super().__init__(nn.Identity(), dense(INPUTS, 4, ACTIONS))
        self.estimator = nn.Linear(2, 2)


def test_archives_that_are_not_chains_are_named(tmp_path):
    torch.jit.script(Estimator()).save(str(tmp_path / "him.pt"))
    with pytest.raises(PolicyFileError, match=r"'estimator' reads 2 numbers"):
        read_foreign(tmp_path / "him.pt")
    torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))).save(str(tmp_path / "norm.pt"))
    with pytest.raises(PolicyFileError, match=r"module '1' \(LayerNorm\), which cannot be described"):
        read_foreign(tmp_path / "norm.pt")


@torch.no_grad()
def test_own_exports_come_back(tmp_path):
    from policykd.agents.export.onnx_writer import onnx_bytes
    from policykd.agents.export.program import policy_program
    from policykd.agents.files.manifest import describe_actions
    from policykd.agents.policy import Policy
    from policykd.envs.robots import get_robot

    actions = describe_actions(get_robot("quadruped"))
    policy = Policy({"observation": INPUTS}, 12, generator_seed=0).eval()
    policy.actor[-1].weight.mul_(100.0)
    policy.update_normalizer(ROWS)
    (tmp_path / "policy.onnx").write_bytes(onnx_bytes(policy_program(policy, actions), {}))
    check(tmp_path / "policy.onnx", policy(ROWS).clamp(-1.0, 1.0), ImportOptions())


def test_onnx_graphs_that_are_not_chains_are_named(tmp_path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", 3]) for n in ("obs", "actions")]
    for nodes, message in (
        ([helper.make_node("Softmax", ["obs"], ["actions"], name="soft")], "node soft is a Softmax"),
        ([helper.make_node("Add", ["obs", "obs"], ["actions"], name="sum")], r"node sum \(Add\) reads 2 values"),
        ([helper.make_node("Tanh", ["other"], ["actions"], name="t")], "'other' does not come from the input"),
        ([helper.make_node("Div", ["obs", ""], ["actions"], name="d")], r"node d \(Div\) lacks numbers to compute"),
        ([helper.make_node("Gemm", ["obs", "", "b"], ["actions"], name="g")], r"node g \(Gemm\) lacks numbers"),
        ([helper.make_node("MatMul", ["obs", "t"], ["actions"], name="m")], r"node m \(MatMul\) lacks numbers"),
    ):
        constants = [numpy_helper.from_array(a, n) for n, a in (("b", np.zeros(3)), ("t", np.array(["text"], object)))]
        model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], constants))
        (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(PolicyFileError, match=message):
            read_foreign(tmp_path / "g.onnx")
    (tmp_path / "g.onnx").write_bytes(b"not a model")
    with pytest.raises(PolicyFileError, match=r"is not an ONNX file, or it is damaged"):
        read_foreign(tmp_path / "g.onnx")
    assert onnx.__version__


def brax(split=None, axis=-1, output=0, sigmoid_of=None):
    """An actor as brax exports it: swish as two nodes, means and spreads in one layer, tanh; and its weights."""
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(5)
    sizes = {"mean": (INPUTS,), "factor": (INPUTS,), "w0": (INPUTS, 8), "b0": (8,), "w1": (8, 2 * ACTIONS)}
    arrays = {name: draw.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    arrays["factor"] = np.abs(arrays["factor"]) + np.float32(0.1)
    arrays |= {"b1": np.zeros(2 * ACTIONS, np.float32), "sizes": np.array(split or [ACTIONS, ACTIONS])}
    halves = ["means", "spreads"]
    nodes = [
        helper.make_node("Sub", ["obs", "mean"], ["centered"]),
        helper.make_node("Mul", ["centered", "factor"], ["normal"]),
        helper.make_node("Gemm", ["normal", "w0", "b0"], ["hidden"]),
        helper.make_node("Sigmoid", [sigmoid_of or "hidden"], ["gate"]),
        helper.make_node("Mul", ["gate", "hidden"], ["swish"], name="product"),
        helper.make_node("Gemm", ["swish", "w1", "b1"], ["both"]),
        helper.make_node("Split", ["both", "sizes"], halves, name="halves", axis=axis),
        helper.make_node("Tanh", [halves[output]], ["continuous_actions"]),
    ]
    shapes = (("obs", INPUTS), ("continuous_actions", ACTIONS))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", size]) for name, size in shapes]
    constants = [numpy_helper.from_array(value, name) for name, value in arrays.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], constants))
    return model.SerializeToString(), arrays


def test_onnx_files_of_brax(tmp_path):
    content, a = brax()
    (tmp_path / "g.onnx").write_bytes(content)
    hidden = (ROWS.numpy() - a["mean"]) * a["factor"] @ a["w0"] + a["b0"]
    means = (torch.nn.functional.silu(torch.from_numpy(hidden)).numpy() @ a["w1"])[:, :ACTIONS]
    foreign = check(tmp_path / "g.onnx", torch.from_numpy(np.tanh(means)), ImportOptions())
    assert (foreign.activation, foreign.squash) == ("silu", True)
    assert foreign.actions == ActionMap("rescale", (-1.0,) * ACTIONS, (1.0,) * ACTIONS)
    for strange in ({"split": [1, 2 * ACTIONS - 1]}, {"axis": 0}, {"output": 1}):
        (tmp_path / "g.onnx").write_bytes(brax(**strange)[0])
        with pytest.raises(PolicyFileError, match="node halves splits something else than means and spreads"):
            read_foreign(tmp_path / "g.onnx")
    (tmp_path / "g.onnx").write_bytes(brax(sigmoid_of="normal")[0])
    with pytest.raises(PolicyFileError, match=r"node product \(Mul\) reads 2 values"):
        read_foreign(tmp_path / "g.onnx")


def test_a_layer_of_onnx_may_lack_its_bias(tmp_path):
    from onnx import TensorProto, helper, numpy_helper

    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", k]) for n, k in (("obs", 3), ("actions", 2))]
    node = helper.make_node("Gemm", ["obs", "w", ""], ["actions"], transB=1)
    graph = helper.make_graph([node], "g", values[:1], values[1:], [numpy_helper.from_array(weight, "w")])
    (tmp_path / "g.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    (layer,) = read_foreign(tmp_path / "g.onnx").actor
    assert np.array_equal(layer.weight, weight)
    assert layer.bias.tolist() == [0.0, 0.0]


def test_what_is_no_policy_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(PolicyFileError, match=r"neither a zip of stable-baselines3, nor a file of torch"):
        read_foreign(tmp_path / "notes.txt")
    with pytest.raises(PolicyFileError, match=r"cannot read .*missing.zip: No such file"):
        read_foreign(tmp_path / "missing.zip")
    with pytest.raises(PolicyFileError, match=r"a folder with 0 zips"):
        read_foreign(tmp_path)
    torch.save({"weights": torch.zeros(3)}, tmp_path / "own.pt")
    with pytest.raises(PolicyFileError, match=r"of none of the libraries .*; it holds \['weights'\]"):
        read_foreign(tmp_path / "own.pt")


def samples(folder):
    """Write one small file of every format."""
    actor = dense(INPUTS, 4, ACTIONS)
    torch.save({"actor_state_dict": prefixed("mlp.", actor)}, folder / "model_1.pt")
    torch.save(
        {"model": prefixed("a2c_network.actor_mlp.", actor) | prefixed("a2c_network.mu.", nn.Linear(3, 2))},
        folder / "g.pth",
    )
    torch.save(prefixed("actor_mean.", actor), folder / "c.pt")
    torch.jit.script(Deployed(EmpiricalNormalization(), actor)).save(str(folder / "script.pt"))
    return sorted(folder.iterdir())


def test_damaged_files_end_in_our_own_error(tmp_path):
    rng = np.random.default_rng(0)
    for path in samples(tmp_path):
        whole = path.read_bytes()
        for _ in range(150):
            content = bytearray(whole)
            for _ in range(rng.integers(1, 8)):
                content[rng.integers(len(content))] = rng.integers(256)
            path.write_bytes(bytes(content[: rng.integers(1, len(content) + 1)] if rng.random() < 0.3 else content))
            with suppress(PolicyFileError):
                read_foreign(path, ImportOptions(activation="elu", normalized=False))


class Attack:
    """Writes a file when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (self.target, "w"))


def test_code_in_a_file_is_never_run(tmp_path):
    target = tmp_path / "was-here"
    torch.save(
        {"actor_state_dict": prefixed("mlp.", dense(INPUTS, ACTIONS)), "infos": Attack(str(target))}, tmp_path / "m.pt"
    )
    assert read_foreign(tmp_path / "m.pt", ELU).groups == {"observation": INPUTS}
    torch.save(Attack(str(target)), tmp_path / "m.pt")
    with pytest.raises(PolicyFileError, match=r"of none of the libraries"):
        read_foreign(tmp_path / "m.pt", ELU)
    assert not target.exists()


def test_tensors_that_unfold_are_refused(tmp_path):
    """A few bytes that describe gigabytes: a tensor with stride 0, and one storage in many tensors."""
    torch.save({"actor_state_dict": {"mlp.0.weight": torch.zeros(1, 1).expand(30000, 30000)}}, tmp_path / "m.pt")
    with pytest.raises(PolicyFileError, match=r"repeats the numbers of its storage|is too large"):
        read_foreign(tmp_path / "m.pt", ELU)
    one = torch.zeros(500_000)
    torch.save({"actor_state_dict": {f"mlp.{i}.weight": one[: 500_000 - i] for i in range(600)}}, tmp_path / "m.pt")
    tracemalloc.start()
    with pytest.raises(PolicyFileError, match=r"unfold"):
        read_foreign(tmp_path / "m.pt", ELU)
    assert tracemalloc.get_traced_memory()[1] < 40e6, "the shared storage of 2 MB is read once"
    tracemalloc.stop()


SAMPLES = Path(__file__).parents[3] / "shared" / "policies"


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="checkpoints of other libraries are not on this machine")
def test_public_checkpoints_equal_torch():
    path = SAMPLES / "rsl_rl" / "g1_lstm_model_4650.pt"
    foreign = read_foreign(path, ELU)
    weights = torch.load(path, weights_only=True, map_location="cpu")["model_state_dict"]
    assert np.array_equal(foreign.actor[0].weight, weights["actor.0.weight"].numpy())
    assert np.array_equal(foreign.recurrence.input_weight, weights["memory_a.rnn.weight_ih_l0"].numpy())
    assert foreign.recurrence.kind == "lstm"
    cartpole = next((SAMPLES / "rl_games").glob("*.pth"))
    from_torch, from_onnx = (
        policy_of(read_foreign(p, ImportOptions(activation="relu", normalized=False)))
        for p in (cartpole, SAMPLES / "rl_games" / "cartpole.onnx")
    )
    rows = torch.randn(50, 4)
    assert from_torch(rows).shape == from_onnx(rows).shape == (50, 2)
