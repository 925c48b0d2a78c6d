"""Wall times of a CUDA device, predicted from counted launches: written down before any GPU has run this.

    python benchmarks/gpu_prediction.py

It reads the counts of ``dispatches.py``. Three assumptions are not measured, and are to be replaced where a GPU was at
hand: the time of a kernel within a graph, the time of a launch by the host, and the physics of a policy step, the
latter from published rates of mujoco_warp for a humanoid. What is predicted is PPO with the
device's settings, and ``policykd plaid --preset standard --device cuda`` with all budgets spent in full.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from policykd.agents.training.algorithms.ppo import PpoConfig
from policykd.agents.training.device_settings import DEVICE, device_ppo
from policykd.curriculum import preset
from policykd.storage import read_json, write_json


@dataclass(frozen=True)
class Options:
    """Assumptions and files.

    Attributes:
        kernel: microseconds of a small kernel within a graph.
        launch: microseconds of a launch by the host.
        physics: milliseconds of the physics of a policy step, up to a thousand worlds.
        episode: steps of an episode.
        counts: file of ``dispatches.py``.
        out: file of the prediction.
    """

    kernel: float = 2.5
    launch: float = 8.0
    physics: float = 1.4
    episode: int = 256
    counts: Path = field(default=Path("benchmarks/results/gpu/dispatches.json"))
    out: Path = field(default=Path("benchmarks/results/gpu/prediction.json"))


def of_iteration(options: Options, counts: dict[str, Any], skill: str) -> dict[str, float]:
    """Return milliseconds of an iteration, and transitions per second, called and recorded."""
    found, ppo = counts["skills"][skill], device_ppo(PpoConfig())
    step = found["collected step"]["plain"]["operations"]
    per_iteration = found["iteration"]["plain"]["operations"] - step * counts["rollout_steps"]
    gradient = per_iteration / (counts["epochs"] * counts["minibatches"])
    steps, updates = ppo.rollout_steps, ppo.epochs * DEVICE.minibatches
    recorded = steps * (step * options.kernel / 1000 + options.physics) + updates * gradient * options.kernel / 1000
    called = steps * max(step * options.launch / 1000, step * options.kernel / 1000 + options.physics)
    called += updates * gradient * options.launch / 1000
    transitions = ppo.envs * steps
    return {
        "recorded_ms": recorded, "recorded_per_second": 1000 * transitions / recorded,
        "called_ms": called, "called_per_second": 1000 * transitions / called,
        "step_ms": step * options.kernel / 1000 + options.physics, "gradient_ms": gradient * options.kernel / 1000,
    }  # fmt: skip


def of_curriculum(options: Options, iteration: dict[str, float], name: str = "standard") -> dict[str, float]:
    """Return seconds of the parts of a preset's run: all budgets in full, kernels already compiled."""
    recipe = preset(name).on_device("cuda")
    steps, skills = sum(plan.steps for plan in recipe.skills), len(recipe.skills)
    episode = options.episode * iteration["step_ms"] / 1000
    rounds = (skills - 1) * recipe.merge.rounds
    fit = recipe.merge.updates * iteration["gradient_ms"] / 1000
    columns = skills + len(recipe.measurement.zero_shot)
    return {
        "environment_steps": steps,
        "training": steps / iteration["recorded_per_second"],
        "validations": steps / recipe.train.segment_steps * episode,
        "merging": rounds * (2 * episode + fit),
        "measuring": (2 * skills + 1) * columns * episode,
    }


def main(options: Options) -> None:
    """Predict, print and save."""
    counts = read_json(options.counts)
    iterations = {skill: of_iteration(options, counts, skill) for skill in counts["skills"]}
    standard = of_curriculum(options, iterations["biped/flat"])
    standard["total"] = sum(value for name, value in standard.items() if name != "environment_steps")
    assumed = {"kernel_us": options.kernel, "launch_us": options.launch, "physics_ms": options.physics}
    content = {"assumed": assumed, "iterations": iterations, "plaid standard": standard}
    write_json(options.out, content)
    for name, found in {**iterations, "plaid standard": standard}.items():
        print(name, {key: round(value, 2) for key, value in found.items()})


if __name__ == "__main__":
    main(tyro.cli(Options))
