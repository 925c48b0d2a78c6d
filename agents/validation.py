"""Validation: the success and reward of a policy on tracks that training and collection never see.

Training and merging share it; it uses ``episodes`` and keeps no state between validations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from policykd.agents.episodes import EpisodeOutcomes, run_episodes, run_random_episodes
from policykd.agents.policy import Policy
from policykd.envs.env_records import EnvConfig
from policykd.envs.make import make_env
from policykd.envs.skills import Skill
from policykd.errors import ConfigError


def check_episodes(skills: Sequence[Skill], episodes: int) -> None:
    """Raise ConfigError for fewer validation episodes than skills."""
    if episodes < len(skills):
        raise ConfigError(
            f"validation_episodes is {episodes} but must be at least the number of skills ({len(skills)})"
        )


class Validation:
    """Episodes of a policy's mean actions on the same tracks every time, spread evenly over skills.

    Args:
        skills: skills of the episodes.
        episodes: number of episodes, each on its own track.
        seed: seed of tracks and initial states.
        threads: threads of the simulation; None for one per usable core.
        device: where the simulation runs; the policies that are measured must be there.

    Raises:
        ConfigError: for fewer episodes than skills.
    """

    def __init__(
        self, skills: Sequence[Skill], episodes: int, *, seed: int, threads: int | None = None, device: str = "cpu"
    ) -> None:
        check_episodes(skills, episodes)
        self._skills, self._seed = tuple(skills), seed
        config = EnvConfig(tracks=episodes, ordered=True)
        self._env = make_env(skills, episodes, seed=seed, config=config, threads=threads, device=device)

    def run(self, policy: Policy) -> EpisodeOutcomes:
        """Run the episodes; equal policies have equal outcomes, whatever ran before."""
        self._env.seed(self._seed)
        return run_episodes(policy, self._env)

    def run_random(self) -> EpisodeOutcomes:
        """Run the episodes with random actions, as a reference for rewards that are not in [0, 1]."""
        self._env.seed(self._seed)
        return run_random_episodes(self._env, self._seed)

    def measure(self, policy: Policy) -> dict[str, Any]:
        """Run the episodes and return their means.

        Args:
            policy: the policy.

        Returns:
            ``success``, ``reward_per_step`` and ``distance`` (m) over all episodes; with several skills also
            ``skills``, which holds the first two for every skill id.
        """
        outcomes = self.run(policy)
        success, reward = outcomes.success.double(), outcomes.reward_per_step
        figures: dict[str, Any] = {"success": float(success.mean()), "reward_per_step": float(reward.mean())}
        figures["distance"] = float(outcomes.distance.mean())
        if len(self._skills) > 1:
            index = self._env.skill_index.cpu()
            episodes_of = [index == i for i in range(len(self._skills))]
            figures["skills"] = {
                skill.id: {"success": float(success[rows].mean()), "reward_per_step": float(reward[rows].mean())}
                for skill, rows in zip(self._skills, episodes_of, strict=True)
            }
        return figures
