"""From a file of another library to a policy file, to a merge, to an evaluation, in small gymnasium environments."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from policykd.agents.export.runtime import missing_for_c
from policykd.agents.files.policy_file import load_policy
from policykd.agents.importing.importer import import_policy
from policykd.agents.importing.options import ImportOptions
from policykd.cli.main import main
from policykd.envs.make import make_env
from policykd.errors import ConfigError, ContractError, PolicyFileError
from policykd.evaluation.results import RANDOM, Evaluation

sys.path.insert(0, str(Path(__file__).parents[1] / "envs"))
from foreign_envs import register

needs_compiler = pytest.mark.skipif(missing_for_c() is not None, reason="no C compiler")

register()
POINT = "policykd-tests/Point-v0"
GAIN = 3.0


def steering(folder, goal, *, clip=False):
    """Write an ONNX file that steers to a goal: action = GAIN (goal - x), in units of an environment in [-2, 4]."""
    from onnx import TensorProto, helper, numpy_helper

    path = folder / f"to{goal}.onnx"
    weight, bias = np.array([[-GAIN, 0.0]], np.float32), np.array([GAIN * goal], np.float32)
    nodes = [helper.make_node("Gemm", ["obs", "w", "b"], ["raw"], name="gemm", transB=1)]
    bounds = {"low": np.float32(-2.0), "high": np.float32(4.0)}
    nodes.append(
        helper.make_node("Clip", ["raw", *bounds], ["actions"])
        if clip
        else helper.make_node("Identity", ["raw"], ["actions"])
    )
    constants = {"w": weight, "b": bias, **(bounds if clip else {})}
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", k]) for n, k in (("obs", 2), ("actions", 1))]
    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    path.write_bytes(
        helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], tensors)).SerializeToString()
    )
    return path


def env_text(goal):
    return f'{POINT}?{{"goal": {goal}}}'


@pytest.mark.parametrize("clip", [False, True])
def test_an_imported_policy_acts_in_the_units_of_its_environment(clip, tmp_path):
    report = import_policy(steering(tmp_path, 1.0, clip=clip), tmp_path / "expert", env=env_text(1.0), episodes=5)
    assert report.score > report.random + 5
    policy, manifest = load_policy(tmp_path / "expert")
    skill = manifest.skill(manifest.skills[0])
    assert (manifest.operation, manifest.format_version) == ("import", 5)
    assert manifest.config["sha256"]
    assert manifest.metrics["return"] == report.score
    env = make_env([skill], 4)
    flat = torch.cat(list(env.reset().values()), dim=1)
    for _ in range(10):
        own = np.clip(GAIN * (1.0 - flat[:, 0].numpy()), -2.0, 4.0)
        with torch.no_grad():
            step = env.step(policy(flat))
        assert np.allclose(step.flat[:, 1].numpy(), 0.5 * own, atol=1e-5)  # the velocity is half of the action
        flat = step.flat


def test_what_does_not_work_or_fit_is_refused_with_figures(tmp_path):
    away = steering(tmp_path, 2.8)
    with pytest.raises(ConfigError, match=r"scores -\d+.* in 4 episodes, random actions -\d+.*--anyway imports it"):
        import_policy(away, tmp_path / "expert", env=env_text(-2.8), episodes=4)
    assert not (tmp_path / "expert").exists()
    import_policy(away, tmp_path / "expert", env=env_text(-2.8), episodes=4, anyway=True)
    with pytest.raises(ConfigError, match=r"to2.8.onnx does not say in which environment it acts; give --env ID"):
        import_policy(away, tmp_path / "other")
    with pytest.raises(ContractError, match=r"reads 2 features \(observation 2\); .* gives 3 \(observation 3\)"):
        import_policy(away, tmp_path / "other", env="Pendulum-v1")
    with pytest.raises(ContractError, match=r"acts within \[-2.0\] to \[4.0\]; .* has the bounds \[-1.0\]"):
        import_policy(steering(tmp_path, 1.0, clip=True), tmp_path / "other", env=f'{POINT}?{{"low": -1, "high": 1}}')
    torch.save({"actor_state_dict": {"mlp.0.weight": torch.zeros(1, 2)}}, tmp_path / "model_1.pt")
    with pytest.raises(PolicyFileError, match="names no activation"):
        import_policy(tmp_path / "model_1.pt", tmp_path / "other", env=POINT, options=ImportOptions())


def run(*arguments):
    return main([str(a) for a in arguments])


def test_contradicting_experts_merge_with_a_task_id_and_not_without(tmp_path, capsys):
    experts = []
    for goal in (1.5, -1.5):
        out = tmp_path / f"expert{goal}"
        assert run("import", steering(tmp_path, goal), "--env", env_text(goal), "--out", out) == 0
        experts.append(out)
    assert "random actions" in capsys.readouterr().out
    merge = ("merge", *experts, "--rounds", 2, "--hidden", 32, "32", "--critic", "none", "--set", "envs=8",
             "updates=200", "validation_episodes=4", "minibatch=128", "--out")  # fmt: skip
    assert run(*merge, tmp_path / "mixed") == 2
    assert "contradict each other: in the same states their actions differ by" in capsys.readouterr().err.replace(
        "\n", " "
    )
    assert not (tmp_path / "mixed").exists()
    assert run(*merge, tmp_path / "student", "--task-id") == 0
    student = load_policy(tmp_path / "student")
    assert student.policy.groups == {"observation": 2, "task_id": 2}
    assert run("evaluate", tmp_path / "student", *experts, "--episodes", 8, "--out", tmp_path / "evaluation.json") == 0
    evaluation = Evaluation.load(tmp_path / "evaluation.json")
    assert len(evaluation.skills) == 2
    assert RANDOM in evaluation.policies
    for skill in evaluation.skills:
        retention = evaluation.summaries["student", skill].retention
        assert retention.estimate > 0.9, (skill, retention)
        assert evaluation.summaries[RANDOM, skill].retention.estimate == pytest.approx(0.0, abs=1e-9)
    assert run(*merge, tmp_path / "mixed", "--allow-conflicts") == 0
    assert run("evaluate", tmp_path / "mixed", *experts, "--episodes", 8, "--out", tmp_path / "mixed.json") == 0
    mixed = Evaluation.load(tmp_path / "mixed.json")
    assert min(mixed.summaries["mixed", skill].retention.estimate for skill in mixed.skills) < 0.7


def test_several_experts_of_one_environment_need_a_task_id(tmp_path, capsys):
    paths = []
    for goal in (0.9, 1.1):
        assert run("import", steering(tmp_path, goal), "--env", env_text(1.0), "--out", tmp_path / f"e{goal}") == 0
        paths.append(tmp_path / f"e{goal}")
    assert run("merge", *paths, "--out", tmp_path / "student") == 2
    assert "or tell them apart with --task-id" in capsys.readouterr().err.replace("\n", " ")
    record = json.loads((tmp_path / "e0.9" / "manifest.json").read_text())
    assert record["skills"] == [f'gym:{POINT}?{{"goal": 1.0}}']


@needs_compiler
def test_an_imported_policy_leaves_again(tmp_path):
    """The exported file is compared in the environment; its targets are the actions in the environment's units."""
    assert run("import", steering(tmp_path, 1.0), "--env", env_text(1.0), "--out", tmp_path / "expert") == 0
    assert (
        run("export", tmp_path / "expert", "--out", tmp_path / "out", "--c-header", "--states", 128, "--episodes", 3)
        == 0
    )
    found = json.loads((tmp_path / "out" / "export.json").read_text())["files"]["c"]["comparison"]
    assert found["states"] == 128
    assert found["same_outcomes"] == 3


def test_a_gymnasium_skill_is_trained_and_resumed(tmp_path, monkeypatch):
    """Steering to the goal is learned in 12,000 steps; an interrupted run goes on with new episodes."""
    skill, out = env_text(1.0), tmp_path / "experts"
    small = (
        "--steps",
        12_288,
        "--set",
        "segment_steps=4096",
        "validation_episodes=8",
        "ppo.minibatch=128",
        "--threads",
        1,
    )
    train = ("train", f"gym:{skill}", "--out", out, *small)
    from policykd.agents.training.trainer import Run

    right, calls = Run._save, []

    def interrupted(self):
        right(self)
        calls.append(self._steps)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "_save", interrupted)
    assert run(*train) == 1
    monkeypatch.setattr(Run, "_save", right)
    assert run(*train, "--resume") == 0
    path = next(out.glob("*/policy"))
    rows = [json.loads(line) for line in (path.parent / "progress.jsonl").read_text().splitlines()]
    assert [row["steps"] for row in rows] == [4096, 8192, 12288]
    assert run("evaluate", path, "--episodes", 16, "--out", tmp_path / "evaluation.json") == 0
    evaluation = Evaluation.load(tmp_path / "evaluation.json")
    name = next(policy for policy in evaluation.policies if policy != RANDOM)
    own, random = (evaluation.summaries[p, evaluation.skills[0]].reward_per_step.estimate for p in (name, RANDOM))
    assert own * 30 > -12  # 30 steps; the best is about -7, since the point has to get there first
    assert random < 2 * own
