"""Training steps per second: PPO of stable-baselines3 on our adapter, and on the usual vectorizations of a plain env.

Every arm has the hyper-parameters and network sizes of expert training, with batches of the same number of transitions.
Each arm is set up as its user would: ours is the learner of ``policykd train`` (without the mirror symmetry, which has
no counterpart), the others are PPO with stable-baselines3's own ``MlpPolicy`` (without ``VecNormalize``, which real
training would need and which would slow them down). A second table shows the time per part of our arm.

The update costs about the same in all arms. If it takes ``u`` seconds per environment step and a plain arm's rollouts
take ``p``, no environment can train more than ``1 + p / u`` times as fast. This bound is printed, too.
"""

from __future__ import annotations

import math
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
from policykd.agents.training import PpoConfig
from policykd.agents.training.algorithms.ppo import PpoAdaptation, make_learner
from policykd.envs import BatchedEnv, EnvConfig, Sb3VecEnv, get_skill
from policykd.storage import prepare_folder, write_json

TRACKS = 16
MINIBATCHES = 4
"""Minibatches of an epoch; the same number as in expert training, whose batches are smaller."""


@dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
        skill: the skill.
        envs: simulations of our batch.
        rollout_steps: steps between two updates, each of ``4 * 5`` gradient steps as in training.
        workers: environments of the plain vectorizations; their rollouts are longer, so that every update has the same
            number of transitions.
        more: environments of a second DummyVecEnv, which spends less time on policy inference.
        repeats: measurements of every arm.
        updates: PPO updates in one measurement.
        threads: threads of torch and of our simulation; by default one per usable core for the simulation, and
            torch's own choice for torch.
        out: JSON file of the results.
        quick: one update and two repeats, as a smoke test.
    """

    skill: str = "biped/gaps"
    envs: int = 256
    rollout_steps: int = 32
    workers: int = 16
    more: int = 64
    repeats: int = 5
    updates: int = 2
    threads: int | None = None
    out: Path = field(default=Path("results/benchmarks/training.json"))
    quick: bool = False


def plain_learner(env: VecEnv, config: PpoConfig) -> PPO:
    """Return plain PPO of stable-baselines3 with the hyper-parameters and network sizes of expert training."""
    shape = Architecture()
    networks = {"pi": list(shape.hidden), "vf": list(shape.critic_hidden)}
    return PPO(
        "MlpPolicy",
        env,
        policy_kwargs={
            "net_arch": networks,
            "activation_fn": torch.nn.ELU,
            "log_std_init": math.log(shape.initial_std),
        },
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


def our_learner(options: Options, config: PpoConfig) -> PPO:
    """Return PPO as ``policykd train`` builds it."""
    skill = get_skill(options.skill)
    env = BatchedEnv([skill], config.envs, config=EnvConfig(tracks=TRACKS), threads=options.threads)
    policy = Policy(skill.group_sizes, env.num_actions, Architecture(), generator_seed=0)
    adapter = Sb3VecEnv(env, reward_scale=1 - config.gamma, stagger=True)
    return make_learner(policy, adapter, config, PpoAdaptation(config))


def make_arms(options: Options, config: PpoConfig) -> dict[str, PPO]:
    """Return a learner for every arm, ours first; worker processes are forked before any thread starts."""
    maker: Sequence[Callable[[], Any]] = [partial(make_plain, options.skill, TRACKS, 0)]
    plain: dict[str, VecEnv] = {
        f"SB3 SubprocVecEnv, {options.workers}": SubprocVecEnv(maker * options.workers, start_method="fork"),
        f"SB3 DummyVecEnv, {options.workers}": DummyVecEnv(maker * options.workers),
        f"SB3 DummyVecEnv, {options.more}": DummyVecEnv(maker * options.more),
    }
    ours = {f"policykd Sb3VecEnv, {options.envs}": our_learner(options, config)}
    return ours | {name: plain_learner(env, config) for name, env in plain.items()}


def speed(learner: PPO, transitions: int) -> float:
    """Measure environment steps per second of end-to-end training."""
    start, before = time.perf_counter(), learner.num_timesteps
    learner.learn(transitions, reset_num_timesteps=False)
    return (learner.num_timesteps - before) / (time.perf_counter() - start)


def profile(learner: PPO, transitions: int) -> dict[str, float]:
    """Measure shares of our arm's wall time by part."""
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
    """Add the time of every call of a method to ``spent``; return a function that undoes it."""
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
    transitions_per_update = options.envs * options.rollout_steps
    config = PpoConfig(
        envs=options.envs, rollout_steps=options.rollout_steps, minibatch=transitions_per_update // MINIBATCHES
    )
    repeats, updates = (2, 1) if options.quick else (options.repeats, options.updates)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    prepare_folder(options.out.parent)
    learners = make_arms(options, config)
    transitions = updates * transitions_per_update
    figures: dict[str, list[float]] = {name: [] for name in learners}
    for learner in learners.values():
        speed(learner, transitions_per_update)  # a first update, not counted
    for repeat in range(repeats):
        names = list(learners)
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            figures[name].append(speed(learners[name], transitions))
    ours, *others = figures.values()
    best = max(others, key=statistics.median)
    ratio = [a / b for a, b in zip(ours, best, strict=True)]
    shares = profile(next(iter(learners.values())), transitions)
    update = shares["PPO update"] / statistics.median(ours)  # seconds per environment step
    bound = 1 / (update * statistics.median(best))
    for learner in learners.values():
        learner.get_env().close()
    show(f"{options.skill}: PPO, environment steps per second", dict(figures), 0)
    show("ratio of paired runs", {"ours / best plain": ratio, "bound, if rollouts cost nothing": [bound]}, 2)
    show("share of our arm's time", {name: [share] for name, share in shares.items()}, 2)
    content = {
        "skill": options.skill,
        "repeats": repeats,
        "updates": updates,
        "envs": options.envs,
        "steps_per_second": figures,
    }
    write_json(options.out, content | {"ratio": ratio, "bound": bound, "shares": shares})


if __name__ == "__main__":
    main(tyro.cli(Options))
