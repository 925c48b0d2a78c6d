"""``policykd render``: film a policy on a skill.

Options and printing only; the work is in ``policykd.report.video``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from policykd.cli.output import say_where
from policykd.errors import ConfigError


@dataclass(frozen=True)
class Render:
    """Film a policy on a skill."""

    policy: tyro.conf.Positional[Path]
    """Policy file, or folder of a run."""
    skill: str | None = None
    """Skill such as biped/steps; default the first that the policy was trained on."""
    out: Path = Path("video.mp4")
    """Video file."""
    seconds: float = 8.0
    """Length, s; a fall ends it earlier."""
    seed: int = 0
    """Seed of track and initial state."""
    forces: bool = False
    """Draw the forces of the contacts; an arrow twice as long as the leg is the robot's weight."""

    size: str = "640x360"
    """Width and height of the video, pixels, even; gymnasium environments draw their own size."""
    camera: str = "side"
    """Place of the camera, which follows the robot: side, behind, front or above."""
    rate: float = 31.0
    """Largest number of pictures per second; the video plays in real time."""

    def run(self, console: Console) -> None:
        """Film and print the path of the video.

        Raises:
            PolicykdError: for bad input.
        """
        size = _size(self.size)
        from policykd.agents.files.policy_file import load_policy
        from policykd.agents.files.skills import skills_for
        from policykd.report.video import render_video
        from policykd.storage import prepare_file

        prepare_file(self.out)
        loaded = load_policy(self.policy)
        (skill,) = skills_for([loaded.manifest], [self.skill or loaded.manifest.skills[0]])
        render_video(
            loaded.policy, skill, self.out, seed=self.seed, seconds=self.seconds, size=size,
            forces=self.forces, view=self.camera, rate=self.rate,
        )  # fmt: skip
        say_where(console, self.out)


def _size(text: str) -> tuple[int, int]:
    """Return width and height of ``1280x720``.

    Raises:
        ConfigError: for any other text.
    """
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if found is None:
        raise ConfigError(f"--size is {text}; write it as <width>x<height>, for example 1280x720")
    return int(found[1]), int(found[2])
