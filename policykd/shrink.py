"""Shrinking: a series of smaller students of one student, with what each keeps and what each costs on a robot.

Every smaller student is an ordinary merge whose only teacher is the student; their policies are files like others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from policykd.agents.architecture import WRAPPERS, Architecture
from policykd.agents.export.latency import deployed, measure_latency
from policykd.agents.files.container import read_parts, write_parts
from policykd.agents.files.policy_file import LoadedPolicy, load_policy
from policykd.agents.files.skills import skills_for
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import make_policy
from policykd.errors import ConfigError, check_range
from policykd.evaluation import evaluate
from policykd.merge import MergeConfig, merge_experts, teachers_from
from policykd.progress import Progress, Silent
from policykd.storage import prepare_folder, write_json

SHRINK_MERGE = MergeConfig(rounds=8, critic="teacher", min_teacher_success=0.0)
"""Settings of the merges; a student that fails on a skill is a teacher there all the same."""

FACTORS = (0.5, 0.25, 0.125, 0.0625)
"""Widths of the smaller students over those of the student."""

_NARROWEST = 4


@dataclass(frozen=True)
class Size:
    """One student of the series.

    Attributes:
        factor: its widths over those of the student; 1 for the student itself.
        hidden: widths of its hidden layers.
        parameters: numbers that its exported file holds for its actions, the normalizer apart.
        microseconds: measured time of one action, us.
        within: whether that is within the budget.
        retention: per skill, reward per step over that of the student on the same tracks: estimate and 95 % interval;
            empty for a size that was not distilled, because it is over the budget.
        success: per skill, the rate of success in the same form.
    """

    factor: float
    hidden: tuple[int, ...]
    parameters: int
    microseconds: float
    within: bool
    retention: dict[str, tuple[float, float, float]]
    success: dict[str, tuple[float, float, float]]

    @property
    def lowest(self) -> float:
        """Retention on the skill that lost most; 0 for a size that was not distilled."""
        return min((kept[0] for kept in self.retention.values()), default=0.0)


@dataclass(frozen=True)
class ShrinkResult:
    """Outcome of a series.

    Attributes:
        policy_path: policy file of the chosen student: of those within the budget, the one whose weakest skill kept
            most.
        chosen: its factor.
        budget_us: the budget, us.
        sizes: the student, then the series.
    """

    policy_path: Path
    chosen: float
    budget_us: float
    sizes: tuple[Size, ...]


def shrink(
    student: Path,
    out: Path,
    budget_us: float,
    config: MergeConfig = SHRINK_MERGE,
    *,
    factors: Sequence[float] = FACTORS,
    episodes: int = 64,
    resume: bool = False,
    progress: Progress = Silent(),
) -> ShrinkResult:
    """Distill a student into smaller ones, and choose the best that acts within a budget of time.

    Args:
        student: policy file of the student, or folder of its run.
        out: output folder: one merge per size (``x0.25``), ``policy``, ``shrink.json``.
        budget_us: time of one action on this machine, us; see :func:`measure_latency`.
        config: settings of the merges; architecture and groups are the student's.
        factors: widths over those of the student.
        episodes: tracks per skill on which all sizes are compared; no validation used them.
        resume: continue an interrupted series.
        progress: progress reporter.

    Raises:
        ConfigError: if no size is within the budget, naming the measured times; for factors or a budget out of range.
        ContractError: for a student that has no exported form.
        PolicyFileError: for a file that is not a policy.
        OutputError: if ``out`` cannot be written or holds a series and ``resume`` is off.
    """
    check_range("budget_us", budget_us, 1e-3, 1e9, "us")
    if not factors or len(set(factors)) != len(factors):
        raise ConfigError(f"factors are {tuple(factors)}; give at least one, each once")
    for factor in factors:
        check_range("factor", factor, 1e-3, 1.0)
    loaded = load_policy(student)
    shapes = {factor: scaled(loaded.policy.architecture, factor) for factor in sorted(factors, reverse=True)}
    times = {factor: _latency(loaded, shape) for factor, shape in shapes.items()}
    if all(time > budget_us for time in times.values()):
        listed = ", ".join(f"x{factor:g} {time:.1f} us" for factor, time in times.items())
        raise ConfigError(f"no size acts within {budget_us:g} us: {listed}; give smaller --factors or a larger budget")
    prepare_folder(out)
    within = [factor for factor, time in times.items() if time <= budget_us]
    paths = {f: _distill(student, loaded, shapes[f], out / f"x{f:g}", config, resume, progress) for f in within}
    found = _compare({1.0: loaded, **{f: load_policy(path) for f, path in paths.items()}}, config, episodes, progress)
    own = measure_latency(loaded.policy, loaded.manifest.actions)
    sizes = [_size(1.0, loaded.policy, own, budget_us, found.get(1.0, ({}, {})))] + [
        _size(f, _policy(loaded, shape), times[f], budget_us, found.get(f, ({}, {}))) for f, shape in shapes.items()
    ]
    best = max((size for size in sizes[1:] if size.within), key=lambda size: size.lowest)
    record, weights = read_parts(paths[best.factor])
    write_parts(out / "policy", {"manifest.json": record, "weights.safetensors": weights})
    result = ShrinkResult(out / "policy", best.factor, budget_us, tuple(sizes))
    write_json(out / "shrink.json", {"format_version": 1, **_plain(result), "episodes": episodes})
    return result


def scaled(shape: Architecture, factor: float) -> Architecture:
    """Return an architecture of the same kind with widths times ``factor``, at least 4.

    Encoders of observation groups and the latent stay as they are; so does the critic, which no robot runs.
    """

    def width(value: int) -> int:
        return max(min(value, _NARROWEST), round(factor * value))

    memory, mixture = shape.memory, shape.mixture
    if memory is not None and memory.kind not in WRAPPERS:
        memory = replace(memory, hidden=width(memory.hidden), dense=width(memory.dense) if memory.dense else 0)
    if mixture is not None:
        mixture = replace(mixture, gate=width(mixture.gate))
    return replace(shape, hidden=tuple(width(value) for value in shape.hidden), memory=memory, mixture=mixture)


def _policy(loaded: LoadedPolicy, shape: Architecture) -> Policy:
    """Return a new policy of a shape that reads and moves what the student does."""
    policy = loaded.policy
    return make_policy(policy.groups, policy.actions, shape, 0, policy.symmetry)


def _latency(loaded: LoadedPolicy, shape: Architecture) -> float:
    return measure_latency(_policy(loaded, shape), loaded.manifest.actions)


def _distill(
    source: Path, loaded: LoadedPolicy, shape: Architecture, out: Path, config: MergeConfig, resume: bool,
    progress: Progress,
) -> Path:  # fmt: skip
    """Return the policy file of a smaller student."""
    latent = loaded.policy.architecture.latent
    hidden = () if latent is None else latent.privileged
    groups = tuple(name for name in loaded.policy.groups if name not in hidden)
    teachers = teachers_from([(str(source), loaded)])
    return merge_experts(
        teachers, out, replace(config, architecture=shape, groups=groups), resume=resume, progress=progress
    ).policy_path


Figures = tuple[dict[str, tuple[float, float, float]], dict[str, tuple[float, float, float]]]


def _compare(
    policies: dict[float, LoadedPolicy], config: MergeConfig, episodes: int, progress: Progress
) -> dict[float, Figures]:
    """Return retention and success of every size by skill, against the student on equal tracks."""
    skills = skills_for([one.manifest for one in policies.values()])
    names = {factor: f"x{factor:g}" for factor in policies}
    found = evaluate(
        {names[factor]: one.policy for factor, one in policies.items()}, skills, episodes=episodes, seed=config.seed,
        threads=config.threads, experts={skill.id: names[1.0] for skill in skills}, progress=progress,
    )  # fmt: skip
    figures: dict[float, Figures] = {}
    for factor, name in names.items():
        kept: dict[str, tuple[float, float, float]] = {}
        success: dict[str, tuple[float, float, float]] = {}
        for skill in skills:
            summary = found.summaries[name, skill.id]
            success[skill.id] = _numbers(summary.success)
            kept[skill.id] = (1.0, 1.0, 1.0) if factor == 1.0 else _numbers(summary.retention)
        figures[factor] = (kept, success)
    return figures


def _numbers(interval: Any) -> tuple[float, float, float]:
    """Return estimate and interval; a retention that has no meaning, of a skill without reward, is 0."""
    if interval is None:
        return (0.0, 0.0, 0.0)
    return (float(interval.estimate), float(interval.low), float(interval.high))


def _size(factor: float, policy: Policy, time: float, budget: float, figures: Figures) -> Size:
    count = sum(parameter.numel() for parameter in deployed(policy).acting_parameters())
    return Size(factor, policy.architecture.hidden, count, time, time <= budget, *figures)


def _plain(result: ShrinkResult) -> dict[str, Any]:
    sizes = [{**asdict(size), "lowest": size.lowest} for size in result.sizes]
    return {"chosen": result.chosen, "budget_us": result.budget_us, "sizes": sizes}
