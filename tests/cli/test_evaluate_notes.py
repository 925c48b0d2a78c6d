"""Remarks of `policykd evaluate`: a policy that does not read what a skill asks for."""

from pathlib import Path

from policykd.agents.files.policy_file import load_policy
from policykd.agents.files.skills import unheard
from policykd.cli.main import main
from policykd.envs.skills import get_skill

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
