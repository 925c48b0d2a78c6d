"""Stages of two skills and what stands in for their policies."""

from dataclasses import replace
from types import SimpleNamespace

import torch
from tiny_curriculum import TINY

from policykd.agents.architecture import Architecture
from policykd.curriculum.stages import Train
from policykd.envs.robots import get_robot
from policykd.envs.skills import get_skill
from policykd.evaluation.results import Episodes
from policykd.storage import write_json

FLAT, GAPS = get_skill("biped/flat"), get_skill("biped/gaps")


def store(path, content):
    """Write a JSON file into a folder that need not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)


class Loaded:
    """Stands in for a policy that was read from a file."""

    def __init__(self, path):
        self.policy = SimpleNamespace(log_std=SimpleNamespace(data=torch.zeros(2)), architecture=Architecture())
        self.manifest = SimpleNamespace(
            weights_sha256=f"{path.parent.name}", robot="biped", skills=("biped/flat",), skill_records=None,
            operation="merge", parents=(1,), seed=8, metrics={"m": 1}, config={"c": 2},
            body=lambda: get_robot("biped"),
        )  # fmt: skip

    def __iter__(self):
        return iter((self.policy, self.manifest))


CELL = Episodes((1.0, 3.0), (0.25, 0.75), (4, 4), (1.0, 2.0), (True, False))


def train(name, start=None, steps=100):
    return Train(name, (FLAT,), replace(TINY.train, steps=steps), start)
