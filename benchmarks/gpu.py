"""Figures of a CUDA device, unattended and within a time limit: one JSON line per figure, as soon as it is known.

    python benchmarks/gpu.py --limit 400 --out results/benchmarks/gpu.jsonl

What matters most comes first: 4,096 worlds of the first three skills, then other numbers of worlds and skills. Of each:

* ``environment``: transitions per second of the environment alone, and of bare physics;
* ``ppo``: transitions per second of whole iterations, and the share of collecting;
* ``sections``: milliseconds of the parts of a step;

and once, of the first case: ``waits``, whether torch reports that the host waits in steps or in collecting,
``profile``, what was launched, and ``cpu engine``, transitions per second of this machine's cores.

The bare physics is ``mujoco_warp.step``, captured as a graph of one policy step over the model and data of our
environment. It begins from states of the environment, which are restored after every few steps: robots that are left
alone fall, and lying robots have other contacts. With ``--device cpu`` the same code runs on the CPU engine as a test,
without the bare graph. Where a case fails, its line holds the error, and the next one begins.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import tyro

from policykd.agents.policy import Policy
from policykd.agents.training.defaults import default_config
from policykd.agents.training.device_ppo import DevicePpo
from policykd.agents.training.device_settings import device_ppo
from policykd.agents.training.warm_up import warm_up_normalizer
from policykd.envs import BatchedEnv, EnvConfig, get_skill
from policykd.envs.capture import no_garbage_collection
from policykd.envs.devices import choose_device
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.symmetry import mirror_symmetry
from policykd.errors import PolicykdError
from policykd.storage import prepare_folder
from policykd.threads import usable_cores

ACTIONS = 32
_RESTORED = 10  # bare steps after which the states are restored
_SETTLING = 32  # steps before the first figure, so that episodes are not all at their start
_RESERVE = 25.0  # seconds that a case may need beyond what the last one did


@dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
        skills: the skills, the most important first.
        worlds: numbers of simulations, the most important first.
        limit: seconds after which no case begins.
        repeats: measurements of every rate.
        steps: policy steps of a measurement.
        iterations: iterations of PPO of a measurement.
        scale: actions are uniform in [-scale, scale].
        cpu_sims: simulations of the CPU engine that the device is compared with; 0 leaves it out.
        device: cuda, or cpu as a test.
        out: file of the figures, one JSON object per line; it is appended to.
    """

    skills: tuple[str, ...] = ("biped/steps", "quadruped/flat", "humanoid/flat", "biped/flat", "quadruped/stairs")
    worlds: tuple[int, ...] = (4096, 1024, 16384, 8192)
    limit: float = 400.0
    repeats: int = 5
    steps: int = 50
    iterations: int = 2
    scale: float = 0.2
    cpu_sims: int = 1024
    device: str = "cuda"
    out: Path = field(default=Path("results/benchmarks/gpu.jsonl"))


class Report:
    """The file of the figures.

    Args:
        out: the file.
    """

    def __init__(self, out: Path) -> None:
        prepare_folder(out.parent)
        self._out, self._began = out, time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def put(self, what: str, **figures: Any) -> None:
        """Write a figure; it is on disk before the next one is taken."""
        row = json.dumps({"at": round(self.seconds, 1), "what": what, **figures})
        with self._out.open("a") as file:
            print(row, file=file, flush=True)
        print(row, flush=True)


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


class Case:
    """One environment with all its measurements."""

    def __init__(self, options: Options, skill: str, worlds: int) -> None:
        self._options, self._device = options, choose_device(options.device)
        before, start = self._free(), time.perf_counter()
        self.env = MaskedEnv([get_skill(skill)], worlds, config=EnvConfig(tracks=256), device=options.device)
        self.env.reset(stagger=True)
        self._clock, self._worlds = Clock(self._device), worlds
        draw = torch.Generator(self._device).manual_seed(0)
        shape = (ACTIONS, worlds, self.env.num_actions)
        self._actions = options.scale * (2 * torch.rand(shape, generator=draw, device=self._device) - 1)
        self._next = 0
        self.step()
        self.start_up = time.perf_counter() - start
        self.bytes_per_world = (before - self._free()) / worlds
        for _ in range(_SETTLING):
            self.step()

    def _free(self) -> float:
        """Return the free memory of the device, bytes."""
        return float(torch.cuda.mem_get_info(self._device)[0]) if self._device.type == "cuda" else 0.0

    def step(self) -> None:
        """Make a step of the environment with the next random actions."""
        self.env.step_masked(self._actions[self._next])
        self._next = (self._next + 1) % ACTIONS

    def rates(self) -> dict[str, Any]:
        """Return transitions per second of the environment and of the bare physics, measured in turns."""
        bare, own, alone = self._bare(), [], []
        for _ in range(self._options.repeats):
            own.append(self._worlds / self._clock.time(self.step, self._options.steps))
            if bare is not None:
                alone.append(self._worlds / self._bare_seconds(bare))
        figures: dict[str, Any] = {"per_second": statistics.median(own), "values": own}
        if alone:
            ratio = statistics.median(a / b for a, b in zip(own, alone, strict=True))
            figures |= {"bare": statistics.median(alone), "ratio": ratio, "bare_values": alone}
        return figures

    def _bare_seconds(self, bare: Callable[[], None]) -> float:
        """Return seconds of a bare step from the environment's present states, which are put back afterwards."""
        engine, parts = self.env.engine, max(1, self._options.steps // _RESTORED)
        states, spent = engine.snapshot(), 0.0
        for _ in range(parts):
            spent += self._clock.time(bare, _RESTORED)
            engine.restore(states)
        return spent / parts

    def _bare(self) -> Callable[[], None] | None:
        """Return a function that launches a graph of the physics alone."""
        if self._device.type != "cuda":
            return None
        import mujoco_warp as mjw
        import warp as wp

        engine: Any = self.env.engine
        torch.cuda.synchronize(self._device)
        with wp.ScopedDevice(engine._warp_device), no_garbage_collection(), wp.ScopedCapture() as capture:
            for _ in range(self.env.robot.decimation):
                mjw.step(engine._model, engine._data)
        stream = wp.stream_from_torch(torch.cuda.current_stream(self._device))
        return lambda: wp.capture_launch(capture.graph, stream=stream)

    def make_learner(self) -> DevicePpo:
        """Return PPO with the device's settings, after as many iterations as recording takes."""
        skill = self.env.skill
        settings = device_ppo(default_config(skill.robot).ppo)
        count = self._worlds * settings.rollout_steps
        minibatch = count // (settings.envs * settings.rollout_steps // settings.minibatch)
        config = replace(settings, envs=self._worlds, minibatch=minibatch)
        symmetry = mirror_symmetry(skill.groups, skill.robot)
        architecture = default_config(skill.robot).architecture
        policy = Policy(skill.group_sizes, self.env.num_actions, architecture, 0, symmetry).to(self._device)
        warm_up_normalizer(policy, self.env, steps=2)
        learner = DevicePpo(policy, self.env, config, seed=0)
        for _ in range(3):
            learner.update(learner.collect(), config.learning_rate)
        return learner

    def learning(self, learner: DevicePpo) -> dict[str, Any]:
        """Return transitions per second of PPO end to end, and the share of collecting."""
        rollout, times = learner.collect(), self._options.iterations
        collecting = self._clock.time(learner.collect, times)
        updating = self._clock.time(lambda: learner.update(rollout, 1e-4), times)
        total = collecting + updating
        count = rollout.rewards.numel()
        return {"per_second": count / total, "share_of_collecting": collecting / total, "transitions": count,
                "collecting_seconds": collecting, "updating_seconds": updating}  # fmt: skip

    @torch.no_grad()
    def sections(self) -> dict[str, float]:
        """Return milliseconds of each part of a step that is not recorded, measured separately."""
        env, action = self.env, self._actions[0]
        backend: Any = env._backend
        view = backend.read_state()
        failed = torch.zeros(self._worlds, dtype=torch.bool, device=self._device)
        parts: dict[str, Callable[[], Any]] = {
            "whole step": self.step,
            "targets": lambda: env.aim(action),
            "physics": env.advance,
            "state": backend.read_state,
            "outcome": lambda: backend.compute_outcome_where(view, failed),
            "observe": lambda: backend.observe(view, backend.clock),
            "begin episodes": lambda: env._restart_where(failed),
            "move the ground": backend.move_ground_where,
        }
        times = max(1, self._options.steps // 4)
        return {name: 1000 * self._clock.time(part, times) for name, part in parts.items()}

    def waits(self, learner: DevicePpo) -> dict[str, str]:
        """Return what torch says about waits in steps, in collecting and in the whole iteration."""
        return {"step": self._refused(self.step), "collect": self._refused(learner.collect)}

    def _refused(self, work: Callable[[], Any]) -> str:
        """Return the message of the wait that stops ``work``; empty if there is none."""
        if self._device.type != "cuda":
            return "not measured on the CPU"
        torch.cuda.synchronize(self._device)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(4):
                work()
        except RuntimeError as error:
            return str(error)[:500]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return ""

    def profile(self, learner: DevicePpo) -> dict[str, Any]:
        """Return the counts of launches and waits in one collection, and the largest times."""
        with torch.profiler.profile() as taken:
            learner.collect()
        events = taken.key_averages()
        counts: Counter[str] = Counter({event.key: event.count for event in events})
        on_device = self._device.type == "cuda"
        spent = sorted((e.self_device_time_total if on_device else e.self_cpu_time_total, e.key) for e in events)
        return {
            "launches": {key: n for key, n in counts.items() if "aunch" in key},
            "waits": {key: n for key, n in counts.items() if "ynchronize" in key or "_local_scalar_dense" in key},
            "microseconds": {key: round(value) for value, key in reversed(spent[-25:])},
        }


def cpu_rate(options: Options, skill: str) -> float:
    """Return transitions per second of the CPU engine on all usable cores."""
    env = BatchedEnv([get_skill(skill)], options.cpu_sims, config=EnvConfig(tracks=256))
    env.reset(stagger=True)
    draw = torch.Generator().manual_seed(0)
    actions = options.scale * (2 * torch.rand(ACTIONS, options.cpu_sims, env.num_actions, generator=draw) - 1)
    turn = iter(range(10**9))
    clock = Clock(torch.device("cpu"))

    def step() -> None:
        env.step(actions[next(turn) % ACTIONS])

    clock.time(step, 8)
    return options.cpu_sims / clock.time(step, options.steps)


def cases(options: Options) -> Iterator[tuple[str, int]]:
    """Yield skills and numbers of worlds: each skill with the first number, then with the others."""
    for worlds in options.worlds[:1]:
        yield from ((skill, worlds) for skill in options.skills[:3])
    rest = [(skill, worlds) for skill in options.skills for worlds in options.worlds]
    yield from (case for case in rest if case not in [(skill, options.worlds[0]) for skill in options.skills[:3]])


def measure(options: Options, report: Report, skill: str, worlds: int, first: bool) -> None:
    """Take and write all figures of a case."""
    where: dict[str, Any] = {"skill": skill, "worlds": worlds}
    case = Case(options, skill, worlds)
    report.put("start", **where, seconds=case.start_up, bytes_per_world=case.bytes_per_world)
    report.put("environment", **where, **case.rates())
    learner = case.make_learner()
    report.put("ppo", **where, **case.learning(learner))
    report.put("sections", **where, milliseconds=case.sections())
    if first:
        report.put("waits", **where, **case.waits(learner))
        report.put("profile", **where, **case.profile(learner))
        if options.cpu_sims:
            report.put("cpu engine", skill=skill, per_second=cpu_rate(options, skill), cores=usable_cores())
    case.env.check_overflow()


@contextmanager
def _told(report: Report, **where: Any) -> Iterator[None]:
    """Write the error of a case, so that the next ones are measured."""
    try:
        yield
    except (PolicykdError, RuntimeError, ValueError) as error:
        report.put("error", **where, error=repr(error)[:1500])


def main(options: Options) -> None:
    """Measure case after case until the time is over."""
    report, device = Report(options.out), choose_device(options.device)
    torch.set_num_threads(1)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    report.put("machine", device=name, torch=torch.__version__, cores=usable_cores(), scale=options.scale)
    longest = 0.0
    for k, (skill, worlds) in enumerate(cases(options)):
        began = report.seconds
        if began + longest > options.limit - _RESERVE and k > 0:
            report.put("out of time", before=[skill, worlds])
            return
        with _told(report, skill=skill, worlds=worlds):
            measure(options, report, skill, worlds, first=k == 0)
        gc.collect()  # graphs and arrays of the last case
        longest = max(longest, report.seconds - began)
    report.put("done")


if __name__ == "__main__":
    main(tyro.cli(Options))
