"""Shrinking: sizes, the budget, the choice, files; times are given, because tests measure none."""

import itertools
import json
from dataclasses import replace

import pytest
import torch

from policykd import shrink as module
from policykd.agents.architecture import Architecture, Latent, Memory, Mixture
from policykd.agents.export import latency
from policykd.agents.export.runtime import missing_for_c
from policykd.agents.files.manifest import describe_actions
from policykd.agents.files.policy_file import load_policy, save_policy
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import make_policy
from policykd.cli.main import main
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError
from policykd.runs import read_log
from policykd.shrink import SHRINK_MERGE, Size, scaled, shrink

needs_compiler = pytest.mark.skipif(missing_for_c() is not None, reason="no C compiler")

SKILL = get_skill("biped/flat", ("proprio",))
QUICK = ("rounds=1", "envs=2", "updates=2", "validation_episodes=2", "critic=none")


def test_sizes_of_every_architecture():
    mlp = Architecture((256, 128), (64,))
    assert scaled(mlp, 0.25) == Architecture((64, 32), (64,))  # no robot runs the critic
    assert scaled(mlp, 0.01).hidden == (4, 4)
    assert scaled(Architecture((3,)), 0.5).hidden == (3,)  # never wider than before
    gru = replace(mlp, memory=Memory("gru", 96, dense=128))
    assert scaled(gru, 0.5).memory == Memory("gru", 48, dense=64)
    assert scaled(replace(mlp, memory=Memory("gru", 96)), 0.5).memory == Memory("gru", 48)
    assert scaled(replace(mlp, memory=Memory("frame-stack", 4)), 0.5).memory == Memory("frame-stack", 4)
    assert scaled(replace(mlp, mixture=Mixture(3, 64)), 0.5).mixture == Mixture(3, 32)


@needs_compiler
@pytest.mark.parametrize("memory", [None, Memory("gru", 6, dense=4)])
def test_a_latency_is_the_median_over_repetitions_for_one_action(memory, monkeypatch):
    """A clock that gives the repetitions 1, 2, ... 11 ms for 1000 actions: 6 us."""
    marks = itertools.chain.from_iterable((0.0, 0.001 * (i + 1)) for i in range(11))
    monkeypatch.setattr(latency.time, "process_time", lambda: next(marks))
    policy = make_policy(SKILL.group_sizes, SKILL.robot.num_actions, Architecture((8,), (4,), memory=memory), 0)
    assert latency.measure_latency(policy, describe_actions(SKILL.robot)) == pytest.approx(6.0)


def test_the_time_of_a_latent_policy_is_that_without_its_encoder():
    shape = Architecture((8,), (4,), latent=Latent(2, (5,), ("b",), ("a",)))
    policy = make_policy({"a": 3, "b": 4, "c": 2}, 2, shape, 0)
    assert latency.deployed(policy).groups == {"b": 4, "c": 2}
    plain = Policy({"c": 2}, 2, Architecture((8,), (4,)), 0)
    assert latency.deployed(plain) is plain


@pytest.fixture
def student(tmp_path):
    policy = Policy(SKILL.group_sizes, SKILL.robot.num_actions, Architecture((16,), (4,)), 1)
    torch.nn.init.normal_(policy.actor[-1].weight, std=0.05, generator=torch.Generator().manual_seed(0))
    save_policy(tmp_path / "student", policy, robot=SKILL.robot, skills=["biped/flat"], operation="merge", seed=0)
    return tmp_path / "student"


def timed(monkeypatch):
    """Measure a policy's hidden units as us."""
    monkeypatch.setattr(module, "measure_latency", lambda policy, actions: float(sum(policy.architecture.hidden)))


def test_the_best_size_within_the_budget_is_chosen(student, tmp_path, monkeypatch, capsys):
    timed(monkeypatch)
    out = tmp_path / "out"
    given = ["shrink", student, "--budget-us", 9, "--factors", 0.75, 0.5, 0.25, "--episodes", 2, "--threads", 1,
             "--out", out, "--set", *QUICK]  # fmt: skip
    assert main([str(a) for a in given]) == 0
    written = json.loads((out / "shrink.json").read_text())
    sizes = {size["factor"]: size for size in written["sizes"]}
    assert {f: (s["microseconds"], s["within"]) for f, s in sizes.items()} == {
        1.0: (16.0, False), 0.75: (12.0, False), 0.5: (8.0, True), 0.25: (4.0, True)
    }  # fmt: skip
    assert sizes[0.5]["parameters"] == 49 * 8 + 8 + 8 * 11 + 11
    assert sizes[1.0]["retention"] == {"biped/flat": [1.0, 1.0, 1.0]}
    assert sizes[0.75]["retention"] == {}  # over the budget: not distilled
    assert not (out / "x0.75").exists()
    kept = {f: sizes[f]["retention"]["biped/flat"][0] for f in (0.5, 0.25)}
    assert written["chosen"] == max(kept, key=kept.get)
    chosen = load_policy(out / "policy")
    assert chosen.policy.architecture.hidden == (int(16 * written["chosen"]),)
    assert chosen.manifest.weights_sha256 == load_policy(out / f"x{written['chosen']:g}").manifest.weights_sha256
    assert [p.weights_sha256 for p in chosen.manifest.parents] == [load_policy(student).manifest.weights_sha256]
    assert len(read_log(out / "x0.5" / "progress.jsonl")) == 1
    assert "over budget" in capsys.readouterr().out
    assert (out / "shrink.svg").read_text().count("<svg") == 1


def test_the_weakest_skill_decides():
    size = Size(0.5, (8,), 10, 1.0, True, {"a": (0.9, 0.8, 1.0), "b": (0.7, 0.6, 0.8)}, {})
    assert size.lowest == 0.7
    assert replace(size, retention={}).lowest == 0.0


def test_budgets_that_no_size_keeps_are_refused_with_the_times(student, tmp_path, monkeypatch):
    timed(monkeypatch)
    with pytest.raises(ConfigError, match=r"within 3 us: x0\.5 8\.0 us, x0\.25 4\.0 us; give smaller --factors"):
        shrink(student, tmp_path / "out", 3.0, factors=(0.25, 0.5))
    assert not (tmp_path / "out").exists()
    for wrong in ({"factors": ()}, {"factors": (0.5, 0.5)}, {"factors": (1.5,)}):
        with pytest.raises(ConfigError, match="factor"):
            shrink(student, tmp_path / "out", 3.0, **wrong)
    with pytest.raises(ConfigError, match="budget_us"):
        shrink(student, tmp_path / "out", 0.0)
    assert (SHRINK_MERGE.min_teacher_success, SHRINK_MERGE.critic) == (0.0, "teacher")
