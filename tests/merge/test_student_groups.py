"""Observation groups of the student, chosen apart from those of its teachers: subsets, histories, refusals."""

from dataclasses import replace

import pytest
import torch
from teacher_samples import TINY, make_teacher

from policykd.agents.export.export import export_policy
from policykd.agents.export.runtime import missing_for_c
from policykd.agents.files.policy_file import load_policy
from policykd.cli.commands.merge import Merge
from policykd.cli.main import main
from policykd.envs.observations import chosen_groups, get_group
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError, ContractError, UnknownNameError
from policykd.evaluation import evaluate
from policykd.merge import LabeledData, merge_experts
from policykd.merge.student import first_student
from policykd.merge.teachers import offering

needs_compiler = pytest.mark.skipif(missing_for_c() is not None, reason="no C compiler")

BLIND = ("imu", "joints:3", "last_action", "command", "phase")


def quadrupeds():
    return [make_teacher("quadruped/flat", 1), make_teacher("quadruped/gaps", 2)]


@pytest.mark.parametrize(
    ("typed", "groups"),
    [
        (["imu,joints", "command"], ("imu", "joints", "command")),
        (["imu, joints,", "history:4,command"], ("imu:4", "joints:4", "command")),
        (["phase,proprio:2,terrain,history:3"], ("phase", "proprio:2", "terrain:3")),
        ([], ()),
    ],
)
def test_groups_as_they_are_typed(typed, groups):
    assert chosen_groups(typed) == groups


@pytest.mark.parametrize("typed", [["joints", "history"], ["joints,history:2,history:3"], ["command,history:5"]])
def test_histories_that_say_nothing_are_refused(typed):
    with pytest.raises(ConfigError, match="history"):
        chosen_groups(typed)


def test_a_history_is_a_group_of_the_same_name_everywhere():
    robot = get_skill("quadruped/flat").robot
    group = get_group("joints:5")
    assert (group.size(robot), group.reading.base, group.reading.history) == (5 * 24, "joints", 5)
    assert get_group("joints:5") is group
    with pytest.raises(UnknownNameError, match="did you mean joints"):
        get_group("joint:5")
    with pytest.raises(UnknownNameError):
        get_group("joints:05")  # a second name of the same group
    with pytest.raises(ConfigError, match="history of joints is 1001"):
        get_group("joints:1001")


def test_a_blind_student_learns_from_sighted_teachers(tmp_path):
    """Teachers label by their own groups; the student's columns are its own, newest reading first."""
    teachers = quadrupeds()
    result = merge_experts(teachers, tmp_path / "student", replace(TINY, groups=BLIND))
    loaded = load_policy(result.policy_path)
    assert loaded.policy.groups == {"imu": 6, "joints:3": 72, "last_action": 12, "command": 3, "phase": 5}
    data = LabeledData.open(tmp_path / "student")
    assert data.manifest.groups == tuple(loaded.policy.groups.items())
    rollout = data.find(0, "quadruped/gaps")
    joints = rollout.observations.view(24, 2, -1)[:, :, 6:78].unflatten(2, (3, 24))
    runs = ~(rollout.terminated | rollout.truncated)
    assert torch.equal(joints[0, :, 0], joints[0, :, 2])  # an episode begins with copies of its first reading
    for t in range(23):
        assert torch.equal(joints[t + 1, runs[t], 1:], joints[t, runs[t], :-1])
    # Round 0 of a new student: the teacher acts on scan and base velocity, which the student's columns do not hold.
    assert not rollout.student_acted.any()
    assert rollout.labels.std(dim=0).min() > 0.0

    again = merge_experts(teachers, tmp_path / "again", replace(TINY, groups=BLIND))
    assert load_policy(again.policy_path).manifest.weights_sha256 == loaded.manifest.weights_sha256


def test_labels_do_not_depend_on_what_the_student_reads(tmp_path):
    """Round 0 is driven by the teachers: with the same seed, its states and labels are the same for all students."""
    found = []
    for name, groups in (("all", ()), ("blind", BLIND)):
        merge_experts(quadrupeds(), tmp_path / name, replace(TINY, rounds=1, groups=groups))
        found.append(LabeledData.open(tmp_path / name).find(0, "quadruped/gaps"))
    assert torch.equal(found[0].labels, found[1].labels)
    assert torch.equal(found[0].distances, found[1].distances)
    assert torch.equal(found[0].observations[:, :6], found[1].observations[:, :6])  # imu is first in both


@needs_compiler
def test_a_biped_without_terrain_is_evaluated_and_exported(tmp_path):
    teachers = [make_teacher("biped/flat", 1), make_teacher("biped/gaps", 2)]
    result = merge_experts(teachers, tmp_path / "student", replace(TINY, groups=("phase", "proprio:2")))
    policy = load_policy(result.policy_path).policy
    skills = [replace(get_skill(s, tuple(policy.groups)), episode_steps=24) for s in ("biped/flat", "biped/gaps")]
    found = evaluate({"student": policy}, skills, episodes=3)
    assert found.summaries["student", "biped/gaps"].reward_per_step.estimate > 0.0
    report = export_policy(result.policy_path, tmp_path / "out", per_group=True, states=64, episodes=2)
    for file in report.files.values():
        assert file.comparison.largest_action <= 1e-5
    header = (tmp_path / "out" / "policy.h").read_text()
    assert "const float proprio_2[98]" in header
    assert "proprio:2, the last 2 readings of proprio, the newest first" in header


def test_a_copy_keeps_to_the_chosen_groups(tmp_path):
    """A blind student that starts from a blind one gets no scan injected."""
    teachers = quadrupeds()
    merge_experts(teachers, tmp_path / "first", replace(TINY, groups=BLIND))
    init = load_policy(tmp_path / "first")
    config = replace(TINY, start="previous", groups=(*BLIND, "gait"))
    second = first_student(offering(teachers, config.groups), config, init)
    assert list(second.groups) == [*BLIND, "gait"]
    seen = torch.randn(7, second.observation_size)
    torch.testing.assert_close(second(seen), init.policy(seen[:, : init.policy.observation_size]), atol=1e-6, rtol=0)
    narrow = replace(config, groups=("imu", "joints"))
    with pytest.raises(ContractError, match=r"merge\.groups leave out; name all of its groups"):
        first_student(offering(teachers, narrow.groups), narrow, init)
    same = merge_experts(teachers, tmp_path / "second", replace(config, groups=BLIND), init=init)
    assert list(load_policy(same.policy_path).policy.groups) == list(BLIND)


def test_groups_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean joints"):
        merge_experts(quadrupeds(), tmp_path / "a", replace(TINY, groups=("joint",)))
    with pytest.raises(ContractError, match="quadruped has no observation group terrain"):
        merge_experts(quadrupeds(), tmp_path / "b", replace(TINY, groups=("imu", "terrain")))
    with pytest.raises(ConfigError, match="give each observation group once"):
        replace(TINY, groups=("imu", "imu"))


def test_a_student_must_be_told_the_task():
    """Two gaits on one terrain: teachers that read the command do not help a student that does not."""
    teachers = [make_teacher("biped/flat+run", 1), make_teacher("biped/flat+crouch", 2)]
    with pytest.raises(ContractError, match="cannot tell them apart by proprio; add the group command"):
        offering(teachers, ("proprio",))
    for groups in (("proprio", "command"), ("proprio", "command:2")):
        assert [t.skill.groups[-1] for t in offering(teachers, groups)] == [groups[-1]] * 2


def test_the_command_line_reads_the_groups(capsys):
    command = Merge(groups=("imu,joints", "last_action,command,history:2"))
    assert command._config().groups == ("imu:2", "joints:2", "last_action:2", "command")
    assert main(["merge", "expert", "--student-groups", "joints,history", "--out", "student"]) != 0
    assert "as in history:5" in capsys.readouterr().err.replace("\n", " ")
