"""The examples of CONTRIBUTING.md run as they are written, from a package that is not part of policykd."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from empty_figures import leave_out_figures
from policykd.agents.architecture import Architecture
from policykd.agents.training import TrainConfig, train_expert
from policykd.cli.main import main
from policykd.cli.overrides import with_overrides
from policykd.curriculum import CURRICULA, make_plan, preset
from policykd.curriculum.plans import budget
from policykd.curriculum.stages import Train
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.robots import ROBOTS
from policykd.envs.skill_records import read_skill
from policykd.envs.tasks.registry import TASKS
from policykd.envs.terrains import TERRAINS

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
FILES = dict(re.findall(r"```python\n# (my_lab/\w+\.py)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.fixture(autouse=True)
def my_lab(tmp_path, monkeypatch):
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab/__init__.py").touch()
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with ROBOTS.scope(), TERRAINS.scope(), TASKS.scope(), CURRICULA.scope():
        yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
        sys.modules.pop(name)


def command(start):
    (found,) = [line for line in COMMANDS if line.startswith(start)]
    return found.split()[1:]


def test_there_are_seven_recipes_with_a_file_and_a_command_each():
    assert len(re.findall(r"^### Add a ", PAGE, re.MULTILINE)) == len(FILES) == 7
    for name in FILES:
        module = name.removesuffix(".py").replace("/", ".")
        assert any(f"{module}:" in line for line in COMMANDS), name


@pytest.mark.parametrize(
    "start",
    ["policykd train biped/my_lab.hills", "policykd train my_lab.robots", "policykd train biped/flat+my_lab.tasks"],
)
def test_skills_of_the_examples_are_simulated(start):
    skill = read_skill(command(start)[1])
    env = BatchedEnv([skill], 2, config=EnvConfig(tracks=2), threads=1)
    env.reset()
    step = env.step(0.0 * env.targets(env.engine.field("qpos")[:, 3:].float()).float())
    assert step.flat.shape == (2, sum(skill.group_sizes.values()))
    assert 0 < step.reward.min() <= step.reward.max() <= 1


def test_hills_go_up_and_down_by_at_most_their_grade():
    tracks = BatchedEnv([read_skill("biped/my_lab.hills:HILLS")], 1, config=EnvConfig(tracks=1), threads=1).track(0)
    assert tracks.grade.max() > 0.1
    assert tracks.grade.min() < -0.1
    assert tracks.grade.abs().max() <= 0.2


def test_the_loss_is_shown_and_benchmarked(tmp_path, monkeypatch, capsys):
    leave_out_figures(monkeypatch)
    assert main(command("policykd kd show")) == 0
    assert "(1 - cos(f_s, f_t))^p" in capsys.readouterr().out
    bench = command("policykd kd bench")
    bench[bench.index("--seeds") + 1] = "2"
    bench[bench.index("--task") + 1] = "textures"
    small = ["--task-option", "train=24", "val=12", "test=12", "side=8", "--epochs", "1", "--workers", "1"]
    assert main([*bench, *small, "--out", str(tmp_path / "bench")]) == 0
    assert "cosine" in capsys.readouterr().out


def test_the_system_runs(tmp_path, capsys):
    run = command("policykd kd run my_lab.smoothing")
    run[run.index("--seeds") + 1] = "2"
    short = ["teacher.epochs=1", "student.epochs=1"]
    assert main([*run, *short, "--workers", "1", "--out", str(tmp_path / "out")]) == 0
    assert "Distillation is more accurate than label smoothing." in " ".join(capsys.readouterr().out.split())


def test_the_curriculum_spends_the_budget_of_all_curricula():
    words = command("policykd plaid --preset quick --curriculum")
    recipe = replace(preset("quick"), curriculum=words[words.index("--curriculum") + 1])
    trainings = [stage for stage in make_plan(recipe, seed=0).stages if isinstance(stage, Train)]
    assert sum(stage.config.steps for stage in trainings) == budget(recipe)
    assert [stage.start for stage in trainings] == [None, trainings[0].name, None]


def test_the_algorithm_trains(tmp_path):
    words = command("policykd train biped/flat --set")
    small = TrainConfig(
        steps=2048,
        segment_steps=1024,
        validation_episodes=2,
        finalists=1,
        threads=1,
        architecture=Architecture(hidden=(16,), critic_hidden=(16,)),
    )
    config = with_overrides(small, words[words.index("--set") + 1 :])
    assert config.algorithm == "my_lab.a2c:ALGORITHM"
    assert train_expert([read_skill(words[1])], tmp_path / "expert", config).steps >= 2048
