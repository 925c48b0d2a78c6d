"""Specialize and merge again: fork a specialist per skill, fine-tune each, merge those that gained, and repeat.

It runs the usual stages cycle by cycle, stops when nothing gains, and confirms the last student on tracks that decided
nothing. The cycle of generalist and specialists is that of EAGLE (arXiv 2602.02960), here over skills of one robot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from policykd.agents.files.policy_file import LoadedPolicy, load_policy
from policykd.agents.policy import check_one_network
from policykd.agents.recurrent_policy import check_memoryless
from policykd.curriculum.recipe import Measurement
from policykd.curriculum.runner import run_stages
from policykd.curriculum.stage_runner import StageFolders
from policykd.curriculum.stages import Existing, Finetune, Measure, Merge, Plan, Stage
from policykd.envs.foreign.skill import PREFIX
from policykd.envs.skills import Skill, common_contract, folder_names
from policykd.errors import ConfigError, check_range
from policykd.finetune.config import FinetuneConfig
from policykd.merge.config import MergeConfig
from policykd.plain import as_plain
from policykd.progress import Progress, Silent
from policykd.runs import RunFolder
from policykd.seeding import integer_seed
from policykd.stats import Interval, paired_ratio
from policykd.storage import copy_folder, prepare_folder
from policykd.threads import cores_for

SPECIALIZE_FINETUNE = FinetuneConfig(steps=300_000)
"""Fine-tuning of a specialist in one cycle; plain training lost an incline that a student climbed in 0.1 M steps."""

SPECIALIZE_MERGE = MergeConfig(rounds=8, start="previous")
"""Merge of a cycle's specialists."""

SPECIALIZE_MEASUREMENT = Measurement()
"""Episodes of every measurement; its seed gives the tracks that decide and those of the confirming test."""

_GIVEN = "student"
"""Stage of the student that a run begins with."""


@dataclass(frozen=True)
class Cycle:
    """One cycle of forking, training and merging.

    Attributes:
        specialists: per skill, reward per step of the specialist over that of the student before, less 1.
        teachers: per skill, whether the ``specialist`` or the ``student`` before labeled it; empty if nothing was
            merged because no specialist gained enough.
        student: per skill, reward per step of the merged student over that of the one before, less 1; empty without
            one.
        accepted: whether the merged student is the student from here on.
    """

    specialists: dict[str, float]
    teachers: dict[str, str]
    student: dict[str, float]
    accepted: bool


@dataclass(frozen=True)
class SpecializedStudent:
    """Outcome of specializing and merging.

    Attributes:
        policy_path: policy file of the last accepted student; the given one if no cycle was accepted.
        cycles: the cycles, the last of which gained nothing unless the largest number of cycles ended the run. Their
            figures are those that decided, so they are optimistic.
        steps: environment steps of all trainings, merges and measurements.
        confirmed: per skill, reward per step of the last accepted student over that of the given one, less 1, with its
            95 % interval, on tracks that nothing used before; None for a skill on which the given one has episodes
            without any reward. Empty if no cycle was accepted.
    """

    policy_path: Path
    cycles: tuple[Cycle, ...]
    steps: int
    confirmed: dict[str, Interval | None] = field(default_factory=dict)


def specialize(
    student: Path,
    out: Path,
    *,
    cycles: int = 3,
    gain: float = 0.01,
    bound: float = 0.01,
    finetune: FinetuneConfig = SPECIALIZE_FINETUNE,
    merge: MergeConfig = SPECIALIZE_MERGE,
    measurement: Measurement = SPECIALIZE_MEASUREMENT,
    seed: int = 0,
    threads: int | None = None,
    resume: bool = False,
    progress: Progress = Silent(),
) -> SpecializedStudent:
    """Fork specialists from a student, fine-tune each on its skill alone, merge, and repeat until nothing gains.

    A specialist labels its skill if its reward rose by ``gain``; the student labels the others itself. The merged
    student is accepted if some skill rose by ``gain`` and none fell by more than ``bound``. The run ends with the first
    cycle that is not accepted. All these decisions are made on the same tracks. The given and the last accepted student
    are then compared on others, which no decision, validation or evaluation used: the gains to report.

    Args:
        student: policy file, or the folder of its run, of a policy without a memory.
        out: folder of the run; the student is ``out / "policy"``.
        cycles: largest number of cycles.
        gain: smallest rise of reward per step that counts, as a share.
        bound: largest fall of reward per step of any skill, as a share, at which a merged student is accepted.
        finetune: fine-tuning of a specialist; the seed is derived from ``seed``.
        merge: the merge; the seed is derived from ``seed``. With ``start="previous"`` it starts from the student.
        measurement: episodes of every measurement, and the seed from which the tracks that decide and those of the
            confirming test derive.
        seed: seed of the run.
        threads: cores to use; None for all usable ones.
        resume: continue an interrupted run; finished stages are not run again.
        progress: progress reporter.

    Returns:
        The student, the cycles and the confirmed gains; equal whether or not the run was interrupted.

    Raises:
        ConfigError: for a number out of range, gymnasium environments, or another run in ``out``.
        ContractError: for a student with a memory or a latent.
        OutputError: if ``out`` cannot be written, or holds a run and ``resume`` is off.
    """
    check_range("cycles", cycles, 1, 100)
    check_range("gain", gain, 0.0, 1.0)
    check_range("bound", bound, 0.0, 1.0)
    cores, loaded = cores_for(threads), load_policy(student)
    check_memoryless(loaded.policy, "policykd specialize")
    check_one_network(loaded.policy, "policykd specialize", mixture=True)
    skills = _skills_of(loaded)
    asked = {"student": loaded.manifest.weights_sha256, "seed": seed, "cycles": cycles, "gain": gain}
    asked |= {"bound": bound, "finetune": finetune, "merge": merge, "measurement": measurement}
    prepare_folder(out, megabytes=300)
    folder = RunFolder(out, asked, resume)
    stages = _Stages(student, loaded, skills, finetune, merge, measurement, seed)
    run = _Run(stages, StageFolders(out / "stages"), cores, progress)
    done = run.go(cycles, gain, bound)
    confirmed = run.confirm()
    copy_folder(run.folders.policy(run.current), out / "policy")
    result = SpecializedStudent(out / "policy", tuple(done), run.steps, confirmed)
    if folder.result is None:
        figures = {name: as_plain(getattr(result, name)) for name in ("cycles", "steps", "confirmed")}
        folder.finish({**figures, "student": run.current})
    return result


def _skills_of(loaded: LoadedPolicy) -> tuple[Skill, ...]:
    ids, groups = loaded.manifest.skills, tuple(loaded.policy.groups)
    if any(name.startswith(PREFIX) for name in ids):
        raise ConfigError("policykd specialize is for skills of our robots, not for gymnasium environments")
    skills = tuple(loaded.manifest.skill(name, groups) for name in ids)
    common_contract(skills)
    return skills


@dataclass(frozen=True)
class _Stages:
    """Makes the stages of a cycle."""

    source: Path
    loaded: LoadedPolicy
    skills: tuple[Skill, ...]
    finetune: FinetuneConfig
    merge: MergeConfig
    measurement: Measurement
    seed: int

    def first(self) -> list[Stage]:
        """Return the student and its measurement."""
        given = Existing(_GIVEN, self.source, self.loaded.manifest.weights_sha256)
        return [given, self._measure(_GIVEN, self.skills)]

    def specialists(self, cycle: int, current: str) -> dict[str, list[Stage]]:
        """Return per skill the fine-tuning of a specialist from the current student, and its measurement."""
        found: dict[str, list[Stage]] = {}
        for skill, name in zip(self.skills, folder_names(self.skills), strict=True):
            config = replace(self.finetune, seed=integer_seed(self.seed, "train", skill.id, cycle))
            stage = Finetune(f"finetune-{cycle}-{name}", (skill,), config, current)
            found[skill.id] = [stage, self._measure(stage.name, (skill,))]
        return found

    def merged(self, cycle: int, teachers: Sequence[str], current: str) -> list[Stage]:
        """Return the merge of a cycle, and its measurement."""
        config = replace(
            self.merge,
            seed=integer_seed(self.seed, "merge", cycle),
            architecture=self.loaded.policy.architecture,
        )
        previous = current if config.start == "previous" else None
        stage = Merge(f"merge-{cycle}", self.skills, tuple(teachers), config, previous)
        return [stage, self._measure(stage.name, self.skills)]

    def confirmation(self, policies: Sequence[str]) -> list[Stage]:
        """Return measurements of policies on tracks that nothing used before, the same for all."""
        seed = integer_seed(self.measurement.seed, "confirmation", 0)
        return [self._on_tracks(f"confirm-{policy}", policy, self.skills, seed) for policy in policies]

    def _measure(self, policy: str, skills: tuple[Skill, ...]) -> Measure:
        seed = integer_seed(self.measurement.seed, "selection")
        return self._on_tracks(f"measure-{policy}", policy, skills, seed)

    def _on_tracks(self, name: str, policy: str, skills: tuple[Skill, ...], seed: int) -> Measure:
        return Measure(name, policy, skills, self.measurement.episodes, seed, device=self.measurement.device)


class _Run:
    """The cycles of one run.

    Attributes:
        folders: folders of the stages.
        current: stage of the accepted student.
        steps: environment steps of all stages so far.
    """

    def __init__(self, stages: _Stages, folders: StageFolders, cores: int, progress: Progress) -> None:
        self._stages, self.folders, self._cores, self._progress = stages, folders, cores, progress
        self.current, self.steps = _GIVEN, 0
        self._plan: list[Stage] = []

    def go(self, cycles: int, gain: float, bound: float) -> list[Cycle]:
        """Run cycles until one is not accepted."""
        self._run(self._stages.first())
        found: list[Cycle] = []
        for number in range(1, cycles + 1):
            found.append(self._cycle(number, gain, bound))
            if not found[-1].accepted:
                break
            self.current = f"merge-{number}"
        return found

    def confirm(self) -> dict[str, Interval | None]:
        """Return the gains of the accepted student over the given one on new tracks; empty if they are the same."""
        if self.current == _GIVEN:
            return {}
        self._run(self._stages.confirmation((_GIVEN, self.current)))
        before, after = (self.folders.evaluation(f"confirm-{name}").cells for name in (_GIVEN, self.current))
        ids = [skill.id for skill in self._stages.skills]
        return {i: _gain(before[_GIVEN, i].reward_per_step, after[self.current, i].reward_per_step) for i in ids}

    def _cycle(self, number: int, gain: float, bound: float) -> Cycle:
        before = self._reward(self.current)
        forked = self._stages.specialists(number, self.current)
        self._run([stage for stages in forked.values() for stage in stages])
        names = {skill: stages[0].name for skill, stages in forked.items()}
        risen = {skill: self._reward(name)[skill] / before[skill] - 1.0 for skill, name in names.items()}
        if max(risen.values()) < gain:
            return Cycle(risen, {}, {}, accepted=False)
        teachers = {skill: "specialist" if value >= gain else "student" for skill, value in risen.items()}
        labeled = [names[skill] if kind == "specialist" else self.current for skill, kind in teachers.items()]
        merged = self._stages.merged(number, labeled, self.current)
        self._run(merged)
        after = self._reward(merged[0].name)
        changed = {skill: after[skill] / before[skill] - 1.0 for skill in before}
        accepted = max(changed.values()) >= gain and min(changed.values()) >= -bound
        return Cycle(risen, teachers, changed, accepted)

    def _run(self, stages: Sequence[Stage]) -> None:
        """Run stages after those before, which are finished."""
        self._plan += stages
        ids = tuple(skill.id for skill in self._stages.skills)
        run_stages(Plan(tuple(self._plan), (), {}, ids), self.folders, self._cores, self._progress)
        for stage in stages:
            outcome = self.folders.outcome(stage.name)
            assert outcome is not None
            self.steps += outcome.steps

    def _reward(self, policy: str) -> Mapping[str, float]:
        """Return reward per step of a measured policy by skill."""
        outcome = self.folders.outcome(f"measure-{policy}")
        assert outcome is not None
        return {skill: max(value, 1e-9) for skill, value in outcome.figures["reward_per_step"].items()}


def _gain(before: Sequence[float], after: Sequence[float]) -> Interval | None:
    """Return the mean reward after over that before, less 1, on the same tracks; None if a reward before is 0."""
    if min(before) <= 0:
        return None
    ratio = paired_ratio(after, before)
    return replace(ratio, estimate=ratio.estimate - 1, low=ratio.low - 1, high=ratio.high - 1)
