"""Whole episodes of a policy, one per simulation, for validation and evaluation.

It runs environments from ``policykd.envs`` and knows neither training nor merging.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

import torch

from policykd.agents.acting import Acting
from policykd.agents.policy import Policy
from policykd.envs.capture import Captured, Recorder, recorder_for
from policykd.envs.foreign.gym_batch import GymBatch
from policykd.envs.foreign.joint_batch import JointBatch
from policykd.envs.foreign.skill import choices_of
from policykd.envs.make import AnyEnv
from policykd.seeding import integer_seed

if TYPE_CHECKING:
    from policykd.envs.batched_env import BatchedEnv
    from policykd.envs.masked_env import MaskedEnv


@dataclass(frozen=True)
class EpisodeOutcomes:
    """One episode per simulation, n of them, in the order of the simulations; tensors on the CPU.

    Attributes:
        total_reward: (n,) sum of the rewards.
        length: (n,) steps until the fall or the end of the episode.
        distance: (n,) distance covered, m.
        success: (n,) whether the episode ended without a fall and covered the task's least distance.
        episode_steps: steps of a whole episode.
    """

    total_reward: torch.Tensor
    length: torch.Tensor
    distance: torch.Tensor
    success: torch.Tensor
    episode_steps: int

    @property
    def reward_per_step(self) -> torch.Tensor:
        """(n,) total reward over the steps of a whole episode: steps after an early end count as 0."""
        return self.total_reward / self.episode_steps


def run_random_episodes(env: AnyEnv, seed: int) -> EpisodeOutcomes:
    """Run one episode of uniformly random actions in every simulation, as a reference; see :func:`run_episodes`."""
    generator = torch.Generator().manual_seed(integer_seed(seed, "random actions"))

    def act(flat: torch.Tensor) -> torch.Tensor:
        return (2.0 * torch.rand(len(flat), env.num_actions, generator=generator) - 1.0).to(flat.device)

    return run_actions(act, env)


def run_episodes(policy: Policy, env: AnyEnv, *, noise: bool = False) -> EpisodeOutcomes:
    """Run one episode in every simulation; a recurrent policy begins each episode without memory.

    Args:
        policy: the policy, on the environment's device; its mean acts, or with ``noise`` a sample from its Gaussian, or
            from the categorical distribution of discrete actions.
        env: the environment; it is reset first. Seed it for repeatable episodes.
        noise: whether to act stochastically.

    Returns:
        The outcomes.

    Raises:
        ContractError: if the environment lacks an observation group that the policy reads.
        ConfigError: if the engine dropped contacts.
    """
    columns, acting = env.skill.columns, Acting(policy)

    def act(flat: torch.Tensor) -> torch.Tensor:
        observations = policy.select(flat, columns)
        if not noise:
            return acting(observations)
        if choices_of(env.robot):  # the largest of logits with Gumbel noise is a sample of the categorical distribution
            logits = acting(observations)
            return logits - torch.log(-torch.log(torch.rand_like(logits).clamp_min(1e-30)))
        return acting.distribution(observations).sample()

    replayable = not (noise or policy.recurrent)
    return run_actions(act, env, acting.forget, replayable=replayable)


def _remember_nothing(ended: torch.Tensor) -> None:
    """Random actions depend on no earlier ones."""


@torch.no_grad()
def run_actions(
    act: Callable[[torch.Tensor], torch.Tensor],
    env: AnyEnv,
    forget: Callable[[torch.Tensor], None] = _remember_nothing,
    *,
    replayable: bool = False,
    record: Recorder | None = None,
) -> EpisodeOutcomes:
    """Run one episode in every simulation, with actions from a function.

    Args:
        act: function of flat observations (n, features) to actions (n, actions).
        env: the environment; it is reset first.
        forget: called after every step with (n,) whether the episode ended.
        replayable: whether ``act`` is a pure function and ``forget`` does nothing, so that steps may be recorded.
        record: recorder of the steps with masks; None for that of the device.

    Returns:
        The outcomes.

    Raises:
        ConfigError: if the engine dropped contacts.
    """
    flat = torch.cat(list(env.reset().values()), dim=-1)
    tally, steps = _Tally(env.num_envs, env.device), env.skill.episode_steps
    if not isinstance(env, (GymBatch, JointBatch)) and _steps_with_masks(env):
        record = (record or recorder_for(env.device)) if replayable else None
        _run_masked(_MaskedSteps(act, env, forget, tally, flat), steps, record)
    else:
        _run_listed(act, env, forget, tally, flat)
    env.check_overflow()
    return tally.outcomes(steps)


def _steps_with_masks(env: BatchedEnv) -> TypeGuard[MaskedEnv]:
    from policykd.envs.masked_env import MaskedEnv  # needs MuJoCo, which gymnasium environments may not

    return isinstance(env, MaskedEnv)


class _Tally:
    """The first episode of every simulation, on the device.

    Attributes:
        open: (n,) whether it still runs.
    """

    def __init__(self, n: int, device: torch.device) -> None:
        self.open = torch.ones(n, dtype=torch.bool, device=device)
        self.total, self.distance = (torch.zeros(n, dtype=torch.float64, device=device) for _ in range(2))
        self.length, self.success = (torch.zeros(n, dtype=kind, device=device) for kind in (torch.long, torch.bool))

    def outcomes(self, steps: int) -> EpisodeOutcomes:
        """Return the outcomes; this waits for the device."""
        return EpisodeOutcomes(self.total.cpu(), self.length.cpu(), self.distance.cpu(), self.success.cpu(), steps)


def _run_listed(
    act: Callable[[torch.Tensor], torch.Tensor],
    env: AnyEnv,
    forget: Callable[[torch.Tensor], None],
    tally: _Tally,
    flat: torch.Tensor,
) -> None:
    """Run the episodes with lists of those that ended."""
    for _ in range(env.skill.episode_steps):
        step = env.step(act(flat))
        forget(step.terminated | step.truncated)
        flat, e = step.flat, step.episodes
        if not len(e.ids):
            continue
        first = tally.open[e.ids]
        ids = e.ids[first]
        tally.total[ids], tally.distance[ids] = e.total_reward[first].double(), e.distance[first].double()
        tally.length[ids], tally.success[ids] = e.length[first], e.success[first]
        tally.open[ids] = False
        if isinstance(env, (GymBatch, JointBatch)):  # they run one after the other: what is not needed costs time
            env.rest(ids)
        if not tally.open.any():
            break


_LOOK_EVERY = 64
"""Steps with masks between two looks at whether an episode still runs, for which the host waits."""


@dataclass(frozen=True)
class _MaskedSteps:
    """The two parts of a step with masks around the physics, pure functions over static tensors."""

    policy: Callable[[torch.Tensor], torch.Tensor]
    env: MaskedEnv
    forget: Callable[[torch.Tensor], None]
    tally: _Tally
    flat: torch.Tensor

    def act(self) -> None:
        """Give the environment the actions for its present states."""
        self.env.aim(self.policy(self.flat))

    def store(self) -> None:
        """Take down the episodes that ended for the first time, and the next states."""
        step, tally = self.env.conclude(), self.tally
        self.forget(step.ended)
        first, o = tally.open & step.ended, step.outcome
        found = ((tally.total, o.total_reward), (tally.distance, o.distance), (tally.length, o.length),
                 (tally.success, o.success))  # fmt: skip
        for mine, value in found:
            mine.copy_(torch.where(first, value.to(mine.dtype), mine))
        tally.open.logical_and_(~step.ended)
        self.flat.copy_(step.flat)


def _run_masked(steps: _MaskedSteps, count: int, record: Recorder | None) -> None:
    """Run the episodes with masks."""
    act, store = Captured(steps.act, record), Captured(steps.store, record, [steps.env.picker])
    for k in range(count):
        act()
        steps.env.advance()
        store()
        if k % _LOOK_EVERY == _LOOK_EVERY - 1 and not steps.tally.open.any():
            break
