"""Settings out of range of the systems themselves: one line that starts with "error:", before anything is trained."""

import dataclasses

import pytest

from policykd.cli.main import main
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
def test_no_system_trains_with_a_negative_setting(name, tmp_path, capsys):
    found = list(paths(SYSTEMS[name].config))
    for path in found:
        words = ("--seeds", "1", "--workers", "1", "--set", f"{path}=-1", "--out", str(tmp_path / path))
        assert main(["kd", "run", name, *words]) == 2, path
        printed = capsys.readouterr()
        assert printed.err.startswith("error: "), path
        assert "Traceback" not in printed.err
        assert not list(tmp_path.glob("*/*/cells/*.json"))
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
