"""Whole skills survive a round trip through JSON; text of a person may import, a record may not."""

import json
import sys
from dataclasses import replace

import pytest

from policykd.envs.observations import GROUPS
from policykd.envs.robots import ROBOTS, get_robot
from policykd.envs.skill_records import read_skill, skill_from_record, skill_record
from policykd.envs.skills import Skill, folder_names, get_skill, slug
from policykd.envs.tasks import Walk
from policykd.envs.tasks.registry import TASKS
from policykd.envs.terrains import TERRAINS, Gaps, Terrain, register_terrain
from policykd.errors import ConfigError, UnknownNameError

SKILLS = [
    get_skill("biped/flat"),
    get_skill("biped/mixed:hard@0.4+crouch"),
    replace(get_skill("biped/steps+run"), groups=("terrain", "phase"), episode_steps=77),
    Skill(get_robot("biped"), Terrain("gaps", difficulty=0.3, generator=Gaps(width=(0.4, 0.41))), Walk(speed=0.8)),
]

OUTSIDE = """
from dataclasses import dataclass, replace
import numpy as np
from policykd.envs.observations import ObservationGroup
from policykd.envs.robots import get_robot
from policykd.envs.tasks import Walk
from policykd.envs.terrains import Profile

DOG = replace(get_robot("biped"), name="dog")

@dataclass(frozen=True)
class Ramp:
    grade: float = 0.1
    def profile(self, rng, count, length, difficulty):
        width = np.full((count, 1), length)
        return Profile(width, width * self.grade * difficulty, np.zeros_like(width))

RAMP = Ramp()
STROLL = Walk(speed=0.4)
PITCH = ObservationGroup("pitch", lambda robot: 1, "rad", lambda state, around: state.pitch[:, None])
NUMBER = 3
"""


@pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.id)
def test_a_whole_skill_survives_json(skill):
    assert skill_from_record(json.loads(json.dumps(skill_record(skill)))) == skill


def test_the_record_holds_what_the_id_leaves_out():
    special, plain = SKILLS[-1], get_skill("biped/gaps@0.3")
    assert special.id == plain.id
    assert special != plain
    assert not special.terrain.is_preset
    assert skill_record(special)["terrain"]["generator"]["width"] == [0.4, 0.41]
    assert skill_record(special)["task"]["speed"] == 0.8


def altered(**changes):
    return {**skill_record(SKILLS[0]), **changes}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "skill record must be a mapping"),
        ({"robot": "biped"}, "skill record lacks terrain, task, groups, episode_steps"),
        (altered(robot="bipd"), "unknown robot 'bipd'; did you mean biped"),
        (altered(groups="proprio"), "it must be a list"),
        (altered(groups=["propri"]), "unknown observation group 'propri'"),
        (altered(episode_steps=0), "episode_steps is 0"),
        (altered(task={"type": "os.system"}), "unknown task 'os.system'"),
        (altered(task={"type": "Walk", "sped": 1.0}), "unknown field of task Walk: 'sped'"),
        (altered(task={"type": "Walk", "speed": "fast"}), "task.speed is 'fast'"),
        (altered(terrain={"name": "flat"}), "lacks preset, difficulty, generator"),
        (
            altered(terrain={"name": "moon", "preset": "paper", "difficulty": 1.0, "generator": {"type": "Flat"}}),
            "unknown terrain 'moon'",
        ),
    ],
)
def test_a_wrong_record_is_refused(record, message):
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        skill_from_record(record)


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A package of one's own with a robot, a terrain, a task and an observation group."""
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab/things.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    with ROBOTS.scope(), TERRAINS.scope(), TASKS.scope(), GROUPS.scope():
        yield
    for name in ("my_lab.things", "my_lab"):
        sys.modules.pop(name, None)


def test_text_of_a_person_imports_its_parts(outside):
    text = "my_lab.things:DOG/my_lab.things:RAMP@0.5+my_lab.things:STROLL"
    skill = read_skill(text, ["proprio", "my_lab.things:PITCH"])
    assert skill.id == "dog/ramp@0.5+stroll"
    assert skill.groups == ("proprio", "pitch")
    assert skill.terrain.kind.start_level == 0.5
    assert read_skill(text, ["proprio", "my_lab.things:PITCH"]) == skill  # importing again changes nothing
    assert skill_from_record(skill_record(skill)) == skill


def test_ids_and_records_never_import(outside):
    with pytest.raises(UnknownNameError):
        get_skill("my_lab.things:DOG/flat")
    with pytest.raises(UnknownNameError):
        skill_from_record(altered(robot="my_lab.things:DOG"))
    assert "my_lab.things" not in sys.modules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("my_lab.things:NUMBER/flat", "is a int; it must be a Robot"),
        ("biped/my_lab.things:NUMBER", "neither a terrain generator nor a TerrainKind"),
        ("biped/flat+my_lab.things:NUMBER", "it must be a Task"),
        ("biped/my_lab.nothing:RAMP", "cannot be imported"),
    ],
)
def test_a_wrong_part_is_named(outside, text, message):
    with pytest.raises(ConfigError, match=message):
        read_skill(text)


@pytest.mark.parametrize("name", ["a/b", "a:b", "a@b", "a+b", ""])
def test_a_terrain_name_that_an_id_cannot_hold_is_refused(name):
    with TERRAINS.scope(), pytest.raises(ConfigError, match="must not be empty or contain any of"):
        register_terrain(name, {"default": Gaps()})


def test_slugs_and_folders():
    assert slug("biped/steps:hard@0.4+hop") == "steps-hard-0.4+hop"
    dog = replace(get_robot("biped"), name="dog")
    skills = [get_skill("biped/flat"), get_skill("biped/flat+run"), Skill(dog, Terrain("flat"))]
    assert folder_names(skills[:2]) == ["flat", "flat+run"]
    assert folder_names(skills) == ["biped-flat", "biped-flat+run", "dog-flat"]
    with pytest.raises(ConfigError, match="biped/flat was given more than once"):
        folder_names([skills[0], skills[0]])
