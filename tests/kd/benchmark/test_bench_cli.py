"""``policykd kd bench``: a small benchmark from the command line, drawn again from its folder; bad input in words."""

import pytest

from policykd.cli.main import main

SMALL = (
    *("--task", "textures", "--methods", "ce,kd", "--seeds", "2", "--epochs", "1", "--workers", "1"),
    *("--set", "student=resnet8:2,2,2,2", "teacher=resnet8:2,2,4,4", "teacher_train.epochs=1"),
    *("--task-option", "train=24", "val=12", "test=12", "side=8"),
)


def test_run_and_redraw(tmp_path, capsys):
    out, docs = tmp_path / "out", tmp_path / "docs" / "bench.md"
    assert main(["kd", "bench", *SMALL, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "too few seeds" in printed
    assert "teacher" in printed
    page = (out / "index.html").read_bytes()
    (out / "index.html").unlink()
    assert main(["kd", "bench", "--redraw", str(out), "--docs", str(docs)]) == 0
    assert (out / "index.html").read_bytes() == page
    assert "policykd kd bench --task textures --methods ce,kd --seeds 2" in docs.read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--task", "digit"), "unknown task 'digit'"),
        (("--methods", "ce,dkdd"), "did you mean dkd"),
        (("--methods", "kd"), "the baseline 'ce' is not among the methods"),
        (("--seeds", "1"), "fewer than two show no spread"),
        (("--methods", "ce", "--set", "train.epoch=3"), "did you mean epochs"),
        (("--methods", "ce", "--set", "train.batch_size=0"), "batch_size must be at least 1"),
        (("--methods", "ce", "--task-option", "noise"), "write it as name=value"),
        (("--methods", "ce", "--task-option", "noise=[1"), "the value is not valid YAML"),
        (("--redraw", "nowhere"), "holds no result.json"),
    ],
)
def test_bad_input(words, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["kd", "bench", *words]) == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())
