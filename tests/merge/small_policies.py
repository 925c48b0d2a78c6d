"""Policies of three features and two actions."""

from policykd.agents.architecture import Architecture
from policykd.agents.policy import Policy


def small_policy(seed=0):
    return Policy({"a": 3}, 2, Architecture((4,), (4,)), seed)
