"""Checks of exported files: equal actions on states that the policy visits, and equal success in closed loop.

It simulates and compares; it writes nothing.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from typing_extensions import override

from policykd.agents.episodes import EpisodeOutcomes
from policykd.agents.export.runtime import Runtime
from policykd.agents.files.manifest import Action
from policykd.agents.policy import Policy
from policykd.agents.validation import Validation
from policykd.envs.skills import Skill

TOLERANCE = 1e-5
"""Largest difference in actions, and in joint targets (rad), between a policy and its exported file."""


@dataclass(frozen=True)
class Comparison:
    """An exported file compared with its policy.

    Attributes:
        states: states that were compared.
        largest_action: largest absolute difference of an action.
        largest_target: largest absolute difference of a joint target, rad.
        success: success of the policy and of the file over the same episodes.
        same_outcomes: episodes that succeed or fail in both alike.
        episodes: episodes in closed loop.
    """

    states: int
    largest_action: float
    largest_target: float
    success: tuple[float, float]
    same_outcomes: int
    episodes: int

    @property
    def passed(self) -> bool:
        """Whether both differences are within :data:`TOLERANCE`."""
        return max(self.largest_action, self.largest_target) <= TOLERANCE


def compare(
    policy: Policy,
    actions: tuple[Action, ...],
    runtime: Runtime,
    skill: Skill,
    states: torch.Tensor,
    *,
    episodes: int,
    seed: int,
    threads: int | None = None,
) -> Comparison:
    """Compare an exported file with its policy, state by state and in closed loop.

    Args:
        policy: the policy.
        actions: mapping of its actions.
        runtime: the exported file as a function.
        skill: skill of the closed loop.
        states: (n, observation_size) observations.
        episodes: episodes of the closed loop, on equal tracks.
        seed: seed of the tracks.
        threads: threads of the simulation; None for all.
    """
    found_actions, found_targets = runtime(states.numpy())
    with torch.no_grad():
        expected = policy(states).clamp(-1.0, 1.0).numpy()
    stand, scale = (np.array([getattr(a, key) for a in actions]) for key in ("stand", "scale"))
    low, high = np.array([a.limits for a in actions]).T
    targets = (stand + scale * expected).clip(low, high)
    validation = Validation([skill], episodes, seed=seed, threads=threads)
    outcomes: list[EpisodeOutcomes] = [validation.run(p) for p in (policy, ExportedPolicy(policy, runtime))]
    mine, theirs = (o.success for o in outcomes)
    return Comparison(
        states=len(states),
        largest_action=float(np.abs(found_actions - expected).max()),
        largest_target=float(np.abs(found_targets - targets).max()),
        success=(float(mine.double().mean()), float(theirs.double().mean())),
        same_outcomes=int((mine == theirs).sum()),
        episodes=episodes,
    )


class ExportedPolicy(Policy):
    """A policy whose actions come from an exported file.

    Args:
        policy: the policy that was exported; its groups and sizes are taken over.
        runtime: the exported file as a function.
    """

    def __init__(self, policy: Policy, runtime: Runtime) -> None:
        torch.nn.Module.__init__(self)
        self.__dict__.update(copy.deepcopy(policy).__dict__)
        self._runtime = runtime

    @override
    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self._runtime(observations.contiguous().numpy())[0])
