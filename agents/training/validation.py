"""Validation: how well a policy does on tracks that training never sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from policykd.agents.policy import Policy
from policykd.agents.rollout import run_episodes
from policykd.agents.training.config import TrainConfig
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.skills import Skill
from policykd.errors import ConfigError
from policykd.seeding import integer_seed


def check_episodes(skills: Sequence[Skill], config: TrainConfig) -> None:
    """Raise ConfigError for fewer validation episodes than skills."""
    if config.validation_episodes < len(skills):
        raise ConfigError(f"validation_episodes is {config.validation_episodes}; {len(skills)} skills need as many")


class Validation:
    """Episodes of the deterministic policy on the same tracks every time, spread evenly over the skills.

    Args:
        skills: what the policy is measured on.
        config: episodes, seed, threads and device.
        purpose: name of the validation; those of different names have different tracks.

    Raises:
        ConfigError: for fewer episodes than skills.
    """

    def __init__(self, skills: Sequence[Skill], config: TrainConfig, purpose: str = "validation") -> None:
        check_episodes(skills, config)
        self._skills, self._seed = tuple(skills), integer_seed(config.seed, purpose)
        self._env = BatchedEnv(
            skills,
            config.validation_episodes,
            seed=self._seed,
            config=EnvConfig(tracks=config.validation_episodes, ordered=True),
            threads=config.threads,
            device=config.device,
        )

    def measure(self, policy: Policy) -> dict[str, Any]:
        """Means over the episodes.

        Args:
            policy: the policy.

        Returns:
            ``success``, ``reward_per_step`` and ``distance`` (m) over all episodes; with several skills also
            ``skills``, which holds the first two for every skill id.
        """
        self._env.seed(self._seed)
        outcomes = run_episodes(policy, self._env)
        success, reward = outcomes.success.double(), outcomes.reward_per_step
        figures: dict[str, Any] = {"success": float(success.mean()), "reward_per_step": float(reward.mean())}
        figures["distance"] = float(outcomes.distance.mean())
        if len(self._skills) > 1:
            index = self._env.skill_index.cpu()
            mine = [index == i for i in range(len(self._skills))]
            figures["skills"] = {
                skill.id: {"success": float(success[rows].mean()), "reward_per_step": float(reward[rows].mean())}
                for skill, rows in zip(self._skills, mine, strict=True)
            }
        return figures
