"""The page about a curriculum, and the commands that make it."""

from policykd.cli.main import main
from policykd.curriculum import save_recipe
from policykd.report.pages.curriculum import write_curriculum_page


def test_the_page_shows_everything_and_needs_no_network(finished):
    out, result = finished
    page = write_curriculum_page(out, video=False).read_text()
    for text in (
        "after incline",
        "train-flat",
        "merge-gaps",
        "relative change",
        "Where nobody was trained",
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


def test_the_command_prints_a_finished_run(finished, capsys, tmp_path):
    out, result = finished
    save_recipe(result.recipe, tmp_path / "mine.yaml")
    options = ["--recipe", str(tmp_path / "mine.yaml"), "--out", str(out), "--threads", "1", "--no-video"]
    assert main(["plaid", *options, "--resume"]) == 0
    printed = capsys.readouterr().out
    assert "forgotten" in printed
    assert f"retention mean {result.matrix.retention.mean():.3f}" in printed
    assert main(["plaid", *options]) == 2


def test_commands_refuse_bad_input(tmp_path, capsys):
    assert main(["plaid", "--curriculum", "plad", "--out", str(tmp_path / "a")]) == 2
    assert "did you mean plaid" in capsys.readouterr().err.replace("\n", " ")
    assert main(["compare", "--suite", "terain", "--out", str(tmp_path / "a")]) == 2
    assert "terrains" in capsys.readouterr().err
    assert main(["add-skill", str(tmp_path / "none"), "biped/walls", "--out", str(tmp_path / "a")]) == 2
    assert not (tmp_path / "a").exists()
