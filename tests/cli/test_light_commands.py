"""Commands that answer before torch, the simulator or Stable-Baselines3 are imported; one process runs all of them."""

import json
import subprocess
import sys

import pytest

from policykd.kd.data.data_set import DATA_SETS
from policykd.kd.registry import LOSSES
from policykd.kd.systems import SYSTEMS

COMMANDS = (("train", "--help"), ("kd", "list"), ("kd", "data"), ("kd", "run", "hinton"))
SCRIPT = """
import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout

from policykd.cli.main import main

found = []
for command in json.loads(sys.argv[1]):
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            status = main(command)
        except SystemExit as stop:
            status = stop.code
    heavy = [name for name in ("torch", "mujoco", "stable_baselines3") if name in sys.modules]
    found.append((status, out.getvalue(), err.getvalue(), heavy))
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def answers():
    """Status, output, errors and heavy packages after every command, in the order in which they ran."""
    words = [sys.executable, "-c", SCRIPT, json.dumps(COMMANDS)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return dict(zip(COMMANDS, json.loads(done.stdout), strict=True))


def test_help(answers):
    status, printed, _, heavy = answers["train", "--help"]
    assert (status, heavy) == (0, [])
    assert "environment steps" in printed


def test_kd_list_names_losses_and_systems(answers):
    status, printed, _, heavy = answers["kd", "list"]
    assert (status, heavy) == (0, [])
    losses, _, systems = printed.partition("systems")
    for name in LOSSES:
        assert name in losses
    for name in SYSTEMS:
        assert name in systems
    assert "teacher assistants of intermediate size" in " ".join(systems.split())


def test_kd_data_names_every_data_set(answers):
    status, printed, _, heavy = answers["kd", "data"]
    assert (status, heavy) == (0, [])
    assert all(name in printed for name in DATA_SETS)
    assert "CC BY-SA 4.0" in printed


def test_a_mistyped_system(answers):
    status, _, told, heavy = answers["kd", "run", "hinton"]
    assert (status, heavy) == (2, [])
    assert "did you mean hinton_kd" in " ".join(told.split())
