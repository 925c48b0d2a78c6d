"""Checks of exported files: equal actions on states that the policy visits, and equal success in closed loop.

It simulates and compares; it writes nothing.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from typing_extensions import override

from policykd.agents.acting import Acting, replay
from policykd.agents.episodes import EpisodeOutcomes
from policykd.agents.export.runtime import Runtime
from policykd.agents.files.manifest import Action
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import RecurrentPolicy
from policykd.agents.validation import Validation
from policykd.envs.env_records import EnvConfig
from policykd.envs.make import make_env
from policykd.envs.skills import Skill
from policykd.seeding import generator, integer_seed

TOLERANCE = 1e-5
"""Largest difference in actions, and in joint targets (rad), between a policy and its exported file."""


_CLOSE_REWARD = 0.01
"""Relative difference of the total rewards of two episodes that count as alike."""


@dataclass(frozen=True)
class Comparison:
    """An exported file compared with its policy.

    Attributes:
        states: states that were compared.
        largest_action: largest absolute difference of an action.
        largest_target: largest absolute difference of a joint target, rad; of an action in its own units in a gymnasium
            environment.
        success: success of the policy and of the file over the same episodes.
        same_outcomes: episodes that succeed or fail in both alike; where a skill's rewards are not in [0, 1] and it may
            have no success, episodes whose total rewards differ by less than 1 %.
        episodes: episodes in closed loop.
        reward_per_step: mean reward per step of the policy and of the file over the same episodes.
        by_success: whether episodes are alike by success.
    """

    states: int
    largest_action: float
    largest_target: float
    success: tuple[float, float]
    same_outcomes: int
    episodes: int
    reward_per_step: tuple[float, float]
    by_success: bool

    @property
    def passed(self) -> bool:
        """Whether both differences are within :data:`TOLERANCE`."""
        return max(self.largest_action, self.largest_target) <= TOLERANCE


@dataclass(frozen=True)
class Visited:
    """Observations that a policy sees while it acts with exploration noise.

    Attributes:
        observations: (steps, n, observation_size) of n simulations.
        ended: (steps, n) whether an episode ended with the step.
    """

    observations: torch.Tensor
    ended: torch.Tensor


@torch.no_grad()
def visit(policy: RecurrentPolicy, skill: Skill, count: int, seed: int, threads: int | None = None) -> Visited:
    """Return at least ``count`` observations of a recurrent policy, in order, from the beginning of episodes on."""
    env = make_env([skill], 64, seed=integer_seed(seed, "on-policy"), config=EnvConfig(tracks=64), threads=threads)
    noise, acting, seen, done = generator(seed, "on-policy noise"), Acting(policy), [], []
    flat = torch.cat(list(env.reset().values()), dim=1)
    for _ in range(-(-count // env.num_envs)):
        rows = policy.select(flat, skill.columns)
        gaussian = acting.distribution(rows)
        draws = torch.from_numpy(noise.standard_normal(gaussian.mean.shape)).to(gaussian.mean)
        step = env.step(gaussian.mean + gaussian.stddev * draws)
        over = step.terminated | step.truncated
        acting.forget(over)
        flat = step.flat
        seen.append(rows.clone())
        done.append(over.clone())
    return Visited(torch.stack(seen), torch.stack(done))


def compare(
    policy: Policy,
    actions: tuple[Action, ...],
    runtime: Runtime,
    skill: Skill,
    states: torch.Tensor | Visited,
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
        states: (n, observation_size) observations, or, for a recurrent policy, those of whole episodes, along which
            policy and file keep a state each.
        episodes: episodes of the closed loop, on equal tracks.
        seed: seed of the tracks.
        threads: threads of the simulation; None for all.
    """
    expected, found_actions, found_targets = _both(policy, runtime, states)
    stand, scale = (np.array([getattr(a, key) for a in actions]) for key in ("stand", "scale"))
    low, high = np.array([a.limits for a in actions]).T
    targets = (stand + scale * expected).clip(low, high)
    validation = Validation([skill], episodes, seed=seed, threads=threads)
    kind = ExportedRecurrentPolicy if policy.recurrent else ExportedPolicy
    outcomes: list[EpisodeOutcomes] = [validation.run(p) for p in (policy, kind(policy, runtime))]
    by_success = skill.task.bounded
    mine, theirs = (o.success if by_success else o.total_reward for o in outcomes)
    same = mine == theirs if by_success else torch.isclose(mine, theirs, rtol=_CLOSE_REWARD, atol=_CLOSE_REWARD)
    return Comparison(
        states=len(expected),
        largest_action=float(np.abs(found_actions - expected).max()),
        largest_target=float(np.abs(found_targets - targets).max()),
        success=_means(*(o.success for o in outcomes)),
        same_outcomes=int(same.sum()),
        episodes=episodes,
        reward_per_step=_means(*(o.reward_per_step for o in outcomes)),
        by_success=by_success,
    )


def _means(mine: torch.Tensor, theirs: torch.Tensor) -> tuple[float, float]:
    return float(mine.double().mean()), float(theirs.double().mean())


@torch.no_grad()
def _both(
    policy: Policy, runtime: Runtime, states: torch.Tensor | Visited
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the policy's actions, and actions and joint targets of the file, each (n, actions)."""
    if isinstance(states, torch.Tensor):
        actions, targets = runtime(states.numpy())
        return policy(states).clamp(-1.0, 1.0).numpy(), actions, targets
    assert isinstance(policy, RecurrentPolicy)
    expected = replay(policy, states.observations.flatten(0, 1), states.ended).clamp(-1.0, 1.0)
    state = np.zeros((states.ended.shape[1], policy.state_size), dtype=np.float32)
    found = []
    for rows, over in zip(states.observations, states.ended, strict=True):
        actions, targets, state = runtime(rows.numpy(), state)
        state = np.where(over[:, None].numpy(), np.float32(0.0), state)
        found.append((actions, targets))
    actions, targets = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return expected.numpy(), actions, targets


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


class ExportedRecurrentPolicy(RecurrentPolicy):
    """A recurrent policy whose actions and states come from an exported file; arguments as :class:`ExportedPolicy`."""

    def __init__(self, policy: Policy, runtime: Runtime) -> None:
        torch.nn.Module.__init__(self)
        self.__dict__.update(copy.deepcopy(policy).__dict__)
        self._runtime = runtime

    @override
    def advance(self, observations: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        actions, _, after = self._runtime(observations.contiguous().numpy(), state.numpy())
        return torch.from_numpy(actions), torch.from_numpy(after)
