"""The page about a curriculum, and the commands that make it."""

import shutil

import pytest

from policykd.cli.commands.compare import Compare
from policykd.cli.main import main
from policykd.curriculum import CURRICULA, compared_curricula, save_recipe
from policykd.curriculum.stage_runner import StageFolders
from policykd.report import video
from policykd.report.pages.curriculum import _lineage
from policykd.report.video import film_curriculum


def test_the_command_prints_a_finished_run_and_writes_its_page(finished, monkeypatch, capsys, tmp_path):
    """Neither simulates nor films; the page shows everything and needs no network."""
    out, result = finished
    monkeypatch.setattr("policykd.envs.batched_env.BatchedEnv.__init__", lambda *_, **__: pytest.fail("simulated"))
    save_recipe(result.recipe, tmp_path / "mine.yaml")
    options = ["--recipe", str(tmp_path / "mine.yaml"), "--out", str(out), "--threads", "1", "--no-video"]
    assert main(["plaid", *options, "--resume"]) == 0
    printed = capsys.readouterr().out
    assert "forgotten" in printed
    assert f"retention mean {result.matrix.retention.mean():.3f}" in printed
    assert main(["plaid", *options]) == 2
    page = (out / "index.html").read_text()
    for text in (
        "after incline",
        "train-flat",
        "merge-gaps",
        "relative change",
        "Skills without training",
        "What it cost",
        "Which policy came from which",
        "Terrains",
        "Training of the experts",
        "exponential:0.5",
        "stable-baselines3",
        f"{result.matrix.retention[1]:.3f}",
    ):
        assert text in page, text
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert (out / "plots" / "matrix.svg").exists()


def test_lineage_is_that_of_the_stages(finished):
    """Parents come from the manifests; a stage's folder may have any name."""
    out, result = finished
    lineage = {name: (kind, parents) for name, kind, parents in _lineage(result, StageFolders(out / "stages"))}
    assert lineage == {
        "train-flat": ("train", []),
        "train-incline": ("train", ["train-flat"]),
        "inject": ("inject", ["train-incline"]),
        "merge-incline": ("merge", ["train-flat", "inject"]),
        "train-gaps": ("train", ["merge-incline"]),
        "merge-gaps": ("merge", ["merge-incline", "train-gaps"]),
    }


def test_a_curriculum_is_filmed_once(finished, monkeypatch, tmp_path):
    out, result = finished
    made = []

    def touch(policy, skill, path, *, seed, seconds):
        path.parent.mkdir(exist_ok=True)
        path.touch()
        made.append((skill.id, path.name))

    for name in ("render_video", "film_strip"):
        monkeypatch.setattr(video, name, touch)
    copy = shutil.copytree(out, tmp_path / "copy")
    clips = film_curriculum(copy)
    assert [clip.name for clip in clips] == ["flat.mp4", "incline.mp4", "gaps.mp4"]
    assert [skill for skill, _ in made] == [skill for skill in result.matrix.skills for _ in range(2)]
    assert made[1] == ("biped/flat", "flat-strip.png")
    assert film_curriculum(copy) == clips
    assert len(made) == 6


def test_commands_refuse_bad_input(tmp_path, capsys):
    assert main(["plaid", "--curriculum", "plad", "--out", str(tmp_path / "a")]) == 2
    assert "did you mean plaid" in capsys.readouterr().err.replace("\n", " ")
    assert main(["compare", "--suite", "terain", "--out", str(tmp_path / "a")]) == 2
    assert "terrains" in capsys.readouterr().err
    assert main(["add-skill", str(tmp_path / "none"), "biped/walls", "--out", str(tmp_path / "a")]) == 2
    assert not (tmp_path / "a").exists()


def test_help_and_defaults_of_the_commands_come_from_the_registry(capsys):
    for command in ("plaid", "compare"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        shown = capsys.readouterr().out
        assert all(name in shown for name in CURRICULA), command
    only_named = ("multitasker-joint", "scratch+merge+finetune")
    assert Compare().curricula == compared_curricula() == tuple(n for n in CURRICULA if n not in only_named)
