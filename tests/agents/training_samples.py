"""Policies of three features, and a progress that keeps its reports."""

from policykd.agents.architecture import Architecture
from policykd.agents.policy import Policy
from policykd.envs.skills import get_skill
from policykd.progress import Silent

FLAT, STEPS = get_skill("biped/flat"), get_skill("biped/steps")


def small_policy(seed=0, std=0.5, groups=None):
    return Policy(groups or {"a": 3}, 2, Architecture((4,), (4,), initial_std=std), seed)


class Told(Silent):
    def __init__(self):
        self.all = []

    def begin(self, name, total, unit):
        self.all.append((name, total, unit))

    def update(self, name, done, **figures):
        self.all.append((name, done, figures))

    def end(self, name, message=""):
        self.all.append((name, message))
