"""Checkpoints of rl_games, skrl and CleanRL.

Each library has a pair of functions: does a tree of arrays look like one of its files, and the policy in it. What the
files do not say (activations, bounds of actions) comes from the user.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from policykd.agents.action_map import ActionMap
from policykd.agents.importing.foreign_policy import ForeignPolicy, Standardization
from policykd.agents.importing.options import ImportOptions
from policykd.agents.importing.weights import arrays, dense_layer, named_activation, numbered_layers
from policykd.errors import PolicyFileError


def is_rl_games(tree: Any) -> bool:
    """Return whether a tree is a checkpoint of rl_games."""
    model = tree.get("model") if isinstance(tree, dict) else None
    return isinstance(model, dict) and any("a2c_network." in str(key) for key in model)


def read_rl_games(tree: Any, path: Path, options: ImportOptions) -> ForeignPolicy:
    """Return the policy of an rl_games checkpoint.

    Raises:
        PolicyFileError: for a missing activation, a recurrent or convolutional network.
    """
    weights = arrays(tree["model"], path.name)
    other = next((k for k in weights if k.startswith(("a2c_network.rnn", "a2c_network.actor_cnn"))), None)
    if other is not None:
        raise PolicyFileError(
            f"{path.name} has {other}: recurrent and convolutional networks of rl_games are not imported"
        )
    body = numbered_layers(weights, "a2c_network.actor_mlp")
    discrete = "a2c_network.logits.weight" in weights
    output = dense_layer(weights, "a2c_network.logits" if discrete else "a2c_network.mu")
    separate = numbered_layers(weights, "a2c_network.critic_mlp")
    value = (dense_layer(weights, "a2c_network.value"),)
    mean, var = (weights.get(f"running_mean_std.{name}") for name in ("running_mean", "running_var"))
    standardization = None
    if mean is not None and var is not None and options.normalized is not False:
        standardization = Standardization(np.ravel(mean), np.sqrt(np.ravel(var) + 1e-5), 5.0)
    actions, notes = (ActionMap("argmax"), ()) if discrete else _rescaled(options, len(output.bias))
    sigma = weights.get("a2c_network.sigma")
    return ForeignPolicy(
        source="rl_games",
        groups={"observation": int(body[0].weight.shape[1] if body else output.weight.shape[1])},
        actor=(*body, output),
        critic=(*(separate or body), *value),
        activation=named_activation(options.activation, path.name, "rl_games"),
        log_std=sigma if sigma is not None and sigma.ndim == 1 and not discrete else None,
        actions=actions,
        standardization=standardization,
        notes=notes + (() if standardization is not None else ("without a normalizer",)),
    )


def is_skrl(tree: Any) -> bool:
    """Return whether a tree is a checkpoint of skrl."""
    policy = tree.get("policy") if isinstance(tree, dict) else None
    return isinstance(policy, dict) and any(str(key).startswith("net_container.") for key in policy)


def read_skrl(tree: Any, path: Path, options: ImportOptions) -> ForeignPolicy:
    """Return the policy of a skrl checkpoint whose model was instantiated from a configuration.

    Raises:
        PolicyFileError: for a missing activation, or layers that are missing.
    """
    weights = arrays(tree["policy"], path.name)
    body = numbered_layers(weights, "net_container")
    output = dense_layer(weights, "policy_layer" if "policy_layer.weight" in weights else "output_layer")
    scaler: dict[str, np.ndarray] = {}
    for name in ("observation_preprocessor", "state_preprocessor"):
        if isinstance(tree.get(name), dict) and not scaler:
            scaler = arrays(tree[name], name)
    standardization = None
    if "running_mean" in scaler and options.normalized is not False:
        divisor = np.sqrt(np.ravel(scaler["running_variance"]).astype(np.float32)) + 1e-8
        standardization = Standardization(np.ravel(scaler["running_mean"]), divisor, 5.0)
    log_std = weights.get("log_std_parameter")
    bounds, notes = _bounds(options, len(output.bias))
    return ForeignPolicy(
        source="skrl",
        groups={"observation": int(body[0].weight.shape[1])},
        actor=(*body, output),
        activation=named_activation(options.activation, path.name, "skrl"),
        log_std=log_std if log_std is not None and log_std.ndim == 1 else None,
        actions=ActionMap("clip", *bounds) if options.low else ActionMap("none"),
        standardization=standardization,
        notes=(notes if options.low else ()) + (() if standardization is not None else ("without a normalizer",)),
    )


def is_cleanrl(tree: Any) -> bool:
    """Return whether a tree is a state dictionary of CleanRL's agents, or a tuple that begins with an actor."""
    own = tree[0] if isinstance(tree, tuple) and tree else tree
    keys = {str(key) for key in own} if isinstance(own, dict) else set()
    return "actor_mean.0.weight" in keys or {"fc1.weight", "fc2.weight"} <= keys


def read_cleanrl(tree: Any, path: Path, options: ImportOptions) -> ForeignPolicy:
    """Return the policy of a CleanRL file: PPO with continuous actions, SAC, TD3 or DDPG.

    Raises:
        PolicyFileError: for PPO without ``normalized=False``: CleanRL does not store its normalizer.
    """
    weights = arrays(tree[0] if isinstance(tree, tuple) else tree, path.name)
    if "actor_mean.0.weight" in weights:
        if options.normalized is not False:
            raise PolicyFileError(
                f"{path.name} holds no observation statistics (CleanRL leaves them in the environment); if the "
                f"training did not normalize observations, give --no-normalizer"
            )
        actor = numbered_layers(weights, "actor_mean")
        actions, notes = _clipped(options, len(actor[-1].bias))
        return ForeignPolicy(
            source="CleanRL PPO", groups={"observation": int(actor[0].weight.shape[1])}, actor=actor,
            critic=numbered_layers(weights, "critic"), activation="tanh", actions=actions,
            log_std=np.ravel(weights["actor_logstd"]) if "actor_logstd" in weights else None, notes=notes,
        )  # fmt: skip
    head = next((name for name in ("fc_mu", "fc_mean") if f"{name}.weight" in weights), None)
    if head is None:
        raise PolicyFileError(f"{path.name} has the layers of CleanRL's agents, but neither fc_mu nor fc_mean")
    actor = tuple(dense_layer(weights, name) for name in ("fc1", "fc2", head))
    size = len(actor[-1].bias)
    scale, bias = (np.broadcast_to(np.ravel(weights[f"action_{n}"]), (size,)) for n in ("scale", "bias"))
    low, high = (tuple(map(float, bias + sign * scale)) for sign in (-1.0, 1.0))
    return ForeignPolicy(
        source="CleanRL TD3 or DDPG" if head == "fc_mu" else "CleanRL SAC",
        groups={"observation": int(actor[0].weight.shape[1])},
        actor=actor,
        activation="relu",
        squash=True,
        actions=ActionMap("rescale", low, high),
    )


def _bounds(options: ImportOptions, size: int) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], tuple[str, ...]]:
    """Return bounds of all actions and a note if the user gave none."""
    given = [values * size if len(values) == 1 else values for values in (options.low, options.high)]
    if given[0]:
        return (given[0], given[1]), ()
    return ((-1.0,) * size, (1.0,) * size), ("the file holds no bounds of the actions; [-1, 1] is assumed",)


def _rescaled(options: ImportOptions, size: int) -> tuple[ActionMap, tuple[str, ...]]:
    bounds, notes = _bounds(options, size)
    return ActionMap("rescale", *bounds), notes


def _clipped(options: ImportOptions, size: int) -> tuple[ActionMap, tuple[str, ...]]:
    bounds, notes = _bounds(options, size)
    return ActionMap("clip", *bounds), notes
