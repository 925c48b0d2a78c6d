"""Bad input is refused in one line before any work, and a disk that is full ends a command with its cause."""

import errno
import io
import os
import sys
from pathlib import Path

import pytest

from policykd.cli.main import main
from policykd.cli.overrides import read_value
from policykd.errors import ConfigError, OutputError
from policykd.plain import typed
from policykd.seeding import generator, integer_seed, seed_sequence
from policykd.storage import prepare_file, reason_of, write_bytes, write_text

STORED = str(Path(__file__).parents[1] / "data" / "flat-expert")


def refused(arguments, capsys):
    """Return the error line of a command that must end with status 2."""
    assert main(arguments) == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", STORED, "--skills", "biped/flat"],
        ["audit", STORED],
        ["describe", STORED],
        ["diff", STORED, STORED],
        ["lineage", STORED],
        ["render", STORED, "--skill", "biped/flat"],
        ["view", STORED],
        ["doctor"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_result_that_cannot_be_written_is_refused_first(arguments, tmp_path, capsys, monkeypatch):
    # Reading a policy comes after the check of the output, so no policy is read here.
    monkeypatch.setattr("policykd.agents.files.policy_file.read_parts", lambda path: pytest.fail("work began"))
    assert "is a folder; name a file in it" in refused([*arguments, "--out", str(tmp_path)], capsys)
    (tmp_path / "file").write_text("")
    assert "cannot write to" in refused([*arguments, "--out", str(tmp_path / "file" / "x.mp4")], capsys)


def test_folders_of_results_are_created(tmp_path):
    assert prepare_file(tmp_path / "a" / "b" / "c.json") == tmp_path / "a" / "b" / "c.json"
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["demo", "--episodes", "0"], "episodes is 0; it must be in [1, 100000]"),
        (["demo", "--seed", "-1"], "seed is -1"),
        (["evaluate", STORED, "--skills", "biped/flat", "--seed", "-1"], "seed is -1; it must be at least 0"),
        (["evaluate", STORED, "--seconds", "0.001"], "episodes of 0.001 s are shorter than one step"),
        (["evaluate", STORED, "--seconds", "nan"], "episodes of nan s"),
        (["train", "biped/flat", "--set", "seed=2024-13-45"], "--set seed=2024-13-45: the value is not valid YAML"),
        (["train", "biped/flat", "--set", "ppo.clip_range=.nan"], "ppo.clip_range is NaN; it must be a number"),
        (["train", "biped/flat", "--set", "ppo.gamma=nan"], "ppo.gamma is NaN"),
        (["train", "biped/flat", "--set", "ppo.clip_range=-1"], "ppo.clip_range is -1.0; it must be in"),
        (["train", "biped/flat", "--set", "ppo.max_grad_norm=0"], "ppo.max_grad_norm is 0.0; it must be in"),
        (["train", "biped/flat", "--set", "ppo.entropy_weight=-0.1"], "ppo.entropy_weight is -0.1; it must be in"),
        (["train", "biped/flat", "--set", "sac.warmup_steps=-5"], "sac.warmup_steps is -5; it must be in"),
        (["train", "biped/flat", "--set", "target_reward=.inf"], "target_reward is inf; it must be in"),
        (["kd", "bench", "--task", "npz"], "task npz needs the option path: add --task-option path=<value>"),
        (
            ["kd", "bench", "--task", "textures", "--task-option", "classes=abc"],
            "--task-option classes is 'abc'; it must be of type int",
        ),
        (["kd", "bench", "--task", "textures", "--task-option", "clases=3"], "option of task textures: 'clases'"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(arguments, text, tmp_path, capsys):
    assert text in refused([*arguments, "--out", str(tmp_path / "out")], capsys)


@pytest.mark.parametrize("text", ["!!int abc", "2024-13-45", "[" * 3000, "!!bool maybe", "!!timestamp x", "{a: ["])
def test_yaml_that_cannot_be_constructed_is_refused(text):
    with pytest.raises(ConfigError, match="the value is not valid YAML"):
        read_value(text, "--set x=...")


def test_nan_is_not_a_number_and_infinity_is():
    for value in (float("nan"), "nan"):
        with pytest.raises(ConfigError, match="x is NaN"):
            typed(float, value, "x")
    assert typed(float, "inf", "x") == float("inf")


def test_negative_seeds_have_a_message():
    for call in (seed_sequence, generator, integer_seed):
        with pytest.raises(ConfigError, match="seed is -3; it must be at least 0"):
            call(-3, "purpose")
    assert integer_seed(0, "a") != integer_seed(1, "a")


@pytest.mark.parametrize(
    ("number", "cure"),
    [(errno.ENOSPC, "free some space"), (errno.EDQUOT, "free some space"), (errno.EROFS, "choose another --out")],
)
def test_the_reason_of_a_failed_write_names_the_cure(number, cure, tmp_path, monkeypatch, capsys):
    error = OSError(number, os.strerror(number))
    assert reason_of(error).startswith(os.strerror(number))
    assert cure in reason_of(error)

    def fail(file):
        raise error

    monkeypatch.setattr("policykd.storage.os.fsync", fail)
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(OutputError, match=r"cannot write .*a\.txt"):
        write_text(tmp_path / "a.txt", "new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_write_below_a_file_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*file/x: Not a directory"):
        write_bytes(tmp_path / "file" / "x", b"")


def test_other_errors_of_the_system_are_one_line(monkeypatch, capsys):
    def fail(self, console):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/disk/weights")

    monkeypatch.setattr("policykd.cli.commands.describe.Describe.run", fail)
    message = refused(["describe", STORED], capsys)
    assert message.startswith("error: /disk/weights: No space left on device; free some space")


def test_an_old_locale_ends_no_command(monkeypatch):
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii")  # that of PYTHONIOENCODING=ascii
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["describe", STORED]) == 0
    stream.flush()
    assert b"right_thigh" in written.getvalue()
    assert written.getvalue().isascii()
