"""Learning curves after injection with exact, scaled and random initialization of the new weights.

    python benchmarks/injection.py --seeds 5

For every seed a blind expert is trained on the incline, given terrain in each mode, and trained on the steps, as in
PLAID's curriculum. Finished runs are not repeated, so the same command continues an interrupted benchmark.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import tyro
from rich.console import Console
from rich.table import Table

from policykd.agents.files.policy_file import load_policy, read_manifest
from policykd.agents.injection import MODES, inject_file
from policykd.agents.training import TrainConfig, train_expert
from policykd.agents.training.trainer import make_validation
from policykd.cli.options import parse_encoder
from policykd.cli.overrides import with_overrides
from policykd.envs.skills import get_skill
from policykd.storage import prepare_folder, write_json
from policykd.threads import usable_cores

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLORS = {"exact": "#1b6ca8", "scaled": "#c8553d", "random": "#6b8f3f"}


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    seeds: int = 5
    """Number of seeds, counted from 0; each has its own blind expert."""
    first: str = "biped/incline"
    """Skill of the blind expert."""
    second: str = "biped/steps"
    """Skill after the injection."""
    blind_steps: int = 1_500_000
    """Budget of the blind expert, environment steps; its training stops early on success."""
    steps: int = 1_000_000
    """Budget of every arm, environment steps; none stops early."""
    encoder: str | None = None
    """Encoder of the new group, for example terrain:16x8,8x4,64; default new columns of the first layer."""
    work: Path = Path("results/benchmarks/injection")
    """Folder of the runs."""
    out: Path = Path("results/benchmarks/injection.json")
    """JSON file of the curves; the plot is saved next to it."""
    set: tuple[str, ...] = ()
    """Other training settings, for example ppo.envs=32."""


def train_blind(options: Options, seed: int) -> Path:
    """Train a seed's blind expert and return its run folder."""
    config = TrainConfig(steps=options.blind_steps, seed=seed, threads=1)
    skill = get_skill(options.first, ("proprio",))
    out = options.work / f"seed-{seed}" / "blind"
    train_expert([skill], out, with_overrides(config, options.set), resume=True)
    return out


def run_arm(options: Options, blind: Path, seed: int, mode: str) -> dict[str, Any]:
    """Inject, measure the difference, train, and return the curve of one arm."""
    folder = options.work / f"seed-{seed}" / mode
    injected = folder / "injected"
    if not injected.exists():
        encoder = parse_encoder(options.encoder) if options.encoder else None
        inject_file(blind, injected, ["terrain"], mode=mode, encoder=encoder, seed=seed, threads=1)
    config = TrainConfig(steps=options.steps, seed=seed, target_success=2.0, threads=1)
    config = with_overrides(config, options.set)
    train_expert([get_skill(options.second)], folder / "run", config, init=load_policy(injected), resume=True)
    rows = [json.loads(line) for line in (folder / "run" / "progress.jsonl").read_text().splitlines()]
    at_once = make_validation([get_skill(options.second)], config).measure(load_policy(injected).policy)
    rows = [{"steps": 0, **at_once}, *rows]
    curve = {name: [row[name] for row in rows] for name in ("steps", "success", "reward_per_step")}
    return {"seed": seed, "mode": mode, **curve, **read_manifest(injected).metrics["largest_difference"]}


def run_seed(options: Options, seed: int) -> list[dict[str, Any]]:
    """Run all arms of one seed from the same blind expert."""
    blind = train_blind(options, seed)
    return [run_arm(options, blind, seed, mode) for mode in MODES]


def millions(arm: dict[str, Any]) -> list[float]:
    """Return the environment steps of an arm's validations, millions."""
    return [steps / 1e6 for steps in arm["steps"]]


def draw(arms: list[dict[str, Any]], options: Options, path: Path) -> None:
    """Plot the validation reward and success of every arm: all seeds thin, their mean bold."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharex=True)
    for axis, name, label in zip(axes, ("reward_per_step", "success"), ("reward per step", "success"), strict=True):
        for mode in MODES:
            curves = [arm for arm in arms if arm["mode"] == mode]
            for arm in curves:
                axis.plot(millions(arm), arm[name], color=COLORS[mode], alpha=0.25, linewidth=0.8)
            mean = [statistics.fmean(values) for values in zip(*(arm[name] for arm in curves), strict=True)]
            axis.plot(millions(curves[0]), mean, color=COLORS[mode], linewidth=2, label=mode)
        axis.set_xlabel("environment steps after injection, millions")
        axis.set_ylabel(f"validation {label}")
        axis.set_ylim(0, 1)
    axes[0].legend(frameon=False)
    branch = f"encoder {options.encoder}" if options.encoder else "first-layer columns"
    seeds = len(arms) // len(MODES)
    figure.suptitle(f"blind {options.first}, terrain injected ({branch}), {options.second}; {seeds} seeds")
    figure.tight_layout()
    figure.savefig(path, dpi=140)
    plt.close(figure)


def show(arms: list[dict[str, Any]]) -> None:
    """Print the difference of the outputs and the mean curve over the seeds, per mode."""
    table = Table("mode", "largest difference (random)", "(on-policy)", "at once", "mean of curve", "last",
                  title="validation reward per step, mean over seeds")  # fmt: skip
    for mode in MODES:
        curves = [arm for arm in arms if arm["mode"] == mode]
        rewards = [arm["reward_per_step"] for arm in curves]
        figures = [statistics.fmean(f(r) for r in rewards) for f in (lambda r: r[0], statistics.fmean, lambda r: r[-1])]
        largest = [f"{max(arm[name] for arm in curves):.2e}" for name in ("random", "on_policy")]
        table.add_row(mode, *largest, *(f"{figure:.3f}" for figure in figures))
    Console(width=120).print(table)


def main(options: Options) -> None:
    """Run, print, save and plot; results are saved after every seed."""
    prepare_folder(options.out.parent)
    arms: list[dict[str, Any]] = []
    pool = ProcessPoolExecutor(usable_cores(), mp_context=multiprocessing.get_context("spawn"))
    for of_seed in pool.map(partial(run_seed, options), range(options.seeds)):
        arms += of_seed
        asked = {"first": options.first, "second": options.second, "steps": options.steps,
                 "blind_steps": options.blind_steps, "encoder": options.encoder, "set": list(options.set)}  # fmt: skip
        write_json(options.out, {**asked, "arms": arms})
        draw(arms, options, options.out.with_suffix(".png"))
    show(arms)


if __name__ == "__main__":
    main(tyro.cli(Options))
