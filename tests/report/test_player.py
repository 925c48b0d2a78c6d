"""The page that plays recorded episodes."""

import json
import re

import numpy as np
import pytest

from policykd.agents.policy import Policy
from policykd.cli.main import main
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError
from policykd.report.player import record_clip, write_player


def untrained(skill):
    return Policy(skill.group_sizes, skill.robot.num_actions, generator_seed=0)


@pytest.mark.parametrize("skill_id", ["quadruped/gaps", "biped/steps"])
def test_a_clip_shows_the_recorded_states(skill_id):
    skill = get_skill(skill_id)
    clip = record_clip("novice", untrained(skill), skill, seconds=1.0)
    points = sum(shape["points"] for shape in clip.data["shapes"])
    assert all(len(frame) == 3 * points for frame in clip.data["frames"])
    first = np.array(clip.data["frames"][0]).reshape(-1, 3)
    assert first[:, 2].min() > -0.05, "it starts on the ground"
    x, z = np.array(clip.data["ground"]).T
    assert (np.diff(x) >= 0).all()
    assert x[0] < first[:, 0].min()
    assert x[-1] > first[:, 0].max()
    assert z[0] == 0
    assert clip.data["dt"] == pytest.approx(1 / 25, rel=0.2)


def test_the_page_holds_every_clip_in_order(tmp_path):
    skills = [get_skill("quadruped/flat"), get_skill("quadruped/steps")]
    clips = [record_clip(name, untrained(s), s, seconds=0.2) for s in skills for name in ("zebra", "antelope")]
    page = write_player(clips, tmp_path / "watch.html").read_text()
    table = json.loads(re.search(r"const CLIPS = (.*);", page)[1])
    assert {skill: [c["policy"] for c in of] for skill, of in table.items()} == {
        "quadruped/flat": ["zebra", "antelope"], "quadruped/steps": ["zebra", "antelope"]
    }  # fmt: skip
    assert "http" not in page.replace("http-equiv", ""), "nothing is loaded from elsewhere"
    with pytest.raises(ConfigError, match="at least one"):
        write_player([], tmp_path / "empty.html")


def test_the_command_refuses_a_policy_that_is_not_there(tmp_path, capsys):
    assert main(["view", str(tmp_path / "none"), "--out", str(tmp_path / "v.html")]) == 2
    assert "no such policy file" in capsys.readouterr().err
    assert not (tmp_path / "v.html").exists()
