"""Training steps per second: PPO of stable-baselines3 on our adapter, and on the usual vectorisations of a plain env.

The policy and the hyper-parameters are those of expert training in every arm; only the environment differs. A second
table says where the time of our arm goes.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from plain_env import make_plain
from policykd.agents.policy import Architecture, Policy
from policykd.agents.sb3_policy import Sb3Policy
from policykd.agents.training import PpoConfig
from policykd.envs import BatchedEnv, EnvConfig, Sb3VecEnv, get_skill
from policykd.storage import prepare_folder, write_json

TRACKS = 16


@dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
        skill: the skill.
        workers: processes of SubprocVecEnv; it gets longer rollouts, so that every update sees as many transitions.
        repeats: measurements of every arm.
        updates: PPO updates in one measurement.
        threads: threads of torch and of our simulation; by default one per usable core for the simulation, and
            torch's own choice for torch.
        out: where the figures go.
        quick: one update and two repeats, to see that it works.
    """

    skill: str = "biped/gaps"
    workers: int = 16
    repeats: int = 5
    updates: int = 4
    threads: int | None = None
    out: Path = field(default=Path("results/benchmarks/training.json"))
    quick: bool = False


def make_learner(env: VecEnv, config: PpoConfig) -> PPO:
    """PPO with the hyper-parameters of expert training."""
    size, actions = env.observation_space.shape[0], env.action_space.shape[0]
    policy = Policy({"all": size}, actions, Architecture(), generator_seed=0)
    return PPO(
        Sb3Policy,
        env,
        policy_kwargs={"network": policy},
        learning_rate=config.learning_rate,
        n_steps=config.envs * config.rollout_steps // env.num_envs,
        batch_size=config.minibatch,
        n_epochs=config.epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        ent_coef=config.entropy_weight,
        max_grad_norm=config.max_grad_norm,
        device="cpu",
        seed=0,
    )


def make_arms(options: Options, config: PpoConfig) -> dict[str, PPO]:
    """A learner for every arm; worker processes are forked before any thread is started."""
    makers: Sequence[Callable[[], Any]] = [partial(make_plain, options.skill, TRACKS, 0)]
    subproc = SubprocVecEnv(makers * options.workers, start_method="fork")
    dummy = DummyVecEnv(makers * config.envs)
    batched = BatchedEnv(
        [get_skill(options.skill)], config.envs, config=EnvConfig(tracks=TRACKS), threads=options.threads
    )
    ours = Sb3VecEnv(batched, reward_scale=1 - config.gamma, stagger=True)
    names = ("policykd Sb3VecEnv", f"SB3 SubprocVecEnv, {options.workers} processes", "SB3 DummyVecEnv")
    return {name: make_learner(env, config) for name, env in zip(names, (ours, subproc, dummy), strict=True)}


def speed(learner: PPO, transitions: int) -> float:
    """Environment steps per second of end-to-end training."""
    start, before = time.perf_counter(), learner.num_timesteps
    learner.learn(transitions, reset_num_timesteps=False)
    return (learner.num_timesteps - before) / (time.perf_counter() - start)


def profile(learner: PPO, transitions: int) -> dict[str, float]:
    """Shares of the wall time of our arm, by part."""
    spent: Counter[str] = Counter()
    vector: Any = learner.get_env()
    restore = [
        _timed(vector.env.engine, "step", "physics", spent),
        _timed(vector, "step", "environment", spent),
        _timed(learner.policy, "forward", "inference", spent),
        _timed(learner, "train", "update", spent),
    ]
    start = time.perf_counter()
    learner.learn(transitions, reset_num_timesteps=False)
    total = time.perf_counter() - start
    for undo in restore:
        undo()
    around = spent["environment"] - spent["physics"]
    rest = total - spent["environment"] - spent["inference"] - spent["update"]
    parts = {
        "physics": spent["physics"],
        "observation, reward, reset": around,
        "policy inference": spent["inference"],
        "PPO update": spent["update"],
        "rest (rollout buffer, advantages, bookkeeping)": rest,
    }
    return {name: seconds / total for name, seconds in parts.items()}


def _timed(owner: Any, name: str, label: str, spent: Counter[str]) -> Callable[[], None]:
    """Add the time of every call of a method to ``spent``; returns what undoes it."""
    original = getattr(owner, name)

    def call(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = original(*arguments, **options)
        spent[label] += time.perf_counter() - start
        return result

    setattr(owner, name, call)
    return lambda: delattr(owner, name)


def show(title: str, rows: dict[str, Sequence[float]], digits: int) -> None:
    """Print a table of medians and ranges."""
    table = Table("", "median", "min", "max", title=title)
    for name, values in rows.items():
        table.add_row(name, *(f"{f(values):,.{digits}f}" for f in (statistics.median, min, max)))
    Console().print(table)


def main(options: Options) -> None:
    """Measure, print and save."""
    config = PpoConfig()
    repeats, updates = (2, 1) if options.quick else (options.repeats, options.updates)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    prepare_folder(options.out.parent)
    learners = make_arms(options, config)
    transitions = updates * config.envs * config.rollout_steps
    figures: dict[str, list[float]] = {name: [] for name in learners}
    for learner in learners.values():
        speed(learner, config.envs * config.rollout_steps)  # a first update, not counted
    for repeat in range(repeats):
        names = list(learners)
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            figures[name].append(speed(learners[name], transitions))
    ours, *others = figures.values()
    best = max(others, key=statistics.median)
    ratio = [a / b for a, b in zip(ours, best, strict=True)]
    shares = profile(next(iter(learners.values())), transitions)
    for learner in learners.values():
        learner.get_env().close()
    show(f"{options.skill}: PPO, environment steps per second", dict(figures), 0)
    show("ratio of paired runs", {"ours / best plain": ratio}, 2)
    show("share of our arm's time", {name: [share] for name, share in shares.items()}, 2)
    content = {"skill": options.skill, "repeats": repeats, "updates": updates, "steps_per_second": figures}
    write_json(options.out, content | {"ratio": ratio, "shares": shares})


if __name__ == "__main__":
    main(tyro.cli(Options))
