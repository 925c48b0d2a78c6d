"""Arms of ``simulation.py`` for gymnasium's own tasks: its vector environments and EnvPool.

They step the same version 5 tasks that a skill such as ``ant/flat`` has, with uniform random actions.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from typing_extensions import override

IDS = {
    "hopper": "Hopper-v5",
    "walker2d": "Walker2d-v5",
    "halfcheetah": "HalfCheetah-v5",
    "ant": "Ant-v5",
    "humanoid-v5": "Humanoid-v5",
}
"""gymnasium's environments by robot."""

_TICKS = 100.0  # per second, of processor times in /proc


class Rate(NamedTuple):
    """Environment steps per second of wall time, and per second of processor time of all processes and threads."""

    wall: float
    processor: float


def processor_time() -> float:
    """Return the processor time of this process and of its running children, s; children on Linux only."""
    total = time.process_time()
    for child in multiprocessing.active_children():
        try:
            fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return float("nan")
        total += (int(fields[11]) + int(fields[12])) / _TICKS
    return total


def timed(step: Callable[[int], None], sims: int, seconds: float) -> Rate:
    """Return the rates of ``step(number)``, each of which advances ``sims`` simulations, over about ``seconds``."""
    start, used, steps = time.perf_counter(), processor_time(), 0
    while time.perf_counter() - start < seconds:
        step(steps)
        steps += 1
    return Rate(sims * steps / (time.perf_counter() - start), sims * steps / (processor_time() - used))


class Gymnasium:
    """gymnasium's environment in one of its own vectorizations.

    Args:
        robot: name of the robot.
        kind: ``async``, with a process per environment, or ``sync``.
        workers: number of environments.
        scale: share of the range of the controls that random actions cover.
    """

    def __init__(self, robot: str, kind: str, workers: int, scale: float) -> None:
        self.name, self._workers = f"gymnasium {kind.capitalize()}VectorEnv, {workers}", workers
        options: dict[str, Any] = {"context": "fork"} if kind == "async" else {}
        self._env = gymnasium.make_vec(IDS[robot], num_envs=workers, vectorization_mode=kind, vector_kwargs=options)
        self._actions = _actions(self._env.single_action_space, workers, scale)
        self._env.reset(seed=0)

    def run(self, seconds: float) -> Rate:
        """Return the rates over about ``seconds``."""
        return timed(lambda i: self._env.step(self._actions[i % len(self._actions)]), self._workers, seconds)

    def close(self) -> None:
        """Stop the worker processes."""
        self._env.close()


class EnvPool(Gymnasium):
    """EnvPool's own implementation of the task, in C++ with threads.

    Args:
        robot: name of the robot.
        sims: number of simulations.
        threads: worker threads.
        scale: share of the range of the controls that random actions cover.
    """

    def __init__(self, robot: str, sims: int, threads: int, scale: float) -> None:
        import envpool

        self.name, self._workers = f"EnvPool, {sims}", sims
        self._env = envpool.make_gymnasium(IDS[robot], num_envs=sims, num_threads=threads)
        self._actions = _actions(self._env.action_space, sims, scale)
        self._env.reset()

    @override
    def close(self) -> None:
        """Do nothing: its threads end with the process."""


def has_envpool() -> bool:
    """Return whether EnvPool can be compared: ``pip install envpool``."""
    return importlib.util.find_spec("envpool") is not None


def _actions(space: Any, sims: int, scale: float) -> np.ndarray:
    shape = (64, sims, *space.shape)
    return np.random.default_rng(0).uniform(scale * space.low, scale * space.high, shape).astype(np.float64)
