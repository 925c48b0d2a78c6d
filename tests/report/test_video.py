import sys

import mujoco
import numpy as np
import pytest
import torch
from matplotlib import image
from rich.console import Console

from policykd.agents.policy import Architecture, Policy
from policykd.cli.commands.render import Render
from policykd.envs.foreign.skill import gym_skill
from policykd.envs.rendering import VIEWS, SceneRenderer, build_scene
from policykd.envs.robots import get_robot
from policykd.envs.skills import get_skill
from policykd.envs.terrains import TrackBank
from policykd.errors import ConfigError, ContractError, MissingDependencyError, OutputError, UnknownNameError
from policykd.report import video
from policykd.report.environment_film import record_environment
from policykd.report.video import film_strip, record, render_video

SKILL = get_skill("biped/steps")
POLICY = Policy(SKILL.group_sizes, 11, Architecture((8,), (8,)), generator_seed=0)
SIZE = (96, 64)


def can_draw():
    try:
        scene = build_scene(get_robot("biped"), TrackBank([SKILL.terrain], 1, 0).tracks)
        SceneRenderer(scene, 8, 8).close()
    except MissingDependencyError:
        return False
    return True


needs_gl = pytest.mark.skipif(not can_draw(), reason="no OpenGL library")


def frames_of(path):
    imageio = pytest.importorskip("imageio.v2")
    with imageio.get_reader(path) as reader:
        return np.stack(list(iter(reader))), reader.get_meta_data()


def test_recording_is_paired_by_seed_and_ends_with_a_fall():
    first, again, other = (record(POLICY, SKILL, seed=seed, seconds=4) for seed in (0, 0, 1))
    assert np.array_equal(first.qpos, again.qpos)
    assert not np.array_equal(first.qpos[0], other.qpos[0])
    assert first.fell
    assert len(first.qpos) < 120
    short = record(POLICY, SKILL, seconds=0.2)
    assert not short.fell
    assert short.qpos == pytest.approx(first.qpos[:7])
    assert np.abs(np.diff(first.qpos[:, 0])).max() < 0.2, "the next episode's start is not part of it"


@needs_gl
def test_clip_has_one_picture_per_step_at_the_policys_rate(tmp_path):
    recording = render_video(POLICY, SKILL, tmp_path / "new" / "x.mp4", seconds=0.5, size=SIZE)
    frames, meta = frames_of(tmp_path / "new" / "x.mp4")
    assert frames.shape == (len(recording.qpos), SIZE[1], SIZE[0], 3)
    assert len(frames) == 16
    assert meta["fps"] == pytest.approx(30, abs=0.01)
    assert meta["codec"].startswith("h264")
    assert frames[0].std() > 10, "a picture, not one color"
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 40, "it moves"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.mp4"]


@needs_gl
def test_clip_of_a_fast_policy_shows_every_second_step(tmp_path):
    skill = get_skill("quadruped/flat")
    policy = Policy(skill.group_sizes, skill.robot.num_actions, Architecture(hidden=(4,), critic_hidden=(4,)))
    recording = render_video(policy, skill, tmp_path / "x.mp4", seconds=0.3, size=SIZE)
    frames, meta = frames_of(tmp_path / "x.mp4")
    assert meta["fps"] == pytest.approx(25, abs=0.01)
    assert len(recording.qpos) == 16
    assert len(frames) == 8


@needs_gl
def test_views_point_at_the_robot_from_their_sides(tmp_path):
    pictures = {}
    for view in VIEWS:
        render_video(POLICY, SKILL, tmp_path / f"{view}.mp4", seconds=0.1, size=SIZE, view=view)
        pictures[view] = frames_of(tmp_path / f"{view}.mp4")[0][0]
    assert set(pictures) == {"side", "behind", "front", "above"}
    for view, picture in pictures.items():
        middle = picture[16:56, 24:72].astype(int)
        assert (middle[..., 0] - middle[..., 1]).max() > 15, f"{view}: the right side is orange"
        others = [other for name, other in pictures.items() if name != view]
        assert min(np.abs(picture.astype(int) - other).mean() for other in others) > 5


def test_directions_of_the_views():
    tracks = TrackBank([SKILL.terrain], 1, 0).tracks
    expected = {"side": (0.0, 0.98, -0.19), "behind": (0.94, 0.24, -0.24), "above": (0.0, 0.3, -0.95)}
    for view, direction in expected.items():
        model = build_scene(get_robot("biped"), tracks, view)
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        frame = data.cam_xmat[0].reshape(3, 3)
        assert -frame[:, 2] == pytest.approx(direction, abs=0.01)
        assert frame[2, 0] == pytest.approx(0.0, abs=1e-9), "the horizon is level"
        assert frame[2, 1] > 0, "up is up"


@needs_gl
def test_a_lower_rate_shows_fewer_pictures(tmp_path):
    render_video(POLICY, SKILL, tmp_path / "x.mp4", seconds=0.5, size=SIZE, rate=10.0)
    frames, meta = frames_of(tmp_path / "x.mp4")
    assert meta["fps"] == pytest.approx(10, abs=0.01)
    assert len(frames) == 6


@needs_gl
def test_clip_rests_on_the_fall(tmp_path):
    recording = render_video(POLICY, SKILL, tmp_path / "x.mp4", seconds=4, size=SIZE)
    frames, _ = frames_of(tmp_path / "x.mp4")
    assert recording.fell
    assert len(frames) == len(recording.qpos) + 30


@needs_gl
def test_film_strip(tmp_path):
    film_strip(POLICY, SKILL, tmp_path / "x.png", seconds=0.5, frames=3, size=SIZE)
    picture = image.imread(tmp_path / "x.png")
    assert picture.shape[:2] == (64, 3 * 96 + 2 * 4)
    assert (picture[:, 96:100, :3] == 1).all()
    assert picture[:, :96].std() > 0.05


def test_without_the_extra_nothing_is_run(monkeypatch, tmp_path):
    monkeypatch.setattr(video, "record", lambda *args, **kwargs: pytest.fail("ran"))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'policykd\[video\]'"):
        render_video(POLICY, SKILL, tmp_path / "x.mp4")


def test_without_opengl_the_packages_are_named_and_nothing_is_left(monkeypatch, tmp_path):
    import mujoco

    def fail(*args, **kwargs):
        raise RuntimeError("no driver")

    pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setattr(mujoco, "Renderer", fail)
    with pytest.raises(MissingDependencyError, match=r"libegl1.*libgl1-mesa-dri"):
        render_video(POLICY, SKILL, tmp_path / "x.mp4", seconds=0.2)
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments(tmp_path):
    with pytest.raises(ConfigError, match=r"\.mp4"):
        render_video(POLICY, SKILL, tmp_path / "x.avi")
    with pytest.raises(ConfigError, match="even"):
        render_video(POLICY, SKILL, tmp_path / "x.mp4", size=(641, 360))
    with pytest.raises(UnknownNameError, match="valid: above, behind, front, side"):
        render_video(POLICY, SKILL, tmp_path / "x.mp4", view="left")
    with pytest.raises(ConfigError, match=r"rate is 0\.5"):
        render_video(POLICY, SKILL, tmp_path / "x.mp4", rate=0.5)
    with pytest.raises(ConfigError, match="--size is 640 x 360; write it as"):
        Render(tmp_path, "biped/flat", tmp_path / "x.mp4", size="640 x 360").run(Console())
    with pytest.raises(ConfigError, match="seconds"):
        record(POLICY, SKILL, seconds=0)
    with pytest.raises(ConfigError, match="frames"):
        film_strip(POLICY, SKILL, tmp_path / "x.png", frames=0)
    with pytest.raises(ContractError, match="terrain"):
        record(POLICY, get_skill("biped/flat", ("proprio",)))


@needs_gl
def test_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        film_strip(POLICY, SKILL, tmp_path / "file" / "x.png", seconds=0.2)


def test_an_environment_is_filmed_by_itself(tmp_path):
    pytest.importorskip("pygame")
    skill = gym_skill("gym:Pendulum-v1")
    policy = Policy(skill.group_sizes, 1, Architecture((8,), (8,)), generator_seed=0)
    recording = record_environment(policy, skill, seconds=0.2)
    assert recording.control_dt == pytest.approx(1 / 30)
    assert recording.pictures.shape == (7, 500, 500, 3)
    assert np.abs(recording.pictures[0].astype(int) - recording.pictures[-1]).max() > 40, "it moves"
    assert not recording.fell
    film_strip(policy, skill, tmp_path / "strip.png", seconds=0.2, frames=3)
    assert image.imread(tmp_path / "strip.png").shape[:2] == (500, 3 * 500 + 2 * 4)
    with pytest.raises(ConfigError, match="seconds"):
        record_environment(policy, skill, seconds=0.0)


@needs_gl
def test_contact_forces_carry_the_weight_of_a_standing_robot_and_are_drawn(tmp_path):
    skill = get_skill("quadruped/flat")
    still = Policy(skill.group_sizes, skill.robot.num_actions, Architecture((4,), (4,)), 0).eval()
    with torch.no_grad():
        still.actor[-1].weight.zero_()
        still.actor[-1].bias.zero_()
    recording = record(still, skill, seed=1, seconds=1.5, forces=True)
    assert len(recording.forces) == len(recording.qpos) > 40
    weight = 9.81 * float(build_scene(skill.robot, recording.track).body_mass.sum())
    assert recording.forces[0].shape == (0, 6), "before the first step there is none"
    last = np.stack([contacts[:, 3:].sum(axis=0) for contacts in recording.forces[-20:]]).mean(axis=0)
    assert last[2] == pytest.approx(weight, rel=0.03)
    assert np.abs(last[:2]).max() < 0.1 * weight
    feet = recording.forces[-1][:, :3]
    assert len(feet) == 4
    assert np.abs(feet[:, 2]).max() < 0.01, "the contacts are on the ground"
    assert record(still, skill, seed=1, seconds=0.2).forces == ()
    with SceneRenderer(build_scene(skill.robot, recording.track), 320, 240) as renderer:
        plain = renderer.frame(recording.qpos[-1]).astype(int)
        drawn = renderer.frame(recording.qpos[-1], np.array([[*feet[0], 0.0, 0.0, 0.3]])).astype(int)
    changed = drawn[(plain != drawn).any(axis=2)]
    assert len(changed) > 30
    assert changed[:, 0].mean() > 1.5 * changed[:, 1].mean(), "the arrow is magenta"
    clip = tmp_path / "forces.mp4"
    render_video(still, skill, clip, seconds=0.3, size=(160, 120), forces=True)
    assert clip.stat().st_size > 1000
    with pytest.raises(ConfigError, match="draws its own pictures"):
        render_video(still, gym_skill("gym:Pendulum-v1"), tmp_path / "b.mp4", forces=True)
