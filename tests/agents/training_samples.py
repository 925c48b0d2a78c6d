"""Policies of three features, and the skills of their tests."""

from policykd.agents.architecture import Architecture
from policykd.agents.policy import Policy
from policykd.envs.skills import get_skill

FLAT, STEPS = get_skill("biped/flat"), get_skill("biped/steps")


def small_policy(seed=0, std=0.5, groups=None):
    return Policy(groups or {"a": 3}, 2, Architecture((4,), (4,), initial_std=std), seed)
