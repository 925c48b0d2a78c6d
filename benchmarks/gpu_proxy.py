"""Learning curves of a CUDA device's training without one: its learner and its settings on the CPU engine.

``policykd train --device cuda`` uses another learner (``device_ppo``), and settings of its own: many simulations and
short rollouts (``policykd.agents.training.device_settings``). How many environment steps they need does not depend
on the device, so that it is measured here, together with stable-baselines3's PPO and the settings of the CPU::

    python benchmarks/gpu_proxy.py --skills biped/flat --seeds 3

Only the environment differs from that of a device: it is the CPU engine with compiled steps, whose results are put into
the form that a device gives. One JSON line per validation goes to ``--log``, the figures to ``--out``.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import tyro

from policykd.agents.training.config import TrainConfig
from policykd.agents.training.defaults import default_config
from policykd.agents.training.device_settings import device_settings
from policykd.agents.training.device_trainer import DeviceRun
from policykd.agents.training.trainer import Run
from policykd.cli.overrides import with_overrides
from policykd.envs.batched_env import BatchedEnv
from policykd.envs.masked_env import MaskedStep
from policykd.envs.skills import get_skill
from policykd.envs.stepping.masked_backend import MaskedOutcome
from policykd.progress import Silent
from policykd.runs import RunFolder
from policykd.storage import prepare_folder, read_json, write_json

LEARNERS = {"device": DeviceRun, "cpu": Run}


@dataclass(frozen=True)
class Options:
    """Options of the measurement.

    Attributes:
        skills: the skills.
        seeds: number of seeds, from ``first``.
        first: the first seed.
        learners: ``device``, and ``cpu`` for stable-baselines3's PPO.
        target: validation success that a run must reach in two validations in a row.
        steps: budgets of the device and of the CPU, environment steps; 0 for those of the settings.
        every: steps between two validations.
        set: other settings of the device's training, for example ppo.envs=2048.
        log: file of the validations, one JSON object per line; it is appended to.
        out: JSON file of the figures; runs that it holds are kept.
    """

    skills: tuple[str, ...] = ("biped/flat",)
    seeds: int = 3
    first: int = 0
    learners: tuple[str, ...] = ("device", "cpu")
    target: float = 0.97
    steps: tuple[int, int] = (0, 0)
    every: tuple[int, int] = (98_304, 49_152)
    set: tuple[str, ...] = ()
    log: Path = field(default=Path("results/benchmarks/gpu_proxy.jsonl"))
    out: Path = field(default=Path("results/benchmarks/gpu_proxy.json"))


class CompiledEnv(BatchedEnv):
    """A batched environment of the CPU whose results have the form of :class:`policykd.envs.masked_env.MaskedEnv`."""

    picker = torch.Generator()  # nothing here is recorded

    def draw_starts(self) -> None:
        """New episodes draw their starts themselves."""

    def aim(self, actions: torch.Tensor) -> None:
        """Remember the actions."""
        self._actions = actions

    def advance(self) -> None:
        """The physics is part of :meth:`conclude`."""

    def conclude(self) -> MaskedStep:
        """Make the step."""
        step, n = self.step(self._actions), self.num_envs
        final, ids, ended = step.flat.clone(), step.episodes.ids, step.episodes
        final[ids] = step.final_flat

        def spread(values: torch.Tensor) -> torch.Tensor:
            return torch.zeros(n, dtype=values.dtype).index_put_((ids,), values)

        of = (spread(getattr(ended, name)) for name in ("total_reward", "length", "distance", "success"))
        outcome = MaskedOutcome(step.reward, step.terminated, step.truncated, *of)
        return MaskedStep(step.flat, final, outcome, step.failed)


class ProxyRun(DeviceRun):
    """A device's training run on the CPU engine."""

    _make_env = CompiledEnv  # type: ignore[assignment]


def configured(options: Options, learner: str, skill: str, seed: int) -> TrainConfig:
    """Return the configuration of a run: that of the CPU, or what a CUDA device makes of it."""
    config = default_config(get_skill(skill).robot)
    if learner == "device":
        config = replace(with_overrides(device_settings(config), options.set), device="cpu")
    which = list(LEARNERS).index(learner)
    config = replace(config, seed=seed, threads=1, segment_steps=options.every[which])
    config = replace(config, target_success=options.target, patience=2)
    return replace(config, steps=options.steps[which] or config.steps)


def run_one(options: Options, learner: str, skill: str, seed: int) -> dict[str, Any]:
    """Train until the target is reached or the budget is spent; return the curve and the steps to the target."""
    config, began = configured(options, learner, skill, seed), time.process_time()
    kind = ProxyRun if learner == "device" else Run
    curve: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        skills = [get_skill(skill)]
        run = kind(skills, RunFolder(Path(folder) / "run", {"train": config}, False), config, None, skills, Silent())
        run._progress.begin(run._name, config.steps, "steps")
        while not run._over:
            run._learn_segment()
            found = run._validate()
            curve.append({"steps": run._steps, "success": found["success"], "reward": found["reward_per_step"],
                          "level": run._env.level})  # fmt: skip
            with options.log.open("a") as file:
                spent = time.process_time() - began
                row = {"learner": learner, "skill": skill, "seed": seed, **curve[-1], "cpu_seconds": round(spent, 1)}
                print(json.dumps(row), file=file, flush=True)
    reached = curve[-2]["steps"] if run._streak >= config.patience else None
    settings = {"envs": config.ppo.envs, "rollout_steps": config.ppo.rollout_steps, "minibatch": config.ppo.minibatch,
                "epochs": config.ppo.epochs, "target_kl": config.ppo.target_kl}  # fmt: skip
    return {"learner": learner, "skill": skill, "seed": seed, "steps_to_target": reached, "settings": settings,
            "cpu_seconds": round(time.process_time() - began, 1), "curve": curve}  # fmt: skip


def main(options: Options) -> None:
    """Run what is missing and write the figures after every run."""
    torch.set_num_threads(1)
    for path in (options.log, options.out):
        prepare_folder(path.parent)
    content = read_json(options.out) if options.out.exists() else {"target": options.target, "runs": []}
    done = {(run["learner"], run["skill"], run["seed"]) for run in content["runs"]}
    for skill in options.skills:
        for seed in range(options.first, options.first + options.seeds):
            for learner in options.learners:
                if (learner, skill, seed) not in done:
                    content["runs"].append(run_one(options, learner, skill, seed))
                    write_json(options.out, content)


if __name__ == "__main__":
    main(tyro.cli(Options))
