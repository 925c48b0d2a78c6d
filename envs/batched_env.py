"""The batched environment: observation, reward, termination, reset and terrain, written once for every face and device.

Tensors in, tensors out. The gymnasium and stable-baselines3 faces are thin layers over :class:`BatchedEnv`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import torch

from policykd.envs.engines import BatchEngine, Engine
from policykd.envs.kinematics import PlanarState, StateReader
from policykd.envs.observations import SCAN_AHEAD, SCAN_BEHIND, SCAN_POINTS, Surroundings, get_group
from policykd.envs.robots import Robot
from policykd.envs.robots.model import build_model
from policykd.envs.skills import Skill, common_contract
from policykd.envs.terrains import TrackBank, Tracks
from policykd.errors import check_range
from policykd.seeding import integer_seed
from policykd.threads import torch_threads

Observations = dict[str, torch.Tensor]

PHASE_SECONDS = 1.0
"""Period of the gait clock behind the ``phase`` group, s."""


@dataclass(frozen=True)
class EnvConfig:
    """How episodes begin and where their tracks come from.

    Attributes:
        tracks: tracks drawn per terrain; each episode walks on one of them.
        ordered: give simulation i track i in every episode (for evaluation) in place of a random one.
        graded: spread the difficulties of a terrain's tracks evenly from 0 to its own; ``BatchedEnv.level`` then says
            which of them episodes walk on. For a curriculum in training.
        joint_noise: half width of the uniform noise on the standing pose's joint angles, rad.
        speed_noise: the initial forward velocity is uniform between 0 and this, m/s.
    """

    tracks: int = 1024
    ordered: bool = False
    graded: bool = False
    joint_noise: float = 0.05
    speed_noise: float = 1.0

    def __post_init__(self) -> None:
        check_range("tracks", self.tracks, 1, 1_000_000)
        check_range("joint_noise", self.joint_noise, 0.0, 1.0, "rad")
        check_range("speed_noise", self.speed_noise, 0.0, 10.0, "m/s")


@dataclass
class Episodes:
    """Statistics of the episodes that ended in a step, one row each, in the order of ``ids``.

    Attributes:
        ids: (m,) simulations whose episode ended.
        total_reward: (m,) sum of the rewards.
        length: (m,) steps.
        distance: (m,) distance covered along x, m.
        success: (m,) whether the whole episode went by without a fall and covered the task's least distance.
    """

    ids: torch.Tensor
    total_reward: torch.Tensor
    length: torch.Tensor
    distance: torch.Tensor
    success: torch.Tensor


@dataclass
class Step:
    """What a step returns; n simulations.

    Attributes:
        observations: observation groups, each (n, size) float32; those of a new episode where one ended.
        reward: (n,) rewards in [0, 1], float32.
        terminated: (n,) whether the robot fell or its simulation failed.
        truncated: (n,) whether the episode ran out of steps.
        failed: (n,) whether MuJoCo raised an error or met a NaN; a subset of ``terminated``.
        final_observations: observation groups of the ended episodes' last states, rows as in ``episodes``.
        episodes: statistics of the ended episodes.
    """

    observations: Observations
    reward: torch.Tensor
    terminated: torch.Tensor
    truncated: torch.Tensor
    failed: torch.Tensor
    final_observations: Observations
    episodes: Episodes


class BatchedEnv:
    """``num_envs`` simulations of one or several skills that share robot, task and observation groups.

    Simulation i has skill ``skills[i % len(skills)]``.

    Args:
        skills: the skills.
        num_envs: number of simulations.
        seed: seed of tracks and resets.
        config: how episodes begin.
        threads: worker threads; None for one per usable core.
        make_engine: ``(model, num_sims, boxes, decimation) -> Engine``; None for the CPU's batch engine.

    Attributes:
        skill_index: (num_envs,) index into ``skills`` of each simulation.
        failures: number of simulations reset so far because MuJoCo failed.
        level: on graded tracks, difficulty of the hardest track that new episodes get, in [0, 1] of the terrain's own;
            the easiest is half as hard.

    Raises:
        ContractError: if the skills cannot share an environment.
        ConfigError: for num_envs or threads < 1.
    """

    def __init__(
        self,
        skills: Sequence[Skill],
        num_envs: int,
        *,
        seed: int = 0,
        config: EnvConfig = EnvConfig(),
        threads: int | None = None,
        make_engine: Callable[[mujoco.MjModel, int, int, int], Engine] | None = None,
    ) -> None:
        check_range("num_envs", num_envs, 1, 1_000_000)
        self.skill, self.skills, self.config = common_contract(skills), tuple(skills), config
        self.num_envs, self.robot = num_envs, self.skill.character
        self._bank = TrackBank(
            [s.terrain for s in skills], config.tracks, seed, graded=config.graded, seconds=self.skill.seconds
        )
        self._window = _window_width(self.robot)
        boxes = self._bank.most_segments_within(self._window)
        model = build_model(self.robot, boxes)
        arguments = (model, num_envs, boxes, self.robot.decimation)
        self.engine: Engine = BatchEngine(*arguments, threads) if make_engine is None else make_engine(*arguments)
        self.device = self.engine.device
        self._boxes = boxes
        self._reader = StateReader(self.engine, self.robot)
        self._generator = torch.Generator(self.device)
        self.seed(seed)
        self._allocate()

    def _allocate(self) -> None:
        n, device = self.num_envs, self.device
        like: dict[str, Any] = {"dtype": torch.float64, "device": device}
        self.skill_index = torch.arange(n, device=device) % len(self.skills)
        self._all = torch.arange(n, device=device)
        # Per-simulation copies: a reset overwrites one row, and height look-ups need no gather over the bank.
        self._tracks = self._bank.tracks.rows(torch.zeros(n, dtype=torch.long, device=device))
        self._window_center = torch.zeros(n, **like)
        self._elapsed = torch.zeros(n, dtype=torch.long, device=device)
        self._clock = torch.zeros(n, **like)  # of the gait, s
        self._total_reward = torch.zeros(n, **like)
        self._scan = torch.linspace(SCAN_BEHIND, SCAN_AHEAD, SCAN_POINTS, **like)
        mass = torch.tensor([link.mass for link in self.robot.links], **like)
        self._mass = mass / mass.sum()
        joints = self.robot.joints
        self._stand_pose = torch.as_tensor(self.robot.stand_pose, **like)
        self._stand = self._stand_pose[3:]
        self._scale = torch.tensor([link.action_scale for link in joints], **like)
        self._low = torch.tensor([link.limits[0] for link in joints], **like)
        self._high = torch.tensor([link.limits[1] for link in joints], **like)
        self.failures, self.level = 0, 1.0

    def seed(self, seed: int) -> None:
        """Restart the stream of random resets."""
        self._generator.manual_seed(integer_seed(seed, "resets"))

    @property
    def num_actions(self) -> int:
        """Number of joints; an action holds one number in [-1, 1] for each."""
        return len(self.robot.joints)

    @torch_threads(1)
    def reset(self, *, stagger: bool = False) -> Observations:
        """Begin new episodes everywhere.

        Args:
            stagger: pretend that the episodes began at random times, so that they do not all end together.

        Returns:
            The observation groups, each (num_envs, size).
        """
        self._restart(self._all)
        if stagger:
            limit = self.skill.episode_steps
            self._elapsed = torch.randint(limit, (self.num_envs,), generator=self._generator, device=self.device)
        self._follow()
        return self._observe(self._reader.read(), self._tracks, self._clock)[0]

    @torch_threads(1)
    def step(self, actions: torch.Tensor, *, restart: bool = True) -> Step:
        """Advance every simulation by one action; ended episodes begin anew.

        Args:
            actions: (num_envs, num_actions); values beyond [-1, 1] are clamped.
            restart: False leaves ended episodes in their last state; call :meth:`reset` before the next step.

        Returns:
            The results; its tensors are the caller's to keep.
        """
        failed = self.engine.step(self.targets(actions))
        self._elapsed += 1
        self._clock += self.robot.control_dt
        state = self._reader.read()
        observations, fallen = self._observe(state, self._tracks, self._clock)
        terminated = fallen | failed
        reward = self.skill.task.reward(state, self._mass).masked_fill_(terminated, 0.0)
        truncated = (self._elapsed >= self.skill.episode_steps) & ~terminated
        self._total_reward += reward
        ids = torch.nonzero(terminated | truncated).squeeze(1)
        final = {name: value[ids] for name, value in observations.items()}
        episodes = self._finish(ids, state, truncated)
        if len(ids):
            self.failures += int(failed.sum())
        if len(ids) and restart:
            self._restart(ids)
            fresh, _ = self._observe(self._reader.read(ids), self._tracks.rows(ids), self._clock[ids])
            for name, value in observations.items():
                value[ids] = fresh[name]
        self._follow()
        return Step(observations, reward.float(), terminated, truncated, failed, final, episodes)

    def targets(self, actions: torch.Tensor) -> torch.Tensor:
        """Target joint angles of actions (n, num_actions), rad: ``stand + scale * action`` within the joint limits."""
        angles = self._stand + self._scale * actions.to(self._scale).clamp(-1.0, 1.0)
        return torch.clamp(angles, self._low, self._high)

    def ground_height(self, x: torch.Tensor) -> torch.Tensor:
        """Height of the ground in every simulation at places x (num_envs, q), m."""
        return self._tracks.height(x)

    def track(self, i: int) -> Tracks:
        """The track under simulation ``i``, as one row; a copy."""
        return self._tracks.rows(torch.tensor([i], device=self.device))

    def _finish(self, ids: torch.Tensor, state: PlanarState, truncated: torch.Tensor) -> Episodes:
        distance = state.root[ids, 0]  # every episode begins at 0
        enough = distance >= self.skill.task.least_distance(self.skill.seconds)
        return Episodes(ids, self._total_reward[ids], self._elapsed[ids], distance, truncated[ids] & enough)

    def _restart(self, ids: torch.Tensor) -> None:
        """Begin new episodes in the simulations ``ids`` (m,); :meth:`_follow` must put their ground in place."""
        like: dict[str, Any] = {"dtype": torch.float64, "device": self.device, "generator": self._generator}
        count, joints = self.config.tracks, self.num_actions
        hardest = max(1, round(self.level * count)) if self.config.graded else count
        easiest = hardest // 2 if self.config.graded else 0
        pick = torch.randint(easiest, hardest, (len(ids),), generator=self._generator, device=self.device)
        track = (ids // len(self.skills)) % count if self.config.ordered else pick
        self._tracks.assign(ids, self._bank.tracks, self.skill_index[ids] * count + track)
        draw = torch.rand(len(ids), joints + 2, **like)
        qpos = self._stand_pose.repeat(len(ids), 1)
        noisy = qpos[:, 3:] + self.config.joint_noise * (2 * draw[:, :joints] - 1)
        torch.clamp(noisy, self._low, self._high, out=qpos[:, 3:])
        qvel = torch.zeros_like(qpos)
        qvel[:, 0] = self.config.speed_noise * draw[:, joints]
        self._clock[ids] = PHASE_SECONDS * draw[:, joints + 1]
        self._elapsed[ids], self._total_reward[ids], self._window_center[ids] = 0, 0.0, torch.inf
        self.engine.reset(ids, qpos, qvel)

    def _follow(self) -> None:
        """Put the ground boxes of the simulations whose robot nears the end of its window under the robot."""
        x = self.engine.field("qpos")[:, 0]
        ids = torch.nonzero((x - self._window_center).abs() > _SLACK).squeeze(1)
        if len(ids):
            center = x[ids]
            self._window_center[ids] = center
            self.engine.set_ground(ids, *self._tracks.rows(ids).boxes_from(center - self._window / 2, self._boxes))

    def _observe(self, state: PlanarState, tracks: Tracks, clock: torch.Tensor) -> tuple[Observations, torch.Tensor]:
        """Observations of simulations, and which of them touch the ground with a part that must not."""
        root = state.root[:, :1]
        places = torch.cat([root, root + self._scan, state.fall_points[:, :, 0]], dim=1)
        height = tracks.height(places)
        ground, scan, below = height[:, 0], height[:, 1 : 1 + SCAN_POINTS], height[:, 1 + SCAN_POINTS :]
        touching = state.fall_points[:, :, 1] - below < self._reader.fall_radius
        around = Surroundings(ground, scan, clock / PHASE_SECONDS)
        groups = {name: get_group(name).compute(state, around).float() for name in self.skill.groups}
        return groups, touching.any(dim=1)


_SLACK = 0.5
"""How far a robot may get from the centre of its window of boxes before the window follows, m."""


def _window_width(robot: Robot) -> float:
    """Width of ground that the feet can reach until the window next follows, m; 0.3 m covers one step's travel."""
    return 2 * (robot.reach + _SLACK + 0.3)
