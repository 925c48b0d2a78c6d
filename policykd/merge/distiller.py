"""The distiller: rounds of collecting, fitting and validating until the student retains the experts' skills.

It decides what happens when and owns the files of the run; each step is a module of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from policykd.agents.files.policy_file import LoadedPolicy, save_policy
from policykd.agents.renormalization import extend_normalizer
from policykd.envs.devices import choose_device
from policykd.envs.env_records import EnvConfig
from policykd.envs.foreign.gym_batch import GymBatch
from policykd.envs.foreign.skill import choices_of, shared_actions
from policykd.envs.make import AnyEnv, make_env
from policykd.envs.skill_records import records_of
from policykd.merge.collect import ActionNoise, Collection, collect, dart_noise, shares, split
from policykd.merge.config import MergeConfig
from policykd.merge.critic import fit_critic, fit_critic_to_teachers
from policykd.merge.data.manifest import describe_data
from policykd.merge.data.pool import StatePool
from policykd.merge.data.rollout import LabeledRollout
from policykd.merge.data.sequences import SequencePool
from policykd.merge.fitting import Fitting, check_optimizer
from policykd.merge.labeling import Labeler
from policykd.merge.losses import categorical
from policykd.merge.masked_collect import collect_masked, make_joint_env
from policykd.merge.old_skills import OldSkills, read_old_skills, store_importance
from policykd.merge.quick.collecting import check_shared
from policykd.merge.quick.rounds import QuickMerge
from policykd.merge.result import MergeResult
from policykd.merge.retention import Score, StudentValidation
from policykd.merge.shared import SharedFolder, check_parallel, open_data, open_folder
from policykd.merge.student import check_start, first_student, log_std_of, parents
from policykd.merge.teachers import Teacher, offering, on_device
from policykd.parallel import Processes, processes
from policykd.plain import as_plain
from policykd.progress import Progress, Silent
from policykd.runs import RunFolder
from policykd.schedules import PlaidPaper, parse
from policykd.seeding import integer_seed
from policykd.storage import prepare_folder
from policykd.threads import torch_threads

if TYPE_CHECKING:
    from policykd.envs.masked_env import MaskedEnv

_PATIENCE = 2
_MARKS = (0.95, 0.98)


def merge_experts(
    teachers: Sequence[Teacher],
    out: Path,
    config: MergeConfig = MergeConfig(),
    *,
    init: LoadedPolicy | None = None,
    old: Sequence[Path] = (),
    resume: bool = False,
    progress: Progress = Silent(),
) -> MergeResult:
    """Merge experts into one student.

    In the processes of an initialized ``torch.distributed`` (gloo), which all call it with equal arguments, each
    simulates its part of the skills and has its part of every minibatch; the first one writes the files. All return
    the result of one process but for the order of sums.

    Args:
        teachers: one per skill; see :func:`policykd.merge.teachers.teachers_from`.
        out: folder of the run; the student's policy file is ``out / "policy"``, the labeled states ``out / "data"``.
        config: the merge.
        init: the policy to start from, with ``config.start="previous"``.
        old: folders that protect skills of ``init`` which are not simulated; see
            :func:`policykd.merge.old_skills.read_old_skills`. The result has these skills, too, and is not validated
            on them.
        resume: continue the merge in ``out``; a finished one is returned as it is.
        progress: progress reporter.

    Returns:
        The result; equal, timings apart, whether or not the merge was interrupted.

    Raises:
        ConfigError: for a merge of another configuration in ``out``, or a teacher below ``min_teacher_success``.
        ContractError: if the policy to start from reads other observation groups than the teachers or
            ``config.groups``, or the robot lacks one of these.
        DatasetError: if the labeled states of an interrupted merge were damaged.
        OutputError: if ``out`` cannot be written or holds a merge and ``resume`` is off.
        UnknownNameError: for an unknown device or observation group.
        MissingDependencyError: for a device that cannot be used here.
        LostProcessError: if another process of the merge ended.
    """
    group = processes()
    config = replace(config, device=str(choose_device(config.device)))  # the device that auto stands for
    wanted = {"merge": config, "teachers": {t.skill.id: t.weights_sha256 for t in teachers}}
    if init is not None:
        wanted["init"] = init.manifest.weights_sha256
    check_start(config, init)
    kept = read_old_skills(old, init, config, [t.skill.id for t in teachers])
    if kept is not None:
        wanted["old"] = kept.sources
    teachers = on_device(offering(teachers, config.groups), torch.device(config.device))
    check_parallel(group, config)
    begun = group.from_first(lambda: (prepare_folder(out) / "config.json").exists())
    if choices := choices_of(teachers[0].skill.robot):
        categorical(config, choices)  # a loss of continuous actions is refused before anything is run
    if config.start != "random":  # a copy's networks are refused before the folder holds a run
        check_optimizer(first_student(teachers, config, init), config)
    if config.stop == "confirmed":
        return _merge_quickly(teachers, out, wanted, config, init, resume, progress)
    with torch_threads(1):
        # Poor teachers are refused before the folder holds a run, so that the next attempt may use it.
        validation = None if begun else StudentValidation(teachers, config, group=group)
        folder = open_folder(group, out, wanted, resume)
        result = folder.result
        if result is None:
            merge = _Merge(teachers, folder, config, init, progress if group.first else Silent(), kept, group)
            merge.go(validation or StudentValidation(teachers, config, group=group))
            result = folder.result
    assert result is not None
    return MergeResult(policy_path=out / "policy", **result)


def _merge_quickly(
    teachers: Sequence[Teacher],
    out: Path,
    wanted: dict[str, Any],
    config: MergeConfig,
    init: LoadedPolicy | None,
    resume: bool,
    progress: Progress,
) -> MergeResult:
    """Run or read a merge with ``stop="confirmed"``."""
    check_shared(teachers)  # before the folder holds a run
    folder = RunFolder(out, wanted, resume)
    if folder.result is None:
        with torch_threads(1):
            QuickMerge(teachers, folder, config, init, progress).go()
    assert folder.result is not None
    return MergeResult(policy_path=out / "policy", **folder.result)


class _Merge:
    """The state of one merge."""

    def __init__(
        self,
        teachers: Sequence[Teacher],
        folder: RunFolder | SharedFolder,
        config: MergeConfig,
        init: LoadedPolicy | None,
        progress: Progress,
        old: OldSkills | None = None,
        group: Processes = Processes(),
    ) -> None:
        self._group = group
        self._device = torch.device(config.device)
        self._teachers, self._folder, self._config, self._progress = teachers, folder, config, progress
        self._init, self._ids = init, [t.skill.id for t in teachers]
        self._name = f"merge {' '.join(self._ids)}"
        self._student = first_student(teachers, config, init).to(self._device)
        self._fresh = self._student.normalizer.fresh.clone()
        self._old, choices = old, choices_of(teachers[0].skill.robot)
        log_std, penalties = log_std_of(teachers), () if old is None else old.penalties(config, len(teachers))
        if old is not None:
            log_std = torch.cat([log_std, old.log_std])
        self._fitting = Fitting(self._student, log_std, config, choices, penalties=penalties, group=group)
        self._mine = group.mine(len(teachers))
        self._labeler = Labeler([teachers[i] for i in self._mine], config.batched_teachers)
        self._envs: dict[int, AnyEnv] = {}
        self._joint: MaskedEnv | None = None
        self._data = open_data(group, folder.path / "data", describe_data(teachers, self._student.groups))
        pool = SequencePool if self._student.recurrent else StatePool
        self._pool = pool(len(teachers), config.rounds_kept, config.support)
        self._beta = parse(config.beta)
        self._round, self._streak, self._seconds = 0, 0, 0.0
        self._gaps = [0.0] * len(teachers)
        self._shares = shares(self._gaps, 0.0)
        self._reached: dict[str, int | None] = {str(mark): None for mark in _MARKS}
        self._best: dict[str, Any] | None = None

    def go(self, validation: StudentValidation) -> None:
        """Run the rounds, then write the student's policy file."""
        self._restore()
        self._progress.begin(self._name, self._config.rounds, "rounds")
        while self._round < self._config.rounds and self._streak < _PATIENCE:
            began = time.perf_counter()
            self._collect_round()
            loss = self._fit()
            due = (self._round + 1) % self._config.validation_every == 0 or self._round + 1 == self._config.rounds
            score = self._measure(validation) if due else None
            self._seconds += time.perf_counter() - began
            self._round += 1
            self._log(loss, score)
            self._save()
            kept = {} if score is None else {"retention": min(score.retention.values())}
            self._progress.update(self._name, self._round, loss=loss, **kept)
        self._finish()

    def _env(self, i: int, count: int) -> AnyEnv:
        """Return simulations of skill i, to be seeded; those of another number are changed in number, or dropped."""
        env = self._envs.get(i)
        if isinstance(env, GymBatch):
            env.resize(count)
        elif env is None or env.num_envs != count:
            config, skill = self._config, self._teachers[i].skill
            options: dict[str, Any] = {"threads": self._group.threads(config.threads), "device": config.device}
            settings, seed = EnvConfig(randomization=config.randomization), integer_seed(config.seed, "collection")
            self._envs[i] = env = make_env([skill], count, seed=seed, config=settings, **options)
        return env

    def _generator(self, purpose: str) -> torch.Generator:
        return torch.Generator(self._device).manual_seed(integer_seed(self._config.seed, purpose, self._round))

    def _expert_share(self) -> float:
        """Return the beta of this round."""
        if self._round == 0 and self._config.start == "random":
            return 1.0
        if isinstance(self._beta, PlaidPaper):
            return self._beta(self._round * self._config.updates)
        return self._beta(self._round, self._config.rounds)

    def _collect_round(self) -> None:
        beta = self._expert_share()
        rollouts = self._collect(beta, self._round, split(self._config.envs * len(self._ids), self._shares))
        for i, rollout in enumerate(rollouts):
            self._data.store(self._round, self._ids[i], rollout, beta)
            self._pool.add(i, rollout)
            if self._round == 0:
                self._count(rollout, self._student.present([self._teachers[i].skill]))
        self._data.commit()

    def _count(self, rollout: LabeledRollout, present: torch.Tensor | None) -> None:
        """Count states of the first round in the student's normalizer, which is frozen from there on."""
        if self._config.normalizer == "extended":
            extend_normalizer(self._student, rollout.observations, present)
            self._fitting.begin()
        else:  # only features without any statistics
            fresh = self._fresh if present is None else self._fresh & present
            self._student.update_normalizer(rollout.observations, fresh)

    def _collect(self, beta: float, round_: int, counts: Sequence[int]) -> list[LabeledRollout]:
        """Return labeled states per skill; equal arguments and students give equal states, whatever ran before."""
        if (joint := self._joint_env()) is not None:
            return self._collect_jointly(joint, beta, round_)
        noises = [self._noise(i) for i in range(len(self._ids))]

        def mine() -> dict[int, LabeledRollout]:
            """Return the rollouts of this process's skills, by their index."""
            collections = []
            for i in self._mine:
                env = self._env(i, counts[i])
                env.seed(integer_seed(self._config.seed, "collection", self._ids[i], round_))
                generator = self._generator(f"mixture {self._ids[i]}")
                collections.append(Collection(self._teachers[i], env, noises[i], generator))
            if not collections:
                return {}
            mixing = self._config.mixing
            found = collect(collections, self._student, beta=beta, mixing=mixing, labeler=self._labeler)
            return dict(zip(self._mine, found, strict=True))

        rollouts = {i: rollout for part in self._group.gather(mine) for i, rollout in part.items()}
        return [rollouts[i] for i in range(len(self._ids))]

    def _joint_env(self) -> MaskedEnv | None:
        """Return simulations of all skills in one environment, on a CUDA device; None where each skill has its own."""
        if self._device.type == "cuda" and self._joint is None:
            self._joint = make_joint_env(self._teachers, self._config)
        return self._joint

    def _collect_jointly(self, env: MaskedEnv, beta: float, round_: int) -> list[LabeledRollout]:
        env.seed(integer_seed(self._config.seed, "collection", round_))
        env.draw_starts()
        noises = [self._noise(i) for i in range(len(self._ids))]
        mixing, generator = self._config.mixing, self._generator("mixture")
        return collect_masked(
            self._teachers, env, self._student, noises, generator, beta=beta, mixing=mixing, labeler=self._labeler
        )

    def _noise(self, i: int) -> ActionNoise:
        if self._config.noise_model == "none":
            return ActionNoise(0.0)
        if self._config.noise_model == "gaussian" or self._round == 0:  # no error is known before the first fit
            return ActionNoise(self._config.noise)
        last = self._data.find(self._round - 1, self._ids[i]).to(self._device)
        return dart_noise(self._student, last, self._config.noise)

    def _fit(self) -> float:
        """Make gradient steps on the labeled states, and return the mean loss."""
        count = max(1, self._config.minibatch // len(self._ids))
        counts = split(count * len(self._ids), self._shares)
        return self._fitting.fit(self._pool, counts, self._round, self._generator("minibatches"))

    def _measure(self, validation: StudentValidation) -> Score:
        """Validate the student, and update the stopping criterion, the best student and the shares of the skills."""
        score = validation.measure(self._student)
        self._streak = self._streak + 1 if score.holds(self._config.target_retention) else 0
        for mark in _MARKS:
            if self._reached[str(mark)] is None and score.holds(mark):
                self._reached[str(mark)] = self._pool.states
        if self._best is None or score.value > self._best["score"]:
            weights = {k: v.clone() for k, v in self._student.state_dict().items()}
            self._best = {"score": score.value, "retention": score.retention, "weights": weights}
        memory = self._config.gap_memory if self._round else 0.0
        self._gaps = [memory * old + (1.0 - memory) * new for old, new in zip(self._gaps, score.gaps, strict=True)]
        self._shares = shares(self._gaps, self._config.adaptive)
        return score

    def _masked(self) -> dict[str, float]:
        return dict(zip(self._ids, self._pool.masked, strict=True))

    def _log(self, loss: float, score: Score | None) -> None:
        row = {"round": self._round, "states": self._pool.states, "seconds": self._seconds, "loss": loss}
        names = () if score is None else ("success", "reward_per_step", "retention")
        figures = {name: getattr(score, name) for name in names}
        self._folder.append({**row, **figures, "masked": self._masked()})

    def _save(self) -> None:
        self._group.check_equal(self._student.state_dict(), f"the weights after round {self._round}")
        self._folder.save_checkpoint(
            {
                "student": self._student.state_dict(),
                **self._fitting.state_dict(),
                "best": self._best,
                "round": self._round,
                "streak": self._streak,
                "seconds": self._seconds,
                "shares": self._shares,
                "gaps": self._gaps,
                "reached": self._reached,
            }
        )

    def _restore(self) -> None:
        state = self._folder.load_checkpoint()
        if state is None:
            return
        self._student.load_state_dict(state["student"])
        self._fitting.load_state_dict(state)
        self._best, self._round = state["best"], state["round"]
        self._streak, self._seconds = state["streak"], state["seconds"]
        self._shares, self._gaps, self._reached = state["shares"], state["gaps"], state["reached"]
        self._data = self._data.reopen(self._round)
        for round_ in range(self._round):
            for i, skill in enumerate(self._ids):
                self._pool.add(i, self._data.find(round_, skill).to(self._device))

    def _fit_critic(self) -> None:
        generator = self._generator("critic")
        if self._config.critic == "td":
            rollouts = self._collect(0.0, self._config.rounds, [self._config.envs] * len(self._ids))
            fit_critic(self._student, rollouts, self._config, generator, self._group)
        elif self._config.critic == "teacher":
            fit_critic_to_teachers(self._student, self._pool, len(self._ids), self._config, generator, self._group)

    def _finish(self) -> None:
        assert self._best is not None
        self._student.load_state_dict(self._best["weights"])
        began = time.perf_counter()
        self._fit_critic()
        self._seconds += time.perf_counter() - began
        self._group.check_equal(self._student.state_dict(), "the weights of the student")
        outcome = self._group.from_first(self._write)
        self._folder.finish({**outcome, "rounds": self._round, "reached_target": self._streak >= _PATIENCE})
        worst = min(outcome["retention"].values())
        self._progress.end(
            self._name, f"retention at least {worst:.3f} after {self._round} rounds, {self._seconds:.0f} s"
        )

    def _write(self) -> dict[str, Any]:
        """Write the student's policy file, and return the figures of the merge."""
        assert self._best is not None
        retention = self._best["retention"]
        skills, records = self._ids, records_of([t.skill for t in self._teachers])
        if self._old is not None:
            skills, records = [*self._old.ids, *skills], {**self._old.records, **(records or {})} or None
            states = [self._pool.rows(i).observations for i in range(len(self._ids))]
            store_importance(self._folder.path, self._student, states, self._old, self._config)
        outcome = {"states": self._pool.states, "seconds": self._seconds, "retention": retention}
        outcome |= {"states_to_retention": self._reached, "masked": self._masked()}
        save_policy(
            self._folder.path / "policy",
            self._student,
            robot=shared_actions([t.skill for t in self._teachers]),
            skills=skills,
            skill_records=records,
            operation="merge",
            parents=parents(self._teachers, self._init),
            seed=self._config.seed,
            metrics=outcome,
            config=as_plain(self._config),
        )
        return outcome
