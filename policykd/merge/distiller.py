"""The distiller: rounds of collecting, fitting and validating until the student does what the experts do."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from policykd.agents.policy import Policy
from policykd.agents.policy_file import Parent, save_policy
from policykd.agents.rollout import EpisodeOutcomes, run_episodes
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.symmetry import mirror_symmetry
from policykd.merge.collect import LabelledRollout, collect
from policykd.merge.config import MergeConfig
from policykd.merge.critic import fit_critic
from policykd.merge.dataset import Dataset
from policykd.merge.losses import LOSSES
from policykd.merge.teachers import Teacher
from policykd.progress import Progress, Silent
from policykd.runs import RunFolder, as_plain
from policykd.schedules import parse
from policykd.seeding import integer_seed
from policykd.threads import torch_threads

_PATIENCE = 2
_SUCCESS_TOLERANCE = 0.05


@dataclass(frozen=True)
class MergeResult:
    """How a merge ended.

    Attributes:
        policy_path: the student's policy file, with the weights of the best validation.
        rounds: rounds run.
        states: labelled states collected, which are also the environment steps used.
        seconds: wall time, over all sessions, s.
        retention: per skill, validation reward per step of the student over the expert's.
        reached_target: whether the merge stopped because every skill reached the target retention.
    """

    policy_path: Path
    rounds: int
    states: int
    seconds: float
    retention: dict[str, float]
    reached_target: bool


def merge_experts(
    teachers: Sequence[Teacher],
    out: Path,
    config: MergeConfig = MergeConfig(),
    *,
    resume: bool = False,
    progress: Progress = Silent(),
) -> MergeResult:
    """Merge experts into one student.

    Args:
        teachers: who labels which skill; see :func:`policykd.merge.teachers.teachers_from`.
        out: folder of the run; the student's policy file is ``out / "policy"``.
        config: the merge.
        resume: continue the merge in ``out``; a finished one is returned as it is.
        progress: who watches.

    Returns:
        The result; equal, timings apart, whether or not the merge was interrupted.

    Raises:
        ConfigError: for a merge of another configuration in ``out``.
        OutputError: if ``out`` cannot be written or holds a merge and ``resume`` is off.
    """
    wanted = {"merge": config, "teachers": {t.skill.id: t.weights_sha256 for t in teachers}}
    folder = RunFolder(out, wanted, resume)
    if folder.result is None:
        with torch_threads(1):
            _Merge(teachers, folder, config, progress).go()
    assert folder.result is not None
    return MergeResult(policy_path=out / "policy", **folder.result)


class _Merge:
    """The state of one merge."""

    def __init__(self, teachers: Sequence[Teacher], folder: RunFolder, config: MergeConfig, progress: Progress) -> None:
        self._teachers, self._folder, self._config, self._progress = teachers, folder, config, progress
        self._ids = [t.skill.id for t in teachers]
        self._name = f"merge {' '.join(self._ids)}"
        self._student = self._first_student()
        # The experts' spread at hand for those who go on with reinforcement learning.
        spread = torch.stack([t.policy.log_std.detach() for t in teachers])
        self._student.log_std.data.copy_(spread.mean(dim=0))
        self._spread = spread
        # The optimiser moves a twin; the student that acts is the moving average of its weights, which leaves the
        # noise of the minibatches behind.
        self._learner = copy.deepcopy(self._student)
        self._averaged, trained = _trained(self._student), _trained(self._learner)
        self._optimizer = torch.optim.Adam(trained, lr=config.learning_rate, fused=True)
        self._envs = [self._env(t, config.envs, "collection", EnvConfig()) for t in teachers]
        ordered = EnvConfig(tracks=config.validation_episodes, ordered=True)
        self._validation = [self._env(t, config.validation_episodes, "validation", ordered) for t in teachers]
        self._dataset = Dataset(folder.path / "data", self._ids)
        self._beta, self._loss = parse(config.beta), LOSSES[config.loss]
        self._round, self._streak, self._seconds = 0, 0, 0.0
        self._best: dict[str, Any] | None = None
        self._experts: list[EpisodeOutcomes] = []

    def go(self) -> None:
        """Run the rounds, then write the student's policy file."""
        self._restore()
        self._progress.begin(self._name, self._config.rounds, "rounds")
        self._experts = [self._validate(t.policy, env) for t, env in zip(self._teachers, self._validation, strict=True)]
        while self._round < self._config.rounds and self._streak < _PATIENCE:
            began = time.perf_counter()
            self._collect_round()
            loss = self._fit()
            figures = self._measure()
            self._seconds += time.perf_counter() - began
            self._round += 1
            row = {"round": self._round, "states": self._dataset.states, "seconds": self._seconds, "loss": loss}
            self._folder.append({**row, **figures})
            self._save()
            self._progress.update(self._name, self._round, loss=loss, retention=min(figures["retention"].values()))
        self._finish()

    def _first_student(self) -> Policy:
        """A new student, symmetric if every expert is."""
        skill, experts = self._teachers[0].skill, [t.policy for t in self._teachers]
        symmetric = all(expert.symmetry is not None for expert in experts)
        symmetry = mirror_symmetry(skill.groups, skill.character) if symmetric else None
        seed = integer_seed(self._config.seed, "student", *self._ids)
        return Policy(skill.group_sizes, experts[0].actions, self._config.architecture, seed, symmetry)

    def _env(self, teacher: Teacher, count: int, purpose: str, how: EnvConfig) -> BatchedEnv:
        seed = integer_seed(self._config.seed, purpose)
        return BatchedEnv([teacher.skill], count, seed=seed, config=how, threads=self._config.threads)

    def _generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(integer_seed(self._config.seed, purpose, self._round))

    def _collect_round(self) -> None:
        beta = 1.0 if self._round == 0 else self._beta(self._round, self._config.rounds)
        for i in range(len(self._teachers)):
            rollout = self._collect(i, beta, self._round)
            self._dataset.store(self._round, i, rollout)
            self._dataset.add(i, rollout)
            if self._round == 0:  # statistics of the pooled experts' states, frozen from here on
                self._student.update_normaliser(rollout.observations)

    def _collect(self, i: int, beta: float, round_: int) -> LabelledRollout:
        """Labelled states of skill i; equal arguments and students give equal states, whatever ran before."""
        self._envs[i].seed(integer_seed(self._config.seed, "collection", self._ids[i], round_))
        return collect(
            self._teachers[i],
            self._student,
            self._envs[i],
            beta=beta,
            mixing=self._config.mixing,
            noise=self._config.noise,
            generator=self._generator(f"mixture {self._ids[i]}"),
        )

    def _fit(self) -> float:
        """Gradient steps on all labelled states so far; returns the mean loss."""
        config, generator = self._config, self._generator("minibatches")
        self._learner.normaliser.load_state_dict(self._student.normaliser.state_dict())
        done = min(1.0, self._round / max(1, config.rounds - 1))
        rate = config.learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        count = max(1, config.minibatch // len(self._teachers))
        total = torch.zeros(())
        for k in range(config.updates):
            observations, labels, skill = self._dataset.sample(count, generator)
            mean = self._learner(observations)
            # Beyond the bound of what is executed, how far beyond makes no difference: nothing is to be learned there.
            same = (labels.abs() >= 1) & (mean * labels >= 1)
            answer = (torch.where(same, labels, mean), self._learner.log_std)
            loss = self._loss(answer, (labels, self._spread[skill]))
            self._optimizer.zero_grad()
            loss.backward()
            trained = self._optimizer.param_groups[0]["params"]
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            self._optimizer.step()
            done_before = self._round * config.updates + k
            keep = min(config.averaging, (1 + done_before) / (10 + done_before))  # short memory while it learns fast
            with torch.no_grad():
                torch._foreach_lerp_(self._averaged, trained, 1 - keep)
            total += loss.detach()
        return float(total) / config.updates

    def _validate(self, policy: Policy, env: BatchedEnv) -> EpisodeOutcomes:
        env.seed(integer_seed(self._config.seed, "validation"))
        return run_episodes(policy, env)

    def _measure(self) -> dict[str, dict[str, float]]:
        """Validation of the student on every skill, and whether it is the best so far."""
        outcomes = [self._validate(self._student, env) for env in self._validation]
        success = {i: float(o.success.double().mean()) for i, o in zip(self._ids, outcomes, strict=True)}
        reward = {i: float(o.reward_per_step.mean()) for i, o in zip(self._ids, outcomes, strict=True)}
        experts = {i: float(o.reward_per_step.mean()) for i, o in zip(self._ids, self._experts, strict=True)}
        retention = {i: reward[i] / max(experts[i], 1e-9) for i in self._ids}
        lacking = [float(e.success.double().mean()) - success[i] for i, e in zip(self._ids, self._experts, strict=True)]
        reached = min(retention.values()) >= self._config.target_retention and max(lacking) <= _SUCCESS_TOLERANCE
        self._streak = self._streak + 1 if reached else 0
        score = min(retention.values()) - max(0.0, *lacking)
        if self._best is None or score > self._best["score"]:
            weights = {k: v.clone() for k, v in self._student.state_dict().items()}
            self._best = {"score": score, "retention": retention, "weights": weights}
        return {"success": success, "reward_per_step": reward, "retention": retention}

    def _save(self) -> None:
        self._folder.save_checkpoint(
            {
                "student": self._student.state_dict(),
                "learner": self._learner.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "best": self._best,
                "round": self._round,
                "streak": self._streak,
                "seconds": self._seconds,
            }
        )

    def _restore(self) -> None:
        state = self._folder.load_checkpoint()
        if state is None:
            return
        self._student.load_state_dict(state["student"])
        self._learner.load_state_dict(state["learner"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._best, self._round = state["best"], state["round"]
        self._streak, self._seconds = state["streak"], state["seconds"]
        for round_ in range(self._round):
            for i in range(len(self._teachers)):
                self._dataset.add(i, self._dataset.load(round_, i))

    def _finish(self) -> None:
        assert self._best is not None
        self._student.load_state_dict(self._best["weights"])
        if self._config.critic:
            rollouts = [self._collect(i, 0.0, self._config.rounds) for i in range(len(self._teachers))]
            fit_critic(self._student, rollouts, self._config, self._generator("critic"))
        retention = self._best["retention"]
        save_policy(
            self._folder.path / "policy",
            self._student,
            robot=self._teachers[0].skill.character,
            skills=self._ids,
            operation="merge",
            parents=[Parent(t.source, t.weights_sha256) for t in self._teachers],
            seed=self._config.seed,
            metrics={"retention": retention, "states": self._dataset.states, "seconds": self._seconds},
            config=as_plain(self._config),
        )
        self._folder.finish(
            {
                "rounds": self._round,
                "states": self._dataset.states,
                "seconds": self._seconds,
                "retention": retention,
                "reached_target": self._streak >= _PATIENCE,
            }
        )
        worst = min(retention.values())
        self._progress.end(
            self._name, f"retention at least {worst:.3f} after {self._round} rounds, {self._seconds:.0f} s"
        )


def _trained(policy: Policy) -> list[torch.Tensor]:
    """What imitation trains: the critic follows when the actor is final."""
    return [*policy.actor.parameters(), policy.log_std]
