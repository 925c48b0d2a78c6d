"""Effect of the physics time step on the reward of trained experts, and its cost.

    python benchmarks/timestep.py results/terrains/flat-0 results/terrains/slopes-0

Each expert walks the same tracks with the robot's own time step and with finer ones; the finest is the reference.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table

from policykd.agents.episodes import run_episodes
from policykd.agents.files.policy_file import load_policy
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.robots import register_robot
from policykd.envs.skills import get_skill
from policykd.storage import write_json


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    policies: tyro.conf.Positional[tuple[Path, ...]]
    """Experts: policy files or run folders."""
    decimations: tuple[int, ...] = (3, 4, 8, 16)
    """Physics steps per policy step (the policy acts at 30 Hz)."""
    episodes: int = 256
    """Tracks per expert."""
    out: Path = Path("results/timestep.json")
    """JSON file."""


def main(options: Options) -> None:
    """Measure, print and save."""
    table = Table("skill", "physics Hz", "reward per step", "change", "success", "env steps/s")
    rows = []
    for path in options.policies:
        loaded = load_policy(path)
        skill = get_skill(loaded.manifest.skills[0])
        robot = skill.robot
        measured = {}
        for decimation in options.decimations:
            variant = replace(
                robot, name=f"{robot.name}-{decimation}", timestep=robot.control_dt / decimation, decimation=decimation
            )
            register_robot(variant)
            config = EnvConfig(tracks=options.episodes, ordered=True)
            env = BatchedEnv([replace(skill, robot=variant.name)], options.episodes, seed=4, config=config)
            env.seed(5)
            began = time.perf_counter()
            outcome = run_episodes(loaded.policy, env)
            rate = options.episodes * skill.episode_steps / (time.perf_counter() - began)
            measured[decimation] = (float(outcome.reward_per_step.mean()), float(outcome.success.double().mean()), rate)
        own = measured[robot.decimation][0]
        for decimation, (reward, success, rate) in measured.items():
            hertz = decimation / robot.control_dt
            cells = (f"{hertz:.0f}", f"{reward:.4f}", f"{reward / own - 1:+.2%}", f"{success:.3f}", f"{rate:,.0f}")
            table.add_row(skill.id, *cells)
            rows.append(
                {"skill": skill.id, "hertz": hertz, "reward_per_step": reward, "success": success, "rate": rate}
            )
    Console(width=120).print(table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, {"rows": rows, "episodes": options.episodes, "torch_threads": torch.get_num_threads()})


if __name__ == "__main__":
    main(tyro.cli(Options))
