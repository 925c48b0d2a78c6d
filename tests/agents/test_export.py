"""Exported policies compute the policy's actions in every runtime, and say what a robot needs to know."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from policykd.agents.architecture import Architecture, Encoder, Memory, Mixture
from policykd.agents.export import check, export, export_policy
from policykd.agents.export.c_writer import c_header
from policykd.agents.export.onnx_writer import onnx_bytes
from policykd.agents.export.program import Dense, policy_program
from policykd.agents.export.runtime import c_runtime, missing_for_c, onnx_runtime, torchscript_runtime
from policykd.agents.export.torchscript import torchscript_bytes
from policykd.agents.files.manifest import describe_actions
from policykd.agents.files.policy_file import load_policy, save_policy
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import make_policy
from policykd.cli.main import main
from policykd.envs.robots import get_robot
from policykd.envs.skills import get_skill
from policykd.envs.symmetry import mirror_symmetry
from policykd.errors import ConfigError, ContractError, OutputError, UnknownNameError

needs_compiler = pytest.mark.skipif(missing_for_c() is not None, reason="no C compiler")
EXPERT = Path(__file__).parent.parent / "data" / "flat-expert"
ROBOT = get_robot("biped")
ACTIONS = describe_actions(ROBOT)
GROUPS = {name: get_skill("biped/flat").group_sizes[name] for name in ("proprio", "terrain")}
SHAPES = {
    "elu": Architecture(hidden=(16, 8)),
    "relu": Architecture(hidden=(16,), activation="relu"),
    "tanh": Architecture(hidden=(16, 8), activation="tanh"),
    "silu": Architecture(hidden=(16, 8), activation="silu"),
    "linear": Architecture(hidden=()),
    "squash": Architecture(hidden=(8,), squash=True),
    "encoder": Architecture(hidden=(16, 8), encoders=(Encoder("terrain", (4, 3), (5, 3), (2, 1), 6),)),
    "mixture": Architecture(hidden=(8,), mixture=Mixture(3, 6)),
    "encoder at every layer": Architecture(
        hidden=(16, 8), activation="relu", encoders=(Encoder("terrain", (4,), (3,), (1,), 6, "every"),)
    ),
}


def random_policy(architecture, symmetric=True):
    symmetry = mirror_symmetry(tuple(GROUPS), ROBOT) if symmetric else None
    policy = Policy(GROUPS, len(ACTIONS), architecture, 3, symmetry).eval()
    with torch.no_grad():
        mixture = architecture.mixture is not None
        last = [e[-1].weight for e in policy.actor[0].experts] if mixture else [policy.actor[-1].weight]
        for weight in last:
            weight.mul_(10.0 if mixture else 100.0)  # a new policy hardly acts, and would hide errors
        policy.update_normalizer(observations() * torch.linspace(0.001, 3.0, policy.observation_size))
    return policy


def observations(count=500):
    return 2.0 * torch.randn(count, sum(GROUPS.values()), generator=torch.Generator().manual_seed(1))


def runtimes(policy, folder, per_group):
    program = policy_program(policy, ACTIONS, per_group=per_group)
    (folder / "policy.onnx").write_bytes(onnx_bytes(program, {"key": "value"}))
    (folder / "policy.pt").write_bytes(torchscript_bytes(policy, ACTIONS, {}, per_group=per_group))
    (folder / "policy.h").write_text(c_header(program, "policy", "a comment"))
    yield onnx_runtime(folder / "policy.onnx", policy.groups)
    yield torchscript_runtime(folder / "policy.pt", policy.groups, per_group=per_group)
    if missing_for_c() is None:
        yield c_runtime(folder / "policy.h", policy.groups, per_group=per_group)


@pytest.mark.parametrize(
    ("shape", "symmetric", "per_group"),
    [
        # the inputs do not know of the symmetry, so one shape shows the other two combinations
        *((shape, together, together) for shape in SHAPES for together in (False, True)),
        ("encoder", True, False),
        ("encoder", False, True),
    ],
)
def test_every_runtime_computes_the_policy(shape, symmetric, per_group, tmp_path):
    policy, flat = random_policy(SHAPES[shape], symmetric), observations()
    with torch.no_grad():
        expected = policy(flat).clamp(-1.0, 1.0)
    stand, scale = (torch.tensor([getattr(a, key) for a in ACTIONS]) for key in ("stand", "scale"))
    low, high = torch.tensor([a.limits for a in ACTIONS]).unbind(1)
    targets = torch.clamp(stand + scale * expected, low, high)
    assert (expected.abs() == 1.0).float().mean() > 0.02 or shape == "squash"  # the clamp is at work
    assert expected.std() > 0.1
    for run in runtimes(policy, tmp_path, per_group):
        for rows in (flat.numpy(), flat.numpy()[:1]):  # any batch size
            actions, angles = run(rows)
            assert np.abs(actions - expected.numpy()[: len(rows)]).max() < 1e-5
            assert np.abs(angles - targets.numpy()[: len(rows)]).max() < 1e-5


@pytest.mark.parametrize("per_group", [False, True], ids=["flat", "groups"])
@pytest.mark.parametrize("memory", [Memory("gru", 6, dense=5), Memory("lstm", 6), Memory("lstm", 7, dense=4)])
@torch.no_grad()
def test_every_runtime_keeps_the_state_of_a_recurrent_policy(memory, per_group, tmp_path):
    policy = make_policy(GROUPS, len(ACTIONS), Architecture((8,), (4,), memory=memory), 3).eval()
    policy.actor[-1].weight.mul_(60.0)
    policy.update_normalizer(observations())
    rows = observations(120).view(30, 4, -1)
    expected, after = policy.unroll(rows, torch.zeros(4, policy.state_size))
    assert expected.std() > 0.1
    for run in runtimes(policy, tmp_path, per_group):
        state = np.zeros((4, policy.state_size), np.float32)
        for now, mean in zip(rows, expected, strict=True):
            actions, angles, state = run(now.numpy(), state)
            assert np.abs(actions - mean.clamp(-1.0, 1.0).numpy()).max() < 1e-5
        assert np.abs(state - after.numpy()).max() < 1e-5
        assert angles.shape == actions.shape
    again = run(rows[-1].numpy(), np.zeros_like(state))
    assert np.abs(again[0] - actions).max() > 1e-3  # the state counts


@needs_compiler
def test_an_export_of_a_recurrent_policy_is_compared_along_episodes(tmp_path):
    policy = make_policy(GROUPS, len(ACTIONS), Architecture((8,), (4,), memory=Memory("gru", 6, dense=5)), 3)
    save_policy(tmp_path / "gru", policy, robot=ROBOT, skills=["biped/flat"], operation="merge", seed=0)
    report = export_policy(tmp_path / "gru", tmp_path / "out", states=640, episodes=2, threads=1)
    record = json.loads(report.report_path.read_text())
    assert (record["inputs"], record["outputs"]["next_state"]) == ({"obs": 99, "state": 6}, 6)
    for file in report.files.values():
        assert (file.comparison.states, file.comparison.same_outcomes) == (640, 2)
        assert file.comparison.largest_action <= 1e-5
    assert "copy next_state into it" in (tmp_path / "out" / "policy.h").read_text()


def test_numbers_in_the_header_are_exact(tmp_path):
    policy = random_policy(SHAPES["elu"], symmetric=False)
    header = c_header(policy_program(policy, ACTIONS), "walker", "text")
    dense = next(op for _, op in policy_program(policy, ACTIONS).steps if isinstance(op, Dense))
    table = header.split("_weight[")[1].split("{")[1].split("}")[0]
    numbers = [np.float32(text.strip().removesuffix("f")) for text in table.split(",") if text.strip()]
    assert np.array_equal(np.array(numbers), dense.weight.T.ravel())
    assert "static inline void walker_act(const float obs[" in header


@needs_compiler
def test_an_export_reports_parity_and_closed_loop(tmp_path):
    report = export_policy(EXPERT, tmp_path / "out", states=300, episodes=4, threads=1)
    record = json.loads(report.report_path.read_text())
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "export.json",
        "policy.h",
        "policy.onnx",
        "policy.pt",
    ]
    for name, file in report.files.items():
        found = file.comparison
        assert (found.states, found.episodes, found.same_outcomes) == (300, 4, 4)
        assert found.largest_action <= 1e-5
        assert found.success == (1.0, 1.0)  # the stored expert walks
        assert record["files"][name]["bytes"] == file.path.stat().st_size


def test_metadata_describe_the_robot_at_full_precision(tmp_path):
    import onnx

    report = export_policy(EXPERT, tmp_path, ["onnx"], check=False)
    model = onnx.load(report.files["onnx"].path)
    found = {entry.key: entry.value for entry in model.metadata_props}
    loaded = load_policy(EXPERT)
    assert found["joint_names"].split(",") == [a.joint for a in loaded.manifest.actions]
    assert [float(v) for v in found["action_scale"].split(",")] == [a.scale for a in loaded.manifest.actions]
    assert [float(v) for v in found["joint_stiffness"].split(",")] == [a.stiffness for a in loaded.manifest.actions]
    assert dict(
        zip(found["observation_names"].split(","), map(int, found["observation_sizes"].split(",")), strict=True)
    ) == (loaded.policy.groups)
    assert json.loads(found["policykd_manifest"])["weights_sha256"] == loaded.manifest.weights_sha256
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert (shape[0].dim_param, shape[1].dim_value) == ("batch", loaded.policy.observation_size)


@needs_compiler
def test_a_file_with_another_weight_is_refused(tmp_path, monkeypatch):
    right = export.policy_program

    def wrong(policy, actions, **options):
        program = right(policy, actions, **options)
        dense = next(op for _, op in program.steps if isinstance(op, Dense))
        dense.bias[0] += 0.01
        return program

    monkeypatch.setattr(export, "policy_program", wrong)
    with pytest.raises(OutputError, match=r"policy\.h differs from the policy by up to .* do not use it"):
        export_policy(EXPERT, tmp_path, ["c"], states=100, episodes=1, threads=1)
    assert check.TOLERANCE <= 1e-5


def test_bad_input_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    out = tmp_path / "out"
    with pytest.raises(UnknownNameError, match="onxx"):
        export_policy(EXPERT, out, ["onxx"])
    with pytest.raises(ConfigError, match="no export format was given"):
        export_policy(EXPERT, out, [])
    with pytest.raises(UnknownNameError, match="skill of the policy"):
        export_policy(EXPERT, out, ["c"], skill="biped/gaps")
    with pytest.raises(ConfigError, match="states is 0"):
        export_policy(EXPERT, out, ["c"], states=0)
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"pip install 'policykd\[export\]'"):
        export_policy(EXPERT, out, ["onnx"])
    assert not out.exists()


def test_a_missing_compiler_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="needs a C compiler"):
        export_policy(EXPERT, tmp_path / "out", ["c"], states=10, episodes=1, threads=1)
    assert not (tmp_path / "out").exists()


def test_all_formats_are_written_where_one_cannot_be_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    out = tmp_path / "out"
    assert main(["export", str(EXPERT), "--out", str(out), "--states", "10", "--episodes", "1", "--threads", "1"]) == 0
    files = json.loads((out / "export.json").read_text())["files"]
    assert [name for name, file in files.items() if file["comparison"] is None] == ["c"]
    assert [name for name, file in files.items() if file["unchecked"]] == ["c"]
    assert "policy.h" in {path.name for path in out.iterdir()}
    assert "not compared with the policy: checking a C header needs a C compiler" in capsys.readouterr().out


def test_an_unknown_module_is_named():
    policy = random_policy(SHAPES["elu"])
    policy.actor.insert(1, torch.nn.LayerNorm(16))
    with pytest.raises(ContractError, match="LayerNorm, which has no exported form"):
        policy_program(policy, ACTIONS)


@needs_compiler
def test_a_robot_in_space_is_exported_with_its_limits(tmp_path):
    skill = get_skill("quadruped/flat")
    policy = Policy(skill.group_sizes, 12, Architecture(hidden=(16,)), 0)
    save_policy(tmp_path / "policy", policy, robot=skill.robot, skills=[skill.id], operation="train", seed=0)
    report = export_policy(
        tmp_path / "policy", tmp_path / "out", ["c"], per_group=True, states=128, episodes=2, threads=1
    )
    assert report.files["c"].comparison.passed
    header = (tmp_path / "out" / "policy.h").read_text()
    assert "obs[0..5]: imu" in header
    assert "const float imu[6], const float base_velocity[3]" in header


@needs_compiler
def test_a_header_that_does_not_compile_ends_in_the_compilers_words(tmp_path):
    (tmp_path / "policy.h").write_text("#define POLICY_ACTIONS 2\n#define POLICY_STATE 0\nnot C;\n")
    with pytest.raises(OutputError, match=r"policy\.h does not compile: .*\n.*error: unknown type name"):
        c_runtime(tmp_path / "policy.h", {"a": 3}, per_group=False)
