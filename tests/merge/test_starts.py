"""Where a student starts, who teaches it what, and who is refused."""

from dataclasses import replace

import pytest
import torch
from teacher_samples import TINY, make_teacher

from policykd.agents.files.policy_file import load_policy, save_policy
from policykd.agents.policy import Policy
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError, ContractError, UnknownNameError
from policykd.merge import LabeledData, merge_experts, teachers_from
from policykd.merge.distiller import _Merge
from policykd.merge.student import first_student
from policykd.progress import Silent
from policykd.runs import RunFolder


def saved(teacher, path, skills):
    save_policy(path, teacher.policy, robot=teacher.skill.robot, skills=skills, operation="train", seed=0)
    return load_policy(path)


def outputs(policy):
    return policy(torch.randn(9, policy.observation_size, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(("start", "place"), [("newest", -1), ("biped/flat", 0)])
def test_a_start_at_a_teacher_is_its_copy(teachers, start, place):
    student = first_student(teachers, replace(TINY, start=start), None)
    torch.testing.assert_close(outputs(student), outputs(teachers[place].policy))
    assert student.actor[0].weight.data_ptr() != teachers[place].policy.actor[0].weight.data_ptr()


def test_a_start_at_an_earlier_student_is_its_copy_and_its_parent(teachers, tmp_path):
    init = saved(make_teacher("biped/flat", 8), tmp_path / "init", ["biped/flat"])
    config = replace(TINY, start="previous")
    torch.testing.assert_close(outputs(first_student(teachers, config, init)), outputs(init.policy))
    result = merge_experts(teachers, tmp_path / "student", config, init=init)
    parents = [p.weights_sha256 for p in load_policy(result.policy_path).manifest.parents]
    assert parents == [*(t.weights_sha256 for t in teachers), init.manifest.weights_sha256]


def test_beta_decides_round_0_of_a_student_that_can_walk_already(teachers, tmp_path):
    for start, share in (("random", 0.0), ("newest", 1.0)):
        out = tmp_path / start
        merge_experts(teachers, out, replace(TINY, start=start, beta="constant:0", rounds=1))
        first = LabeledData.open(out).find(0, "biped/flat")
        assert float(first.student_acted.double().mean()) == share


def test_a_student_may_read_fewer_groups_than_its_teachers(teachers, tmp_path):
    config = replace(TINY, groups=("proprio",))
    result = merge_experts(teachers, tmp_path / "student", config)
    student = load_policy(result.policy_path).policy
    assert list(student.groups) == ["proprio"]
    assert LabeledData.open(tmp_path / "student").manifest.groups == (("proprio", student.observation_size),)
    with pytest.raises(UnknownNameError, match="observation group of the teachers"):
        first_student(teachers, replace(TINY, groups=("scan",)), None)
    narrow = replace(TINY, groups=("proprio",), start="newest")
    with pytest.raises(ContractError, match=r"reads \['terrain'\], which merge\.groups leave out"):
        first_student(teachers, narrow, None)


def test_a_copy_that_lacks_groups_gets_them_and_acts_as_before(teachers, tmp_path):
    blind = make_teacher("biped/gaps", 4)
    proprio = blind.skill.group_sizes["proprio"]
    blind = replace(blind, policy=Policy({"proprio": proprio}, blind.policy.actions, generator_seed=0))
    blind.policy.normalizer.update(torch.randn(50, proprio))
    student = first_student([teachers[0], blind], replace(TINY, start="newest"), None)
    assert student.groups == teachers[0].skill.group_sizes
    seen = torch.randn(9, student.observation_size)
    torch.testing.assert_close(student(seen), blind.policy(seen[:, :proprio]), atol=1e-6, rtol=0)
    merge = _Merge([teachers[0], blind], RunFolder(tmp_path, {}, False), replace(TINY, start="newest"), None, Silent())
    before = merge._student.normalizer.mean.clone()
    merge._collect_round()
    moved = merge._student.normalizer.mean != before
    assert moved[proprio:].any()
    assert not moved[:proprio].any()  # what has statistics keeps them
    assert int(merge._student.normalizer.fresh.sum()) == 0


def test_a_copy_that_reads_what_no_teacher_reads_is_refused(teachers, tmp_path):
    init = saved(teachers[0], tmp_path / "init", ["biped/flat"])
    proprio = {"proprio": teachers[1].skill.group_sizes["proprio"]}
    skill = replace(teachers[1].skill, groups=("proprio",))
    blind = replace(teachers[1], skill=skill, policy=Policy(proprio, teachers[1].policy.actions, generator_seed=0))
    with pytest.raises(ContractError, match="terrain"):
        first_student([blind], replace(TINY, start="previous"), init)


def test_starts_that_are_none_are_refused(teachers, tmp_path):
    with pytest.raises(ConfigError, match="--init"):
        first_student(teachers, replace(TINY, start="previous"), None)
    init = saved(teachers[0], tmp_path / "init", ["biped/flat"])
    with pytest.raises(ConfigError, match="start=previous"):
        first_student(teachers, TINY, init)
    with pytest.raises(UnknownNameError, match="did you mean biped/flat"):
        first_student(teachers, replace(TINY, start="biped/flatt"), None)


def test_an_earlier_student_teaches_its_old_skills_beside_a_specialist(teachers, tmp_path):
    old = ["biped/flat", "biped/incline", "biped/steps", "biped/slopes"]
    student = saved(teachers[0], tmp_path / "old", old)
    specialist = saved(teachers[1], tmp_path / "new", ["biped/gaps"])
    found = teachers_from([("old", student), ("new", specialist)])
    assert [(t.skill.id, t.source) for t in found] == [*((s, "old") for s in old), ("biped/gaps", "new")]
    found = [replace(t, skill=replace(t.skill, episode_steps=12)) for t in found]
    result = merge_experts(found, tmp_path / "student", replace(TINY, batched_teachers=True))
    manifest = load_policy(result.policy_path).manifest
    assert manifest.skills == (*old, "biped/gaps")
    assert len(manifest.parents) == 2  # each policy once


def test_a_policy_can_be_kept_to_some_of_its_skills(teachers, tmp_path):
    both = saved(teachers[0], tmp_path / "both", ["biped/flat", "biped/gaps"])
    gaps = saved(teachers[1], tmp_path / "gaps", ["biped/gaps"])
    with pytest.raises(ConfigError, match="both label biped/gaps"):
        teachers_from([("both", both), ("gaps", gaps)])
    found = teachers_from([("both", both), ("gaps", gaps)], {"both": ["biped/flat"]})
    assert [(t.skill.id, t.source) for t in found] == [("biped/flat", "both"), ("biped/gaps", "gaps")]
    with pytest.raises(UnknownNameError, match="did you mean biped/flat"):
        teachers_from([("both", both)], {"both": ["biped/flatt"]})
    with pytest.raises(UnknownNameError, match="did you mean both"):
        teachers_from([("both", both)], {"bot": ["biped/flat"]})


def test_tasks_that_look_the_same_are_refused_unless_a_command_tells_them_apart(teachers, tmp_path):
    walk = saved(teachers[0], tmp_path / "walk", ["biped/flat"])
    run = saved(teachers[1], tmp_path / "run", ["biped/flat+run"])
    with pytest.raises(ContractError, match=r"biped/flat and biped/flat\+run .* --groups proprio terrain command"):
        teachers_from([("walk", walk), ("run", run)])
    elsewhere = saved(teachers[1], tmp_path / "elsewhere", ["biped/gaps+run"])
    assert len(teachers_from([("walk", walk), ("run", elsewhere)])) == 2
    skill = get_skill("biped/flat+run", ("proprio", "terrain", "command"))
    told = saved(replace(teachers[1], policy=Policy(skill.group_sizes, 11)), tmp_path / "told", ["biped/flat+run"])
    assert len(teachers_from([("walk", walk), ("run", told)])) == 2


def test_poor_teachers_stop_a_merge_and_leave_the_folder_free(tmp_path, monkeypatch):
    teachers = [make_teacher("biped/flat", 1, episode_steps=96)]  # long enough to fall
    with pytest.raises(ConfigError, match=r"min_teacher_success is 0\.5.*expert 1 0\.00 on biped/flat"):
        merge_experts(teachers, tmp_path / "student", replace(TINY, min_teacher_success=0.5))
    monkeypatch.setattr(_Merge, "go", lambda self, _: self._folder.finish(RESULT))
    merge_experts(teachers, tmp_path / "student", TINY)


RESULT = {"rounds": 0, "states": 0, "seconds": 0.0, "retention": {}, "reached_target": False}


def test_an_expert_of_another_robot_or_without_a_group_is_refused_at_once(teachers, tmp_path):
    """The message names what differs, before anything is simulated."""
    loaded = saved(teachers[0], tmp_path / "expert", ["biped/flat"])
    other = replace(loaded.manifest, robot="dog")
    with pytest.raises(ContractError, match="made for robot 'dog'"):
        teachers_from([("expert", loaded._replace(manifest=other))])


def test_a_student_with_an_extended_normalizer_has_statistics_of_old_and_new_states(teachers, tmp_path):
    init = saved(make_teacher("biped/flat", 8), tmp_path / "init", ["biped/flat"])
    config = replace(TINY, start="previous", rounds=1)
    found = {}
    for normalizer in ("kept", "extended"):
        out = tmp_path / normalizer
        result = merge_experts(teachers, out, replace(config, normalizer=normalizer), init=init)
        found[normalizer] = load_policy(result.policy_path).policy.normalizer
    before = init.policy.normalizer
    torch.testing.assert_close(found["kept"].mean, before.mean, rtol=0, atol=0)
    expected = init.policy.normalizer
    for teacher in teachers:  # the first student acts alike with both, so both collected these states
        init.policy.update_normalizer(LabeledData.open(tmp_path / "extended").find(0, teacher.skill.id).observations)
    torch.testing.assert_close(found["extended"].mean, expected.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["extended"].var, expected.var, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "cure"), [({"start": "newest"}, "--init STUDENT"), ({"protection": "ewc"}, "protection=replay")]
)
def test_a_normalizer_that_cannot_be_extended_is_refused(changes, cure):
    with pytest.raises(ConfigError, match=cure):
        replace(TINY, **{"start": "previous", "normalizer": "extended", **changes})
