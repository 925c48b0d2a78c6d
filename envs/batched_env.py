"""The batched environment: observations, rewards, terminations, resets and terrain, for all interfaces and devices.

It takes and returns tensors. The gymnasium and stable-baselines3 interfaces are thin layers over :class:`BatchedEnv`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import mujoco
import torch

from policykd.envs.devices import choose_device
from policykd.envs.env_records import EnvConfig, Observations, Step, split_groups
from policykd.envs.levels import OwnLevels, SharedLevel
from policykd.envs.physics import BatchEngine, Engine
from policykd.envs.physics.contact_budget import ContactSizes, measure_contacts
from policykd.envs.physics.own_ground import FORCES, OwnGroundEngine
from policykd.envs.randomizer import Randomizer
from policykd.envs.resets import Starts
from policykd.envs.robots import PlanarRobot, SpatialRobot
from policykd.envs.robots.mjcf import build_model
from policykd.envs.sensors import Sensors, has_readings
from policykd.envs.skills import Skill, common_contract
from policykd.envs.stepping import TorchBackend, make_backend
from policykd.envs.stepping.model_backend import derived_fields
from policykd.envs.tasks import Task
from policykd.envs.terrains import MapBank, Maps, TrackBank, Tracks
from policykd.envs.terrains.tracks import graded_floor
from policykd.errors import ContractError, check_range
from policykd.threads import torch_threads

__all__ = ["BatchedEnv", "EnvConfig", "Observations", "Step"]


class BatchedEnv:
    """``num_envs`` simulations of one or several skills that share robot, observation groups and episode length.

    Simulation i has skill ``skills[i % len(skills)]``.

    Args:
        skills: the skills.
        num_envs: number of simulations.
        seed: seed of tracks and resets.
        config: tracks and initial states.
        threads: worker threads; None for one per usable core.
        device: ``cpu``, ``cuda`` or ``auto``; see :func:`~policykd.envs.devices.choose_device`.
        make_engine: ``(model, num_sims, boxes, decimation) -> Engine``; None for the device's own engine.

    Attributes:
        skill_index: (num_envs,) index into ``skills`` of each simulation.
        failures: number of simulations reset so far because MuJoCo failed.

    Raises:
        ContractError: if the skills cannot share an environment.
        ConfigError: for num_envs or threads < 1.
        UnknownNameError: for an unknown device.
        MissingDependencyError: for a device that cannot be used here, saying what is missing.
    """

    def __init__(
        self,
        skills: Sequence[Skill],
        num_envs: int,
        *,
        seed: int = 0,
        config: EnvConfig = EnvConfig(),
        threads: int | None = None,
        device: str = "cpu",
        make_engine: Callable[[mujoco.MjModel, int, int, int], Engine] | None = None,
    ) -> None:
        check_range("num_envs", num_envs, 1, 1_000_000)
        self.skill, self.skills, self.config = common_contract(skills), tuple(skills), config
        self.num_envs, self.robot = num_envs, self.skill.robot
        self._bank, self._boxes = self._draw_ground(seed)
        noise = self.config.randomization.noise
        self._sensors = Sensors(self.skill, num_envs, noise) if has_readings(self.skill, noise) else None
        self._clean = self.skill if self._sensors is None else self._sensors.skill
        model = build_model(self.robot, self._boxes)
        arguments = (model, num_envs, self._boxes, self.robot.decimation)
        if make_engine is None:
            make_engine = self._engine_of(choose_device(device), threads)
        self.engine: Engine = make_engine(*arguments)
        self.device = self.engine.device
        like = self.engine.field("qpos")
        self._backend = self._make_backend(self._bank.tracks.like(like), [skill.task for skill in self.skills])
        self._starts = Starts(self.robot, config.joint_noise, config.speed_noise, like)
        self._randomizer = self._make_randomizer(model) if config.randomization.changes_physics else None
        self.seed(seed)
        self._all = torch.arange(num_envs, device=self.device)
        self.skill_index = self._all % len(self.skills)
        self._first_track = self.skill_index * config.tracks
        self._columns = self.skill.columns
        self.failures, self._levels = 0, self._make_levels()

    def _draw_ground(self, seed: int) -> tuple[TrackBank | MapBank, int]:
        """Return the bank of tracks, or of maps if any terrain is one, and the number of ground boxes."""
        terrains, tracks, robot = [s.terrain for s in self.skills], self.config.tracks, self.robot
        seconds, graded = self.skill.seconds, self.config.graded
        backwards = any(s.task.speed < 0 for s in self.skills)
        if isinstance(robot, SpatialRobot) and any(terrain.varies_across for terrain in terrains):
            options: dict[str, Any] = {"graded": graded, "seconds": seconds, "backwards": backwards}
            maps = MapBank(terrains, tracks, seed, leg=robot.leg_length, reach=robot.reach, **options)
            return maps, maps.pool()
        scale = robot.ground_scale
        bank = TrackBank(terrains, tracks, seed, graded=graded, seconds=seconds, scale=scale, backwards=backwards)
        return bank, 0 if robot.family == "model" else bank.most_segments_within(robot.window_width)

    def _engine_of(
        self, device: torch.device, threads: int | None
    ) -> Callable[[mujoco.MjModel, int, int, int], Engine]:
        """Return the engine factory of a device."""
        if self.robot.family == "model":
            return self._own_ground_engine(device, threads)
        if device.type == "cpu":
            return partial(BatchEngine, threads=threads)
        from policykd.envs.physics.mujoco_warp import WarpEngine  # needs the extra [gpu]

        def make(model: mujoco.MjModel, num_sims: int, boxes: int, decimation: int) -> Engine:
            sizes = self._contact_sizes(model, boxes, threads)
            return WarpEngine(model, num_sims, boxes, decimation, sizes=sizes, device=device)

        return make

    def _contact_sizes(self, model: mujoco.MjModel, boxes: int, threads: int | None) -> ContactSizes:
        """Measure how much room for contacts mujoco_warp needs for the robot on its ground."""
        if isinstance(self.robot, PlanarRobot):
            assert isinstance(self._bank, TrackBank)  # planar robots have no maps
            return measure_contacts(model, self.robot, self._bank.tracks, boxes, self.robot.window_width, threads)
        from policykd.envs.tumbling import SIMS, measure_tumbling  # it simulates in an environment of its own

        return measure_tumbling(BatchedEnv(self.skills, SIMS, config=self.config, threads=threads))

    def _own_ground_engine(
        self, device: torch.device, threads: int | None
    ) -> Callable[[mujoco.MjModel, int, int, int], Engine]:
        if device.type != "cpu":
            raise ContractError(f"{self.robot.name} is simulated as its model file says, which only device cpu does")
        forces = FORCES in derived_fields(self._clean, [skill.task for skill in self.skills])
        return partial(OwnGroundEngine, threads=threads, forces=forces)

    def _make_backend(self, tracks: Tracks | Maps, tasks: Sequence[Task]) -> TorchBackend:
        options = {"fixed_commands": True} if self.robot.family == "space" and self.config.ordered else {}
        return make_backend(self.engine, self._clean, tracks, self._boxes, tasks, **options)

    def _make_levels(self) -> SharedLevel | OwnLevels:
        config, floor = self.config, graded_floor([s.terrain for s in self.skills])
        if config.graded and config.own_levels is not None:
            return OwnLevels(self.num_envs, config.tracks, floor, config.own_levels, self.device)
        return SharedLevel(config.tracks, config.graded, floor)

    @property
    def level(self) -> float:
        """On graded tracks, difficulty of the hardest track of new episodes, as a share of the terrain's own in [0, 1].

        For the easiest track see :func:`policykd.envs.terrains.tracks.graded_rows`. Where simulations have levels of
        their own, it is their mean, and setting it sets all of them.
        """
        return self._levels.value

    @level.setter
    def level(self, level: float) -> None:
        self._levels.value = level

    def _make_randomizer(self, model: mujoco.MjModel) -> Randomizer:
        if not isinstance(self.engine, BatchEngine):
            raise ContractError("random physics needs the engine of device cpu; leave out config.randomization")
        standing = self._backend.targets(self.engine.field("qpos").new_zeros(1, self.num_actions))[0]
        return Randomizer(self.config.randomization, self.engine, model, self.robot, standing)

    def seed(self, seed: int) -> None:
        """Restart the streams of random resets, physics and sensors."""
        for part in (self._starts, self._randomizer, self._sensors):
            if part is not None:
                part.seed(seed)

    @property
    def num_actions(self) -> int:
        """Number of joints; an action holds one number in [-1, 1] for each."""
        return self.robot.num_actions

    @torch_threads(1)
    def reset(self, *, stagger: bool = False) -> Observations:
        """Start new episodes in all simulations.

        Args:
            stagger: set the elapsed steps of the episodes to random values, so that they do not all end together.

        Returns:
            The observation groups, each (num_envs, size).
        """
        flat = self._restart(self._all)
        if stagger:
            self._backend.elapsed[:] = self._starts.integers(self.skill.episode_steps, self.num_envs)
        self._backend.move_ground()
        return split_groups(flat, self._columns)

    @torch_threads(1)
    def step(self, actions: torch.Tensor, *, restart: bool = True) -> Step:
        """Advance every simulation by one action and reset those whose episode ended.

        Args:
            actions: (num_envs, num_actions); values outside [-1, 1] are clamped.
            restart: False leaves ended episodes in their last state; call :meth:`reset` before the next step.

        Returns:
            The result; its tensors are not reused by later steps.
        """
        backend = self._backend
        targets = backend.apply(actions)
        failed = self.engine.step(targets if self._randomizer is None else self._randomizer.step(targets))
        view = backend.read_state()
        outcome = backend.compute_outcome(view, failed)
        self.failures += outcome.failures
        flat, ids = backend.observe(view, backend.clock), outcome.episodes.ids
        if self._sensors is not None:
            flat = self._sensors.step(flat)
        self._levels.record(ids, outcome.episodes.success)
        final = backend.swap_rows(flat, ids, self._restart(ids)) if restart and len(ids) else flat[ids]
        backend.move_ground()
        return Step(
            flat, outcome.reward, outcome.terminated, outcome.truncated, failed, final, outcome.episodes, self._columns
        )

    def check_overflow(self) -> None:
        """Raise ConfigError if the engine dropped contacts."""
        self.engine.check_overflow()

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and numbers; tracks are not included, since the arguments determine them."""
        return {
            "engine": self.engine.snapshot(),
            "backend": self._backend.snapshot(),
            "starts": self._starts.snapshot(),
            **{name: part.snapshot() for name, part in self._random_parts.items()},
            "failures": self.failures,
            "level": self._levels.snapshot(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue, bit for bit, from a :meth:`state_dict` of an environment with the same arguments."""
        self.engine.restore(state["engine"])
        self._backend.restore(state["backend"])
        self._starts.restore(state["starts"])
        for name, part in self._random_parts.items():
            part.restore(state[name])
        self.failures = state["failures"]
        self._levels.restore(state["level"])

    @property
    def _random_parts(self) -> dict[str, Randomizer | Sensors]:
        parts = {"randomizer": self._randomizer, "sensors": self._sensors}
        return {name: part for name, part in parts.items() if part is not None}

    def targets(self, actions: torch.Tensor) -> torch.Tensor:
        """Return target joint angles of actions (n, num_actions), rad: ``stand + scale * action`` within the limits."""
        return self._backend.targets(actions)

    def ground_height(self, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        """Return the ground height in every simulation at positions x and y (num_envs, q), m.

        Args:
            x: positions along the tracks.
            y: positions across them; None for their middle. On tracks it does not matter.
        """
        return self._backend.height(x, y)

    def track(self, i: int) -> Tracks | Maps:
        """Return the track or map of simulation ``i``, as one row; a copy."""
        return self._backend.tracks(torch.tensor([i], device=self.device))

    def _restart(self, ids: torch.Tensor) -> torch.Tensor:
        """Start new episodes in the simulations ``ids`` (m,); their ground boxes are moved later.

        Returns:
            (m, features) first observations.
        """
        pick, qpos, qvel, clock, chance = self._starts.take(len(ids), *self._levels.pick_range())
        track = self._levels.tracks_of(pick, ids)
        qpos, qvel, clock = self._backend.tasks.start((qpos, qvel, clock), ids)
        if self.config.ordered:
            track = (ids // len(self.skills)) % self.config.tracks
        self._backend.start_episodes(ids, self._first_track[ids] + track, clock, chance)
        if self._randomizer is not None:
            self._randomizer.start_episodes(ids)
        self.engine.reset(ids, qpos, qvel)
        flat = self._backend.observe(self._backend.read_state(ids), clock)
        return flat if self._sensors is None else self._sensors.start_episodes(ids, flat)
