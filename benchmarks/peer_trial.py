"""What the methods of peers.py share: the experts, the budget, one simulation of all skills, and the measurements."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from typing_extensions import override

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import load_policy
from policykd.agents.policy import Policy
from policykd.envs.batched_env import BatchedEnv
from policykd.envs.sb3_vec_env import Sb3VecEnv
from policykd.merge import MergeConfig, Teacher, teachers_from
from policykd.merge.retention import Score, StudentValidation
from policykd.seeding import integer_seed

MARKS = (0.95, 0.98)
HIDDEN = (256, 128)


@dataclass(frozen=True)
class Budget:
    """What every method may use.

    Attributes:
        rounds: validations, evenly spaced over the states.
        envs: simulations per skill.
        updates: gradient steps between two validations.
        minibatch: labeled states per gradient step.
        episodes: episodes per skill of a validation.
        rl_factor: environment steps of joint reinforcement learning, over the labeled states of the others.
    """

    rounds: int = 5
    envs: int = 16
    updates: int = 800
    minibatch: int = 512
    episodes: int = 24
    rl_factor: int = 5


class Trial:
    """One method with one seed: it collects states, trains a student, and lets it be measured after every round.

    Args:
        experts: policy files, or folders of training runs, one per skill.
        budget: the budget.
        seed: seed of student, collection and validation.
        folder: folder for files of the method.

    Attributes:
        states: environment steps used so far.
        curve: one row per measurement.
    """

    def __init__(self, experts: Sequence[Path], budget: Budget, seed: int, folder: Path) -> None:
        self.experts, self.budget, self.seed, self.folder = experts, budget, seed, folder
        self.teachers: list[Teacher] = teachers_from([(str(path), load_policy(path)) for path in experts])
        self.states, self.curve = 0, list[dict[str, Any]]()
        self._best: tuple[float, Policy] | None = None
        self._validation = StudentValidation(self.teachers, self.config())
        self._began = time.perf_counter(), time.process_time()

    def config(self, **changes: Any) -> MergeConfig:
        """Return the settings of policykd's merge: those of the demo, with this budget."""
        b = self.budget
        shared: dict[str, Any] = {
            "rounds": b.rounds, "envs": b.envs, "updates": b.updates, "minibatch": b.minibatch, "noise": 0.05,
            "adaptive": 0.4, "gap_memory": 0.6, "averaging": 0.9995, "critic": "none", "target_retention": 2.0,
            "validation_episodes": b.episodes, "seed": self.seed, "threads": 1, "min_teacher_success": 0.0,
            "architecture": Architecture(HIDDEN, HIDDEN),
        }  # fmt: skip
        return MergeConfig(**{**shared, **changes})

    @property
    def steps(self) -> int:
        """Steps of an episode."""
        return self.teachers[0].skill.episode_steps

    @property
    def states_per_round(self) -> int:
        """Labeled states between two validations."""
        return len(self.teachers) * self.budget.envs * self.steps

    @property
    def features(self) -> int:
        """Number of features of the flat observations."""
        return sum(self.teachers[0].skill.group_sizes.values())

    @property
    def actions(self) -> int:
        """Number of actions."""
        return self.teachers[0].skill.robot.num_actions

    @cached_property
    def simulation(self) -> AllSkills:
        """Simulations of all skills side by side, ``budget.envs`` of each, in the order of the teachers."""
        seed = integer_seed(self.seed, "collection")
        return AllSkills(
            [BatchedEnv([t.skill], self.budget.envs, seed=seed + i, threads=1) for i, t in enumerate(self.teachers)]
        )

    @torch.no_grad()
    def label(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the actions (n, actions) of each row's own expert; rows are those of :attr:`simulation`, in order."""
        parts = rows.split(self.budget.envs)
        labels = [
            t.policy(t.policy.select(part, t.skill.columns)) for t, part in zip(self.teachers, parts, strict=True)
        ]
        return torch.cat(labels).clamp(-1.0, 1.0)

    def measure(self, student: Policy) -> Score:
        """Validate a student, and keep it if it is the best one so far."""
        score = self._validation.measure(student)
        wall, cpu = self._began
        self.curve.append(
            {
                "states": self.states, "least_retention": min(score.retention.values()), "retention": score.retention,
                "success": score.success, "marks": [mark for mark in MARKS if score.holds(mark)],
                "seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu,
            }
        )  # fmt: skip
        if self._best is None or score.value > self._best[0]:
            self._best = score.value, student
        return score

    @property
    def best(self) -> Policy:
        """The student of the best validation; a method must not change it any more."""
        assert self._best is not None, "nothing was measured"
        return self._best[1]


class AllSkills(VecEnv):
    """The simulations of several skills as one vectorized environment of stable-baselines3.

    Args:
        envs: one batch per skill, with equal observations and actions.
    """

    def __init__(self, envs: Sequence[BatchedEnv]) -> None:
        self._parts = [Sb3VecEnv(env) for env in envs]
        first, count = self._parts[0], sum(part.num_envs for part in self._parts)
        self.render_mode, self.steps = None, 0
        assert isinstance(first.observation_space, spaces.Box)
        super().__init__(count, first.observation_space, first.action_space)

    @override
    def reset(self) -> np.ndarray:
        return np.concatenate([part.reset() for part in self._parts])

    @override
    def step_async(self, actions: np.ndarray) -> None:
        parts = np.split(np.asarray(actions, np.float32), len(self._parts))
        for part, chosen in zip(self._parts, parts, strict=True):
            part.step_async(np.ascontiguousarray(chosen))

    @override
    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        results = [part.step_wait() for part in self._parts]
        self.steps += self.num_envs
        observations, rewards, dones = (np.concatenate([r[i] for r in results]) for i in range(3))
        return observations, rewards, dones, [info for r in results for info in r[3]]

    def close(self) -> None:
        """Do nothing."""

    @override
    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name)] * self.num_envs

    @override
    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(f"simulations of a batch share their attributes; cannot set '{attr_name}'")

    @override
    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise AttributeError(f"a batch of simulations has no method '{method_name}' of single ones")

    @override
    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs
