"""The tutorials run from top to bottom as they are written, but for the budgets in the tables below."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from empty_figures import leave_out_figures
from executed_pages import Budget, PageRun, blocks_of, missing_lines, shrunk
from policykd import demo
from policykd.agents.architecture import Architecture
from policykd.agents.training import PpoConfig
from policykd.envs.rendering import SceneRenderer, build_scene
from policykd.envs.robots import ROBOTS, get_robot
from policykd.envs.robots.robot import Robot
from policykd.envs.skills import get_skill
from policykd.envs.terrains import TrackBank
from policykd.errors import MissingDependencyError

PAGES = sorted((Path(__file__).parents[1] / "docs" / "tutorials").glob("*.md"))

TINY_TRAINING = ["segment_steps=1024", "validation_episodes=2", "finalists=1", "ppo.envs=16", "ppo.minibatch=128"]
TINY_MERGE = [
    "rounds=1",
    "envs=4",
    "updates=4",
    "minibatch=64",
    "validation_episodes=1",
    "min_teacher_success=0",
    "critic=none",
]
BUDGET = Budget(
    {
        "demo": {"--threads": ["1"], "--episodes": ["2"]},
        "train": {"--threads": ["1"], "--steps": ["1024"], "--set": TINY_TRAINING},
        "import": {"--episodes": ["2"], "--anyway": []},
        "merge": {"--threads": ["1"], "--rounds": ["1"], "--set": TINY_MERGE},
        "evaluate": {"--threads": ["1"], "--episodes": ["2"]},
        "render": {"--seconds": ["0.2"], "--size": ["64x48"]},
        "view": {"--seconds": ["0.2"]},
        "export": {"--threads": ["1"], "--states": ["200"], "--episodes": ["2"]},
        "finetune": {
            "--threads": ["1"],
            "--steps": ["1024"],
            "--set": [*TINY_TRAINING, "warm_up_steps=512", "final_episodes=2", "patience=1"],
        },
        "plaid": {
            "--threads": ["1"],
            "--set": [
                "skills=[{skill: biped/flat, steps: 512}, {skill: biped/incline@0.5, steps: 512}, "
                "{skill: biped/gaps@0.5, steps: 512}]",
                *(f"train.{one}" for one in TINY_TRAINING),
                *(f"merge.{one}" for one in TINY_MERGE),
                *(
                    f"{part}.architecture.{net}=[16]"
                    for part in ("train", "merge")
                    for net in ("hidden", "critic_hidden")
                ),
                "measurement.episodes=1",
            ],
            "--no-video": [],
        },
        "add-skill": {"--threads": ["1"], "--steps": ["512"], "--train": TINY_TRAINING, "--merge": TINY_MERGE},
        "kd bench": {
            "--seeds": ["2"],
            "--task": ["textures"],
            "--task-option": ["train=24", "val=12", "test=12", "side=8"],
            "--epochs": ["1"],
            "--workers": ["1"],
        },
    }
)
"""Budgets of commands. One thread, because waiting for a second one costs more than small batches."""

CODE = {
    "merge_your_own.md": {
        "learn(10_000)": "learn(104)",
        "rounds=8, envs=8": "min_teacher_success=0.0, rounds=1, envs=4, updates=4, minibatch=64",
        "validation_episodes=16": "validation_episodes=2",
    },
}
"""Text of the Python blocks of a page, and what a test runs instead."""

FILMS = ("first_result", "your_own_robot")
"""Tutorials that draw."""


def can_draw():
    try:
        SceneRenderer(
            build_scene(get_robot("biped"), TrackBank([get_skill("biped/flat").terrain], 1, 0).tracks), 8, 8
        ).close()
    except MissingDependencyError:
        return False
    return True


class InThisProcess:
    """Runs jobs one after the other."""

    def __init__(self, workers):
        pass

    def map(self, work, jobs, progress):
        return [work(job, progress) for job in jobs]


@pytest.fixture(autouse=True)
def small_demo(monkeypatch):
    """The demo has no options for its budget: its plan is made small, and it starts no processes."""
    networks = Architecture(hidden=(16,), critic_hidden=(16,))
    plan = demo.DEMO_PLANS["biped"]
    train = replace(
        plan.train,
        steps=1024,
        segment_steps=1024,
        validation_episodes=2,
        finalists=1,
        architecture=networks,
        ppo=PpoConfig(envs=16, minibatch=128),
    )
    merge = replace(
        plan.merge, rounds=1, envs=4, updates=4, minibatch=64, validation_episodes=2, min_teacher_success=0.0,
        critic="none", architecture=networks,
    )  # fmt: skip
    monkeypatch.setattr(demo, "demo_plan", lambda robot: replace(plan, train=train, own={}, merge=merge))
    monkeypatch.setattr(demo, "Processes", InThisProcess)
    monkeypatch.setattr(demo, "render_video", partial(demo.render_video, seconds=0.2, size=(64, 48)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_runs(page, tmp_path, monkeypatch, capsys):
    if page.stem == "deploy" and not shutil.which("cc"):
        pytest.skip("no C compiler")
    if page.stem in FILMS and not can_draw():
        pytest.skip("no OpenGL library")
    if page.stem != "first_result":  # which draws its own
        leave_out_figures(monkeypatch)
    if page.stem == "plaid":
        monkeypatch.setattr(Robot, "episode_steps", property(lambda self: 16))
    monkeypatch.chdir(tmp_path)
    budget = replace(BUDGET, code=CODE.get(page.name, {}))
    with ROBOTS.scope():
        blocks = PageRun(page, budget, capsys).run()
    assert any(block.language in ("sh", "python") for block in blocks)
    assert any(block.title == "printed" for block in blocks)


def test_there_are_seven():
    assert len(PAGES) == 7


def test_a_budget_replaces_values_and_follows_assignments():
    budget = Budget({"train": {"--steps": ["9"], "--set": ["a=1"]}, "kd bench": {"--seeds": ["2"]}})
    assert shrunk(["train", "x", "--steps", "100", "--out", "o"], budget) == [
        "train", "x", "--steps", "9", "--out", "o", "--set", "a=1"
    ]  # fmt: skip
    assert shrunk(["train", "--set", "a=7", "b=8", "--out", "o"], budget) == [
        "train", "--set", "a=7", "b=8", "a=1", "--out", "o", "--steps", "9"
    ]  # fmt: skip
    assert shrunk(["kd", "bench", "--seeds", "10"], budget) == ["kd", "bench", "--seeds", "2"]
    assert shrunk(["kd", "list"], budget) == ["kd", "list"]


def test_lines_that_were_not_printed_are_found():
    printed = "flat: success 0.95,  reward\nsteps: success 0.5\ndone -> out\n"
    assert missing_lines("flat: success …, reward\n… -> out\n", printed) == []
    assert missing_lines("flat: success …, loss\n", printed) == ["flat: success …, loss"]
    assert missing_lines("flat … done\n", printed) == ["flat … done"], "a line is not continued on the next one"
    assert missing_lines("done …\nsteps: …\n", printed) == ["steps: …"], "their order counts"


def test_a_page_whose_program_or_files_are_wrong_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, text, words in (
        ("a", "```sh\npolicykd skills --galery x.png\n```\n", None),
        ("b", "```sh\nrm -r x\n```\n", "cannot run"),
        ("c", '```python\nprint("a")\n```\n\n```text title="printed"\nb\n```\n', "not printed: b"),
        ("d", '```text title="files"\nx.png\n```\n', "not there"),
        ("e", "```yaml\na: 1\n```\n", "without a name"),
    ):
        page = tmp_path / f"{name}.md"
        page.write_text(text)
        with pytest.raises((AssertionError, SystemExit), match=words):
            PageRun(page, Budget({}), capsys).run()
    good = tmp_path / "good.md"
    good.write_text('Save as `x.yaml`:\n\n```yaml\na: 1\n```\n\n```text title="files"\nx.yaml\n```\n')
    assert [block.saved_as for block in PageRun(good, Budget({}), capsys).run()] == ["x.yaml", ""]
    with pytest.raises(AssertionError, match="makes small"):
        PageRun(good, Budget({}, {"steps=1": "steps=2"}), capsys).run()
    assert blocks_of("no block") == []
