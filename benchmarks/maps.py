"""Maps: environment steps on every ground, and physics steps on boxes against height fields, per processor second.

Processor time of this process is counted, because the time of a machine that others use says little. Every repeat runs
all arms one after the other.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import mujoco
import numpy as np
import torch
import tyro
from mujoco.batch import Batch
from rich.console import Console
from rich.table import Table

from policykd.envs import BatchedEnv, EnvConfig, get_skill
from policykd.envs.robots import get_robot
from policykd.envs.robots.assembly import build_spatial_spec
from policykd.envs.robots.ground_pool import GROUND
from policykd.envs.terrains import TERRAINS
from policykd.storage import prepare_folder, write_json

LINE = ("imu", "base_velocity", "joints", "last_action", "command", "scan")
AREA = (*LINE[:-1], "area")
_STAND = 50  # policy steps between two starts from the standing pose
SIDE = 1.0
"""Edge of the square of tiles under a robot, m."""


@dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
        sims: simulations.
        repeats: measurements of every arm.
        steps: policy steps of one measurement.
        part: what is measured.
        out: JSON file of the results.
    """

    sims: int = 256
    repeats: int = 5
    steps: int = 30
    part: Literal["environment", "physics"] = "environment"
    out: Path = field(default=Path("results/benchmarks/maps.json"))


def environment(options: Options, terrain: str, groups: tuple[str, ...]) -> Callable[[], None]:
    """Return a function that makes one step of all simulations with the whole environment."""
    skill = get_skill(f"quadruped/{terrain}", groups)
    env = BatchedEnv([skill], options.sims, config=EnvConfig(tracks=64), threads=1)
    env.reset(stagger=True)
    draw = torch.Generator().manual_seed(0)
    actions = torch.rand(options.sims, env.num_actions, generator=draw) * 0.4 - 0.2

    def step() -> None:
        env.step(actions)

    return step


def physics(options: Options, tiles: int = 1, cell: float = 0.0) -> Callable[[], None]:
    """Return a function that makes one step of the physics alone on ``tiles`` ** 2 boxes, or on a height field."""
    robot, rng = get_robot("quadruped"), np.random.default_rng(0)
    spec = build_spatial_spec(robot, 0 if cell else tiles * tiles)
    names = [f"{GROUND}{i}" for i in range(tiles * tiles)]
    if cell:
        count, half = round(10.0 / cell), 5.0
        heights = rng.random(count * count).astype(np.float32)
        spec.add_hfield(name="field", nrow=count, ncol=count, size=[half, half, 0.05, 0.5], userdata=heights)
        geom = spec.worldbody.add_geom(name="field", type=mujoco.mjtGeom.mjGEOM_HFIELD, hfieldname="field")
        geom.pos, geom.contype, geom.conaffinity, names = [0.0, 0.0, -0.05], 0, 0, ["field"]
    for foot in [geom.name for geom in spec.geoms if re.fullmatch(robot.feet, geom.name)]:
        for name in names:
            spec.add_pair(geomname1=name, geomname2=foot, condim=3)
    model = spec.compile()
    if not cell:
        size = SIDE / tiles
        for i in range(tiles * tiles):
            place = (np.array(divmod(i, tiles)) - (tiles - 1) / 2) * size
            model.geom_pos[i], model.geom_size[i] = [*place, -0.05 * rng.random() - 0.25], [size / 2, size / 2, 0.25]
            model.geom_quat[i] = [1.0, 0.0, 0.0, 0.0]
            model.geom_rbound[i] = np.linalg.norm(model.geom_size[i])
    batch = Batch(model, options.sims, 1)
    qpos, stand = batch.bind("qpos"), robot.stand_pose
    controls = stand[7:] + rng.uniform(-0.2, 0.2, (options.sims, len(stand) - 7))

    calls = 0

    def step() -> None:
        nonlocal calls
        if calls % _STAND == 0:  # robots stay on the tiles
            qpos[:], batch.bind("qvel")[:] = stand, 0.0
        calls += 1
        batch.bind("ctrl")[:] = controls
        batch.step(nstep=robot.decimation, stage=int(mujoco.mjtStage.mjSTAGE_NONE))

    return step


def rate(options: Options, step: Callable[[], None]) -> float:
    """Return steps of single simulations per second of processor time."""
    step()
    start = time.process_time()
    for _ in range(options.steps):
        step()
    return options.sims * options.steps / (time.process_time() - start)


def measure(arms: dict[str, Callable[[], None]], options: Options) -> dict[str, Any]:
    """Return medians and ranges of all arms."""
    values: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(options.repeats):
        for name, step in arms.items():
            values[name].append(rate(options, step))
    return {name: {"median": statistics.median(v), "min": min(v), "max": max(v)} for name, v in values.items()}


def show(title: str, rows: dict[str, Any]) -> None:
    """Print a table."""
    table = Table("", "median", "min", "max", title=title)
    for name, row in rows.items():
        table.add_row(name, *(f"{row[key]:,.0f}" for key in ("median", "min", "max")))
    Console().print(table)


def _environments(options: Options) -> dict[str, Callable[[], None]]:
    maps = [name for name, kind in TERRAINS.items() if kind.varies_across]
    arms = {"flat, line": environment(options, "flat", LINE), "flat, area": environment(options, "flat", AREA)}
    arms |= {"stairs, line": environment(options, "stairs", LINE)}
    return arms | {f"{name}, area": environment(options, name, AREA) for name in maps}


def _grounds(options: Options) -> dict[str, Callable[[], None]]:
    arms = {f"{tiles**2} boxes": physics(options, tiles) for tiles in (1, 3, 5, 6, 8)}
    return arms | {f"height field, cells of {cell:g} m": physics(options, cell=cell) for cell in (0.1, 0.05)}


def main(options: Options) -> None:
    """Measure, print and save."""
    prepare_folder(options.out.parent)
    torch.set_num_threads(1)
    arms = _environments(options) if options.part == "environment" else _grounds(options)
    rates = measure(arms, options)
    show(f"quadruped, {options.part}: policy steps per second of processor time", rates)
    numbers = {"sims": options.sims, "repeats": options.repeats, "steps": options.steps}
    write_json(options.out, {**numbers, options.part: rates})


if __name__ == "__main__":
    main(tyro.cli(Options))
