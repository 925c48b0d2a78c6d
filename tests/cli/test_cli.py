"""The command line: the whole chain in small, and what it says to bad input."""

import json

import pytest

from policykd.agents.training import TrainConfig
from policykd.cli.main import main
from policykd.cli.overrides import with_overrides
from policykd.curriculum import SkillPlan, preset
from policykd.errors import ConfigError, UnknownNameError
from policykd.merge import MergeConfig

TINY_TRAIN = ["--steps", "1024", "--threads", "1", "--set", "ppo.envs=16", "ppo.rollout_steps=32", "ppo.minibatch=128",
              "ppo.epochs=1", "segment_steps=512", "validation_episodes=2", "finalists=1"]  # fmt: skip


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Two experts and their student, made on the command line with next to no training."""
    folder = tmp_path_factory.mktemp("chain")
    train = ["train", "biped/flat", "biped/gaps", "--out", str(folder / "experts"), *TINY_TRAIN]
    experts = [str(folder / "experts" / name) for name in ("flat", "gaps")]
    merge = ["merge", *experts, "--out", str(folder / "student"), "--rounds", "1", "--hidden", "16", "16", "--threads",
             "1", "--min-teacher-success", "0", "--set", "envs=2", "updates=5", "validation_episodes=2"]  # fmt: skip
    assert main(train) == 0
    assert main(merge) == 0
    return folder, train, merge


def test_chain_evaluates_with_retention(chain, capsys):
    folder, _, _ = chain
    paths = [str(folder / p) for p in ("student", "experts/flat", "experts/gaps")]
    out = folder / "evaluation.json"
    assert main(["evaluate", *paths, "--episodes", "3", "--threads", "1", "--out", str(out)]) == 0
    stored = json.loads(out.read_text())
    assert stored["experts"] == {"biped/flat": "flat", "biped/gaps": "gaps"}
    printed = capsys.readouterr().out
    assert "student" in printed
    assert "biped/gaps" in printed


def test_student_has_the_size_that_was_asked_for(chain):
    manifest = json.loads((chain[0] / "student" / "policy" / "manifest.json").read_text())
    assert manifest["architecture"]["hidden"] == [16, 16]


def test_recorded_data_are_merged_without_experts(chain, capsys):
    folder = chain[0]
    arguments = ["merge", "--data", str(folder / "student"), "--out", str(folder / "again"), "--rounds", "1"]
    assert main([*arguments, "--hidden", "8", "--set", "updates=3", "held_out=0.5"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "held-out mse biped/flat" in printed
    assert "nothing was validated" in printed


def test_a_student_and_an_expert_are_merged_by_skill(chain):
    folder, _, merge = chain
    experts = [f"{folder / 'student'}@biped/flat", str(folder / "experts" / "gaps")]
    rest = [*merge[3:], "--init", str(folder / "student")]
    rest[rest.index("--out") + 1] = str(folder / "grown")
    assert main(["merge", *experts, *rest]) == 0
    manifest = json.loads((folder / "grown" / "policy" / "manifest.json").read_text())
    assert manifest["skills"] == ["biped/flat", "biped/gaps"]
    assert manifest["config"]["start"] == "previous"


def test_finished_work_needs_resume_and_is_not_done_again(chain, capsys):
    _, train, merge = chain
    for command in (train, merge):
        assert main(command) == 2
        assert "--resume" in capsys.readouterr().err
        assert main([*command[:1], "--resume", *command[1:]]) == 0


def test_skills_lists_every_terrain(capsys):
    assert main(["skills"]) == 0
    printed = capsys.readouterr().out
    for name in ("flat", "incline", "steps", "slopes", "gaps", "walls", "mixed"):
        assert f"biped/{name}" in printed


def test_kd_list_and_show(capsys):
    assert main(["kd", "list", "--family", "relational"]) == 0
    printed = capsys.readouterr().out
    assert "rkd" in printed
    assert "lskd" not in printed
    assert "systems" not in printed
    assert main(["kd", "show", "crd"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for told in (
        "paper Tian, Krishnan, Isola: Contrastive Representation Distillation. ICLR, 2020",
        "equation -[log h_0",
        "variant paper: Z = 1",
        "departure negatives drawn with replacement",
        "preset repdistiller: weight 0.8, cross-entropy 1, dim=128",
        "(RepDistiller script, CIFAR-100; read)",
    ):
        assert told in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "biped/stepps"], "did you mean biped/steps"),
        (["train", "biped/steps:papr"], "did you mean paper"),
        (["train", "biped/steps@2"], "difficulty is 2.0; it must be in [0.0, 1.0]"),
        (["train", "biped/flat", "--groups", "terain"], "did you mean terrain"),
        (["train", "biped/flat", "--set", "ppo.epoch=3"], "did you mean epochs"),
        (["train", "biped/flat", "--set", "steps"], "write it as field=value"),
        (["train"], "name a skill"),
        (["merge", "nowhere"], "nowhere"),
        (["merge"], "give either experts to merge, or --data"),
        (["merge", "--data", "nowhere"], "cannot read the dataset nowhere"),
        (["merge", "nowhere@"], "name the skills after the @"),
        (["evaluate", "nowhere"], "nowhere"),
        (["train", "biped/flat", "--out", "/proc/nowhere"], "cannot write"),
        (["kd", "show", "cdr"], "did you mean"),
        (["kd", "list", "--family", "relation"], "relational"),
    ],
)
def test_bad_input_is_named_with_the_way_out(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert error.startswith("error:")
    assert message in error
    assert "Traceback" not in error


def test_blind_policy_cannot_be_merged_into_what_it_does_not_see(chain, capsys):
    """A skill that lacks a group which the policy reads: the message names the group."""
    folder = chain[0]
    arguments = ["render", str(folder / "student"), "--skill", "bipedd/flat", "--out", str(folder / "x.mp4")]
    assert main(arguments) == 2
    assert "did you mean biped/flat" in " ".join(capsys.readouterr().err.split())


def test_overrides_reach_nested_fields_in_their_types():
    config = with_overrides(TrainConfig(), ["ppo.learning_rate=1e-4", "architecture.hidden=[8, 8]", "threads=2"])
    assert config.ppo.learning_rate == 1e-4
    assert config.architecture.hidden == (8, 8)
    assert config.threads == 2
    assert with_overrides(MergeConfig(), ["critic=none"]).critic == "none"
    skills = "skills=[{skill: biped/flat, steps: 7}, {skill: biped/gaps}]"
    changed = with_overrides(preset("standard"), [skills, "injection.blind=1", "transfer_noise=null"])
    assert changed.skills == (SkillPlan("biped/flat", 7), SkillPlan("biped/gaps"))
    assert changed.transfer_noise is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ppo=3", "set one of its fields: envs"),
        ("ppo.epochs=many", "ppo.epochs is 'many'; it must be of type int"),
        ("ppo.epochs=null", "ppo.epochs is None; it must be of type int"),
        ("ppo.gamma=high", "ppo.gamma is 'high'; it must be a number"),
        ("seed.x=1", "'seed' has no fields"),
        ("ppo.epochs=0", "epochs is 0"),
        ("threads=two", "threads is 'two'; it must be of type int"),  # its default is None
        ("architecture.hidden=64", r"it must be a list, for example \[64\]"),
        ("architecture.hidden=[64, wide]", r"architecture.hidden\[1\] is 'wide'; it must be of type int"),
        ("algorithm=pop", "did you mean ppo"),
        ("threads=0", "threads is 0; it must be in"),
        ("architecture.hidden=[8", "the value is not valid YAML: expected"),
    ],
)
def test_overrides_of_the_wrong_kind_are_refused(override, message):
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        with_overrides(TrainConfig(), [override])


def test_unknown_override_names_close_fields():
    with pytest.raises(UnknownNameError, match="did you mean updates"):
        with_overrides(MergeConfig(), ["update=3"])


def test_brackets_in_what_is_printed_are_text(tmp_path, capsys):
    """The name of an extra, or of a folder, is no markup."""
    assert main(["evaluate", str(tmp_path / "run[red]"), "--skills", "biped/flat"]) == 2
    assert "run[red]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "name", "way"),
    [
        (["demo"], "demo.Demo", "again"),
        (["train", "biped/flat"], "train.Train", "with --resume to continue"),
        (["kd", "run", "sp"], "kd_run.KdRun", "with --resume to continue"),
    ],
)
def test_an_interrupted_command_says_how_it_goes_on(words, name, way, monkeypatch, capsys):
    def interrupted(self, console):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"policykd.cli.commands.{name}.run", interrupted)
    assert main(words) == 1
    assert capsys.readouterr().err.strip() == f"interrupted; run the same command {way}"
