"""Environment steps per second: our VectorEnv, MuJoCo's bare batch, and usual vectorizations of a plain environment.

Every repeat runs all arms one after the other, in a rotating order, so that a noisy machine affects all equally. The
bare batch repeats the physics of our environment exactly, with the same model, boxes, states, resets and controls; only
``Batch.step`` is timed. Robots of gymnasium are compared with gymnasium's own environments and, if it is installed,
with EnvPool. Rates are per second of wall time and of processor time, which depends less on a machine's load.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import mujoco
import numpy as np
import torch
import tyro
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv
from typing_extensions import override

from plain_env import make_plain
from policykd.envs import BatchedEnv, EnvConfig, SkillVectorEnv, get_skill
from policykd.envs.physics import BatchEngine
from policykd.envs.physics.own_ground import FORCES, OwnGroundEngine
from policykd.envs.skills import Skill
from policykd.envs.stepping.model_backend import derived_fields
from policykd.storage import prepare_folder, write_json
from policykd.threads import cores_for
from published import IDS, EnvPool, Gymnasium, Rate, has_envpool, timed

TRACKS = 16
WARM_UP = 20


@dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
        skill: the skill.
        sims: sizes of our batch.
        workers: sizes of the plain environment's vectorizations; the best one is compared.
        repeats: measurements of every arm.
        seconds: length of one measurement, s.
        scale: actions are uniform in [-scale, scale].
        threads: threads of the batch; by default one per usable core.
        out: JSON file of the results.
        quick: small sizes and few repeats, as a smoke test.
    """

    skill: str = "biped/gaps"
    sims: tuple[int, ...] = (16, 64, 256, 1024)
    workers: tuple[int, ...] = (2, 16)
    repeats: int = 7
    seconds: float = 2.0
    scale: float = 0.2
    threads: int | None = None
    out: Path = field(default=Path("results/benchmarks/simulation.json"))
    quick: bool = False


class Arm(Protocol):
    """One simulation whose throughput is measured."""

    name: str

    def run(self, seconds: float) -> Rate:
        """Return environment steps per second over about ``seconds``."""
        ...


class Ours(Arm):
    """Our VectorEnv; it can record its engine's inputs for the bare batch."""

    def __init__(self, options: Options, sims: int) -> None:
        self.name = f"policykd VectorEnv, {sims}"
        skill = get_skill(options.skill)
        batched = BatchedEnv(
            [skill], sims, config=EnvConfig(tracks=TRACKS), threads=options.threads,
            make_engine=_recording(skill, options.threads),
        )  # fmt: skip
        assert isinstance(batched.engine, Recording)
        self.engine, self.sims = batched.engine, sims
        self._env = SkillVectorEnv(batched)
        self._actions = _actions(sims, options.scale, batched.num_actions)

    @override
    def run(self, seconds: float) -> Rate:
        self._env.reset(seed=0, options={"stagger": True})  # all runs start equally
        for action in self._actions[:WARM_UP]:
            self._env.step(action)
        return timed(lambda i: self._env.step(self._actions[i % len(self._actions)]), self.sims, seconds)

    def record(self, seconds: float) -> list[Any]:
        """Return the engine's calls in a run."""
        log = self.engine.log = []
        self.run(seconds)
        self.engine.log = None
        return log


class Recording(BatchEngine):
    """The batch engine with a log of its calls, to be repeated."""

    kind: type[BatchEngine] = BatchEngine

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.log: list[Any] | None = None
        self.arguments = (arguments, options)

    @override
    def step(self, targets: torch.Tensor) -> torch.Tensor:
        if self.log is not None:
            self.log.append(("step", targets.clone()))
        return super().step(targets)

    @override
    def reset(self, ids: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        if self.log is not None:
            self.log.append(("reset", ids.clone(), qpos.clone(), qvel.clone()))
        super().reset(ids, qpos, qvel)

    @override
    def set_ground(
        self, ids: torch.Tensor, pose: torch.Tensor, half: torch.Tensor, lane: torch.Tensor | None = None
    ) -> None:
        if self.log is not None:
            copies = (part if part is None else part.clone() for part in (ids, pose, half, lane))
            self.log.append(("set_ground", *copies))
        super().set_ground(ids, pose, half, lane)


class OwnRecording(Recording, OwnGroundEngine):
    """The same for robots with a ground of their own."""

    kind = OwnGroundEngine


def _recording(skill: Skill, threads: int | None) -> Callable[..., Recording]:
    if skill.robot.family != "model":
        return partial(Recording, threads=threads)
    return partial(OwnRecording, threads=threads, forces=FORCES in derived_fields(skill, [skill.task]))


class Bare(Arm):
    """MuJoCo's batch alone: repeats the recorded physics of our environment and times only ``Batch.step``."""

    def __init__(self, ours: Ours, seconds: float) -> None:
        self.name = f"bare Batch.step, {ours.sims}"
        arguments, options = ours.engine.arguments
        self._engine, self._decimation = ours.engine.kind(*arguments, **options), arguments[3]
        self._log = ours.record(seconds)
        self._last = ours.engine.field("qpos").clone()

    @override
    def run(self, seconds: float) -> Rate:  # the recording determines the length
        engine, durations, used = self._engine, [], []
        for call, *arguments in self._log:
            if call == "step":
                engine._ctrl[:] = arguments[0].numpy()
                start, before = time.perf_counter(), time.process_time()
                engine._batch.step(nstep=self._decimation, stage=int(mujoco.mjtStage.mjSTAGE_NONE))
                durations.append(time.perf_counter() - start)
                used.append(time.process_time() - before)
            else:
                getattr(engine, call)(*arguments)
        assert torch.equal(engine.field("qpos"), self._last), (
            "the bare batch and our environment ended in different states"
        )
        steps = engine.num_sims * (len(durations) - WARM_UP)
        return Rate(steps / sum(durations[WARM_UP:]), steps / sum(used[WARM_UP:]))


class Plain(Arm):
    """The plain environment in one of the usual vectorizations."""

    def __init__(self, options: Options, kind: str, workers: int) -> None:
        self.name, self._workers = f"{kind}, {workers}", workers
        makers: Sequence[Callable[[], Any]] = [partial(make_plain, options.skill, TRACKS, 0)] * workers
        self._env: Any = {
            "gymnasium SyncVectorEnv": SyncVectorEnv,
            "gymnasium AsyncVectorEnv": partial(AsyncVectorEnv, context="fork"),
            "SB3 DummyVecEnv": DummyVecEnv,
            "SB3 SubprocVecEnv": partial(SubprocVecEnv, start_method="fork"),
        }[kind](makers)
        self._actions = _actions(workers, options.scale, get_skill(options.skill).robot.num_actions)
        self._env.reset()

    @override
    def run(self, seconds: float) -> Rate:
        return timed(lambda i: self._env.step(self._actions[i % len(self._actions)]), self._workers, seconds)

    def close(self) -> None:
        """Stop the worker processes."""
        self._env.close()


KINDS = ("gymnasium SyncVectorEnv", "gymnasium AsyncVectorEnv", "SB3 DummyVecEnv", "SB3 SubprocVecEnv")


def _actions(sims: int, scale: float, joints: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-scale, scale, (64, sims, joints)).astype(np.float32)


def _others(options: Options) -> list[Any]:
    """Return the arms of other packages; those that fork come first."""
    robot = get_skill(options.skill).robot
    if robot.name in IDS:
        arms = [
            Gymnasium(robot.name, kind, workers, options.scale)
            for kind in ("async", "sync")
            for workers in options.workers
        ]
        threads = cores_for(options.threads)
        pools = [EnvPool(robot.name, sims, threads, options.scale) for sims in options.sims if has_envpool()]
        return arms + pools
    # The plain environment is one of planar robots.
    kinds = KINDS if robot.family == "plane" else ()
    return [Plain(options, kind, workers) for kind in kinds for workers in options.workers]


def measure(options: Options) -> dict[str, list[Rate]]:
    """Measure environment steps per second of every arm, one value per repeat."""
    plain = _others(options)
    arms: list[Arm] = list(plain)
    for sims in options.sims:
        ours = Ours(options, sims)
        arms += [ours, Bare(ours, options.seconds)]
    figures: dict[str, list[Rate]] = {arm.name: [] for arm in arms}
    for repeat in range(options.repeats):
        turn = repeat % len(arms)
        for arm in arms[turn:] + arms[:turn]:
            figures[arm.name].append(arm.run(options.seconds))
    for arm in plain:
        arm.close()
    return figures


def ratios(options: Options, figures: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return paired ratios: ours over the bare batch, and over the best other vectorization of the same repeat."""
    plain = [values for name, values in figures.items() if not name.startswith(("policykd", "bare"))]
    best = max(plain, key=statistics.median, default=None)
    result = {}
    for sims in options.sims:
        ours, bare = figures[f"policykd VectorEnv, {sims}"], figures[f"bare Batch.step, {sims}"]
        result[f"VectorEnv / bare Batch, {sims}"] = [a / b for a, b in zip(ours, bare, strict=True)]
        if best is not None:
            result[f"VectorEnv / best other, {sims}"] = [a / b for a, b in zip(ours, best, strict=True)]
    return result


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return median, minimum, maximum and all values."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "values": list(values)}


def show(title: str, rows: dict[str, list[float]], digits: int) -> None:
    """Print a table of medians and ranges."""
    table = Table("", "median", "min", "max", title=title)
    for name, values in rows.items():
        table.add_row(name, *(f"{f(values):,.{digits}f}" for f in (statistics.median, min, max)))
    Console().print(table)


def main(options: Options) -> None:
    """Measure, print and save."""
    if options.quick:
        options = Options(options.skill, (16, 256), (2,), 3, 0.5, options.scale, options.threads, options.out, True)
    prepare_folder(options.out.parent)
    torch.set_num_threads(1)
    rates = measure(options)
    figures, used = ({name: [rate[i] for rate in values] for name, values in rates.items()} for i in (0, 1))
    paired, paired_used = ratios(options, figures), ratios(options, used)
    show(f"{options.skill}: environment steps per second", figures, 0)
    show(f"{options.skill}: environment steps per second of processor time", used, 0)
    show("ratios of paired runs", paired, 2)
    show("ratios of paired runs, by processor time", paired_used, 2)
    content = {"skill": options.skill, "repeats": options.repeats, "seconds": options.seconds, "scale": options.scale}
    content["steps_per_second"] = {name: summary(values) for name, values in figures.items()}
    content["ratios"] = {name: summary(values) for name, values in paired.items()}
    content["steps_per_core_second"] = {name: summary(values) for name, values in used.items()}
    content["core_ratios"] = {name: summary(values) for name, values in paired_used.items()}
    write_json(options.out, content)


if __name__ == "__main__":
    main(tyro.cli(Options))
