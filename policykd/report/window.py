"""MuJoCo's own viewer with policies that act: policy, skill, difficulty and speed are switched while it runs.

It simulates one robot in real time and shows it on its whole track; without a display, ``player`` makes a page.
"""

from __future__ import annotations

import os
import queue
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from typing import Any

import mujoco
import torch

from policykd.agents.acting import Acting
from policykd.agents.policy import Policy
from policykd.envs.batched_env import BatchedEnv
from policykd.envs.env_records import EnvConfig
from policykd.envs.foreign.skill import GymSkill
from policykd.envs.rendering import build_scene
from policykd.envs.skills import Skill
from policykd.errors import ConfigError, MissingDependencyError
from policykd.seeding import integer_seed

Launch = Callable[[mujoco.MjModel, mujoco.MjData, Callable[[int], None]], AbstractContextManager[Any]]

RIGHT, LEFT, DOWN, UP, PAGE_UP, PAGE_DOWN, ENTER, BACKSPACE = 262, 263, 264, 265, 266, 267, 257, 259
"""Codes of the keys, as GLFW numbers them."""

KEYS = (
    "right, left: next, previous skill\n"
    "enter: next policy\n"
    "page up, page down: difficulty + 0.1, - 0.1\n"
    "up, down: commanded speed + 0.1, - 0.1 m/s\n"
    "backspace: start again"
)
"""What the keys do."""

_SPEED_STEP, _DIFFICULTY_STEP = 0.1, 0.1
_DISTANCE = 5.0  # of the camera from the robot, in sizes of the ground's features


def has_display() -> bool:
    """Return whether a window can be opened here."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def launch_viewer(
    model: mujoco.MjModel, data: mujoco.MjData, on_key: Callable[[int], None]
) -> AbstractContextManager[Any]:
    """Open MuJoCo's passive viewer.

    Raises:
        MissingDependencyError: without a display or without the viewer's library.
    """
    if not has_display():
        raise MissingDependencyError("a window needs a display, and DISPLAY is not set; write a page with --out")
    try:
        import mujoco.viewer
    except ImportError as error:
        raise MissingDependencyError(f"MuJoCo's viewer cannot be loaded ({error}); pip install glfw") from None
    panels = {"show_left_ui": False, "show_right_ui": False}  # tab and shift + tab show them
    window: AbstractContextManager[Any] = mujoco.viewer.launch_passive(model, data, key_callback=on_key, **panels)
    return window


class Window:
    """One robot in MuJoCo's viewer, and the policy, skill, difficulty and speed that its keys choose.

    Args:
        policies: the policies by name.
        skills: the skills that all of them can act in.
        seed: seed of track and initial state.
        say: prints a line about what is shown.
        launch: opens the viewer.
        pace: waits until the next step is due; tests do not wait.

    Raises:
        ConfigError: without a policy or a skill, or for a skill of gymnasium, which has its own window.
    """

    def __init__(
        self,
        policies: Mapping[str, Policy],
        skills: Sequence[Skill],
        *,
        seed: int = 0,
        say: Callable[[str], None] = print,
        launch: Launch = launch_viewer,
        pace: Callable[[float], None] = time.sleep,
    ) -> None:
        if not policies or not skills:
            raise ConfigError("a window shows a policy on a skill; name at least one of each")
        foreign = next((skill for skill in skills if isinstance(skill, GymSkill)), None)
        if foreign is not None:
            raise ConfigError(f"{foreign.id} is a gymnasium environment; watch it with render_mode='human'")
        self._policies, self._skills, self._seed = list(policies.items()), list(skills), integer_seed(seed, "film")
        self._say, self._launch, self._pace = say, launch, pace
        self._policy, self._skill = 0, 0
        self._pressed: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._env, self._acting = self._start()

    @property
    def shown(self) -> tuple[str, Skill]:
        """Name of the policy, and the skill with the present difficulty and speed."""
        return self._policies[self._policy][0], self._skills[self._skill]

    def run(self) -> None:
        """Show the robot until the window is closed."""
        self._say(KEYS)
        again = True
        while again:
            model = build_scene(self._env.robot, self._env.track(0))
            data = mujoco.MjData(model)
            with self._launch(model, data, self._pressed.put) as viewer:
                _follow(viewer, self._env.robot.ground_scale)
                again = self._play(viewer, model, data)

    def _start(self) -> tuple[BatchedEnv, Acting]:
        """Return the simulation of the present skill at the start of an episode, and what acts in it."""
        name, skill = self.shown
        self._say(f"{name} on {skill.id}, {skill.task.speed:.1f} m/s")
        env = BatchedEnv([skill], 1, seed=self._seed, config=EnvConfig(tracks=1, ordered=True), threads=1)
        self._observation = torch.cat(list(env.reset().values()), dim=-1)
        return env, Acting(self._policies[self._policy][1])

    def _play(self, viewer: Any, model: mujoco.MjModel, data: mujoco.MjData) -> bool:
        """Show episodes; return True if another track must be shown, False if the window was closed."""
        while viewer.is_running():
            began = time.perf_counter()
            while not self._pressed.empty():
                if self._press(self._pressed.get()):
                    return True
            data.qpos[:] = self._env.engine.field("qpos")[0].cpu().numpy()
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)  # the camera follows the center of mass
            viewer.sync()
            self._step()
            self._pace(max(0.0, self._env.robot.control_dt - (time.perf_counter() - began)))
        return False

    @torch.no_grad()
    def _step(self) -> None:
        read = self._acting.policy.select(self._observation, self._env.skill.columns)
        step = self._env.step(self._acting(read))
        self._acting.forget(step.terminated | step.truncated)
        self._observation = step.flat

    def _press(self, key: int) -> bool:
        """React to a key; return True if another track must be shown."""
        change = {RIGHT: 1, LEFT: -1}.get(key, 0)
        harder = _DIFFICULTY_STEP * {PAGE_UP: 1, PAGE_DOWN: -1}.get(key, 0)
        faster = _SPEED_STEP * {UP: 1, DOWN: -1}.get(key, 0)
        if not (change or harder or faster or key in (ENTER, BACKSPACE)):
            return False
        self._skill = (self._skill + change) % len(self._skills)
        self._policy = (self._policy + (key == ENTER)) % len(self._policies)
        skill = self._skills[self._skill]
        if harder:
            difficulty = min(1.0, max(_DIFFICULTY_STEP, round(skill.terrain.difficulty + harder, 3)))
            skill = replace(skill, terrain=replace(skill.terrain, difficulty=difficulty))
        self._skills[self._skill] = replace(skill, task=_with_speed(skill.task, faster)) if faster else skill
        self._env, self._acting = self._start()
        return bool(change or harder)


def _with_speed(task: Any, more: float) -> Any:
    """Return a task with another commanded speed, or as it is if its speed is not a setting."""
    if all(field.name != "speed" for field in fields(task)):
        return task
    return replace(task, speed=round(task.speed + more, 3))


def _follow(viewer: Any, scale: float) -> None:
    """Let the viewer's camera follow the robot; the mouse still turns it."""
    viewer.cam.type = mujoco.mjtCamera.mjCAMERA_TRACKING
    viewer.cam.trackbodyid = 1
    viewer.cam.distance = _DISTANCE * scale
    viewer.cam.azimuth, viewer.cam.elevation = 90.0, -15.0
