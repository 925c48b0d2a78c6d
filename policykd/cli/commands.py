"""The options of every command. Nothing here loads torch or mujoco; ``policykd.cli.work`` does the work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from policykd.agents.training.config import TrainConfig
from policykd.cli.add_skill import AddSkill
from policykd.cli.compare import Compare
from policykd.cli.doctor import Doctor
from policykd.cli.encoder import EncoderText
from policykd.cli.inject import Inject
from policykd.cli.kd_bench import KdBench
from policykd.cli.kd_run import KdRun
from policykd.cli.merge import Merge
from policykd.cli.plaid import Plaid

_TRAIN = TrainConfig()

Set = Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=VALUE")]


@dataclass(frozen=True)
class Train:
    """Train one expert per skill from scratch, or from another policy."""

    skills: tyro.conf.Positional[tuple[str, ...]]
    """Skills such as biped/steps, biped/gaps:hard, biped/walls@0.5 or biped/flat+hop; `policykd skills` lists them."""
    out: Path = Path("experts")
    """Folder of the experts; each gets a folder named after its terrain."""
    steps: int = _TRAIN.steps
    """Budget, environment steps."""
    algorithm: Literal["ppo", "sac"] = "ppo"
    """Reinforcement learning algorithm of stable-baselines3."""
    init: Path | None = None
    """Policy to start from."""
    groups: tuple[str, ...] = ()
    """Observation groups that the expert reads: proprio, phase, terrain, command; default those of the task."""
    encoder: EncoderText = None
    """Branch of a group: terrain, or terrain:16x8,8x4,64 for convolutions (filters x width) and a dense layer of 64."""
    seed: int = _TRAIN.seed
    """Seed of weights, tracks and exploration."""
    target_success: float = _TRAIN.target_success
    """Stop early at this validation success (0 to 1) in two validations in a row; 2 never stops early."""
    threads: int | None = None
    """Threads of the simulation; default one per usable core."""
    device: str = _TRAIN.device
    """Where simulation and policy run: cpu, cuda, or auto for cuda where nothing is missing."""
    resume: bool = False
    """Continue interrupted runs; finished ones are not run again."""
    set: Set = ()
    """Any other setting, for example ppo.epochs=5 (fields of policykd.agents.training.TrainConfig)."""


@dataclass(frozen=True)
class Evaluate:
    """Measure policies on skills: reward, success, distance, retention, with 95 % intervals."""

    policies: tyro.conf.Positional[tuple[Path, ...]]
    """Policy files, or folders of runs."""
    skills: tuple[str, ...] = ()
    """Skills to measure on; default all that the policies were made for."""
    episodes: int = 64
    """Episodes per policy and skill, on fixed tracks shared by all policies."""
    seed: int = 0
    """Seed of tracks and initial states."""
    noise: bool = False
    """Sample actions instead of taking the policies' means."""
    out: Path = Path("evaluation.json")
    """JSON file with every episode's outcome."""
    threads: int | None = None
    """Simulation threads; default one per usable core."""
    device: str = "cpu"
    """Where simulation and policies run: cpu, cuda, or auto for cuda where nothing is missing."""


@dataclass(frozen=True)
class Render:
    """Film a policy on a skill."""

    policy: tyro.conf.Positional[Path]
    """Policy file, or folder of a run."""
    skill: str
    """Skill such as biped/steps."""
    out: Path = Path("video.mp4")
    """Video file."""
    seconds: float = 8.0
    """Length, s; a fall ends it earlier."""
    seed: int = 0
    """Seed of track and initial state."""


@dataclass(frozen=True)
class Skills:
    """List the skills, tasks and suites."""

    gallery: Path | None = None
    """Draw every terrain into this PNG file."""
    preset: str = "paper"
    """Terrain parameters of the gallery: paper, terrainrlsim or hard."""
    difficulty: float = 1.0
    """Difficulty of the gallery's terrains, 0 to 1."""
    seed: int = 0
    """Seed of the gallery's tracks."""


@dataclass(frozen=True)
class Demo:
    """Train three experts, merge them, measure and film the student. Continues where it was interrupted."""

    out: Path = Path("results/demo")
    """Results folder; open its index.html."""
    skills: tuple[str, ...] = ("biped/flat", "biped/steps", "biped/gaps")
    """Skills of the experts."""
    episodes: int = 64
    """Evaluation episodes per policy and skill."""
    seed: int = 0
    """Seed of everything."""
    threads: int | None = None
    """Cores to use; default all usable ones."""
    video: bool = True
    """Film the student on every skill."""


@dataclass(frozen=True)
class KdList:
    """List the losses of supervised knowledge distillation."""

    family: str | None = None
    """Only this family, for example relational."""


@dataclass(frozen=True)
class KdShow:
    """Show one loss: paper, equation, variants, departures, presets."""

    name: tyro.conf.Positional[str]
    """Name of the loss, for example crd."""


Kd = Annotated[
    Annotated[KdList, tyro.conf.subcommand("list")]
    | Annotated[KdShow, tyro.conf.subcommand("show")]
    | Annotated[KdRun, tyro.conf.subcommand("run")]
    | Annotated[KdBench, tyro.conf.subcommand("bench")],
    tyro.conf.arg(name=""),
]


@dataclass(frozen=True)
class KdGroup:
    """Supervised knowledge distillation: losses, systems, benchmark."""

    command: Kd


Command = (
    Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Merge, tyro.conf.subcommand("merge")]
    | Annotated[Inject, tyro.conf.subcommand("inject")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Render, tyro.conf.subcommand("render")]
    | Annotated[Skills, tyro.conf.subcommand("skills")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[Plaid, tyro.conf.subcommand("plaid")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[AddSkill, tyro.conf.subcommand("add-skill")]
    | Annotated[KdGroup, tyro.conf.subcommand("kd")]
)
