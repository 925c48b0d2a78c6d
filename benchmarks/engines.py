"""Comparison of trained policies on mujoco_warp and the CPU engine: mean rewards per terrain should be equal.

    python benchmarks/terrains.py --out results/terrains --seeds 0
    python benchmarks/engines.py results/terrains

Runs every policy file under a folder for one episode on each of many held-out tracks of its own skills, from the same
states on both engines. A trained policy may fall on only one of the engines when a foot meets an edge, so means over
many tracks are compared, with the standard error of their paired difference. Needs the extra ``[gpu]``, but no GPU:
``--device cpu`` is Warp's own CPU device, which runs the same kernels one after the other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table

from policykd.agents.episodes import EpisodeOutcomes, run_episodes
from policykd.agents.files.policy_file import load_policy
from policykd.agents.policy import Policy
from policykd.envs import BatchedEnv, EnvConfig, Skill, get_skill
from policykd.envs.physics.contact_budget import measure_contacts
from policykd.envs.physics.mujoco_warp import WarpEngine
from policykd.envs.robots.mjcf import build_model
from policykd.errors import ConfigError
from policykd.storage import prepare_folder, write_json


@dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
        experts: folder with policy files at any depth.
        episodes: held-out tracks per skill.
        seed: seed of tracks and initial states.
        bound: largest accepted relative difference of the mean rewards.
        device: cpu for Warp's CPU device, or cuda.
        out: JSON file of the results.
    """

    experts: tyro.conf.Positional[Path]
    episodes: int = 64
    seed: int = 1000
    bound: float = 0.03
    device: str = "cpu"
    out: Path = field(default=Path("results/benchmarks/engines.json"))


@dataclass(frozen=True)
class Comparison:
    """Results of one policy on one skill on both engines; pairs have the CPU engine first.

    Attributes:
        policy: the policy file.
        skill: the skill's id.
        reward: mean rewards per step.
        success: shares of successes.
        distance: mean distances, m.
        difference: difference of the mean rewards, as a share of the CPU engine's.
        error: standard error of this share over the tracks.
    """

    policy: str
    skill: str
    reward: tuple[float, float]
    success: tuple[float, float]
    distance: tuple[float, float]
    difference: float
    error: float


def warp_env(skill: Skill, options: Options, config: EnvConfig) -> BatchedEnv:
    """Return an environment on Warp, with memory for the contacts of its own tracks."""
    plain = BatchedEnv([skill], 1, seed=options.seed, config=config, threads=1)
    model, window = build_model(plain.robot, plain._boxes), plain.robot.window_width
    sizes = measure_contacts(model, plain.robot, plain._bank.tracks, plain._boxes, window)
    engine = partial(WarpEngine, sizes=sizes, device=options.device)
    return BatchedEnv([skill], options.episodes, seed=options.seed, config=config, make_engine=engine)


def walk(policy: Policy, env: BatchedEnv, seed: int) -> EpisodeOutcomes:
    """Run one episode on every track."""
    env.seed(seed)
    return run_episodes(policy.to(env.device), env)


def compare(path: Path, policy: Policy, skill: Skill, options: Options) -> Comparison:
    """Compare both engines for one policy on one skill."""
    config = EnvConfig(tracks=options.episodes, ordered=True)
    here = BatchedEnv([skill], options.episodes, seed=options.seed, config=config)
    cpu, warp = (walk(policy, env, options.seed) for env in (here, warp_env(skill, options, config)))
    scale = float(cpu.reward_per_step.mean())
    apart = (warp.reward_per_step - cpu.reward_per_step) / scale

    def pair(name: str) -> tuple[float, float]:
        return float(getattr(cpu, name).double().mean()), float(getattr(warp, name).double().mean())

    return Comparison(
        str(path), skill.id, pair("reward_per_step"), pair("success"), pair("distance"),
        float(apart.mean()), float(apart.std()) / options.episodes**0.5,
    )  # fmt: skip


def show(rows: list[Comparison], options: Options) -> None:
    """Print the table."""
    title = f"CPU engine | mujoco_warp on {options.device}, one episode on each of {options.episodes} tracks"
    table = Table("skill", "policy", "reward per step", "difference, %", "success", "distance, m", title=title)
    for row in rows:
        table.add_row(
            row.skill, row.policy, "{:.4f} | {:.4f}".format(*row.reward),
            f"{100 * row.difference:+.2f} +- {100 * row.error:.2f}",
            "{:.3f} | {:.3f}".format(*row.success), "{:.2f} | {:.2f}".format(*row.distance),
        )  # fmt: skip
    Console(width=150).print(table)


def main(options: Options) -> None:
    """Compare, print and save; exit with status 1 if a difference is beyond the bound."""
    paths = sorted(manifest.parent for manifest in options.experts.rglob("manifest.json"))
    if not paths:
        raise ConfigError(f"no policy file found under {options.experts}; make them with benchmarks/terrains.py")
    torch.set_num_threads(1)
    prepare_folder(options.out.parent)
    rows: list[Comparison] = []
    for path in paths:
        loaded = load_policy(path)
        for name in loaded.manifest.skills:
            rows.append(compare(path, loaded.policy, get_skill(name, list(loaded.policy.groups)), options))
            print(f"{name}: {100 * rows[-1].difference:+.2f} %", flush=True)
            write_json(options.out, {"device": options.device, "episodes": options.episodes, "seed": options.seed,
                                     "rows": [asdict(row) for row in rows]})  # fmt: skip
    show(rows, options)
    beyond = [f"{row.skill} ({row.policy})" for row in rows if abs(row.difference) > options.bound]
    if beyond:
        raise SystemExit(f"rewards differ by more than {100 * options.bound:g} %: {', '.join(beyond)}")


if __name__ == "__main__":
    main(tyro.cli(Options))
