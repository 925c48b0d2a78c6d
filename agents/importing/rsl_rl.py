"""Checkpoints of rsl_rl, versions 1 to 5: ``model_<iteration>.pt``.

Files name no activation: it is in the run's configuration. Actions are passed on as they are; the environment scales
them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from policykd.agents.action_map import ActionMap
from policykd.agents.importing.foreign_policy import ForeignPolicy, Standardization
from policykd.agents.importing.options import ImportOptions
from policykd.agents.importing.recurrence import recurrence
from policykd.agents.importing.weights import arrays, named_activation, numbered_layers
from policykd.errors import PolicyFileError

_PARTS_NEW = ("mlp.", "distribution.", "obs_normalizer.", "rnn.rnn.")
_PARTS_OLD = (
    *("actor.", "critic.", "std", "log_std", "memory_a.", "memory_c."),
    *("actor_obs_normalizer.", "critic_obs_normalizer."),
)
_EPSILON = 1e-2  # added to the standard deviation by EmpiricalNormalization


def matches(tree: Any) -> bool:
    """Return whether a tree of arrays is a checkpoint of rsl_rl."""
    return isinstance(tree, dict) and ("actor_state_dict" in tree or _is_old(tree))


def _is_old(tree: dict[str, Any]) -> bool:
    weights = tree.get("model_state_dict")
    return isinstance(weights, dict) and any(str(key).startswith("actor.") for key in weights)


def read(tree: Any, path: Path, options: ImportOptions) -> ForeignPolicy:
    """Return the policy of a checkpoint.

    Raises:
        PolicyFileError: for a missing activation, and heads or parts that cannot be described.
    """
    activation = named_activation(options.activation, path.name, "rsl_rl")
    new = "actor_state_dict" in tree
    weights = arrays(tree["actor_state_dict"] if new else tree["model_state_dict"], path.name)
    actor = numbered_layers(weights, "mlp" if new else "actor")
    if not actor:
        raise PolicyFileError(f"{path.name} holds no dense layers of an actor; its weights are {sorted(weights)[:6]}")
    _refuse_other_parts(weights, path, new)
    std = next((weights[k] for k in ("distribution.std_param", "std") if k in weights), None)
    log_std = next((weights[k] for k in ("distribution.log_std_param", "log_std") if k in weights), None)
    actions = len(actor[-1].bias)
    for values in (std, log_std):
        if values is not None and values.size != actions:
            raise PolicyFileError(
                f"{path.name} has {actions} outputs and a spread of {values.size} numbers: a head with a spread that "
                f"depends on the state, which is not imported"
            )
    if std is not None:
        log_std = np.log(np.maximum(std, 1e-6))
    memory = recurrence(weights, "rnn.rnn" if new else "memory_a.rnn")
    standardization = None if options.normalized is False else _standardization(tree, weights, new)
    inputs = actor[0].weight.shape[1] if memory is None else memory.inputs
    critic = numbered_layers(arrays(tree.get("critic_state_dict", {}), path.name), "mlp") if new else ()
    same_input = critic and critic[0].weight.shape[1] == inputs and memory is None
    return ForeignPolicy(
        source="rsl_rl " + ("4 or newer" if new else "1 to 3"),
        groups={"observation": inputs},
        actor=actor,
        critic=critic if same_input else (),
        activation=activation,
        log_std=None if log_std is None else np.ravel(log_std),
        actions=ActionMap("none"),
        standardization=standardization,
        recurrence=memory,
        notes=() if standardization is not None else ("without a normalizer",),
    )


def _refuse_other_parts(weights: dict[str, np.ndarray], path: Path, new: bool) -> None:
    known = _PARTS_NEW if new else _PARTS_OLD
    other = next((key for key in weights if not key.startswith(known)), None)
    if other is not None:
        raise PolicyFileError(f"{path.name} has a part '{other}' next to its actor, which cannot be described")


def _standardization(tree: dict[str, Any], weights: dict[str, np.ndarray], new: bool) -> Standardization | None:
    prefix = "obs_normalizer." if new else "actor_obs_normalizer."
    own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    if not own and isinstance(tree.get("obs_norm_state_dict"), dict):
        own = arrays(tree["obs_norm_state_dict"], "obs_norm_state_dict")
    if "_mean" not in own or "_std" not in own:
        return None
    return Standardization(np.ravel(own["_mean"]), np.ravel(own["_std"]) + _EPSILON)
