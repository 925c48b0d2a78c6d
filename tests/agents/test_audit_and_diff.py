"""What two policies differ in, and what a policy loses without one of its observation groups."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from policykd.agents.architecture import Architecture
from policykd.agents.audit import FAULTS, audit_policy
from policykd.agents.export import export_policy
from policykd.agents.files.difference import differences
from policykd.agents.files.policy_file import load_policy, save_policy
from policykd.agents.policy import Policy
from policykd.cli.main import main
from policykd.envs.foreign.skill import gym_skill
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError, UnknownNameError

EXPERT = Path(__file__).parent.parent / "data" / "flat-expert"


def test_equal_manifests_do_not_differ_and_each_field_is_found():
    manifest = load_policy(EXPERT).manifest
    assert differences(manifest, manifest) == []
    assert differences(manifest, replace(manifest, skills=("biped/gaps",), seed=9, weights_sha256="0")) == []
    first = manifest.actions[0]
    for changes, what in (
        ({"control_dt": 0.5}, "time between actions, s"),
        ({"clip": 3.0}, "clip of normalized features"),
        ({"robot": "dog"}, "robot"),
        ({"symmetry": None}, "exchange of left and right"),
        ({"architecture": replace(manifest.architecture, activation="tanh")}, "activation"),
        ({"actions": (replace(first, stiffness=1.5), *manifest.actions[1:])}, f"stiffness of {first.joint}"),
        ({"actions": (replace(first, limits=(0.0, 1.0)), *manifest.actions[1:])}, f"limits of {first.joint}"),
        ({"actions": manifest.actions[::-1]}, "order of the actions"),
        ({"groups": {**manifest.groups, "phase": 2}}, "group phase"),
        ({"groups": dict(list(manifest.groups.items())[::-1])}, "order of the groups"),
    ):
        found = differences(manifest, replace(manifest, **changes))
        assert [entry.what for entry in found] == [what]
        assert found[0].first != found[0].second


def test_diff_prints_a_table_and_writes_json(tmp_path, capsys):
    assert main(["diff", str(EXPERT), str(EXPERT)]) == 0
    assert "no difference" in capsys.readouterr().out
    changed = tmp_path / "sighted"
    assert main(["inject", str(EXPERT), "--out", str(changed), "--hidden", "200", "200"]) == 0
    assert main(["diff", str(EXPERT), str(changed), "--out", str(tmp_path / "diff.json")]) == 0
    assert "hidden layers" in capsys.readouterr().out
    record = json.loads((tmp_path / "diff.json").read_text())
    assert record["differences"][0]["second"] == "(200, 200)"


def blind(policy, name):
    """Let a policy ignore a group."""
    start = 0
    for group, size in policy.groups.items():
        if group == name:
            with torch.no_grad():
                policy.actor[0].weight[:, start : start + size] = 0.0
        start += size
    return policy


def test_a_group_that_is_used_costs_success_and_one_that_is_not_changes_nothing():
    skill = get_skill("biped/flat", ("proprio", "terrain"))
    policy = load_policy(EXPERT).policy
    found = audit_policy(policy, skill, episodes=4, threads=1)
    by_name = {(entry.group, entry.fault): entry for entry in found.groups}
    assert found.success == 1.0
    assert set(by_name) == {(group, fault) for group in policy.groups for fault in FAULTS}
    for fault in ("shuffled", "frozen"):
        assert by_name["proprio", fault].success < 0.5
        assert by_name["proprio", fault].action_change > 0.2
        assert by_name["proprio", fault].reward_per_step < found.reward_per_step
    assert found.unused == [] or found.unused == ["terrain"]
    policy.symmetry = None
    without = audit_policy(blind(policy, "terrain"), skill, groups=["terrain"], episodes=2, threads=1)
    assert without.unused == ["terrain"]
    assert all(entry.action_change == 0.0 for entry in without.groups)


def test_delayed_values_are_those_of_earlier_steps():
    """On constant actions the delay shows in the change of actions: none for a policy that reads nothing."""
    skill = get_skill("quadruped/flat")
    policy = Policy(skill.group_sizes, 12, Architecture(hidden=()), 0)
    with torch.no_grad():
        policy.actor[0].weight.zero_()
        policy.actor[0].weight[:, -1] = 1.0  # the last point of the scan, which is constant on flat ground
    found = audit_policy(policy, skill, groups=["imu", "scan"], episodes=2, delay=3, threads=1)
    changes = {(e.group, e.fault): e.action_change for e in found.groups}
    assert changes["imu", "delayed"] == 0.0
    assert changes["scan", "delayed"] > 0.0  # the scan is measured from the trunk, which moves
    assert changes["scan", "frozen"] > changes["scan", "delayed"]


def test_bad_input_is_named(tmp_path):
    skill, policy = get_skill("biped/flat", ("proprio", "terrain")), load_policy(EXPERT).policy
    with pytest.raises(UnknownNameError, match="observation group of the policy"):
        audit_policy(policy, skill, groups=["scan"])
    with pytest.raises(ConfigError, match="episodes is 1"):
        audit_policy(policy, skill, episodes=1)
    with pytest.raises(ConfigError, match="delay is 0"):
        audit_policy(policy, skill, delay=0)


def test_audit_writes_json_and_names_what_a_robot_lacks(tmp_path, capsys):
    out = tmp_path / "audit.json"
    assert (
        main(["audit", str(EXPERT), "--episodes", "2", "--threads", "1", "--groups", "proprio", "--out", str(out)]) == 0
    )
    assert "a robot does not measure: proprio" in capsys.readouterr().out
    assert json.loads(out.read_text())["groups"][0]["group"] == "proprio"


def test_an_environment_without_success_is_audited_and_exported_by_its_reward(tmp_path, capsys):
    """Pendulum reports no success: all episodes would count as one, whatever the policy does."""
    skill = gym_skill("gym:Pendulum-v1")
    policy = Policy(dict(skill.group_sizes), 1, Architecture((8,), (8,)), 0)
    save_policy(tmp_path / "p", policy, robot=skill.robot, skills=[skill.id], operation="import", seed=0)
    assert main(["audit", str(tmp_path / "p"), "--episodes", "2", "--out", str(tmp_path / "a.json")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "reward per step, shuffled" in printed
    assert "success" not in printed
    found = json.loads((tmp_path / "a.json").read_text())
    assert f"2 episodes: reward per step {found['reward_per_step']:.3g} without a fault" in printed
    report = export_policy(tmp_path / "p", tmp_path / "out", ["torchscript"], states=50, episodes=2)
    compared = report.files["torchscript"].comparison
    assert not compared.by_success
    assert compared.same_outcomes == 2
    assert compared.reward_per_step[0] < -1.0
    assert compared.reward_per_step[1] == pytest.approx(compared.reward_per_step[0], rel=0.01)
