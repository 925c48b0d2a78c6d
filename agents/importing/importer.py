"""Import of a foreign policy into a policy file: read it, fit it to its environment, try it, save it.

Readers know file formats, this module environments; neither trains anything.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from policykd.agents.action_map import ActionMap
from policykd.agents.files.policy_file import save_policy
from policykd.agents.importing.dead_inputs import find_dead, without_dead_inputs
from policykd.agents.importing.files import read_bytes
from policykd.agents.importing.foreign_policy import ForeignPolicy, Layer, policy_of
from policykd.agents.importing.formats import policy_path, read_foreign
from policykd.agents.importing.options import ImportOptions
from policykd.agents.importing.wrappers import unwrapped
from policykd.agents.policy import Policy
from policykd.agents.validation import Validation
from policykd.envs.foreign.skill import PREFIX, GymSkill, gym_skill
from policykd.envs.skill_records import records_of
from policykd.errors import ConfigError, ContractError, PolicyFileError, check_range
from policykd.seeding import integer_seed


@dataclass(frozen=True)
class ImportReport:
    """Result of an import.

    Attributes:
        policy_path: the policy file.
        source: library, algorithm and version.
        skill: id of the skill in its environment.
        score: mean return over the trial episodes.
        random: mean return of random actions in the same episodes.
        episodes: trial episodes.
        notes: remarks for the user.
    """

    policy_path: Path
    source: str
    skill: str
    score: float
    random: float
    episodes: int
    notes: tuple[str, ...]


def import_policy(
    path: Path,
    out: Path,
    *,
    env: str | None = None,
    options: ImportOptions = ImportOptions(),
    episodes: int = 10,
    seed: int = 0,
    anyway: bool = False,
) -> ImportReport:
    """Import a policy of another library for a gymnasium environment.

    Args:
        path: the file; see :func:`policykd.agents.importing.formats.read_foreign`.
        out: the policy file to write.
        env: id of the environment, with keyword arguments as in ``gym:`` skills; None for the one that the file names.
        options: what the file does not say.
        episodes: trial episodes of the policy and of random actions.
        seed: seed of the trial.
        anyway: save the policy even if it is not better than random actions.

    Raises:
        PolicyFileError: for a file that cannot be imported, with the reason and the way out.
        ConfigError: for an environment that is missing or cannot be made, or a policy that does not work there.
        ContractError: for observations or actions that do not fit the environment.
    """
    check_range("episodes", episodes, 1, 100_000)
    foreign = read_foreign(path, options)
    skill = _skill(foreign, env, path)
    foreign = without_dead_inputs(foreign, options.dead_inputs, path.name)
    foreign = unwrapped(foreign, options.wrapper, skill, path.name)
    policy = _fitted(foreign, skill, path)
    score, random = _trial(policy, skill, episodes, seed)
    if score <= random and not anyway:
        raise ConfigError(
            f"{path} scores {score:.4g} on {skill.id} in {episodes} episodes, random actions {random:.4g}: it does not "
            f"work there (another version of the environment, a missing wrapper or normalizer?); --anyway imports it"
        )
    file = policy_path(path)
    provenance: dict[str, Any] = {
        "source": foreign.source,
        "file": file.name,
        "sha256": hashlib.sha256(read_bytes(file)).hexdigest(),
        "environment": foreign.environment,
        "wrappers": list(foreign.wrappers),
        "wrapper": None if foreign.wrapper is None else f"{foreign.wrapper.kind}:{foreign.wrapper.hidden}",
        "actions": {"mode": foreign.actions.mode, "low": list(foreign.actions.low), "high": list(foreign.actions.high)},
        "notes": list(foreign.notes),
    }
    save_policy(
        out,
        policy,
        robot=skill.robot,
        skills=[skill.id],
        skill_records=records_of([skill]),
        operation="import",
        seed=seed,
        metrics={"return": score, "random_return": random, "episodes": episodes},
        config=provenance,
    )
    return ImportReport(out, foreign.source, skill.id, score, random, episodes, foreign.notes)


def _skill(foreign: ForeignPolicy, env: str | None, path: Path) -> GymSkill:
    text = env or foreign.environment
    if not text:
        raise ConfigError(f"{path.name} does not say in which environment it acts; give --env ID, for example Ant-v5")
    return gym_skill(text if text.startswith(PREFIX) else f"{PREFIX}{text}")


def _fitted(foreign: ForeignPolicy, skill: GymSkill, path: Path) -> Policy:
    """Return the policy with actions in [-1, 1] over the environment's bounds."""
    _check_observations(foreign, skill, path)
    discrete, own = foreign.actions.mode == "argmax", skill.actions.choices
    if discrete != bool(own):
        kinds = ("continuous", "discrete")
        raise ContractError(f"{path.name} has {kinds[discrete]} actions; {skill.id} has {kinds[bool(own)]} ones")
    names = [name for name, _ in skill.spaces.groups]
    groups = foreign.groups if list(foreign.groups) == names else dict(skill.spaces.groups)
    return policy_of(replace(foreign, groups=groups, actor=_unit_actor(foreign, skill, path)))


def _check_observations(foreign: ForeignPolicy, skill: GymSkill, path: Path) -> None:
    offered, needed = dict(skill.spaces.groups), dict(foreign.groups)
    if offered == needed or (len(needed) == 1 and sum(offered.values()) == sum(needed.values())):
        return
    dead = len(find_dead(foreign.standardization))
    without = f"; {dead} of them hardly moved in training (--dead-inputs drop leaves them out)" if dead else ""
    wrapped = f"; its configuration names the wrappers {', '.join(foreign.wrappers)}" if foreign.wrappers else ""
    raise ContractError(
        f"{path.name} reads {sum(needed.values())} features ({', '.join(f'{k} {v}' for k, v in needed.items())})"
        f"{without}; {skill.id} gives {sum(offered.values())} ({', '.join(f'{k} {v}' for k, v in offered.items())})"
        f"{wrapped}: choose another version with --env, or say what a wrapper added in training with --wrapper "
        f"time-feature:STEPS or frame-stack:N"
    )


def _unit_actor(foreign: ForeignPolicy, skill: GymSkill, path: Path) -> tuple[Layer, ...]:
    """Return the actor's layers with an output in [-1, 1] over the environment's bounds.

    Clipping commutes with this change of units, and the environment clips; a policy that rescales acts in them already.
    """
    actions, low, high = foreign.actions, np.array(skill.actions.low), np.array(skill.actions.high)
    outputs = len(foreign.actor[-1].bias)
    if outputs != len(low):
        kind = "choices" if skill.actions.choices else "actions"
        raise ContractError(f"{path.name} has {outputs} {kind}; {skill.id} has {len(low)}")
    if foreign.choices and foreign.choices != skill.actions.choices:
        raise ContractError(f"{path.name} has {foreign.choices} choices; {skill.id} has {skill.actions.choices}")
    if skill.actions.choices:
        return foreign.actor
    if actions.low and not (np.allclose(actions.low, low) and np.allclose(actions.high, high)):
        raise ContractError(
            f"{path.name} acts within {_bounds(actions)}; {skill.id} has the bounds {low.tolist()} to {high.tolist()}"
        )
    if actions.mode == "rescale":
        return foreign.actor
    if foreign.squash:
        raise PolicyFileError(f"{path.name} bounds its actions by a tanh without rescaling; give --low and --high")
    center, half = (low + high) / 2, (high - low) / 2
    *body, last = foreign.actor
    weight, bias = last.weight.astype(np.float64) / half[:, None], (last.bias.astype(np.float64) - center) / half
    return (*body, Layer(weight.astype(np.float32), bias.astype(np.float32)))


def _bounds(actions: ActionMap) -> str:
    return f"{list(actions.low)} to {list(actions.high)}"


def _trial(policy: Policy, skill: GymSkill, episodes: int, seed: int) -> tuple[float, float]:
    """Return the mean returns of the policy and of random actions."""
    validation = Validation([skill], episodes, seed=integer_seed(seed, "trial"))
    own, random = validation.run(policy), validation.run_random()
    return float(own.total_reward.mean()), float(random.total_reward.mean())
