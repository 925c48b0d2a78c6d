"""What works without MuJoCo, or with another version of it: everything but the simulation of robots."""

import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from policykd.cli.main import main
from policykd.envs import simulator
from policykd.envs.simulator import require_simulator
from policykd.errors import MissingDependencyError

WITHOUT_SIMULATOR = """
import sys


class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("mujoco", "torchmetrics"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Blocked())
import tempfile
from pathlib import Path

import torch

import policykd.agents.export
import policykd.agents.importing
import policykd.agents.training
import policykd.curriculum
import policykd.evaluation
import policykd.kd
import policykd.merge
from policykd.envs.make import make_env
from policykd.envs.foreign.skill import gym_skill
from policykd.cli.main import main
from policykd.errors import MissingDependencyError
from policykd.kd.metric_registry import METRICS

env = make_env([gym_skill("gym:Pendulum-v1")], 2)
env.reset()
print(tuple(env.step(torch.zeros(2, 1)).flat.shape))
temporary = tempfile.TemporaryDirectory()
folder = temporary.name
short, ppo = 'gym:Pendulum-v1?{"max_episode_steps": 8}', ("ppo.envs=2", "ppo.rollout_steps=8", "ppo.minibatch=16")
main(["train", short, "--out", folder, "--steps", "16", "--set", "segment_steps=16", "validation_episodes=1", *ppo])
(expert,) = map(str, Path(folder).glob("*/policy"))
main(["merge", expert, "--out", f"{folder}/student", "--min-teacher-success", "0", "--set", "rounds=1", "envs=1",
      "updates=1", "validation_episodes=1"])
main(["evaluate", f"{folder}/student", "--episodes", "1", "--out", f"{folder}/evaluation.json"])
METRICS["accuracy"].make(3)
try:
    METRICS["miou"].make(3)
except MissingDependencyError as error:
    print(error)
print("mujoco" in sys.modules)
"""


WITHOUT_GYMNASIUM = """
import importlib.util
import sys

MISSING = ("mujoco", "gymnasium", "stable_baselines3", "numba", "tensorboard")
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in MISSING else find(name, *more)


class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Blocked())
from policykd.cli.main import main

out = sys.argv[1] + "/bench"
assert main(["kd", "list"]) == 0
bench = ["kd", "bench", "--task", "textures", "--methods", "ce,kd", "--seeds", "2", "--workers", "1"]
sizes = [f"{name}={size}" for name, size in (("train", 40), ("val", 20), ("test", 20), ("side", 8))]
small = ["student=resnet8:2,2,2,2", "teacher=resnet8:2,2,4,4", "teacher_train.epochs=1"]
assert main([*bench, "--task-option", *sizes, "--set", *small, "--epochs", "1", "--out", out]) == 0
assert main(["train", "biped/flat", "--out", out + "/x"]) == 2
"""

BOTH = """
import os
import sys
import traceback

# These take seconds, so they are imported once, before the forks in which the scripts run.
import matplotlib.figure
import scipy.optimize
import torch
import torch._dynamo
import tyro

loaded = {"mujoco", "gymnasium", "stable_baselines3", "numba", "tensorboard", "torchmetrics", "policykd"}
assert not loaded & sys.modules.keys(), "what the scripts block or prove must not be there before them"
children = []
for place in (0, 1):
    script, folder = sys.argv[1 + 2 * place : 3 + 2 * place]
    children.append(os.fork())
    if children[-1]:
        continue
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT), number)
    sys.argv[1:] = [folder]
    try:
        exec(compile(script, "script", "exec"), {"__name__": "__main__"})
        status = 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


@dataclass
class Done:
    """What is left of a script."""

    folder: Path
    returncode: int

    def text(self, name):
        return (self.folder / name).read_text()


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """Both scripts, run in processes of their own."""
    folders = [tmp_path_factory.mktemp(name) for name in ("simulator", "gymnasium")]
    words = [WITHOUT_SIMULATOR, str(folders[0]), WITHOUT_GYMNASIUM, str(folders[1])]
    done = subprocess.run([sys.executable, "-c", BOTH, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [Done(folder, int(status)) for folder, status in zip(folders, done.stdout.split(), strict=True)]


def test_gymnasium_environments_and_distillation_load_no_simulator(scripts):
    done = scripts[0]
    assert done.returncode == 0, done.text("stderr")[-2000:]
    shape, *commands, missing, loaded = done.text("stdout").splitlines()
    assert shape == "(2, 3)"
    assert any(line.startswith("merge gym:Pendulum-v1") for line in commands)
    assert sum("random actions" in line for line in commands) == 1
    assert missing.startswith("this metric needs the extra: pip install 'policykd[kd]'")
    assert loaded == "False"


@pytest.mark.parametrize(("version", "words"), [("3.3.0", "needs mujoco 4.0, and 3.3.0 is installed"),
                                                ("4.1.2", "and 4.1.2 is installed")])  # fmt: skip
def test_another_mujoco_is_named_with_the_cure(monkeypatch, version, words):
    monkeypatch.setattr(simulator, "installed_version", lambda: version)
    with pytest.raises(MissingDependencyError, match=words):
        require_simulator()


def test_missing_mujoco_is_named_with_the_extra(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(simulator.metadata, "version", missing)
    monkeypatch.setattr(simulator, "installed_version", simulator.installed_version.__wrapped__)
    with pytest.raises(MissingDependencyError, match=r"pip install 'policykd\[sim\]'"):
        require_simulator()
    monkeypatch.undo()
    require_simulator()


def test_supervised_distillation_needs_neither_gymnasium_nor_a_compiler(scripts):
    done = scripts[1]
    assert done.returncode == 0, done.text("stderr")[-2000:]
    assert (done.folder / "bench" / "result.json").exists()
    message = " ".join(done.text("stderr").split())
    assert "is not installed, which this command needs: pip install 'policykd[gym]'" in message


def test_a_missing_package_of_another_kind_is_not_hidden(monkeypatch):
    def fail(self, console):
        raise ModuleNotFoundError("No module named 'xyz'", name="xyz")

    monkeypatch.setattr("policykd.cli.commands.describe.Describe.run", fail)
    with pytest.raises(ModuleNotFoundError):
        main(["describe", "policy"])
