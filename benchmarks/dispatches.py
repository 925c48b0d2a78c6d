"""Counts of what the host launches on a CUDA device, taken on the CPU: torch operations, and replays of recorded work.

An iteration of PPO on a device is made of operations of torch, each of which is at least one launch, and of work that
is recorded as a graph, one launch (see ``policykd.envs.capture``). The host needs some microseconds for each, however
many simulations there are, so that the counts say what a step costs at least. They do not depend on the device::

    python benchmarks/dispatches.py

``plain`` calls everything, ``recorded`` replays what is recorded. Views, which launch nothing, are counted apart.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from policykd.agents.policy import Policy
from policykd.agents.training.config import PpoConfig
from policykd.agents.training.device_ppo import DevicePpo
from policykd.agents.training.warm_up import warm_up_normalizer
from policykd.envs.batched_env import EnvConfig
from policykd.envs.capture import Recorder
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.skills import get_skill
from policykd.envs.symmetry import mirror_symmetry
from policykd.storage import prepare_folder, write_json

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "envs"))
from tape import record_tape
from torch_engine import TorchEngine  # the CPU engine's own operations are not a device's

_VIEWS = frozenset(
    {"view", "select", "slice", "unbind", "detach", "t", "expand", "unsqueeze", "squeeze", "split", "split_with_sizes",
     "alias", "_unsafe_view", "transpose", "permute", "as_strided"}
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Options of the counts.

    Attributes:
        skills: the skills.
        rollout_steps: steps of a rollout.
        minibatches: minibatches of an epoch.
        out: JSON file of the counts.
    """

    skills: tuple[str, ...] = ("biped/flat", "quadruped/flat", "quadruped/stairs", "humanoid/flat")
    rollout_steps: int = 24
    minibatches: int = 4
    out: Path = field(default=Path("benchmarks/results/gpu/dispatches.json"))


class Physics(TorchEngine):
    """The engine of the counts: its physics is not counted, because a device launches it as one graph."""

    def advance(self) -> None:
        """Make a step."""
        with _disable_current_modes():
            super().advance()


class Dispatches(TorchDispatchMode):
    """Counts operations while it is entered.

    Attributes:
        launches: operations that compute or copy.
        views: operations that do neither.
        waits: operations for whose result the host waits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches, self.views, self.waits = 0, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count an operation and do it."""
        name = func.overloadpacket.__name__
        self.views += name in _VIEWS
        self.launches += name not in _VIEWS
        self.waits += name in ("_local_scalar_dense", "nonzero")
        return func(*args, **(kwargs or {}))


class Replays:
    """A recorder whose replays count as one, so that only what is around them is counted as operations.

    Attributes:
        count: replays so far.
    """

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, work: Callable[[], Any], generators: Sequence[torch.Generator]) -> Callable[[], Any]:
        """Return a replay that counts itself."""
        again = record_tape(work, generators)

        def replay() -> Any:
            self.count += 1
            with _disable_current_modes():
                return again()

        return replay


def make_learner(options: Options, name: str, record: Recorder | None) -> tuple[MaskedEnv, DevicePpo]:
    """Return an environment and its learner after as many iterations as recording needs."""
    skill = get_skill(name)
    env = MaskedEnv([skill], 16, config=EnvConfig(tracks=16), make_engine=Physics)
    symmetry = mirror_symmetry(skill.groups, skill.robot)
    policy = Policy(skill.group_sizes, env.num_actions, generator_seed=0, symmetry=symmetry)
    count = 16 * options.rollout_steps
    config = PpoConfig(
        envs=16, rollout_steps=options.rollout_steps, minibatch=count // options.minibatches,
        learning_rate=1e-5, learning_rate_range=(1e-6, 1e-5),
    )  # fmt: skip
    learner = DevicePpo(policy, env, config, seed=0, record=record)
    warm_up_normalizer(policy, env, steps=2)
    for _ in range(3):
        _iterate(learner)
    return env, learner


def _iterate(learner: DevicePpo) -> None:
    rollout = learner.collect()
    learner.update(rollout, 1e-5)
    learner.prepare_next(rollout, 0.5)


def count(work: Callable[[], Any], replays: Replays | None = None) -> Counter[str]:
    """Return the counts of a call of ``work``."""
    before = replays.count if replays else 0
    with Dispatches() as seen:
        work()
    found = Counter(operations=seen.launches, views=seen.views, waits=seen.waits)
    found["replays"] = (replays.count if replays else 0) - before
    return found


def measure(options: Options, name: str) -> dict[str, Any]:
    """Return the counts of a skill, called and recorded."""
    env, plain = make_learner(options, name, None)
    actions, steps = torch.zeros(16, env.num_actions), options.rollout_steps
    step, collecting = count(lambda: env.step_masked(actions)), count(plain.collect)
    whole = count(lambda: _iterate(plain))
    replays = Replays()
    _, recorded = make_learner(options, name, replays)
    collected, iterated = count(recorded.collect, replays), count(lambda: _iterate(recorded), replays)
    return {
        "environment step": {"plain": dict(step)},
        "collected step": {
            "plain": {key: value / steps for key, value in collecting.items()},
            "recorded": {key: value / steps for key, value in collected.items()},
        },
        "iteration": {"plain": dict(whole), "recorded": dict(iterated)},
    }


def main(options: Options) -> None:
    """Count, print and save."""
    prepare_folder(options.out.parent)
    skills = {name: measure(options, name) for name in options.skills}
    for name, found in skills.items():
        for part, ways in found.items():
            print(name, part, {way: {k: round(v, 1) for k, v in counts.items()} for way, counts in ways.items()})
    shape = {"rollout_steps": options.rollout_steps, "minibatches": options.minibatches, "epochs": PpoConfig().epochs}
    physics = "the physics of a step is one more launch, a graph; the counts leave it out"
    write_json(options.out, {**shape, "note": physics, "skills": skills})


if __name__ == "__main__":
    main(tyro.cli(Options))
