"""Pictures show the robot on its track, without a display."""

import os
import sys
import types

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from worlds import TERRAINS, bank_of, batched

from policykd.envs import offscreen, rendering
from policykd.envs.robots import get_robot
from policykd.envs.robots.mjcf import build_model
from policykd.errors import ConfigError, ContractError, MissingDependencyError

BIPED = get_robot("biped")


@pytest.fixture(scope="module")
def picture():
    """A function from a terrain to a picture of the standing robot; skips where no OpenGL library is installed."""

    def take(name, x=3.0, size=(320, 180)):
        env = batched(name, 1)
        env.reset()
        model = rendering.build_scene(BIPED, env.track(0))
        qpos = BIPED.stand_pose.copy()
        qpos[0], qpos[1] = x, qpos[1] + float(env.ground_height(torch.tensor([[x]], dtype=torch.float64)))
        with rendering.SceneRenderer(model, *size) as renderer:
            return renderer.frame(qpos)

    try:
        take("flat")
    except MissingDependencyError as error:
        pytest.skip(str(error))
    return take


@pytest.mark.parametrize("name", TERRAINS)
def test_the_visible_ground_is_the_height_function(name):
    track = bank_of(name, tracks=1).tracks
    model = rendering.build_scene(BIPED, track)
    assert (model.nq, model.nu) == (14, 11)
    assert model.camera("follow").id >= 0
    model.geom_group[:] = [0 if model.geom(i).name == rendering.GROUND_MESH else 1 for i in range(model.ngeom)]
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    assert data.ncon == 0
    hit = np.zeros(1, dtype=np.int32)
    only_ground = np.array([1, 0, 0, 0, 0, 0], dtype=np.uint8)
    for x in np.random.default_rng(0).uniform(-5, 45, 100):
        above = np.array([x, 0.3, 200.0])
        distance = mujoco.mj_ray(model, data, above, np.array([0.0, 0.0, -1.0]), only_ground, 1, -1, hit)
        near = track.height(torch.tensor([[x - 1e-4, x, x + 1e-4]], dtype=torch.float64))
        assert near.min() - 1e-4 <= 200.0 - distance <= near.max() + 1e-4


def test_a_scene_has_the_generalized_positions_of_the_simulated_robot():
    model, simulated = rendering.build_scene(BIPED, bank_of("flat:paper", tracks=1).tracks), build_model(BIPED, 2)
    names = [[m.joint(i).name for i in range(m.njnt)] for m in (model, simulated)]
    assert names[0] == names[1]


def test_a_scene_shows_one_track():
    with pytest.raises(ContractError, match="got 2"):
        rendering.build_scene(BIPED, bank_of("flat:paper", tracks=2).tracks)


def test_the_robot_is_in_the_middle_and_stays_there(picture):
    here, there = picture("flat", x=3.0), picture("flat", x=3.5)
    assert here.shape == (180, 320, 3)
    assert here.dtype == np.uint8
    orange = (here[..., 0].astype(int) - here[..., 2] > 60).nonzero()
    assert len(orange[0]) > 50
    assert abs(orange[1].mean() - 160) < 60
    moved = (there[..., 0].astype(int) - there[..., 2] > 60).nonzero()
    assert abs(moved[1].mean() - orange[1].mean()) < 3, "the camera did not follow"
    assert (here != there).any(axis=2).mean() > 0.02, "the ground did not pass by"


def test_terrains_look_different(picture):
    flat = picture("flat").astype(int)
    for name in ("gaps", "steps", "incline", "slopes", "walls"):
        assert (np.abs(picture(name).astype(int) - flat).max(axis=2) > 20).mean() > 0.003, name


def test_an_environment_renders_its_last_state_too(picture):
    env = gymnasium.make("policykd/Biped-v0", terrain="gaps", tracks=4, render_mode="rgb_array", width=160, height=120)
    env.reset(seed=0)
    first = env.render()
    assert first.shape == (120, 160, 3)
    ended = False
    while not ended:
        _, _, terminated, truncated, _ = env.step(np.zeros(11, np.float32))
        ended = terminated or truncated
    assert (env.render() != first).mean() > 0.02
    env.reset()
    env.render()
    env.close()


def test_without_a_render_mode_there_is_no_picture():
    env = gymnasium.make("policykd/Biped-v0", tracks=4)
    env.reset(seed=0)
    assert env.unwrapped.render() is None


@pytest.mark.parametrize(
    "error",
    [
        AttributeError("'NoneType' object has no attribute 'eglQueryString'"),
        ImportError("Cannot initialize a EGL device display"),
        RuntimeError("Cannot create an EGL context."),
    ],
)
def test_without_an_opengl_library_the_debian_packages_are_named(monkeypatch, error):
    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr(mujoco, "Renderer", refuse)
    model = rendering.build_scene(BIPED, bank_of("flat:paper", tracks=1).tracks)
    with pytest.raises(MissingDependencyError, match="libegl1 libopengl0 libgl1-mesa-dri"):
        rendering.SceneRenderer(model)


def test_egl_is_chosen_without_a_display_and_only_then(monkeypatch):
    from mujoco.rendering.classic import gl_context

    egl = types.ModuleType("mujoco.egl")
    egl.GLContext = object()
    monkeypatch.setitem(sys.modules, "mujoco.egl", egl)
    monkeypatch.setattr(mujoco, "egl", egl, raising=False)
    monkeypatch.setattr(gl_context, "GLContext", "chosen before")
    monkeypatch.setenv("PYOPENGL_PLATFORM", "")
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    offscreen.prefer_egl()
    assert gl_context.GLContext == "chosen before"
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setenv("DISPLAY", ":0")
    offscreen.prefer_egl()
    assert gl_context.GLContext == "chosen before"
    monkeypatch.delenv("DISPLAY")
    offscreen.prefer_egl()
    assert gl_context.GLContext is egl.GLContext


def test_a_choice_that_fails_is_not_handed_to_child_processes(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco.egl", None)
    for name in ("PYOPENGL_PLATFORM", "MUJOCO_GL", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delattr(mujoco, "egl", raising=False)
    with pytest.raises(ImportError):
        offscreen.prefer_egl()
    assert not {"PYOPENGL_PLATFORM", "MUJOCO_GL"} & set(os.environ)


def test_sizes_are_checked():
    model = rendering.build_scene(BIPED, bank_of("flat:paper", tracks=1).tracks)
    with pytest.raises(ConfigError, match="width is 0"):
        rendering.SceneRenderer(model, 0, 100)
