"""Rounds of a quick merge: collect, fit, test early, and confirm on new tracks.

It decides what happens when and owns the files of the run, as ``policykd.merge.distiller`` does for other merges. Two
kinds of scores decide. The early test is read from the episodes that the student of the round before has just
collected, so it is one fit behind the student that the round ends with. The test on new tracks simulates that student.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from policykd.agents.files.policy_file import LoadedPolicy, save_policy
from policykd.envs.foreign.skill import choices_of, shared_actions
from policykd.envs.skill_records import records_of
from policykd.merge.collect import shares, split
from policykd.merge.config import MergeConfig
from policykd.merge.critic import fit_critic_to_teachers
from policykd.merge.data.folder import LabeledData
from policykd.merge.data.manifest import describe_data
from policykd.merge.data.pool import StatePool
from policykd.merge.data.sequences import SequencePool
from policykd.merge.fitting import Fitting
from policykd.merge.quick.collecting import Collected, check_shared, collect_jointly, make_joint
from policykd.merge.quick.outlook import seconds_left, states_until
from policykd.merge.quick.scores import EarlyTest
from policykd.merge.retention import Score, StudentValidation
from policykd.merge.student import first_student, log_std_of, parents
from policykd.merge.teachers import Teacher
from policykd.plain import as_plain
from policykd.progress import Progress
from policykd.runs import RunFolder
from policykd.seeding import integer_seed

_MARKS = (0.95, 0.98)
"""Retentions whose labeled states are reported."""

PHASES = ("collection", "fitting", "validation")
"""Parts of a round whose seconds are measured apart."""


class QuickMerge:
    """The state of one quick merge.

    Args:
        teachers: one per skill.
        folder: folder of the run.
        config: the merge, with ``stop="confirmed"``.
        init: the policy to start from, with ``config.start="previous"``.
        progress: progress reporter; it gets the retention per skill, labeled states to 0.95 and 0.98, and seconds left.

    Raises:
        ConfigError: for skills that cannot share an environment.
    """

    def __init__(
        self,
        teachers: Sequence[Teacher],
        folder: RunFolder,
        config: MergeConfig,
        init: LoadedPolicy | None,
        progress: Progress,
    ) -> None:
        check_shared(teachers)
        self._teachers, self._folder, self._config, self._progress = teachers, folder, config, progress
        self._init, self._ids = init, [t.skill.id for t in teachers]
        self._name = f"merge {' '.join(self._ids)}"
        self._student = first_student(teachers, config, init)
        self._fresh = self._student.normalizer.fresh.clone()
        self._fitting = Fitting(self._student, log_std_of(teachers), config, choices_of(teachers[0].skill.robot))
        self._data = LabeledData(folder.path / "data", describe_data(teachers, self._student.groups))
        pool = SequencePool if self._student.recurrent else StatePool
        self._pool = pool(len(teachers), config.rounds_kept, config.support)
        self._early = EarlyTest(teachers, config.gap_memory)
        self._gaps = [0.0] * len(teachers)  # per skill, of the last score of either kind
        self._round, self._attempts = 0, 0  # finished rounds, and tests on new tracks
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._reached: dict[str, int | None] = {str(mark): None for mark in _MARKS}
        self._confirmed: Score | None = None  # of this round's test on new tracks; None in a round without one
        self._kept: list[tuple[int, float]] = []  # fitted states and lowest retention of every score of either kind

    def go(self) -> None:
        """Run the rounds until a test on new tracks is passed, then write the student's policy file."""
        self._restore()
        self._progress.begin(self._name, self._config.rounds, "rounds")
        while self._round < self._config.rounds and not self._passed:
            before, states = dict(self._seconds), self._pool.states
            with self._timed("collection"):
                self._collect()
            with self._timed("fitting"):
                loss = self._fit(self._pool.states - states)
            with self._timed("validation"):
                early = self._test(states)
            self._round += 1
            self._log(loss, early, {name: self._seconds[name] - before[name] for name in PHASES})
            self._save()
            self._report(loss, early)
        self._finish()

    @property
    def _passed(self) -> bool:
        """Whether the last test on new tracks was passed."""
        return self._confirmed is not None and self._confirmed.holds(self._config.target_retention)

    @property
    def _total(self) -> float:
        """Seconds of all phases and rounds so far."""
        return sum(self._seconds.values())

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        """Add the wall time of the block to a phase."""
        began = time.perf_counter()
        yield
        self._seconds[phase] += time.perf_counter() - began

    def _generator(self, purpose: str) -> torch.Generator:
        """Return random numbers that a resumed merge draws again: of a purpose and this round."""
        return torch.Generator().manual_seed(integer_seed(self._config.seed, purpose, self._round))

    def _counts(self) -> list[int]:
        """Return the simulations of every skill in this round: more for skills that are behind."""
        parts = shares(self._gaps, self._config.adaptive)
        return split(self._config.envs * len(self._ids), parts)

    def _collect(self) -> None:
        """Collect, store and pool one round: the experts act in the first, the student in all others."""
        config, counts = self._config, self._counts()
        env = make_joint(
            self._teachers, counts, tracks=config.tracks, threads=config.threads, randomization=config.randomization,
            seed=integer_seed(config.seed, "collection", self._round),
        )  # fmt: skip
        noise = 0.0 if config.noise_model == "none" else config.noise
        collected = collect_jointly(
            self._teachers, env, counts, self._student,
            experts_act=self._round == 0, noise=noise, generator=self._generator("noise"),
        )  # fmt: skip
        episodes = [one.episodes for one in collected]
        if self._round == 0:
            self._early.set_reference(episodes)
            self._check_experts()
        else:
            self._early.add(episodes)
        self._keep(collected)

    def _check_experts(self) -> None:
        """Validate the experts if one of them failed often in the first round, and raise ConfigError if it is poor.

        The few episodes of a round, with noise, do not prove that: an expert with success 0.98 succeeded in 2 of 6.
        """
        if self._early.lowest_success < self._config.min_teacher_success:
            StudentValidation(self._teachers, self._config)

    def _keep(self, collected: Sequence[Collected]) -> None:
        """Store the labeled states, pool them, and take those of the first round into the student's normalizer."""
        for i, one in enumerate(collected):
            self._data.store(self._round, self._ids[i], one.rollout, 1.0 if self._round == 0 else 0.0)
            self._pool.add(i, one.rollout)
            if self._round == 0:  # statistics of features without any; frozen from here on
                self._student.update_normalizer(one.rollout.observations, self._fresh)
        self._data.commit()

    def _fit(self, new_states: int) -> float:
        """Make as many gradient steps as the new states deserve, and return the mean loss."""
        config, count = self._config, max(1, self._config.minibatch // len(self._ids))
        counts = split(count * len(self._ids), shares(self._gaps, config.adaptive))
        updates = config.updates_for(new_states)
        return self._fitting.fit(self._pool, counts, self._round, self._generator("minibatches"), updates=updates)

    def _test(self, fitted: int) -> Score | None:
        """Read the early test, and run the test on new tracks if it is passed or this is the last round.

        Args:
            fitted: labeled states to which the student of the early test was fitted.

        Returns:
            The score of the early test, which is that of the student before this round's gradient steps.
        """
        config, early = self._config, self._early.score()
        self._confirmed, last = None, self._round + 1 == config.rounds
        if early is not None:
            self._note(early, fitted)
        promising = early is not None and min(early.retention.values()) >= config.target_retention - config.early_margin
        if promising or last:
            # Every test has tracks of its own: the best of several tests on the same ones would be lucky.
            validation = StudentValidation(self._teachers, config, attempt=self._attempts)
            self._confirmed = validation.measure(self._student)
            self._attempts += 1
            self._note(self._confirmed, self._pool.states)
        return early

    def _note(self, score: Score, states: int) -> None:
        """Take a score as the present gaps and into the curve of the display, and see which marks it holds.

        Args:
            score: of the early test or of that on new tracks. The former averages over the rounds, so gaps need not.
            states: labeled states to which the student of the score was fitted.
        """
        self._gaps = score.gaps
        self._kept.append((states, min(score.retention.values())))
        for mark in _MARKS:
            if self._reached[str(mark)] is None and score.holds(mark):
                self._reached[str(mark)] = states

    def _log(self, loss: float, early: Score | None, seconds: dict[str, float]) -> None:
        """Append the row of the finished round; scores are there only in rounds that have them."""
        row: dict[str, Any] = {"round": self._round, "states": self._pool.states, "seconds": self._total, "loss": loss}
        row["phase_seconds"] = seconds
        row["simulations"] = {s.skill: s.simulations for s in self._data.manifest.shards if s.round == self._round - 1}
        if early is not None:
            row["early"] = _figures(early)
        self._folder.append({**row, **({} if self._confirmed is None else _figures(self._confirmed))})

    def _report(self, loss: float, early: Score | None) -> None:
        """Report the retention of every skill, the labeled states to each mark, and the seconds left."""
        figures, states, score = {"loss": loss}, self._pool.states, self._confirmed or early
        if score is not None:
            figures["retention"] = min(score.retention.values())
            figures |= {f"retention {i}": value for i, value in score.retention.items()}
        for mark in _MARKS:
            reached = self._reached[str(mark)]
            expected = states_until(mark, *self._trend()) if reached is None else float(reached)
            if expected is not None:
                figures[f"states to {mark}" if reached is not None else f"about states to {mark}"] = expected
        target = states_until(min(self._config.target_retention, 0.999), *self._trend())
        most = states / self._round * self._config.rounds
        figures["seconds left"] = seconds_left(target, states, most, self._total)
        self._progress.update(self._name, self._round, **figures)

    def _trend(self) -> tuple[list[int], list[float]]:
        """Return states and lowest retention of every score, as the outlook takes them."""
        return [n for n, _ in self._kept], [value for _, value in self._kept]

    def _save(self) -> None:
        """Write all that the next round reads; labeled states are in the data folder already."""
        self._folder.save_checkpoint(
            {
                "student": self._student.state_dict(),
                **self._fitting.state_dict(),
                "early": self._early.state_dict(),
                "round": self._round,
                "attempts": self._attempts,
                "seconds": self._seconds,
                "gaps": self._gaps,
                "reached": self._reached,
                "kept": self._kept,
                "confirmed": None if self._confirmed is None else vars(self._confirmed),
            }
        )

    def _restore(self) -> None:
        """Continue after the last finished round, if there is one; labeled states of a later one go."""
        state = self._folder.load_checkpoint()
        if state is None:
            return
        self._student.load_state_dict(state["student"])
        self._fitting.load_state_dict(state)
        self._early.load_state_dict(state["early"])
        self._round, self._attempts, self._seconds = state["round"], state["attempts"], state["seconds"]
        self._gaps, self._reached, self._kept = state["gaps"], state["reached"], state["kept"]
        self._confirmed = None if state["confirmed"] is None else Score(**state["confirmed"])
        self._data = LabeledData.open(self._data.folder)
        self._data.keep(self._round)
        for round_ in range(self._round):
            for i, skill in enumerate(self._ids):
                self._pool.add(i, self._data.find(round_, skill))

    def _finish(self) -> None:
        """Fit the critic, and write policy file and result."""
        assert self._confirmed is not None  # the last round always has a test on new tracks
        if self._config.critic == "teacher":
            with self._timed("fitting"):
                generator = self._generator("critic")
                fit_critic_to_teachers(self._student, self._pool, len(self._ids), self._config, generator)
        outcome = {
            "states": self._pool.states,
            "seconds": self._total,
            "retention": self._confirmed.retention,
            "states_to_retention": self._reached,
            "masked": dict(zip(self._ids, self._pool.masked, strict=True)),
        }
        save_policy(
            self._folder.path / "policy",
            self._student,
            robot=shared_actions([t.skill for t in self._teachers]),
            skills=self._ids,
            skill_records=records_of([t.skill for t in self._teachers]),
            operation="merge",
            parents=parents(self._teachers, self._init),
            seed=self._config.seed,
            metrics=outcome,
            config=as_plain(self._config),
        )
        self._folder.finish(
            {
                **outcome,
                "rounds": self._round,
                "reached_target": self._passed,
                "phase_seconds": self._seconds,
                "history": self._folder.log(),
            }
        )
        worst, seconds = min(self._confirmed.retention.values()), outcome["seconds"]
        text = f"retention at least {worst:.3f} on new tracks after {self._round} rounds, {seconds:.0f} s"
        self._progress.end(self._name, text)


def _figures(score: Score) -> dict[str, Any]:
    """Return a score as the rows of a merge hold it."""
    return {name: getattr(score, name) for name in ("success", "reward_per_step", "retention")}
