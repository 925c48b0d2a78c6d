"""Injection from one policy file into another, with a measurement of the change of the outputs.

It uses the operations on networks, and ``agents.files`` for reading and writing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from policykd.agents.architecture import Encoder
from policykd.agents.files.policy_file import LoadedPolicy, load_policy, save_policy
from policykd.agents.injection.operations import grow, inject, largest_difference
from policykd.agents.networks import group_columns
from policykd.agents.policy import Policy, check_groups, check_one_network
from policykd.agents.recurrent_policy import check_memoryless
from policykd.envs.env_records import EnvConfig
from policykd.envs.foreign.skill import PREFIX, GymSkill, offering
from policykd.envs.make import make_env
from policykd.envs.skill_records import recorded_skill, records_of
from policykd.envs.skills import Skill
from policykd.errors import ConfigError, ContractError, OutputError, UnknownNameError, check_range
from policykd.seeding import generator, integer_seed

ROUNDING = 1e-6
"""Largest difference that rounding in single precision explains, in units of the largest output, at least 1."""

RANDOM_RANGE = 10.0
"""Bound of the random values of new features, in the group's units."""


@dataclass(frozen=True)
class InjectionReport:
    """Outcome of an injection.

    Attributes:
        policy_path: the new policy file.
        largest_random: largest difference of mean actions and values between the old and the new policy, over random
            observations.
        largest_on_policy: the same over observations of the old policy acting in a skill.
        mode: initialization of the new weights.
        groups: the new observation groups.
    """

    policy_path: Path
    largest_random: float
    largest_on_policy: float
    mode: str
    groups: tuple[str, ...]


def inject_file(
    source: Path,
    out: Path,
    groups: Sequence[str],
    *,
    mode: str = "exact",
    encoder: Encoder | None = None,
    scale: float = 0.01,
    seed: int = 0,
    hidden: Sequence[int] | None = None,
    critic_hidden: Sequence[int] | None = None,
    skill: str | Skill | None = None,
    observations: int = 10_000,
    threads: int | None = None,
) -> InjectionReport:
    """Inject observation groups into a policy file, and widen its hidden layers.

    Args:
        source: policy file, or folder of a run.
        out: the new policy file, a folder or a ``.zip``, which must not exist.
        groups: new observation groups; empty only widens the layers.
        mode: see :func:`inject`, as for ``encoder`` and ``scale``.
        encoder: branch of one of the new groups.
        scale: share of the usual initialization for ``scaled``.
        seed: seed of the new weights and of the observations.
        hidden: see :func:`grow`, as for ``critic_hidden``; None keeps the widths.
        critic_hidden: widths of the critic's hidden layers.
        skill: skill in which outputs are compared on-policy, or its id; None for the first that the policy was made
            for. A gymnasium environment must be given if the new groups are its own.
        observations: number of observations of each kind.
        threads: threads of the simulation; None for one per usable core.

    Returns:
        The report; the manifest keeps the same figures under ``metrics`` and the settings under ``config``.

    Raises:
        OutputError: if ``out`` exists.
        ConfigError: without new groups or wider layers, or as :func:`inject` and :func:`grow`.
        ContractError: if ``exact`` changed the outputs by more than rounding, the policy does not fit its robot, or it
            is recurrent.
        PolicyFileError: if the source cannot be loaded.
    """
    if out.exists():
        raise OutputError(f"{out} exists; choose another --out")
    if not groups and hidden is None and critic_hidden is None:
        raise ConfigError("nothing to inject: name new observation groups, or wider hidden layers")
    check_range("observations", observations, 1, 10_000_000)
    loaded = load_policy(source)
    check_memoryless(loaded.policy, "policykd inject")
    check_one_network(loaded.policy, "policykd inject")
    robot, before = loaded.manifest.body(), loaded.policy
    place = _comparison_skill(loaded, tuple(dict.fromkeys((*before.groups, *groups))), skill)
    after = before
    if groups:
        sizes = place.group_sizes
        after = inject(before, groups, robot=robot, sizes=sizes, mode=mode, encoder=encoder, scale=scale, seed=seed)
    elif encoder is not None:
        raise ConfigError(f"the encoder is of group '{encoder.group}'; name that group among the new ones")
    if hidden is not None or critic_hidden is not None:
        after = grow(after, hidden=hidden, critic_hidden=critic_hidden, seed=seed)
    differences = {
        "random": _difference(before, after, random_observations(before, after, observations, seed), mode),
        "on_policy": _difference(
            before, after, on_policy_observations(before, place, observations, seed, threads), mode
        ),
    }
    config = {"groups": list(groups), "mode": mode, "scale": scale if mode == "scaled" else None,
              "encoder": asdict(encoder) if encoder else None, "skill": place.id,
              "hidden": list(after.architecture.hidden),
              "critic_hidden": list(after.architecture.critic_hidden)}  # fmt: skip
    save_policy(
        out,
        after,
        robot=robot,
        skills=loaded.manifest.skills,
        skill_records=_records(loaded, after),
        operation="inject",
        parents=[loaded.manifest.as_parent(" ".join(loaded.manifest.skills))],
        seed=seed,
        metrics={"largest_difference": differences, "observations": observations},
        config=config,
    )
    return InjectionReport(out, differences["random"], differences["on_policy"], mode, tuple(groups))


def _records(loaded: LoadedPolicy, after: Policy) -> Mapping[str, Any] | None:
    """Return the records of the policy's skills; in gymnasium environments the new groups are absent."""
    skills = [loaded.manifest.skill(name) for name in loaded.manifest.skills]
    if not all(isinstance(skill, GymSkill) for skill in skills):
        return loaded.manifest.skill_records
    return records_of([offering(skill, after.groups) for skill in skills if isinstance(skill, GymSkill)])


def random_observations(before: Policy, after: Policy, count: int, seed: int) -> dict[str, torch.Tensor]:
    """Return random values of all observation groups.

    Args:
        before: its features are drawn from the Gaussian of its normalizer's statistics.
        after: its other features are uniform within ``RANDOM_RANGE``.
        count: number of observations.
        seed: seed of the values.

    Returns:
        Observation groups of ``after``, name to (count, size).
    """
    draws = torch.Generator().manual_seed(integer_seed(seed, "random observations"))
    statistics, columns = before.normalizer, group_columns(before.groups)
    values = {}
    for name, size in after.groups.items():
        if name in columns:
            mean, std = statistics.mean[columns[name]], statistics.var[columns[name]].sqrt()
            values[name] = mean + std * torch.randn(count, size, generator=draws)
        else:
            values[name] = RANDOM_RANGE * (2 * torch.rand(count, size, generator=draws) - 1)
    return values


@torch.no_grad()
def on_policy_observations(
    policy: Policy, skill: Skill, count: int, seed: int, threads: int | None = None
) -> dict[str, torch.Tensor]:
    """Return observations of a policy that acts with exploration noise in a skill.

    Args:
        policy: the policy.
        skill: the skill; it may offer more groups than the policy reads.
        count: number of observations.
        seed: seed of tracks, starts and noise.
        threads: threads of the simulation; None for one per usable core.

    Returns:
        The skill's observation groups, name to (count, size).
    """
    env = make_env([skill], 64, seed=integer_seed(seed, "on-policy"), config=EnvConfig(tracks=64), threads=threads)
    noise = generator(seed, "on-policy noise")
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in skill.groups}
    observations = env.reset()
    for _ in range(-(-count // env.num_envs)):
        for name, row in rows.items():
            row.append(observations[name].clone())
        gaussian = policy.distribution(policy.flatten(observations))
        draws = torch.from_numpy(noise.standard_normal(gaussian.mean.shape)).to(gaussian.mean)
        observations = env.step(gaussian.mean + gaussian.stddev * draws).observations
    return {name: torch.cat(row)[:count] for name, row in rows.items()}


def _comparison_skill(loaded: LoadedPolicy, groups: Sequence[str], given: str | Skill | None) -> Skill:
    if isinstance(given, Skill):
        return given
    if given is None and not loaded.manifest.skills:
        raise ConfigError("the policy names no skill; say in which one to compare, for example biped/flat")
    chosen = given or loaded.manifest.skills[0]
    if chosen.startswith(PREFIX):
        return _comparison_environment(loaded, groups, chosen)
    skill = loaded.manifest.skill(chosen, groups)
    if skill.robot.name != loaded.manifest.robot:
        raise ContractError(f"the policy was made for robot '{loaded.manifest.robot}'; skill {skill.id} has another")
    return skill


def _comparison_environment(loaded: LoadedPolicy, groups: Sequence[str], chosen: str) -> Skill:
    """Return a gymnasium skill with the policy's groups and the new ones; those of other environments are absent."""
    skill = recorded_skill(chosen, loaded.manifest.skill_records)
    assert isinstance(skill, GymSkill)
    sizes = {**loaded.policy.groups, **{name: size for name, size in skill.own_sizes.items() if name in groups}}
    for name in groups:
        if name not in sizes:
            raise UnknownNameError(f"observation group of {skill.id}:", name, skill.own_sizes)
    check_groups(loaded.policy.groups, sizes, f"skill {skill.id}")
    return offering(skill, sizes)


@torch.no_grad()
def _difference(before: Policy, after: Policy, observations: dict[str, torch.Tensor], mode: str) -> float:
    """Return the largest difference; raise ContractError if ``exact`` did not keep the outputs."""
    difference = largest_difference(before, after, observations)
    flat = before.flatten(observations)
    bound = ROUNDING * max(1.0, float(before(flat).abs().max()), float(before.value(flat).abs().max()))
    if mode == "exact" and not difference <= bound:
        raise ContractError(f"exact injection changed the outputs by {difference:.3g}; rounding explains {bound:.3g}")
    return difference
