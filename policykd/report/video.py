"""Film a policy with MuJoCo's own renderer, without a display: mp4 clips and film strips.

The only module of this package that simulates: pages show the clips that are there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policykd.agents.files.policy_file import LoadedPolicy, Manifest, load_policy
from policykd.agents.files.skills import skills_for
from policykd.agents.policy import Policy
from policykd.curriculum.result import RESULT, CurriculumResult
from policykd.curriculum.stage_runner import StageFolders
from policykd.envs.batched_env import BatchedEnv
from policykd.envs.env_records import EnvConfig
from policykd.envs.foreign.skill import GymSkill
from policykd.envs.physics import BatchEngine
from policykd.envs.rendering import VIEWS, SceneRenderer, build_scene
from policykd.envs.skills import Skill
from policykd.envs.terrains import Maps, Tracks
from policykd.errors import ConfigError, MissingDependencyError, OutputError, UnknownNameError, check_range
from policykd.report.environment_film import EnvironmentRecording, record_environment
from policykd.report.run_files import STRIP
from policykd.report.skills import is_environment, skills_of
from policykd.seeding import integer_seed
from policykd.storage import unfinished

STILL_SECONDS = 1.0
"""Time for which a clip shows its last picture after a fall, s."""

MOST_PICTURES = 31.0
"""Largest number of pictures per second of a clip; of faster policies every second or third step is shown."""

CURRICULUM_SECONDS = 6.0
"""Length of the clips of a curriculum, s."""
_GRAVITY = 9.81
_STRIP_GAP = 4  # white pixels between the pictures of a strip


@dataclass(frozen=True)
class Recording:
    """One recorded episode.

    Attributes:
        track: the ground, one row.
        qpos: (t, nq) generalized positions, one per policy step, the start included.
        control_dt: time between them, s.
        fell: whether the episode ended in a fall.
        forces: (m, 6) contacts of every step with their forces, see
            :meth:`policykd.envs.physics.mujoco_batch.BatchEngine.contact_forces`; empty if they were not recorded.
    """

    track: Tracks | Maps
    qpos: np.ndarray
    control_dt: float
    fell: bool
    forces: tuple[np.ndarray, ...] = ()

    def steps(self, chosen: Iterable[int]) -> Recording:
        """Return the recording with these steps only."""
        rows = list(chosen)
        return replace(self, qpos=self.qpos[rows], forces=tuple(self.forces[i] for i in rows) if self.forces else ())


@torch.no_grad()
def record(policy: Policy, skill: Skill, *, seed: int = 0, seconds: float = 8.0, forces: bool = False) -> Recording:
    """Run one episode of a policy's mean actions.

    Args:
        policy: the policy.
        skill: the skill.
        seed: seed of track and initial state; equal seeds show different policies on the same track.
        seconds: length, s; a fall ends it earlier.
        forces: whether to record the forces of the contacts.

    Raises:
        ContractError: if the skill lacks an observation group that the policy reads.
        ConfigError: for a length outside [0.1, 600] s.
    """
    check_range("seconds", seconds, 0.1, 600.0, "s")
    steps = math.ceil(seconds / skill.robot.control_dt)
    config = EnvConfig(tracks=1, ordered=True)
    engine = partial(BatchEngine, threads=1, persistent=True) if forces else None
    env = BatchedEnv(
        [replace(skill, episode_steps=steps + 1)], 1, seed=integer_seed(seed, "film"), config=config, threads=1,
        make_engine=engine,
    )  # fmt: skip
    flat, positions, fell = torch.cat(list(env.reset().values()), dim=-1), list[np.ndarray](), False
    contacts = [np.zeros((0, 6))]
    for _ in range(steps):
        positions.append(_qpos(env))
        step = env.step(policy(policy.select(flat, env.skill.columns)))
        flat, fell = step.flat, bool(step.terminated[0])
        if isinstance(env.engine, BatchEngine) and forces:
            contacts.append(env.engine.contact_forces(0))
        if fell:  # the simulation is in the next episode now
            break
    else:
        positions.append(_qpos(env))
    kept = tuple(contacts[: len(positions)]) if forces else ()
    return Recording(env.track(0), np.array(positions), env.robot.control_dt, fell, kept)


def render_video(
    policy: Policy,
    skill: Skill,
    out: Path,
    *,
    seed: int = 0,
    seconds: float = 8.0,
    size: tuple[int, int] = (640, 360),
    forces: bool = False,
    view: str = "side",
    rate: float = MOST_PICTURES,
) -> Recording | EnvironmentRecording:
    """Film one episode as an mp4 (H.264) that every browser plays, in real time.

    It shows every step of the policy, or every second or third where that would be more pictures per second than asked.

    Args:
        policy: the policy; its mean actions are executed.
        skill: the skill.
        out: the file; written atomically.
        seed: seed of track and initial state.
        seconds: length of the clip, s; after a fall it shows the last picture for a second and ends.
        size: width and height, pixels, even.
        forces: whether to draw the forces of the contacts: an arrow twice as long as the leg is the robot's weight.
        view: where the camera is, one of :data:`policykd.envs.rendering.VIEWS`.
        rate: largest number of pictures per second.

    Returns:
        The recorded episode.

    Raises:
        MissingDependencyError: without the extra ``video`` or without an OpenGL library, before the simulation begins.
        ConfigError: for an odd size, a length or rate out of range, or forces in an environment of gymnasium.
        UnknownNameError: for an unknown view.
        ContractError: if the skill lacks an observation group that the policy reads.
        OutputError: if the file cannot be written.
    """
    if out.suffix != ".mp4":
        raise ConfigError(f"the video is {out.name}; its name must end in .mp4")
    if any(side % 2 for side in size):
        raise ConfigError(f"the video's size is {size[0]} x {size[1]}; both must be even")
    check_range("rate", rate, 1.0, 1000.0, "pictures per second")
    if view not in VIEWS:
        raise UnknownNameError("camera", view, VIEWS)
    imageio = _imageio()
    shot = _Shot(size, view, rate)
    recording, pictures = _filmed(policy, skill, shot, seed=seed, seconds=seconds, forces=forces)
    fps = 1 / (recording.control_dt * shot.every(recording.control_dt))
    with _whole_file(out) as temporary, _writer(imageio, temporary, fps) as writer:
        for picture in pictures:
            writer.append_data(picture)
        for _ in range(round(STILL_SECONDS * fps) if recording.fell else 0):
            writer.append_data(picture)
    return recording


def film_strip(
    policy: Policy,
    skill: Skill,
    out: Path,
    *,
    seed: int = 0,
    seconds: float = 8.0,
    frames: int = 6,
    size: tuple[int, int] = (320, 240),
) -> Recording | EnvironmentRecording:
    """Draw a row of pictures of one episode, evenly spaced in time, as a PNG for readers without video.

    Args:
        policy: the policy; its mean actions are executed.
        skill: the skill.
        out: the file; written atomically.
        seed: seed of track and initial state.
        seconds: length of the episode, s.
        frames: number of pictures, >= 1.
        size: width and height of each, pixels.

    Returns:
        The recorded episode.

    Raises:
        MissingDependencyError: without an OpenGL library.
        ConfigError: for options out of range.
        ContractError: if the skill lacks an observation group that the policy reads.
        OutputError: if the file cannot be written.
    """
    check_range("frames", frames, 1, 100)
    recording, pictures = _still(policy, skill, seed=seed, seconds=seconds, size=size, frames=frames)
    gap = np.full((len(pictures[0]), _STRIP_GAP, 3), 255, np.uint8)
    row = [part for picture in pictures for part in (picture, gap)][:-1]
    from matplotlib import image  # only here: pyplot's relatives take a second to import

    with _whole_file(out) as temporary:
        image.imsave(temporary, np.concatenate(row, axis=1), format="png")
    return recording


def film_policy(loaded: LoadedPolicy, folder: Path, *, seed: int = 0) -> list[tuple[str, Path, Path]]:
    """Film a policy on each of the skills that it was made for.

    Args:
        loaded: the policy.
        folder: folder of the clips and film strips.
        seed: seed of tracks and initial states.

    Returns:
        Per skill its id, its clip and its film strip.

    Raises:
        MissingDependencyError: without the extra ``video`` or without an OpenGL library.
        OutputError: if a file cannot be written.
    """
    films = []
    for skill in skills_for([loaded.manifest], loaded.manifest.skills):
        clip, strip = (folder / f"{skill.slug}{end}" for end in (".mp4", f"{STRIP}.png"))
        render_video(loaded.policy, skill, clip, seed=seed)
        film_strip(loaded.policy, skill, strip, seed=seed)
        films.append((skill.id, clip, strip))
    return films


def film_curriculum(folder: Path) -> list[Path]:
    """Film the final policy of a finished curriculum on each of its skills, unless that has been done.

    Args:
        folder: holds ``curriculum.json`` and ``stages``; clips and film strips go to its ``videos``.

    Returns:
        The clips, in the order of the skills.

    Raises:
        OutputError: if the curriculum is not finished, or a file cannot be written.
        MissingDependencyError: without the extra ``video`` or without an OpenGL library.
    """
    result = CurriculumResult.load(folder / RESULT)
    policy, manifest = load_policy(StageFolders(folder / "stages").policy(result.final))
    clips = []
    for skill in _skills(result, manifest):
        clip, strip = (folder / "videos" / f"{skill.slug}{end}" for end in (".mp4", f"{STRIP}.png"))
        if not clip.exists():
            render_video(policy, skill, clip, seed=result.seed, seconds=CURRICULUM_SECONDS)
        if not strip.exists():
            film_strip(policy, skill, strip, seed=result.seed, seconds=CURRICULUM_SECONDS)
        clips.append(clip)
    return clips


def _skills(result: CurriculumResult, manifest: Manifest) -> list[Skill]:
    if any(map(is_environment, result.matrix.skills)):
        return skills_for([manifest], [name.partition("#")[0] for name in result.matrix.skills])
    return skills_of(result.matrix.skills, tuple(manifest.groups), result.recipe.skill_records)


@dataclass(frozen=True)
class _Shot:
    """Size of the pictures, place of the camera, and the largest number of pictures per second."""

    size: tuple[int, int]
    view: str = "side"
    rate: float = MOST_PICTURES

    def every(self, control_dt: float) -> int:
        """Return how many steps of the policy a picture of a clip stands for."""
        return math.ceil(1 / (control_dt * self.rate))


def _filmed(
    policy: Policy, skill: Skill, shot: _Shot, *, seed: int, seconds: float, forces: bool
) -> tuple[Recording | EnvironmentRecording, Iterable[np.ndarray]]:
    """Return an episode and the pictures of its clip; those of gymnasium environments have their own size."""
    if isinstance(skill, GymSkill):
        if forces:
            raise ConfigError(f"{skill.id} draws its own pictures, which have no forces of contacts")
        own = record_environment(policy, skill, seed=seed, seconds=seconds)
        return own, own.pictures[:: shot.every(own.control_dt)]
    recording = record(policy, skill, seed=seed, seconds=seconds, forces=forces)
    shown = recording.steps(range(0, len(recording.qpos), shot.every(recording.control_dt)))
    return recording, _pictures(shown, skill, shot, fast=True)


def _still(
    policy: Policy, skill: Skill, *, seed: int, seconds: float, size: tuple[int, int], frames: int
) -> tuple[Recording | EnvironmentRecording, list[np.ndarray]]:
    """Return an episode and some of its pictures, evenly spaced in time."""
    if isinstance(skill, GymSkill):
        own = record_environment(policy, skill, seed=seed, seconds=seconds)
        return own, [own.pictures[i] for i in _spaced(len(own.pictures), frames)]
    recording = record(policy, skill, seed=seed, seconds=seconds)
    chosen = recording.steps(_spaced(len(recording.qpos), frames))
    return recording, list(_pictures(chosen, skill, _Shot(size), fast=False))


def _spaced(count: int, chosen: int) -> np.ndarray:
    return np.linspace(0, count - 1, chosen).round().astype(int)


def _qpos(env: BatchedEnv) -> np.ndarray:
    return env.engine.field("qpos")[0].cpu().numpy().copy()


def _pictures(recording: Recording, skill: Skill, shot: _Shot, *, fast: bool) -> Iterator[np.ndarray]:
    scene = build_scene(skill.robot, recording.track, shot.view)
    if fast:
        # Without a GPU, smoothing of edges and the shadow map take most of the time, and compression hides both:
        # 18 ms instead of 75 ms for a picture of 640 x 360.
        scene.vis.quality.offsamples, scene.vis.quality.shadowsize = 0, 1024
    weight, leg = float(scene.body_mass.sum()) * _GRAVITY, getattr(skill.robot, "leg_length", 1.0)
    with SceneRenderer(scene, *shot.size) as renderer:
        for i, qpos in enumerate(recording.qpos):
            arrows = recording.forces[i].copy() if recording.forces else None
            if arrows is not None:
                arrows[:, 3:] *= 2 * leg / weight
            yield renderer.frame(qpos, arrows)


def _imageio() -> Any:
    try:
        import imageio.v2
        import imageio_ffmpeg
    except ImportError as error:
        raise MissingDependencyError(f"videos need the extra: pip install 'policykd[video]' ({error})") from None
    try:
        imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise MissingDependencyError(
            f"videos need ffmpeg ({error}); pip install --force-reinstall imageio-ffmpeg, or on Debian: "
            "apt-get install ffmpeg"
        ) from None
    return imageio.v2


def _writer(imageio: Any, path: Path, fps: float) -> Any:
    return imageio.get_writer(
        path,
        format="FFMPEG",
        mode="I",
        fps=fps,
        codec="libx264",
        quality=None,
        pixelformat="yuv420p",
        macro_block_size=2,
        ffmpeg_log_level="error",
        output_params=["-crf", "26", "-preset", "veryfast", "-movflags", "+faststart"],
    )


@contextmanager
def _whole_file(out: Path) -> Iterator[Path]:
    """Give a temporary file next to ``out`` that replaces it if the block succeeds."""
    temporary = unfinished(out, out.suffix)  # which tells ffmpeg the format
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        try:
            yield temporary
            temporary.replace(out)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error
