"""`policykd evaluate`: remarks on a policy that does not read what a skill asks for, and the length of episodes."""

import json
from pathlib import Path

import pytest

from policykd.agents.files.policy_file import load_policy
from policykd.agents.files.skills import unheard
from policykd.cli.main import main
from policykd.envs.foreign.skill import gym_skill
from policykd.envs.skills import get_skill, lasting
from policykd.errors import ContractError

STORED = Path(__file__).parents[1] / "data" / "flat-expert"


def test_a_policy_blind_to_the_command_is_told_apart(tmp_path, capsys):
    skills = ["--skills", "biped/flat", "biped/flat+run"]
    assert main(["evaluate", str(STORED), *skills, "--episodes", "1", "--out", str(tmp_path / "e.json")]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note:")]
    assert notes == ["note: flat-expert does not read command, which says what the skill asks for, on biped/flat+run"]


def test_every_group_of_a_task_counts():
    manifest = load_policy(STORED).manifest
    assert unheard(manifest, get_skill("biped/flat")) == []
    assert unheard(manifest, get_skill("biped/flat+hop")) == ["command"]
    assert unheard(manifest, get_skill("biped/flat+imitate")) == ["phase"]
    assert unheard(manifest, get_skill("biped/flat+run", ("proprio",))) == ["command"]


def test_episodes_last_as_long_as_asked(tmp_path):
    plain, longer = tmp_path / "plain.json", tmp_path / "longer.json"
    command = ["evaluate", str(STORED), "--episodes", "2", "--threads", "1"]
    assert main([*command, "--out", str(plain)]) == main([*command, "--seconds", "20", "--out", str(longer)]) == 0
    cells = [json.loads(path.read_text())["cells"][0] for path in (plain, longer)]
    usual = get_skill("biped/flat")
    assert cells[0]["length"] == [usual.episode_steps] * 2
    assert cells[1]["length"] == [round(20 / usual.robot.control_dt)] * 2
    ratio = min(cells[1]["distance"]) / max(cells[0]["distance"])
    assert ratio > 0.9 * 20 / usual.seconds  # the track is long enough for the whole way


def test_an_environment_keeps_its_length():
    pytest.importorskip("gymnasium")
    with pytest.raises(ContractError, match="gym:CartPole-v1 ends its episodes itself"):
        lasting(gym_skill("gym:CartPole-v1"), 1.0)
