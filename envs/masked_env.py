"""The batched environment for training on a GPU: its steps never wait for the device.

It shares engines and backends with the CPU environment and adds only masks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from typing_extensions import override

from policykd.envs.batched_env import BatchedEnv
from policykd.envs.env_records import EnvConfig
from policykd.envs.resets import Draw
from policykd.envs.sensors import has_readings
from policykd.envs.skills import Skill, common_contract
from policykd.envs.stepping.masked_backend import MaskedBackend, MaskedOutcome, MaskedSpatialBackend, MaskedSteps
from policykd.envs.tasks import Task
from policykd.envs.terrains import Maps, Tracks
from policykd.errors import ContractError, check_range
from policykd.seeding import integer_seed
from policykd.threads import torch_threads

STARTS = 8192
"""Number of initial states in the pool."""


@dataclass
class MaskedStep:
    """Result of a step; every tensor has one row for each of ``n`` simulations and is not reused by later steps.

    Attributes:
        flat: (n, features) observations, float32; after an auto-reset, the first observation of the new episode.
        final_flat: (n, features) observations after the step and before auto-resets.
        outcome: rewards, terminations, truncations, and statistics of the episodes up to this step.
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
    """A :class:`BatchedEnv` that can also step with masks instead of simulation numbers, on any engine.

    Every new episode takes a random initial state from a pool, so the host need not know how many episodes begin.
    :meth:`draw_starts` replaces the pool.

    Args:
        skills: the skills.
        num_envs: number of simulations.
        seed: seed of tracks and resets.
        starts: number of initial states in the pool.
        options: the other options of :class:`BatchedEnv`.

    Attributes:
        picker: generator of the picks from the pool, on the device.

    Raises:
        ConfigError: as :class:`BatchedEnv`, or for an empty pool.
    """

    _backend: MaskedSteps
    _pool: Draw | None

    def __init__(
        self, skills: Sequence[Skill], num_envs: int, *, seed: int = 0, starts: int = STARTS, **options: Any
    ) -> None:
        check_range("starts", starts, 1, 10_000_000)
        if skills and skills[0].robot.family == "model":
            raise ContractError(
                f"{skills[0].robot.name} is simulated as its model file says, which only device cpu does"
            )
        self._pool_size, self._pool = starts, None
        super().__init__(skills, num_envs, seed=seed, **options)
        if self._sensors is not None:
            raise ContractError("noise and history of observation groups are made on the CPU only; use device cpu")
        if self.config.own_levels is not None:
            raise ContractError("simulations have levels of their own on the CPU only; use device cpu or levels=shared")
        self.draw_starts()

    @staticmethod
    def suits(skills: Sequence[Skill], config: EnvConfig) -> bool:
        """Return whether steps with masks do all that skills and configuration ask for."""
        skill = common_contract(skills)
        noisy = has_readings(skill, config.randomization.noise) or config.randomization.changes_physics
        return skill.robot.family != "model" and not noisy and config.own_levels is None

    def _make_backend(self, tracks: Tracks | Maps, tasks: Sequence[Task]) -> MaskedSteps:
        # Recorded steps draw from the generator and add to the counter, so both stay the same objects.
        self.picker = torch.Generator(self.device)
        self._failures = torch.zeros((), dtype=torch.long, device=self.device)
        arguments = (self.engine, self.skill, tracks, self._boxes, tasks)
        if self.robot.spatial:
            return MaskedSpatialBackend(*arguments, fixed_commands=self.config.ordered)
        return MaskedBackend(*arguments)

    @property
    def failures(self) -> int:
        """Number of simulations reset so far because MuJoCo failed; reading it waits for the device."""
        return int(self._failures)

    @failures.setter
    def failures(self, count: int) -> None:
        """Set the number, of a resumed run for example."""
        self._failures.fill_(count)  # in place: recorded steps add to it

    def seed(self, seed: int) -> None:
        """Restart the random streams of the resets; call :meth:`draw_starts` to apply them to the pool."""
        super().seed(seed)
        self.picker.manual_seed(integer_seed(seed, "picks"))

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "pool": [part.clone() for part in self._pool or ()],
            "picks": self.picker.get_state(),
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._fill_pool(state["pool"])
        self.picker.set_state(state["picks"].cpu())

    def draw_starts(self) -> None:
        """Replace the pool of initial states, on tracks of at most the difficulty ``level``."""
        drawn = self._starts.take(self._pool_size, *self._levels.pick_range())
        if self._pool is None:
            self._pool = Draw(*(part.clone() for part in drawn))
        self._fill_pool(drawn)

    def _fill_pool(self, drawn: Sequence[torch.Tensor]) -> None:
        assert self._pool is not None
        for mine, new in zip(self._pool, drawn, strict=True):
            mine.copy_(new)  # in place: recorded steps read it

    @torch_threads(1)
    def step_masked(self, actions: torch.Tensor) -> MaskedStep:
        """Advance every simulation by one action and reset those whose episode ended.

        Args:
            actions: (num_envs, num_actions); values outside [-1, 1] are clamped.
        """
        self.aim(actions)
        self.advance()
        return self.conclude()

    def aim(self, actions: torch.Tensor) -> None:
        """Do the first part of :meth:`step_masked`, a pure function over static tensors: set the targets."""
        self._backend.masks.aim(self._backend.apply(actions))

    def advance(self) -> None:
        """Do the second part: the physics, which on a CUDA device is a graph of its own."""
        self._backend.masks.advance()

    def conclude(self) -> MaskedStep:
        """Do the last part, a pure function over static tensors: outcome, resets and observations."""
        backend, failed = self._backend, self._backend.masks.failed.clone()
        self._failures += failed.sum()
        view = backend.read_state()
        outcome = backend.compute_outcome_where(view, failed)
        final = backend.observe(view, backend.clock)
        self._restart_where(outcome.terminated | outcome.truncated)
        flat = backend.observe(backend.read_state(), backend.clock)
        backend.move_ground_where()
        return MaskedStep(flat, final, outcome, failed)

    def _restart_where(self, mask: torch.Tensor) -> None:
        pick = torch.randint(self._pool_size, (self.num_envs,), generator=self.picker, device=self.device)
        assert self._pool is not None
        track, qpos, qvel, clock, chance = (drawn[pick] for drawn in self._pool)
        qpos, qvel, clock = self._backend.tasks.start((qpos, qvel, clock))
        if self.config.ordered:
            track = (self._all // len(self.skills)) % self.config.tracks
        self._backend.start_episodes_where(mask, self._first_track + track, clock, chance)
        self._backend.reset_where(mask, qpos, qvel)
