"""Observation and action spaces of gymnasium environments as plain records.

Boxes and dictionaries of boxes become named groups of features; other spaces are refused by name.
"""

from __future__ import annotations

import difflib
import json
import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from policykd.errors import ConfigError, ContractError, UnknownNameError

OBSERVATION = "observation"
"""Name of the group of a flat observation."""

_DEFAULT_STEPS = 1000  # for environments that do not say when an episode is truncated
_CLOSE = 0.75  # likeness of two ids from which one may be a typing error of the other


@dataclass(frozen=True)
class EnvironmentSpaces:
    """What a policy has to fit.

    Attributes:
        groups: observation groups in the order of a flat observation, name and size.
        low: lower bounds of the actions; -1 per choice of discrete actions.
        high: upper bounds of the actions; 1 per choice of discrete actions.
        episode_steps: steps after which an episode is truncated.
        control_dt: time between two actions, s; 1 if the environment does not say.
        choices: of discrete actions, the number of choices of each; empty for boxes.
    """

    groups: tuple[tuple[str, int], ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    episode_steps: int
    control_dt: float
    choices: tuple[int, ...] = ()


@lru_cache(maxsize=256)
def environment_spaces(env_id: str, kwargs: str) -> EnvironmentSpaces:
    """Return the spaces of an environment, which is made once to ask it.

    Args:
        env_id: id in gymnasium's registry.
        kwargs: keyword arguments as a JSON object.

    Raises:
        UnknownNameError: for an id that is not registered; close matches are named.
        ConfigError: if the environment cannot be made.
        ContractError: for spaces that are not boxes.
    """
    env = make_one(env_id, kwargs)
    try:
        groups = _groups(env_id, env.observation_space)
        choices = _choices(env_id, env.action_space)
        low, high = ((-1.0,) * sum(choices), (1.0,) * sum(choices)) if choices else _bounds(env_id, env.action_space)
        steps = env.spec.max_episode_steps if env.spec is not None else None
        frames = env.metadata.get("render_fps")
        return EnvironmentSpaces(groups, low, high, steps or _DEFAULT_STEPS, 1.0 / frames if frames else 1.0, choices)
    finally:
        env.close()


def make_one(env_id: str, kwargs: str, **options: Any) -> gymnasium.Env[Any, Any]:
    """Return one environment; arguments and errors as in :func:`environment_spaces`."""
    if env_id.partition(":")[2] == "" and env_id not in gymnasium.registry:
        raise _unknown(env_id)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of gymnasium's, about newer versions
            return gymnasium.make(env_id, **json.loads(kwargs), **options)
    except ImportError as error:
        moved = _successors(env_id) if "have been moved" in str(error) else []
        if moved:
            raise ConfigError(
                f"{env_id} is not in gymnasium any more; it has {' and '.join(moved)}, whose physics or features may "
                f"differ: the trial of an import shows whether a policy still works"
            ) from error
        raise ConfigError(f"gymnasium cannot make {env_id} with {kwargs}: {_first_line(error)}") from error
    except Exception as error:  # an environment may raise anything
        raise ConfigError(f"gymnasium cannot make {env_id} with {kwargs}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _successors(env_id: str) -> list[str]:
    """Return the environments of a MuJoCo task of version 2 or 3 that gymnasium still makes."""
    name = env_id.rpartition("-v")[0]
    return [known for known in (f"{name}-v4", f"{name}-v5") if known in gymnasium.registry]


def _unknown(env_id: str) -> UnknownNameError | ConfigError:
    name, _, version = env_id.rpartition("-v")
    newer = [known for known in gymnasium.registry if known.rpartition("-v")[0] == name]
    if newer and version.isdigit():
        return ConfigError(f"{env_id} is not in gymnasium any more; it has {' and '.join(sorted(newer))}")
    if not difflib.get_close_matches(env_id, gymnasium.registry, cutoff=_CLOSE):
        return ConfigError(
            f"gymnasium has no environment {env_id}; if a package registers it, put its module in front of the id: "
            f"MODULE:{env_id}"
        )
    return UnknownNameError("gymnasium environment", env_id, sorted(gymnasium.registry))


def _groups(env_id: str, space: spaces.Space[Any]) -> tuple[tuple[str, int], ...]:
    if isinstance(space, spaces.Box):
        return ((OBSERVATION, math.prod(space.shape)),)
    if isinstance(space, spaces.Dict):
        parts = {name: part for name, part in sorted(space.spaces.items()) if isinstance(part, spaces.Box)}
        if parts and len(parts) == len(space.spaces):
            return tuple((name, math.prod(part.shape)) for name, part in parts.items())
    raise ContractError(f"{env_id} observes {space}; boxes and dictionaries of boxes are supported")


def _choices(env_id: str, space: spaces.Space[Any]) -> tuple[int, ...]:
    """Return the numbers of choices of discrete actions; empty for other spaces."""
    if isinstance(space, spaces.Discrete):
        if int(space.start) != 0:
            raise ContractError(f"{env_id} acts in {space}; discrete actions must begin at 0")
        return (int(space.n),)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1 and not np.any(space.start):
        return tuple(int(n) for n in space.nvec)
    return ()


def _bounds(env_id: str, space: spaces.Space[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not isinstance(space, spaces.Box):
        raise ContractError(f"{env_id} acts in {space}; boxes, Discrete and flat MultiDiscrete are supported")
    low, high = np.ravel(space.low).astype(float), np.ravel(space.high).astype(float)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ContractError(
            f"{env_id} acts in {space}, without finite bounds; wrap it in gymnasium.wrappers.RescaleAction first"
        )
    return tuple(map(float, low)), tuple(map(float, high))
