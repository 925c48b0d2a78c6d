"""Options shared by several commands, each with its help text.

Each type is an option's value with its metavar and help. Nothing in this module loads torch or MuJoCo.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from policykd.agents.architecture import Encoder
from policykd.curriculum.curricula import CURRICULA, compared_curricula
from policykd.curriculum.presets import preset_names
from policykd.errors import ConfigError

Set = Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=VALUE")]
"""Overrides of configuration fields; each command's help names the configuration and gives an example."""

Threads = Annotated[int | None, tyro.conf.arg(help="Simulation threads; default one per usable core.")]
"""Number of simulation threads."""

Cores = Annotated[int | None, tyro.conf.arg(help="Cores to use; default all usable cores.")]
"""Number of cores of a command that runs several processes."""

ExecutorName = Annotated[str, tyro.conf.arg(metavar="NAME")]
"""Where jobs run; see ``policykd.executors``."""

Workers = Annotated[int | None, tyro.conf.arg(help="Parallel processes; default one per usable core.")]
"""Number of processes."""

Device = Annotated[
    str,
    tyro.conf.arg(help="Device of simulation and policies: cpu, cuda, or auto (cuda if available, otherwise cpu)."),
]
"""Device of simulation and policies."""

Resume = Annotated[bool, tyro.conf.arg(help="Continue an interrupted run; finished parts are not run again.")]
"""Whether to continue an interrupted run."""

EncoderText = Annotated[
    str | None,
    tyro.conf.arg(
        metavar="GROUP[:SIZES]",
        help="Encoder of an observation group: terrain, or terrain:16x8,8x4,64 for convolutions with 16 filters of "
        "width 8 and 8 of width 4 (8x4/2 for stride 2) and a dense layer of 64, joined at the last hidden layer; "
        "append @every, as in terrain:8x3,32@every, to join at every hidden layer.",
    ),
]
"""Encoder of an observation group; :func:`parse_encoder` reads it."""

if TYPE_CHECKING:
    PresetName = str
else:
    PresetName = Literal[tuple(preset_names())]
"""Name of a built-in recipe."""

RecipeFile = Annotated[Path | None, tyro.conf.arg(help="YAML file with a recipe of your own; replaces the preset.")]
"""Path of a recipe file."""


_NOT_COMPARED = [name for name in CURRICULA if name not in compared_curricula()]

Curriculum = Annotated[
    str | None,
    tyro.conf.arg(help=f"Curriculum: one of {', '.join(CURRICULA)}, or package.module:function; default the recipe's."),
]
"""Name of a curriculum; None for the recipe's."""

Curricula = Annotated[
    tuple[str, ...], tyro.conf.arg(help=f"Curricula to compare; also available: {', '.join(_NOT_COMPARED)}.")
]
"""Names of the curricula of a comparison."""


def split_expert(text: str) -> tuple[Path, Sequence[str] | None]:
    """Return the path of a policy, and the skills to use it on; None for all of its skills.

    Raises:
        ConfigError: for an @ without a skill behind it.
    """
    path, at, skills = text.partition("@")
    if not at or Path(text).exists():
        return Path(text), None
    chosen = [skill.strip() for skill in skills.split(",") if skill.strip()]
    if not chosen:
        raise ConfigError(f"{text}: name the skills after the @, for example {path}@biped/flat,biped/steps")
    return Path(path), chosen


def parse_encoder(text: str) -> Encoder:
    """Return the encoder that ``GROUP[:SIZES][@JOIN]`` describes, for example ``terrain:16x8,8x4/2,64@every``.

    Raises:
        ConfigError: for malformed text, or sizes out of range.
        UnknownNameError: for an unknown join.
    """
    group, colon, rest = text.partition(":")
    sizes, at, join = (rest if colon else group).partition("@")
    group, join = (group if colon else sizes), (join if at else "last")
    if not colon:
        return Encoder(group, join=join)
    *convolutions, dense = sizes.split(",")
    try:
        shapes = [_convolution(part) for part in convolutions]
        channels, kernel, stride = zip(*shapes, strict=True) if shapes else ((), (), ())
        return Encoder(group, channels, kernel, stride, int(dense), join)
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"--encoder {text}: write it as terrain or terrain:16x8,8x4,64") from None


def _convolution(text: str) -> tuple[int, int, int]:
    """Return channels, width and stride of ``16x8`` or ``16x8/2``."""
    shape, _, stride = text.partition("/")
    channels, width = shape.split("x")
    return int(channels), int(width), int(stride or 1)
