"""Robots from tables and files: what is found in a model, what is refused and how it is said."""

import json
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from policykd.cli.main import main
from policykd.envs.robots import ROBOTS, get_robot
from policykd.envs.robots.check import check_robot
from policykd.envs.robots.description import read_robot
from policykd.envs.robots.mjcf import build_model
from policykd.envs.robots.records import recorded_robot, robot_record
from policykd.envs.skill_records import read_skill, records_of, skill_from_record
from policykd.errors import ConfigError, PolicykdError

INERTIAL = '<inertial pos="0 0 0" mass="{mass}" diaginertia="0.01 0.01 0.01"/>'
LEG = """
<body name="{n}_thigh" pos="{x} {y} 0">{i}
  <joint name="{n}_hip" axis="0 1 0" range="-1 1"/>
  <geom name="{n}_thigh" type="capsule" size="0.02" fromto="0 0 0 0 0 -0.1"/>
  <body name="{n}_shin" pos="0 0 -0.15">{i}
    <joint name="{n}_knee" axis="0 1 0" range="-2 0.5" actuatorfrcrange="-9 9"/>
    <geom type="sphere" size="0.03" pos="0 0 -0.15"/>
  </body>
</body>"""


def model_text(*, inertial=INERTIAL, extra="", joint='<freejoint name="floating"/>'):
    part = inertial.format(mass=0.5) if inertial else ""
    legs = "".join(
        LEG.format(n=f"{end}{side}", x=0.2 * x, y=0.1 * y, i=part)
        for end, x in (("F", 1), ("R", -1))
        for side, y in (("L", 1), ("R", -1))
    )
    return f"""<mujoco><compiler angle="radian"/><worldbody>
    <geom type="plane" size="1 1 1"/><light pos="0 0 3"/>
    <body name="trunk" pos="0 0 0.5">{INERTIAL.format(mass=4)}{joint}
      <geom type="box" size="0.2 0.1 0.05"/>{legs}{extra}</body>
    </worldbody><keyframe/></mujoco>"""


TABLE = """
name: walker
model: walker.xml
feet: ".*_shin/.*"
stiffness: 40
damping: {.*: 1}
effort: {.*_hip: 20, .*_knee: 9}
stand: {.*_hip: 0.3, .*_knee: -0.6}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "walker.xml").write_text(model_text())
    (tmp_path / "walker.yaml").write_text(TABLE)
    with ROBOTS.scope():
        yield tmp_path


def described(folder, **changes):
    return replace(read_robot(folder / "walker.yaml"), **changes)


def test_a_table_of_nine_lines_makes_a_robot(folder):
    robot = read_robot(folder / "walker.yaml")
    body = robot.body
    assert body.mass == pytest.approx(4 + 8 * 0.5)
    assert [servo.joint for servo in body.servos] == [
        f"{end}{side}_{joint}" for end in "FR" for side in "LR" for joint in ("hip", "knee")
    ]
    assert body.servos[0].torque == 20
    assert body.servos[1].stand == -0.6
    assert body.foot_names == tuple(f"{end}{side}_shin" for end in "FR" for side in "LR")
    assert body.symmetric
    assert body.mirrored.tolist() == [2, 3, 0, 1, 6, 7, 4, 5]
    down = 0.15 * np.cos(0.3) + 0.15 * np.cos(-0.3) + 0.03
    assert body.stand_pose[2] == pytest.approx(down)
    model = build_model(robot, 3)
    assert [model.geom(i).name for i in range(3)] == ["ground0", "ground1", "ground2"], "the file's own plane is gone"
    assert model.npair == 4 * 3, "feet touch the ground, nothing else does"


def test_torque_limits_come_from_the_source_where_the_table_has_none(folder):
    body = described(folder, effort=((".*_hip", 20.0),)).body
    assert [servo.torque for servo in body.servos[:2]] == [20, 9]


def test_locked_joints_are_welded(folder):
    body = described(folder, lock=".*_knee").body
    assert len(body.servos) == 4


def test_a_robot_that_stands_is_said_to_stand(folder):
    found = check_robot(read_robot(folder / "walker.yaml"))
    assert found.stands
    assert any("mirror images" in line for line in found.lines)
    weak = check_robot(described(folder, stiffness=((".*", 0.1),)))
    assert not weak.stands
    assert any(line.startswith("FALLS") for line in weak.lines)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"feet": ".*toe"}, ["feet '.*toe' matches no geom", "FL_shin/0"]),
        ({"feet": ".*"}, ["matches every geom"]),
        ({"stiffness": (("FL.*", 40.0),)}, ["stiffness", "FR_hip"]),
        ({"effort": ((".*_knee", 9.0),)}, ["torque limit", "FL_hip", "effort"]),
        ({"stand": ((".*_hip", 2.0),)}, ["FL_hip", "2 rad", "limits"]),
        ({"base": "pelvis"}, ["base", "trunk"]),
        ({"lock": ".*"}, ["no joints left"]),
    ],
)
def test_what_does_not_fit_the_model_is_named(folder, changes, words):
    with pytest.raises(ConfigError) as raised:
        _ = described(folder, **changes).body
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (model_text(inertial=""), ["FL_thigh", "inertia"]),
        (model_text(extra="<body name='slider'><inertial pos='0 0 0' mass='1' diaginertia='1 1 1'/>"
                          "<joint name='rail' type='slide'/></body>"), ["rail", "hinge"]),
        (model_text(joint='<joint name="turn" type="hinge"/>'), ["trunk", "turn", "free base"]),
        ("<mujoco><worldbody>", ["walker.xml", "not valid"]),
    ],
)  # fmt: skip
def test_models_that_cannot_be_used_are_refused(folder, text, words):
    (folder / "walker.xml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        _ = read_robot(folder / "walker.yaml").body
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("- 1", ["must be a table"]),
        ("name: x", ["lacks model, feet, stiffness, damping"]),
        (TABLE + "gain: 3", ["gain"]),
        (TABLE.replace("walker.xml", "other.xml"), ["other.xml", "does not exist"]),
        (TABLE.replace("{.*: 1}", "{.*: strong}"), ["damping", "strong"]),
        (TABLE.replace("{.*: 1}", "{'*': 1}"), ["damping", "regular expression"]),
        (TABLE + "tilt: 500", ["tilt", "500"]),
        (TABLE.replace("walker.xml", "menagerie:unitree_go1"), ["menagerie"]),
        ("{", ["not valid YAML"]),
    ],
)
def test_tables_with_faults_are_refused_before_a_model_is_compiled(folder, table, words, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mujoco_menagerie", None)
    (folder / "walker.yaml").write_text(table)
    with pytest.raises(PolicykdError) as raised:
        read_robot(folder / "walker.yaml")
    for word in words:
        assert word in str(raised.value)


def test_a_changed_model_file_is_noticed(folder):
    robot = read_robot(folder / "walker.yaml")
    (folder / "walker.xml").write_text(model_text(inertial=INERTIAL.replace("0.01", "0.02")))
    with pytest.raises(ConfigError, match="changed since"):
        _ = robot.body


def test_the_hash_says_which_body_it_is(folder):
    robot = read_robot(folder / "walker.yaml")
    assert described(folder, feet=".*_shin/0").body.sha256 == robot.body.sha256
    assert described(folder, stiffness=((".*", 41.0),)).body.sha256 != robot.body.sha256
    assert get_robot("quadruped").body.sha256 != robot.body.sha256


def test_a_skill_of_a_foreign_robot_is_kept_whole(folder):
    skill = read_skill(f"{folder}/walker.yaml/flat")
    assert skill.id == "walker/flat"
    record = json.loads(json.dumps(records_of([skill])))["walker/flat"]
    ROBOTS.unregister("walker")
    assert skill_from_record(record) == skill
    assert robot_record(get_robot("quadruped")) is None
    with pytest.raises(PolicykdError, match="horns"):
        recorded_robot("walker", {**record["robot_record"], "horns": 2})


def test_the_robot_of_a_file_may_be_named_for_other_skills(folder):
    skill = read_skill(f"{folder}/walker.yaml/flat")
    records = records_of([skill])
    ROBOTS.unregister("walker")
    with pytest.raises(PolicykdError, match="unknown skill"):
        read_skill("walker/steps")
    assert read_skill("walker/steps", None, [None, records]).robot == skill.robot
    assert read_skill("quadruped/flat", None, [records]).robot == get_robot("quadruped")


def test_shipped_robots_are_their_mirror_images():
    for name in (robot.name for robot in ROBOTS.values() if robot.family == "space"):
        body = get_robot(name).body
        assert body.symmetric
        model = build_model(get_robot(name), 0)
        data = mujoco.MjData(model)
        data.qpos[:] = body.stand_pose
        mujoco.mj_fwdPosition(model, data)
        assert data.subtree_com[0, 1] == pytest.approx(0, abs=1e-9)


def test_the_quadruped_has_the_published_mass_and_lengths():
    robot = get_robot("quadruped")
    model = build_model(robot, 0)
    assert robot.body.mass == pytest.approx(12.743, abs=5e-3)
    assert model.body("FL_calf").pos.tolist() == [0, 0, -0.213]
    assert robot.body.servos[2].torque == 35.55


def test_commands_list_check_and_begin_tables(folder, capsys):
    assert main(["robots", "list"]) == 0
    assert "quadruped" in capsys.readouterr().out
    assert main(["robots", "check", str(folder / "walker.yaml"), "--picture", str(folder / "walker.png")]) == 0
    assert (folder / "walker.png").stat().st_size > 1000
    assert main(["robots", "new", str(folder / "walker.xml"), "--out", str(folder / "new.yaml")]) == 2, (
        "no foot by name"
    )
    (folder / "feet.xml").write_text(model_text().replace("_shin", "_foot"))
    assert main(["robots", "new", str(folder / "feet.xml")]) == 0
    assert read_robot(folder / "feet.yaml").body.foot_names[0] == "FL_foot"
    assert main(["robots", "new", str(folder / "feet.xml")]) == 2, "nothing is overwritten"
    assert "exists" in capsys.readouterr().err
