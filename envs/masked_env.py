"""The batched environment for training on a device: a step of it never waits for the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from policykd.envs.backends.masked import MaskedBackend, MaskedOutcome
from policykd.envs.batched_env import BatchedEnv
from policykd.envs.skills import Skill
from policykd.envs.tasks import Task
from policykd.envs.terrains import Tracks
from policykd.errors import check_range
from policykd.seeding import integer_seed
from policykd.threads import torch_threads

STARTS = 8192
"""Beginnings of episodes drawn at a time."""


@dataclass
class MaskedStep:
    """What a step returns; every tensor has a row for each of ``n`` simulations and is the caller's to keep.

    Attributes:
        flat: (n, features) observations, float32; those of a new episode where one ended.
        final_flat: (n, features) observations of the states that the step led to, before episodes began anew.
        outcome: rewards, ends, and the books of the episodes up to this step.
        failed: (n,) whether the simulation failed.
    """

    flat: torch.Tensor
    final_flat: torch.Tensor
    outcome: MaskedOutcome
    failed: torch.Tensor

    @property
    def ended(self) -> torch.Tensor:
        """(n,) whether the step ended the episode."""
        return self.outcome.terminated | self.outcome.truncated


class MaskedEnv(BatchedEnv):
    """A :class:`BatchedEnv` that can also step by masks, on any engine.

    Episodes begin from a pool of drawn beginnings, of which every new episode takes one at random: the host need not
    know how many begin. :meth:`draw_starts` draws the pool anew.

    Args:
        skills: the skills.
        num_envs: number of simulations.
        seed: seed of tracks and resets.
        starts: size of the pool.
        options: the other options of :class:`BatchedEnv`.

    Raises:
        ConfigError: as :class:`BatchedEnv`, or for a pool without members.
    """

    _backend: MaskedBackend

    def __init__(
        self, skills: Sequence[Skill], num_envs: int, *, seed: int = 0, starts: int = STARTS, **options: Any
    ) -> None:
        check_range("starts", starts, 1, 10_000_000)
        self._pool_size = starts
        super().__init__(skills, num_envs, seed=seed, **options)
        self.draw_starts()

    def _make_backend(self, tracks: Tracks, tasks: Sequence[Task]) -> MaskedBackend:
        return MaskedBackend(self.engine, self.skill, tracks, self._boxes, tasks)

    @property
    def failures(self) -> int:
        """Number of simulations reset so far because MuJoCo failed; waits for the device, where they are counted."""
        return int(self._failures)

    @failures.setter
    def failures(self, count: int) -> None:
        """Set the number, of a resumed run for example."""
        self._failures = torch.full((), count, dtype=torch.long, device=self.device)

    def seed(self, seed: int) -> None:
        """Restart the streams of random resets; draw the pool anew to use them."""
        super().seed(seed)
        self._picker = torch.Generator(self.device).manual_seed(integer_seed(seed, "picks"))

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`BatchedEnv.state_dict`."""
        return {
            **super().state_dict(),
            "pool": [part.clone() for part in self._pool],
            "picks": self._picker.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :meth:`BatchedEnv.load_state_dict`."""
        super().load_state_dict(state)
        self._pool = tuple(part.to(self.device) for part in state["pool"])
        self._picker.set_state(state["picks"].cpu())

    def draw_starts(self) -> None:
        """Draw the pool of beginnings anew, on tracks of at most the difficulty ``level``."""
        self._pool = self._starts.take(self._pool_size, *self._track_range())

    @torch_threads(1)
    def step_masked(self, actions: torch.Tensor) -> MaskedStep:
        """Advance every simulation by one action; ended episodes begin anew.

        Args:
            actions: (num_envs, num_actions); values beyond [-1, 1] are clamped.
        """
        backend = self._backend
        failed = self.engine.step(backend.targets(actions))
        self._failures += failed.sum()
        view = backend.look()
        outcome = backend.judge_where(view, failed)
        final = backend.observe(view, backend.clock)
        self._restart_where(outcome.terminated | outcome.truncated)
        flat = backend.observe(backend.look(), backend.clock)
        backend.follow_where()
        return MaskedStep(flat, final, outcome, failed)

    def _restart_where(self, mask: torch.Tensor) -> None:
        pick = torch.randint(self._pool_size, (self.num_envs,), generator=self._picker, device=self.device)
        track, qpos, qvel, clock = (drawn[pick] for drawn in self._pool)
        qpos, qvel, clock = self._backend.tasks.start((qpos, qvel, clock))
        if self.config.ordered:
            track = (self._all // len(self.skills)) % self.config.tracks
        self._backend.begin_where(mask, self._first_track + track, clock)
        self._backend.reset_where(mask, qpos, qvel)
