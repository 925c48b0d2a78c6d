"""Wrappers of an expert's environment: what they added to the observations becomes a memory of the policy itself.

The policy then reads the raw observations of the environment and forgets every episode at its end; it reads no file.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from policykd.agents.architecture import WRAPPERS, Memory
from policykd.agents.importing.foreign_policy import ForeignPolicy, Layer, Standardization
from policykd.envs.foreign.skill import GymSkill
from policykd.errors import ConfigError, ContractError, PolicyFileError

_GIVEN = re.compile(r"(?P<kind>[a-z-]+):(?P<number>\d+)")


def unwrapped(foreign: ForeignPolicy, given: str, skill: GymSkill, name: str) -> ForeignPolicy:
    """Return a policy that reads the raw observations of its environment.

    Args:
        foreign: the policy as its file has it; it reads what the wrappers added, too.
        given: the wrapper that a user names, as in ``ImportOptions.wrapper``; empty for that of the configuration.
        skill: the environment.
        name: name of the file, for messages.

    Returns:
        The policy with its ``wrapper``; the same one if there is none.

    Raises:
        ConfigError: for a wrapper that does not exist.
        ContractError: for features that do not fit the environment and the wrapper, naming the numbers.
        PolicyFileError: for statistics that a wrapper cannot have.
    """
    wrapper = _parsed(given) if given else _configured(foreign, skill)
    if wrapper is None:
        return foreign
    raw, read = sum(n for _, n in skill.spaces.groups), sum(foreign.groups.values())
    if wrapper.outputs(raw) != read:
        raise ContractError(
            f"{name} reads {read} features; {skill.id} gives {raw}, and with {wrapper.kind}:{wrapper.hidden} "
            f"{wrapper.outputs(raw)}: choose another version with --env or another --wrapper"
        )
    groups = dict(skill.spaces.groups)
    notes = (*foreign.notes, f"{wrapper.kind}:{wrapper.hidden} belongs to the policy, which is reset per episode")
    plain = replace(foreign, groups=groups, wrapper=wrapper, critic=(), notes=notes)
    if wrapper.kind == "time-feature":
        return _without_time(plain, foreign.standardization, raw, name)
    return _without_frames(plain, raw, name)


def _parsed(text: str) -> Memory:
    match = _GIVEN.fullmatch(text)
    if match is None or match["kind"] not in WRAPPERS:
        valid = ", ".join(f"{kind}:N" for kind in WRAPPERS)
        raise ConfigError(f"--wrapper is {text}; it must be one of {valid}, for example time-feature:1000")
    return Memory(match["kind"], int(match["number"]))


def _configured(foreign: ForeignPolicy, skill: GymSkill) -> Memory | None:
    """Return the wrapper that the training's configuration names, if this module knows it."""
    for wrapper in foreign.wrappers:
        if wrapper.rpartition(".")[2] == "TimeFeatureWrapper":
            return Memory("time-feature", skill.episode_steps)
        if wrapper.startswith("frame-stack:"):
            return _parsed(wrapper)
    return None


def _without_time(plain: ForeignPolicy, given: Standardization | None, raw: int, name: str) -> ForeignPolicy:
    """Return the policy with the normalization of the time feature inside its first layer."""
    if given is None:
        return plain
    if len(given.mean) != raw + 1:
        raise PolicyFileError(f"the normalizer of {name} has {len(given.mean)} means; {raw + 1} features were read")
    mean, divisor = float(given.mean[-1]), float(given.divisor[-1])
    if max(abs(mean), abs(1.0 - mean)) / divisor > given.clip:
        raise PolicyFileError(f"the normalizer of {name} clips the time feature, which a policy of ours cannot do")
    first, *others = plain.actor
    weight, bias = first.weight.astype(np.float64), first.bias.astype(np.float64)
    bias = bias - weight[:, -1] * mean / divisor
    weight[:, -1] /= divisor
    layer = Layer(weight.astype(np.float32), bias.astype(np.float32))
    kept = Standardization(given.mean[:-1], given.divisor[:-1], given.clip)
    return replace(plain, actor=(layer, *others), standardization=kept)


def _without_frames(plain: ForeignPolicy, raw: int, name: str) -> ForeignPolicy:
    given = plain.standardization
    if given is not None and len(given.mean) != raw:
        raise PolicyFileError(
            f"the normalizer of {name} has {len(given.mean)} means; observations are normalized before they are "
            f"stacked, so it must have {raw}"
        )
    return plain
