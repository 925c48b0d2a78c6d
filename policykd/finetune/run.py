"""A fine-tuning run: segments of learning, validations of every skill, weights taken back, and the final choice.

The result is a policy file whose skills are all within the bound of the start's on tracks that no validation used;
where no weights are, it is the start.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from policykd.agents.files.policy_file import LoadedPolicy, Parent, save_policy
from policykd.agents.policy import Policy, check_groups, check_one_network
from policykd.agents.training.algorithms.ppo import PpoAdaptation
from policykd.agents.training.averaging import WeightAverage
from policykd.agents.validation import Validation
from policykd.envs.env_records import EnvConfig
from policykd.envs.foreign.skill import check_continuous
from policykd.envs.make import make_env
from policykd.envs.skill_records import records_of
from policykd.envs.skills import Skill, common_contract
from policykd.errors import ConfigError, ContractError, UnknownNameError
from policykd.finetune.config import FinetuneConfig
from policykd.finetune.guidance import GUIDANCES, Guide
from policykd.finetune.learner import LeashedPpo, leash_of
from policykd.finetune.recorded import read_recorded
from policykd.merge.data.folder import LabeledData
from policykd.merge.teachers import Teacher
from policykd.plain import as_plain
from policykd.progress import Progress, Silent
from policykd.runs import RunFolder
from policykd.seeding import integer_seed
from policykd.threads import torch_threads

Figures = Mapping[str, Mapping[str, float]]
"""``success`` and ``reward_per_step`` of every skill by its id."""


@dataclass(frozen=True)
class FinetuneResult:
    """Outcome of a fine-tuning run.

    Attributes:
        policy_path: the policy file.
        improved: whether it differs from the start.
        before: the start's figures on the final tracks.
        after: the policy's figures there.
        steps: environment steps used.
        rollbacks: how often weights were taken back.
        seconds: wall time over all sessions, s.
    """

    policy_path: Path
    improved: bool
    before: dict[str, dict[str, float]]
    after: dict[str, dict[str, float]]
    steps: int
    rollbacks: int
    seconds: float


def finetune(
    student: LoadedPolicy,
    targets: Sequence[Skill],
    out: Path,
    config: FinetuneConfig = FinetuneConfig(),
    *,
    rehearsed: Sequence[Skill] = (),
    recorded: Sequence[Path] = (),
    teachers: Sequence[Teacher] = (),
    resume: bool = False,
    progress: Progress = Silent(),
) -> FinetuneResult:
    """Improve a policy on some skills by reinforcement learning, without losing others.

    Args:
        student: the policy; it is changed.
        targets: skills to improve; they may be new to it.
        out: folder of the run; the policy file is ``out / "policy"``.
        config: the run.
        rehearsed: old skills that are simulated, so that what they lose is measured and bounded.
        recorded: labeled datasets of old skills that cannot be simulated; they hold the policy near their labels, but
            nothing measures what those skills lose.
        teachers: experts of simulated skills that the run listens to as ``config.guidance`` says; see
            :func:`policykd.merge.teachers_from`.
        resume: continue the run in ``out``.
        progress: progress reporter.

    Returns:
        The result; equal, timings apart, whether or not the run was interrupted.

    Raises:
        ConfigError: without targets, for a skill that is both target and rehearsed, teachers without a guidance or a
            guidance without teachers, privileged groups that the policy reads or of a gymnasium environment, or a run
            of another configuration.
        UnknownNameError: for a teacher of a skill that is not simulated, or an unknown privileged group.
        ContractError: if the policy does not fit the skills or the recorded states, has a memory and recorded
            states, or is discrete.
        DatasetError: for a damaged dataset.
        OutputError: if ``out`` cannot be written or holds a run and ``resume`` is off.
    """
    _check(student, targets, rehearsed)
    _check_teachers(config, teachers, [*targets, *rehearsed])
    _offering(targets[0], teachers, config.privileged)  # raises here, before anything is written
    data = [LabeledData.open(folder) for folder in recorded]
    pool, held = read_recorded(data, student)
    wanted = {
        "finetune": config, "init": student.manifest.weights_sha256, "targets": list(targets),
        "rehearsed": list(rehearsed), "recorded": [d.manifest.to_json()["content_sha256"] for d in data],
    }  # fmt: skip
    if teachers:
        wanted["teachers"] = {teacher.skill.id: teacher.weights_sha256 for teacher in teachers}
    folder = RunFolder(out, wanted, resume)
    if folder.result is None:
        with torch_threads(1):
            _Run(student, targets, rehearsed, folder, config, (pool, held), progress, teachers).go()
    assert folder.result is not None
    return FinetuneResult(policy_path=out / "policy", **folder.result)


def _check(student: LoadedPolicy, targets: Sequence[Skill], rehearsed: Sequence[Skill]) -> None:
    if not targets:
        raise ConfigError("no skill to improve was given; name at least one with --skills")
    names = [skill.id for skill in (*targets, *rehearsed)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{twice[0]} was given twice; a skill is either improved or rehearsed")
    skill = common_contract([*targets, *rehearsed])
    check_continuous(skill.robot, "fine-tuning")
    check_one_network(student.policy, "fine-tuning", mixture=True)
    check_groups(student.policy.groups, skill.group_sizes, f"skill {skill.id}")
    if list(student.policy.groups) != list(skill.groups):
        raise ContractError(f"the policy reads {list(student.policy.groups)}, the skills have {list(skill.groups)}")


def _check_teachers(config: FinetuneConfig, teachers: Sequence[Teacher], skills: Sequence[Skill]) -> None:
    """Raise unless teachers are given exactly where a guidance listens to them, of skills that are simulated."""
    if bool(teachers) != bool(config.guidance):
        raise ConfigError(
            f"guidance is '{config.guidance}' and there are {len(teachers)} teachers; give both, or neither "
            f"(--teachers EXPERT ... --guidance kickstarting)"
        )
    simulated = [skill.id for skill in skills]
    for teacher in teachers:
        if teacher.skill.id not in simulated:
            raise UnknownNameError(f"skill of the teacher {teacher.source}:", teacher.skill.id, simulated)


def _offering(skill: Skill, teachers: Sequence[Teacher], privileged: Sequence[str]) -> Skill:
    """Return a skill that also offers the groups that teachers and critic read.

    Raises:
        ConfigError: for a privileged group that the policy reads, or of a gymnasium environment.
        UnknownNameError: for an unknown group.
    """
    if privileged and skill.robot.family == "gymnasium":
        raise ConfigError(f"privileged groups are for policykd's robots; {skill.id} offers {list(skill.groups)} only")
    if read := [name for name in privileged if name in skill.groups]:
        raise ConfigError(f"privileged is {list(privileged)}; the policy reads {read[0]} itself")
    groups = tuple(dict.fromkeys((*skill.groups, *privileged, *(n for t in teachers for n in t.policy.groups))))
    return skill if groups == skill.groups else replace(skill, groups=groups)


class _Run:
    """The state of one fine-tuning run."""

    def __init__(
        self, student: LoadedPolicy, targets: Sequence[Skill], rehearsed: Sequence[Skill], folder: RunFolder,
        config: FinetuneConfig, recorded: tuple[Any, int], progress: Progress, teachers: Sequence[Teacher] = (),
    ) -> None:  # fmt: skip
        self._student, self._policy, self._folder, self._config = student, student.policy, folder, config
        self._targets, self._skills = [skill.id for skill in targets], [*targets, *rehearsed]
        self._progress, self._name = progress, f"finetune {' '.join(self._targets)}"
        simulated = _shares(targets, rehearsed, config.target_share)
        self._teachers = teachers
        self._env = make_env(
            [_offering(skill, teachers, config.privileged) for skill in simulated], config.ppo.envs,
            seed=integer_seed(config.seed, "training"), config=EnvConfig(), threads=config.threads,
        )  # fmt: skip
        self._is_target = [simulated[i % len(simulated)].id in self._targets for i in range(config.ppo.envs)]
        self._start = self._weights()
        self._learner = LeashedPpo(
            self._policy, self._env, config, integer_seed(config.seed, "learner"), recorded[0], recorded[1],
            self._guide(),
        )  # fmt: skip
        self._average = WeightAverage(self._policy, config.averaging_steps)
        self._adaptation = PpoAdaptation(config.ppo)
        self._steps, self._segment, self._seconds = 0, 0, 0.0
        self._worse, self._rollbacks, self._scale = 0, 0, 1.0
        self._best: list[dict[str, Any]] = []  # accepted weights, best first
        self._before: dict[str, dict[str, float]] = {}
        self._validation = self._make_validation("validation", config.validation_episodes)

    def _guide(self) -> Guide | None:
        if not self._teachers:
            return None
        policies = {teacher.skill.id: teacher.policy for teacher in self._teachers}
        return Guide(GUIDANCES[self._config.guidance], self._env, policies)

    def _make_validation(self, purpose: str, episodes: int) -> Validation:
        seed, count = integer_seed(self._config.seed, purpose), episodes * len(self._skills)
        return Validation(self._skills, count, seed=seed, threads=self._config.threads)

    def _weights(self) -> dict[str, torch.Tensor]:
        return _copied(self._policy)

    def go(self) -> None:
        """Learn until the budget is spent, then write the policy file."""
        self._restore()
        self._progress.begin(self._name, self._config.steps, "steps")
        if not self._before:
            self._before = self._measure(self._start, self._validation)
            self._folder.append({"steps": 0, "skills": self._before})
            self._save()
        while self._steps < self._config.steps:
            began = time.perf_counter()
            figures = self._learn_segment()
            found = self._measure(_copied(self._average.policy), self._validation)
            taken_back = self._judge(found)
            self._seconds += time.perf_counter() - began
            self._folder.append({"steps": self._steps, **figures, "skills": found, "rolled_back": taken_back})
            self._save()
        self._finish()

    def _learn_segment(self) -> dict[str, float]:
        config, learner = self._config, self._learner
        seed = integer_seed(config.seed, "segment", self._segment)
        self._env.seed(seed)
        learner.seed(seed)
        if not self._env.state_dict():  # gymnasium environments cannot be saved: a resumed run begins new episodes, too
            learner.restart_episodes()
        end, figures = min(self._steps + config.segment_steps, config.steps), dict[str, float]()
        while self._steps < end:
            rollout = learner.collect()
            self._steps += rollout.rewards.numel()
            spent, moves = min(1.0, self._steps / config.steps), self._steps > config.warm_up_steps
            leash = leash_of(config, self._is_target, spent, self._scale)
            figures = learner.update(rollout, self._adaptation.value, leash, actor=moves)
            if moves:
                self._adaptation.adapt(figures["divergence"], spent)
                learner.bound_noise(self._adaptation.noise_bound(config.noise, spent))
            self._average.update(self._policy, self._steps)
            self._progress.update(self._name, self._steps, **figures, rate=self._adaptation.value)
        self._segment += 1
        return {**figures, "rate": self._adaptation.value}

    def _measure(self, weights: Mapping[str, torch.Tensor], validation: Validation) -> dict[str, dict[str, float]]:
        """Return success and reward of every skill with these weights; the learner's own are put back."""
        now = self._weights()
        self._policy.load_state_dict(dict(weights))
        found = validation.measure(self._policy)
        self._policy.load_state_dict(now)
        if len(self._skills) == 1:
            return {self._skills[0].id: {name: found[name] for name in ("success", "reward_per_step")}}
        return dict(found["skills"])

    def _judge(self, found: Figures) -> bool:
        """Keep accepted weights; after too many validations with losses, take the best ones back.

        Success of n episodes has a standard error of at most ``0.5 / sqrt(n)``: weights are accepted within one of it
        beyond the bound, since the final choice measures them again, and taken back beyond two.

        Returns:
            Whether weights were taken back.
        """
        loss, noise = worst_loss(self._before, found), self._config.validation_episodes**-0.5
        if loss <= self._config.bound + noise / 2:
            self._worse = 0
            now = {"weights": _copied(self._average.policy), "skills": dict(found), "gain": self._gain(found)}
            self._best = sorted([*self._best, now], key=lambda kept: -kept["gain"])[: self._config.finalists]
            return False
        self._worse = self._worse + 1 if loss > self._config.bound + noise else 0
        if self._worse < self._config.patience:
            return False
        self._worse, self._rollbacks, self._scale = 0, self._rollbacks + 1, 2.0 * self._scale
        self._policy.load_state_dict(self._best[0]["weights"] if self._best else self._start_with_noise())
        self._average = WeightAverage(self._policy, self._config.averaging_steps)
        self._adaptation.value = max(self._config.ppo.learning_rate_range[0], self._adaptation.value / 2)
        self._learner.begin_again()
        return True

    def _start_with_noise(self) -> dict[str, torch.Tensor]:
        """Return the start's weights with the exploration noise and the critic of now."""
        kept = self._weights()
        return {n: kept[n] if n == "log_std" or n.startswith("critic") else value for n, value in self._start.items()}

    def _gain(self, found: Figures) -> float:
        """Return the mean gain over the skills to improve: of success, and of the reward as a share of the start's."""
        return sum(_change(self._before[s], found[s]) for s in self._targets) / len(self._targets)

    def _finish(self) -> None:
        began = time.perf_counter()
        final = self._make_validation("final validation", self._config.final_episodes)
        before = self._measure(self._start, final)
        chosen, after, gain = self._start, before, 0.0
        for finalist in self._best:
            found = self._measure(finalist["weights"], final)
            better = sum(_change(before[s], found[s]) for s in self._targets) / len(self._targets)
            if better > gain and worst_loss(before, found) <= self._config.bound:
                chosen, after, gain = finalist["weights"], found, better
        self._policy.load_state_dict(dict(chosen))
        self._policy.log_std.data.copy_(self._start["log_std"])  # the noise of the exploration was the run's own
        self._seconds += time.perf_counter() - began
        self._write(before, after, chosen is not self._start)

    def _write(self, before: dict[str, Any], after: dict[str, Any], improved: bool) -> None:
        manifest = self._student.manifest
        old = [skill for skill in manifest.skills if skill not in self._targets]
        records = {**(manifest.skill_records or {}), **(records_of(self._skills) or {})}
        outcome = {"improved": improved, "before": before, "after": after, "steps": self._steps,
                   "rollbacks": self._rollbacks}  # fmt: skip
        save_policy(
            self._folder.path / "policy", self._policy, robot=self._env.robot, skills=[*old, *self._targets],
            skill_records=records or None, operation="finetune",
            parents=[manifest.as_parent("start"), *(Parent(t.source, t.weights_sha256) for t in self._teachers)],
            seed=self._config.seed, metrics={**outcome, "seconds": self._seconds}, config=as_plain(self._config),
        )  # fmt: skip
        self._folder.finish({**outcome, "seconds": self._seconds})
        ending = f"gain {self._gain_text(before, after)}" if improved else "nothing within the bound was better"
        self._progress.end(self._name, f"{ending}; {self._steps / 1e6:.2f} M steps, {self._seconds:.0f} s")

    def _gain_text(self, before: Figures, after: Figures) -> str:
        targets = [skill for skill in self._skills if skill.id in self._targets]
        figures = {s.id: ("success", ".2f") if s.task.bounded else ("reward_per_step", ".3g") for s in targets}
        texts = ((s, *(f"{of[s][name]:{digits}}" for of in (before, after))) for s, (name, digits) in figures.items())
        return ", ".join(f"{skill} {first} to {last}" for skill, first, last in texts)

    def _save(self) -> None:
        self._folder.save_checkpoint({
            "policy": self._weights(), "learner": self._learner.state_dict(), "env": self._env.state_dict(),
            "best": self._best, "before": self._before, "steps": self._steps, "segment": self._segment,
            "seconds": self._seconds, "worse": self._worse, "rollbacks": self._rollbacks, "scale": self._scale,
            "rate": self._adaptation.value, "average": self._average.state_dict(),
        })  # fmt: skip

    def _restore(self) -> None:
        state = self._folder.load_checkpoint()
        if state is None:
            return
        self._policy.load_state_dict(state["policy"])
        self._average.load_state_dict(state["average"])
        self._learner.load_state_dict(state["learner"])
        if state["env"]:
            self._env.load_state_dict(state["env"])
        self._best, self._before, self._adaptation.value = state["best"], state["before"], state["rate"]
        self._steps, self._segment, self._seconds = state["steps"], state["segment"], state["seconds"]
        self._worse, self._rollbacks, self._scale = state["worse"], state["rollbacks"], state["scale"]


def _copied(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in policy.state_dict().items()}


def worst_loss(before: Figures, after: Figures) -> float:
    """Return the largest loss over the skills: of success, or of the reward as a share of its size before."""
    losses = [
        max(old["success"] - after[skill]["success"],
            (old["reward_per_step"] - after[skill]["reward_per_step"]) / max(abs(old["reward_per_step"]), 1e-6))
        for skill, old in before.items()
    ]  # fmt: skip
    return max(losses)


def _change(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    size = max(abs(before["reward_per_step"]), 1e-6)
    return after["success"] - before["success"] + (after["reward_per_step"] - before["reward_per_step"]) / size


def _shares(targets: Sequence[Skill], rehearsed: Sequence[Skill], share: float) -> list[Skill]:
    """Return skills for the simulations in turn, so that the targets have about ``share`` of them.

    Every skill appears at least once; each target as often as the others.
    """
    if not rehearsed:
        return list(targets)
    most = 16
    pairs = [(i, j) for i in range(1, most + 1) for j in range(1, most + 1)]

    def miss(pair: tuple[int, int]) -> tuple[float, int]:
        first, second = pair[0] * len(targets), pair[1] * len(rehearsed)
        return abs(first / (first + second) - share), first + second

    times, others = min(pairs, key=miss)
    return [*targets] * times + [*rehearsed] * others
