"""Settings out of range of the systems themselves: one line that starts with "error:", before anything is trained."""

import dataclasses

import pytest
from rich.console import Console

from policykd.cli.commands.kd_run import KdRun
from policykd.cli.main import main
from policykd.errors import PolicykdError
from policykd.kd.systems import SYSTEMS

NEVER = ("epochs", "steps", "lr", "learning_rate", "batch_size")


def paths(config, prefix=""):
    """Dotted paths of the fields that no training allows to be -1."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from paths(value, f"{prefix}{field.name}.")
        elif field.name in NEVER and isinstance(value, int | float):
            yield f"{prefix}{field.name}"


@pytest.mark.parametrize("name", SYSTEMS.names())
def test_no_system_trains_with_a_negative_setting(name, tmp_path):
    found = list(paths(SYSTEMS[name].config))
    for path in found:
        command = KdRun((name,), out=tmp_path / path, seeds=1, workers=1, set=(f"{path}=-1",))
        with pytest.raises(PolicykdError, match=path.rpartition(".")[2]):
            command.run(Console(quiet=True))
        assert not list(tmp_path.rglob("cells/*.json")), path
    if name == "takd":
        assert found


@pytest.mark.parametrize("setting", ["epochs=0", "lr=-1"])
def test_zero_epochs_and_negative_rates_are_refused_in_one_line(setting, tmp_path, capsys):
    config = SYSTEMS["takd"].config
    field, _, value = setting.partition("=")
    path = field if hasattr(config, field) else f"teacher.{field}"
    words = ("--seeds", "1", "--workers", "1", "--set", f"{path}={value}", "--out", str(tmp_path))
    assert main(["kd", "run", "takd", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert field in error
