"""The torch backend, for engines on any device.

It reads the engine's state; only an environment steps or resets the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from policykd.envs.env_records import Episodes
from policykd.envs.kinematics import PlanarState, StateReader
from policykd.envs.observations import SCAN_AHEAD, SCAN_BEHIND, SCAN_POINTS, Surroundings, get_group
from policykd.envs.physics import Engine
from policykd.envs.resets import PHASE_SECONDS
from policykd.envs.robots import PlanarRobot
from policykd.envs.skills import Skill
from policykd.envs.stepping.protocol import Outcome, View
from policykd.envs.tasks import Situation, Task, TaskTable
from policykd.envs.terrains import Maps, Tracks


@dataclass
class StoredView:
    """A :class:`~policykd.envs.stepping.protocol.View` of stored tensors."""

    state: PlanarState
    ground: torch.Tensor
    scan: torch.Tensor
    touching: torch.Tensor
    which: torch.Tensor | slice


class TorchBackend:
    """Robots on tracks, with a window of ground boxes under each, and the statistics of their running episodes.

    Args:
        engine: the engine that simulates the robots.
        skill: task, observation groups and episode length.
        tracks: the bank of tracks, with the device and dtype of the engine's tensors; each simulation uses one track.
        boxes: ground boxes of a simulation.
        tasks: simulation i has task ``tasks[i % len(tasks)]``; empty to use the skill's task in all simulations.

    Attributes:
        elapsed: (num_sims,) steps of the running episodes.
        clock: (num_sims,) times of their gait clocks, s.
        tasks: tasks of the simulations.
    """

    def __init__(
        self, engine: Engine, skill: Skill, tracks: Tracks | Maps, boxes: int, tasks: Sequence[Task] = ()
    ) -> None:
        n, robot = engine.num_sims, skill.robot
        like: dict[str, Any] = {"dtype": engine.field("qpos").dtype, "device": engine.device}
        self._engine, self._skill, self._boxes = engine, skill, boxes
        self._bank: Any = tracks  # maps only in the backends of robots in space, which override what needs tracks
        self._groups = [get_group(name) for name in skill.groups]
        self._window = robot.window_width
        self.tasks = TaskTable(tasks or (skill.task,), robot, n, skill.seconds, engine.field("qpos"))
        self._scan = torch.linspace(SCAN_BEHIND, SCAN_AHEAD, SCAN_POINTS, **like)
        self._statistics = torch.zeros(n, 3, **like)  # one matrix, so that one operation advances, gathers or resets it
        self._total_reward, self.elapsed, self.clock = self._statistics.unbind(1)
        self._advance = torch.tensor([0.0, 1.0, robot.control_dt], **like)
        servos = robot.servos
        self._stand = torch.tensor([servo.stand for servo in servos], **like)
        self._scale = torch.tensor([servo.scale for servo in servos], **like)
        self._low = torch.tensor([servo.limits[0] for servo in servos], **like)
        self._high = torch.tensor([servo.limits[1] for servo in servos], **like)
        if isinstance(robot, PlanarRobot):
            mass = torch.tensor([link.mass for link in robot.links], **like)
            self._mass = mass / mass.sum()
        self._allocate()

    def _allocate(self) -> None:
        # Per-simulation copies: a reset overwrites one row, and height queries do not gather from the bank.
        rows = torch.zeros(self._engine.num_sims, dtype=torch.long, device=self._engine.device)
        self._row, self._center = rows, torch.zeros_like(self.clock)
        self._tracks = self._bank.rows(rows)
        self._reader = self._make_reader()

    def _make_reader(self) -> Any:
        robot = self._skill.robot
        assert isinstance(robot, PlanarRobot)
        return StateReader(self._engine, robot)

    def apply(self, actions: torch.Tensor) -> torch.Tensor:
        """Return the targets of the actions (n, joints) of a step, and remember what the next observation reads."""
        return self.targets(actions)

    def targets(self, actions: torch.Tensor) -> torch.Tensor:
        """Return target joint angles of actions (n, joints), rad: ``stand + scale * action`` within the limits."""
        angles = self._stand + self._scale * actions.to(self._scale).clamp(-1.0, 1.0)
        return angles.clamp_(self._low, self._high)

    def start_episodes(
        self, ids: torch.Tensor, rows: torch.Tensor, clock: torch.Tensor, chance: torch.Tensor | None = None
    ) -> None:
        """Start episodes; the ground boxes are moved by the next :meth:`move_ground`.

        Args:
            ids: (m,) the simulations.
            rows: (m,) rows of their tracks in the bank.
            clock: (m,) initial times of their gait clocks, s.
            chance: (m, 3) random numbers in [0, 1) for the commands of robots in space.
        """
        self._statistics[ids] = torch.nn.functional.pad(clock[:, None], (2, 0))
        self._row[ids] = rows
        self._tracks.assign(ids, self._bank, rows)
        self._center[ids] = torch.inf

    def move_ground(self) -> None:
        """Center the ground window under every robot that nears the end of its window or starts an episode."""
        x = self._engine.field("qpos")[:, 0]
        ids = torch.nonzero((x - self._center).abs() > self._skill.robot.slack).squeeze(1)
        if len(ids):
            center = x[ids]
            self._center[ids] = center
            self._engine.set_ground(ids, *self._tracks.rows(ids).boxes_from(center - self._window / 2, self._boxes))

    def snapshot(self) -> dict[str, torch.Tensor]:
        """Return copies of the episode statistics, tracks and ground windows."""
        return {"books": self._statistics.clone(), "row": self._row.clone(), "center": self._center.clone()}

    def restore(self, snapshot: dict[str, torch.Tensor]) -> None:
        """Restore a :meth:`snapshot`; the engine must restore its own separately."""
        self._statistics.copy_(snapshot["books"])
        self._row.copy_(snapshot["row"])
        self._center.copy_(snapshot["center"])
        # in place: recorded steps read them
        self._tracks.assign(torch.arange(len(self._row), device=self._row.device), self._bank, self._row)

    def read_state(self, ids: torch.Tensor | None = None) -> View:
        """Return a view of the simulations ``ids`` (m,), or of all."""
        state, tracks = self._reader.read(ids), self._tracks if ids is None else self._tracks.rows(ids)
        root = state.root[:, :1]
        places = torch.cat([root, root + self._scan, state.fall_points[:, :, 0]], dim=1)
        height = tracks.height(places)
        ground, scan, below = height[:, 0], height[:, 1 : 1 + SCAN_POINTS], height[:, 1 + SCAN_POINTS :]
        touching = state.fall_points[:, :, 1] - below < self._reader.fall_radius
        return StoredView(state, ground, scan, touching.any(dim=1), slice(None) if ids is None else ids)

    def observe(self, view: View, clock: torch.Tensor) -> torch.Tensor:
        """Return (n, features) float32 concatenated observation groups for gait clocks at ``clock`` (n,), s."""
        around = self._around(view, clock)
        return torch.cat([group.compute(view.state, around) for group in self._groups], dim=1).float()

    def swap_rows(self, flat: torch.Tensor, ids: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
        """Write ``fresh`` (m, features) into the rows ``ids`` (m,) of ``flat``, and return the old rows."""
        last = flat[ids]
        flat[ids] = fresh
        return last

    def compute_outcome(self, view: View, failed: torch.Tensor) -> Outcome:
        """Compute rewards and terminations and update the episode statistics.

        Args:
            view: all simulations after the step.
            failed: (n,) whether MuJoCo failed.
        """
        reward, terminated, truncated = self._enter(view, failed)
        ids = torch.nonzero(terminated | truncated).squeeze(1)
        failures = int(failed.sum()) if len(ids) else 0
        distance = self._distance(view)[ids]  # every episode starts at x = 0
        total_reward, length, _ = self._statistics[ids].unbind(1)
        least, most = self.tasks.goal[ids].unbind(1)
        success = truncated[ids] & (distance >= least) & (distance <= most)
        episodes = Episodes(ids, total_reward, length.long(), distance, success)
        return Outcome(reward.float(), terminated, truncated, failures, episodes)

    def _enter(self, view: View, failed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Update the episode statistics with a step; return its rewards, falls and truncations, each (n,)."""
        fell, reward = self._assess_step(view)
        terminated = fell | failed
        reward = reward.masked_fill_(terminated, 0.0)
        self._statistics += self._advance
        self._total_reward += reward
        return reward, terminated, (self.elapsed >= self._skill.episode_steps) & ~terminated

    def _assess_step(self, view: View) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (n,) which simulations fell or broke a rule, and (n,) rewards before falls are taken into account."""
        now = self._situation(view)
        forbidden = self.tasks.forbidden(now)
        return view.touching if forbidden is None else view.touching | forbidden, self.tasks.reward(now)

    def _distance(self, view: View) -> torch.Tensor:
        """Return (n,) distances along the tracks, m."""
        return view.state.root[:, 0]

    def _situation(self, view: View) -> Situation:
        """Return the situation after a step that is not yet in the episode statistics."""
        around = self._around(view, self.clock + self._skill.robot.control_dt)
        assert isinstance(self._skill.robot, PlanarRobot)
        return Situation(self._skill.robot, self._mass, view.state, around)

    def _around(self, view: View, clock: torch.Tensor) -> Surroundings:
        which = view.which

        def height(x: torch.Tensor) -> torch.Tensor:
            return self.tracks(which).height(x)

        return Surroundings(view.ground, view.scan, clock / PHASE_SECONDS, self.tasks.command[which], height)

    def height(self, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        """Return the ground height in every simulation at positions x and y (num_sims, q), m; y is 0 if None."""
        return self.tracks(torch.arange(len(x), device=x.device)).height(x, y)

    def tracks(self, ids: torch.Tensor | slice) -> Tracks | Maps:
        """Return the tracks of the simulations ``ids`` (m,), one row each; a copy, or a view for a slice."""
        return self._tracks.rows(ids)
