"""The benchmark of students: what each kind reads, and that all have equal cost."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from policykd.envs.skills import get_skill
from policykd.errors import UnknownNameError
from policykd.merge import MergeConfig

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import students

OFFERED = ("imu", "base_velocity", "joints", "last_action", "command", "scan")


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("sighted", ()),
        ("without velocity", ("imu", "joints", "last_action", "command", "scan")),
        ("blind mlp", ("imu", "joints", "last_action", "command")),
        ("blind gru", ("imu", "joints", "last_action", "command")),
        ("blind history", ("imu:15", "joints:15", "last_action:15", "command")),
        ("blind latent", ("imu", "joints", "last_action", "command", "imu:15", "joints:15", "last_action:15")),
    ],
)
def test_what_every_kind_reads(name, groups):
    assert students.groups_of(students.KINDS[name], OFFERED, spatial=True) == groups
    planar = students.groups_of(students.KINDS[name], ("proprio", "terrain", "phase"), spatial=False)
    assert not {"terrain", "base_velocity"} & set(planar) or name == "without velocity"


def test_all_kinds_have_equal_environment_steps_and_the_same_gradient_steps_for_any_rounds():
    options = students.Options(experts=(Path("a/b"),), rounds=48, envs=8)
    for name, kind in students.KINDS.items():
        few, many = (students.config_of(kind, (), 3, o) for o in (students.Options(experts=()), options))
        assert isinstance(few, MergeConfig)
        assert few.rounds * few.envs == many.rounds * many.envs == 12 * 32, name
        assert few.rounds * few.updates == pytest.approx(many.rounds * many.updates, rel=0.02)
        assert (few.target_retention, few.adaptive, many.seed) == (2.0, 0.0, 3)
        more = students.config_of(kind, (), 3, replace(options, more_steps=2.0))
        assert more == replace(many, updates=more.updates)
        assert more.updates == pytest.approx(2 * many.updates, abs=1)
    assert students.command_of(options).endswith("--experts a/b --rounds 48 --envs 8 --episodes 256")
    assert students.command_of(replace(options, more_steps=2.0)).endswith("--episodes 256 --more-steps 2")
    with pytest.raises(UnknownNameError):
        students.groups_of(students.Kind(students.KINDS["sighted"].architecture, sees="nothing"), OFFERED, spatial=True)


def test_a_privileged_critic_reads_what_only_the_teachers_read():
    options = students.Options(experts=(), finetune=1000, privileged=True)
    skill = get_skill("quadruped/flat")
    assert skill.groups == OFFERED

    def hidden(name):
        groups = students.groups_of(students.KINDS[name], OFFERED, spatial=True) or OFFERED
        return students.finetuning_of(skill, groups, 3, options).privileged

    assert hidden("sighted") == ()
    assert hidden("without velocity") == ("base_velocity",)
    assert hidden("blind gru") == hidden("blind history") == ("base_velocity", "scan")
    usual = students.finetuning_of(skill, OFFERED, 3, students.Options(experts=(), finetune=1000))
    assert (usual.steps, usual.seed, usual.privileged) == (1000, 3, ())


def test_settings_of_the_fine_tuning_are_in_the_command():
    options = students.Options(experts=(Path("a/b"),), finetune=1000, ppo=("envs=512", "learning_rate=2e-4"))
    skill = get_skill("quadruped/flat")
    usual, changed = (students.finetuning_of(skill, OFFERED, 3, o) for o in (replace(options, ppo=()), options))
    assert changed == replace(usual, ppo=replace(usual.ppo, envs=512, learning_rate=2e-4))
    assert students.command_of(options).endswith("--finetune 1000 --ppo envs=512 learning_rate=2e-4")
