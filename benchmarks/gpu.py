"""Transitions per second on a CUDA device: environment, bare physics, CPU engine, PPO; memory and time per part.

The bare physics is ``mujoco_warp.step``, captured as a graph of one policy step over the model and data of our
environment. With ``--device cpu`` the same code runs on the CPU engine as a smoke test, without the bare graph.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from policykd.agents.policy import Policy
from policykd.agents.training.config import PpoConfig
from policykd.agents.training.device_ppo import DevicePpo
from policykd.agents.training.warm_up import warm_up_normalizer
from policykd.envs import BatchedEnv, EnvConfig, get_skill
from policykd.envs.devices import choose_device
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.symmetry import mirror_symmetry
from policykd.storage import prepare_folder, write_json
from policykd.threads import usable_cores

ACTIONS = 32


@dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
        skills: the skills.
        worlds: numbers of simulations.
        cpu_sims: simulations of the CPU engine that the device is compared with.
        repeats: measurements of everything.
        steps: policy steps of a measurement.
        scale: actions are uniform in [-scale, scale].
        ppo_rollout: steps of a rollout of PPO.
        ppo_minibatches: minibatches of an epoch.
        device: cuda, or cpu as a smoke test.
        out: JSON file of the results.
        quick: small sizes and few repeats.
    """

    skills: tuple[str, ...] = ("biped/flat", "biped/steps", "biped/slopes")
    worlds: tuple[int, ...] = (1024, 4096, 8192, 16384)
    cpu_sims: int = 1024
    repeats: int = 5
    steps: int = 200
    scale: float = 0.2
    ppo_rollout: int = 24
    ppo_minibatches: int = 4
    device: str = "cuda"
    out: Path = field(default=Path("results/benchmarks/gpu.json"))
    quick: bool = False


class Clock:
    """Timer of work on a device that waits for all queued work."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def time(self, work: Callable[[], Any], times: int) -> float:
        """Return seconds per call of ``work`` over ``times`` calls."""
        self._wait()
        start = time.perf_counter()
        for _ in range(times):
            work()
        self._wait()
        return (time.perf_counter() - start) / times

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


class Scene:
    """One environment with all its measurements."""

    def __init__(self, options: Options, skill: str, worlds: int) -> None:
        self._options, self._device = options, choose_device(options.device)
        before = self._free()
        start = time.perf_counter()
        self.env = MaskedEnv([get_skill(skill)], worlds, config=EnvConfig(tracks=256), device=options.device)
        self.env.reset(stagger=True)
        self.start_up = time.perf_counter() - start
        self.memory = (before - self._free()) / worlds
        self._clock, self._worlds = Clock(self._device), worlds
        draw = torch.Generator(self._device).manual_seed(0)
        shape = (ACTIONS, worlds, self.env.num_actions)
        self._actions = options.scale * (2 * torch.rand(shape, generator=draw, device=self._device) - 1)
        self._next = 0

    def _free(self) -> float:
        """Return the free memory of the device, bytes."""
        return float(torch.cuda.mem_get_info(self._device)[0]) if self._device.type == "cuda" else 0.0

    def rates(self) -> dict[str, float]:
        """Measure transitions per second of each kind once."""
        steps = self._options.steps
        rates = {"environment": self._worlds / self._clock.time(self._step, steps)}
        bare = self._bare()
        if bare is not None:
            rates["bare mujoco_warp"] = self._worlds / self._clock.time(bare, steps)
        return rates

    def sections(self) -> dict[str, float]:
        """Measure seconds of each part of a step separately."""
        env, backend, action = self.env, self.env._backend, self._actions[0]
        view = backend.read_state()
        failed = torch.zeros(self._worlds, dtype=torch.bool, device=self._device)
        parts: dict[str, Callable[[], Any]] = {
            "whole step": self._step,
            "targets and physics": lambda: env.engine.step(backend.targets(action)),
            "look": backend.look,
            "judge": lambda: backend.compute_outcome_where(view, failed),
            "observe": lambda: backend.observe(view, backend.clock),
            "begin episodes": lambda: env._restart_where(failed),
            "move the ground": backend.move_ground_where,
        }
        with torch.no_grad():
            return {name: self._clock.time(part, max(1, self._options.steps // 4)) for name, part in parts.items()}

    def learning(self) -> dict[str, float]:
        """Measure transitions per second of PPO end to end, and the share of collecting."""
        options, skill = self._options, self.env.skill
        count = self._worlds * options.ppo_rollout
        config = PpoConfig(envs=self._worlds, rollout_steps=options.ppo_rollout,
                           minibatch=max(1, count // options.ppo_minibatches))  # fmt: skip
        symmetry = mirror_symmetry(skill.groups, skill.robot)
        policy = Policy(skill.group_sizes, self.env.num_actions, generator_seed=0, symmetry=symmetry).to(self._device)
        warm_up_normalizer(policy, self.env, steps=2)
        ppo = DevicePpo(policy, self.env, config, seed=0)
        rollout = ppo.collect()
        ppo.update(rollout, config.learning_rate)
        collecting = self._clock.time(ppo.collect, 2)
        learning = self._clock.time(lambda: ppo.update(rollout, config.learning_rate), 2)
        return {"PPO": count / (collecting + learning), "share of collecting": collecting / (collecting + learning)}

    def check(self) -> None:
        """Raise if contacts were dropped, because the physics would be wrong."""
        self.env.engine.check_overflow()

    def _step(self) -> None:
        self.env.step_masked(self._actions[self._next])
        self._next = (self._next + 1) % ACTIONS

    def _bare(self) -> Callable[[], None] | None:
        """Return a function that launches a graph of the physics alone, from the environment's current states."""
        if self._device.type != "cuda":
            return None
        import mujoco_warp as mjw
        import warp as wp

        engine: Any = self.env.engine
        with wp.ScopedDevice(engine._warp_device), wp.ScopedCapture() as capture:
            for _ in range(self.env.robot.decimation):
                mjw.step(engine._model, engine._data)
        return lambda: wp.capture_launch(
            capture.graph, stream=wp.stream_from_torch(torch.cuda.current_stream(self._device))
        )


def cpu_rate(options: Options, skill: str) -> float:
    """Measure transitions per second of the CPU engine on all usable cores."""
    env = BatchedEnv([get_skill(skill)], options.cpu_sims, config=EnvConfig(tracks=256))
    env.reset(stagger=True)
    draw = torch.Generator().manual_seed(0)
    actions = options.scale * (2 * torch.rand(ACTIONS, options.cpu_sims, env.num_actions, generator=draw) - 1)
    turn = iter(range(10**9))
    clock = Clock(torch.device("cpu"))
    clock.time(lambda: env.step(actions[next(turn) % ACTIONS]), 20)
    return options.cpu_sims / clock.time(lambda: env.step(actions[next(turn) % ACTIONS]), options.steps)


def measure(options: Options, skill: str, worlds: int) -> dict[str, Any]:
    """Measure one skill with one number of simulations."""
    scene = Scene(options, skill, worlds)
    for _ in range(ACTIONS):
        scene._step()
    repeats = [scene.rates() for _ in range(options.repeats)]
    rates = {name: [rate[name] for rate in repeats] for name in repeats[0]}
    result: dict[str, Any] = {name: statistics.median(values) for name, values in rates.items()}
    if "bare mujoco_warp" in result:
        bare = rates["bare mujoco_warp"]
        pairs = zip(rates["environment"], bare, strict=True)
        result["environment / bare"] = statistics.median(a / b for a, b in pairs)
    learning = scene.learning()
    scene.check()
    return {**result, **learning, "bytes per world": scene.memory, "start-up seconds": scene.start_up,
            "sections": scene.sections(), "values": rates}  # fmt: skip


def show(skill: str, figures: dict[int, dict[str, Any]], cpu: float) -> None:
    """Print the results of one skill."""
    table = Table(
        "", *(f"{worlds:,} worlds" for worlds in figures), title=f"{skill}; CPU engine: {cpu:,.0f} per second"
    )
    rows = [name for name in next(iter(figures.values())) if name not in ("sections", "values")]
    for name in rows:
        table.add_row(name, *(f"{f[name]:,.2f}" if f[name] < 100 else f"{f[name]:,.0f}" for f in figures.values()))
    for name in next(iter(figures.values()))["sections"]:
        table.add_row(f"{name}, ms", *(f"{1000 * f['sections'][name]:.3f}" for f in figures.values()))
    Console().print(table)


def main(options: Options) -> None:
    """Measure, print and save."""
    if options.quick:
        options = replace(options, skills=options.skills[:1], worlds=(64,), cpu_sims=64, repeats=2, steps=8,
                          ppo_rollout=4)  # fmt: skip
    device = choose_device(options.device)
    prepare_folder(options.out.parent)
    torch.set_num_threads(1)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    content: dict[str, Any] = {"device": name, "cores": usable_cores(), "repeats": options.repeats}
    content |= {"steps": options.steps, "scale": options.scale, "skills": {}}
    for skill in options.skills:
        cpu = cpu_rate(options, skill)
        figures = {worlds: measure(options, skill, worlds) for worlds in options.worlds}
        show(skill, figures, cpu)
        content["skills"][skill] = {"CPU engine": cpu, "worlds": {str(k): v for k, v in figures.items()}}
        write_json(options.out, content)


if __name__ == "__main__":
    main(tyro.cli(Options))
