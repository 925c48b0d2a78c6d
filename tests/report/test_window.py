"""The window with MuJoCo's viewer: what its keys do, on a stand-in for the viewer; and what it refuses."""

from collections import deque
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from policykd.agents.architecture import Architecture
from policykd.agents.policy import Policy
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError, MissingDependencyError
from policykd.report import window
from policykd.report.window import (
    BACKSPACE,
    DOWN,
    ENTER,
    LEFT,
    PAGE_DOWN,
    PAGE_UP,
    RIGHT,
    UP,
    Window,
    has_display,
    launch_viewer,
)

SKILLS = [get_skill("biped/flat"), get_skill("biped/gaps")]
SMALL = Architecture(hidden=(4,), critic_hidden=(4,))
POLICIES = {name: Policy(SKILLS[0].group_sizes, 11, SMALL) for name in ("student", "expert")}


class Desk:
    """Opens stand-ins for the viewer that press one key every three pictures and are closed after the last."""

    def __init__(self, *keys: int) -> None:
        self.keys, self.windows, self.pictures = deque(keys), 0, []

    @contextmanager
    def launch(self, model, data, on_key):
        self.windows += 1
        left = [3]

        def sync():
            self.pictures.append(data.qpos.copy())
            left[0] -= 1
            if left[0] == 0 and self.keys:
                left[0] = 3
                on_key(self.keys.popleft())

        yield SimpleNamespace(is_running=lambda: left[0] > 0, sync=sync, cam=SimpleNamespace())


def show(*keys: int, skills=SKILLS):
    desk, said = Desk(*keys), []
    shown = Window(POLICIES, skills, say=said.append, launch=desk.launch, pace=lambda seconds: None)
    shown.run()
    return desk, said, shown


def test_it_shows_the_robot_as_it_moves():
    desk, said, _ = show()
    assert desk.windows == 1
    assert len(desk.pictures) == 3
    assert np.abs(np.diff(desk.pictures, axis=0)).max() > 1e-4
    assert said[0] == "student on biped/flat, 1.5 m/s"
    assert "page up" in said[1]


@pytest.mark.parametrize(("keys", "line", "windows"), [
    ((RIGHT,), "student on biped/gaps, 1.5 m/s", 2),
    ((RIGHT, RIGHT), "student on biped/flat, 1.5 m/s", 3),
    ((LEFT,), "student on biped/gaps, 1.5 m/s", 2),
    ((ENTER,), "expert on biped/flat, 1.5 m/s", 1),
    ((ENTER, ENTER), "student on biped/flat, 1.5 m/s", 1),
    ((UP, UP), "student on biped/flat, 1.7 m/s", 1),
    ((DOWN,), "student on biped/flat, 1.4 m/s", 1),
])  # fmt: skip
def test_keys_switch_policy_skill_and_speed(keys, line, windows):
    """Another track needs another window; another policy or speed does not."""
    desk, said, _ = show(*keys)
    assert said[-1] == line
    assert desk.windows == windows


@pytest.mark.parametrize(("keys", "difficulty"), [
    ((RIGHT, PAGE_UP), 0.6), ((RIGHT, PAGE_DOWN), 0.4),
    ((RIGHT, *[PAGE_UP] * 7), 1.0), ((RIGHT, *[PAGE_DOWN] * 7), 0.1),
])  # fmt: skip
def test_keys_change_the_difficulty_within_its_limits(keys, difficulty):
    skills = [SKILLS[0], get_skill("biped/gaps@0.5")]
    desk, _, shown = show(*keys, skills=skills)
    assert shown.shown[1].terrain.difficulty == pytest.approx(difficulty)
    assert desk.windows == 1 + len(keys)


def test_backspace_starts_the_same_episode_again():
    desk, _, _ = show(BACKSPACE)
    assert np.array_equal(desk.pictures[0], desk.pictures[3])
    assert not np.array_equal(desk.pictures[0], desk.pictures[2])


def test_other_keys_do_nothing():
    desk, said, _ = show(ord("Q"))
    assert len(said) == 2
    assert len(desk.pictures) == 6


def test_a_window_is_refused_without_a_display_and_without_anything_to_show(monkeypatch):
    monkeypatch.setattr(window.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not has_display()
    with pytest.raises(MissingDependencyError, match="DISPLAY is not set"):
        launch_viewer(None, None, lambda key: None)
    monkeypatch.setenv("DISPLAY", ":0")
    assert has_display()
    with pytest.raises(ConfigError, match="at least one"):
        Window({}, SKILLS)
