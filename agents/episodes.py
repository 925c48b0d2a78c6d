"""Whole episodes of a policy, one per simulation, for validation and evaluation.

It runs environments from ``policykd.envs`` and knows neither training nor merging.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from policykd.agents.acting import Acting
from policykd.agents.policy import Policy
from policykd.envs.foreign.gym_batch import GymBatch
from policykd.envs.foreign.joint_batch import JointBatch
from policykd.envs.foreign.skill import choices_of
from policykd.envs.make import AnyEnv
from policykd.seeding import integer_seed


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

    return run_actions(act, env, acting.forget)


def _remember_nothing(ended: torch.Tensor) -> None:
    """Random actions depend on no earlier ones."""


@torch.no_grad()
def run_actions(
    act: Callable[[torch.Tensor], torch.Tensor],
    env: AnyEnv,
    forget: Callable[[torch.Tensor], None] = _remember_nothing,
) -> EpisodeOutcomes:
    """Run one episode in every simulation, with actions from a function.

    Args:
        act: function of flat observations (n, features) to actions (n, actions).
        env: the environment; it is reset first.
        forget: called after every step with (n,) whether the episode ended.

    Returns:
        The outcomes.

    Raises:
        ConfigError: if the engine dropped contacts.
    """
    flat = torch.cat(list(env.reset().values()), dim=-1)
    n, device = env.num_envs, env.device
    open_ = torch.ones(n, dtype=torch.bool, device=device)
    total, distance = (torch.zeros(n, dtype=torch.float64, device=device) for _ in range(2))
    length, success = (torch.zeros(n, dtype=kind, device=device) for kind in (torch.long, torch.bool))
    for _ in range(env.skill.episode_steps):
        step = env.step(act(flat))
        forget(step.terminated | step.truncated)
        flat, e = step.flat, step.episodes
        first = open_[e.ids]
        ids = e.ids[first]
        total[ids], distance[ids] = e.total_reward[first].double(), e.distance[first].double()
        length[ids], success[ids] = e.length[first], e.success[first]
        open_[ids] = False
        if isinstance(env, (GymBatch, JointBatch)):  # they run one after the other: what is not needed costs time
            env.rest(ids)
        if not open_.any():
            break
    env.check_overflow()
    return EpisodeOutcomes(total.cpu(), length.cpu(), distance.cpu(), success.cpu(), env.skill.episode_steps)
