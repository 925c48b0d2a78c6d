"""Zips of stable-baselines3 and sb3-contrib: PPO, A2C, TRPO, ARS, SAC, TQC, TD3, DDPG, of any version since 1.0.

The text part of the zip (JSON) describes spaces and settings, ``policy.pth`` holds the weights, and a file
``vecnormalize.pkl`` next to it the normalizer. Nothing in them is run.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from policykd.agents.action_map import ActionMap
from policykd.agents.importing.dead_inputs import note_on_dead
from policykd.agents.importing.files import read_bytes
from policykd.agents.importing.foreign_policy import ForeignPolicy, Layer, Standardization
from policykd.agents.importing.options import ImportOptions
from policykd.agents.importing.torch_files import DAMAGE, MOST_BYTES, read_torch_file
from policykd.agents.importing.vecnormalize import read_vecnormalize
from policykd.agents.importing.weights import dense_layer, numbered_layers
from policykd.errors import PolicyFileError
from policykd.parsing import parse_yaml
from policykd.symbolic_pickle import Name, PickleError, Record, read_symbolic_pickle

_ACTIVATIONS = {"Tanh": "tanh", "ReLU": "relu", "ELU": "elu", "SiLU": "silu"}
_WEIGHTS, _SETTINGS, _VERSION = "policy.pth", "data", "_stable_baselines3_version"


def is_sb3_zip(content: bytes) -> bool:
    """Return whether the bytes are a zip with the members of stable-baselines3."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {_WEIGHTS, _SETTINGS} <= set(archive.namelist())
    except DAMAGE:
        return False


def read_sb3(path: Path, options: ImportOptions = ImportOptions()) -> ForeignPolicy:
    """Read a zip.

    Args:
        path: the zip.
        options: the file of the VecNormalize statistics, if it is not ``vecnormalize.pkl`` next to the zip or in a
            folder of its name; whether to import without one.

    Raises:
        PolicyFileError: with the reason and the way out.
    """
    settings, weights, version = _parts(path)
    space, actions = _Space.of(settings, "observation_space"), _Space.of(settings, "action_space")
    network = _network(weights, settings, actions)
    groups = _groups(space, network.inputs)
    config = _training_config(path)
    found = options.normalizer or next((p for p in _beside(path, "vecnormalize.pkl") if p.exists()), None)
    if options.normalized is False:
        found = None
    elif found is None and config.get("normalize"):
        raise PolicyFileError(
            f"{path.name} was trained on normalized observations (config.yml: normalize), but vecnormalize.pkl was not "
            f"found next to it; give --normalizer FILE, or --no-normalizer"
        )
    standardization = None if found is None else read_vecnormalize(found, list(groups))
    wrappers = config.get("env_wrapper") or ()
    stacked = (f"frame-stack:{config['frame_stack']}",) if config.get("frame_stack") else ()
    return ForeignPolicy(
        source=f"stable-baselines3 {version} {network.algorithm}",
        groups=groups,
        actor=network.actor,
        critic=network.critic,
        activation=network.activation,
        squash=network.squash,
        mean_clip=network.mean_clip,
        log_std=network.log_std,
        actions=_action_map(actions, network),
        standardization=standardization,
        environment=path.stem if re.fullmatch(r"[\w/-]+-v\d+", path.stem) else "",
        choices=actions.choices,
        wrappers=((wrappers,) if isinstance(wrappers, str) else tuple(str(w) for w in wrappers)) + stacked,
        notes=_notes(network, standardization),
    )


@dataclass(frozen=True, eq=False)
class _Network:
    """Layers of a zip's networks."""

    algorithm: str
    actor: tuple[Layer, ...]
    critic: tuple[Layer, ...]
    activation: str
    squash: bool
    rescale: bool
    mean_clip: float | None = None
    log_std: np.ndarray | None = None
    default_activation: bool = False

    @property
    def inputs(self) -> int:
        """Features that the actor reads."""
        return int(self.actor[0].weight.shape[1])


@dataclass(frozen=True)
class _Space:
    """A gym or gymnasium space as the zip describes it.

    Attributes:
        kind: class name: ``Box``, ``Discrete``, ``Dict``, ...
        low: lower bounds of a box; empty if they are not known.
        high: upper bounds.
        size: number of features of a box, or of choices.
        parts: spaces of a dictionary.
        choices: numbers of choices of discrete actions.
    """

    kind: str
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    size: int | None = None
    parts: tuple[tuple[str, _Space], ...] = ()
    choices: tuple[int, ...] = ()

    @classmethod
    def of(cls, settings: Mapping[str, Any], key: str) -> _Space:
        """Return a space of the settings; its pickle holds the exact bounds, the text next to it is cut short.

        Raises:
            PolicyFileError: if the pickle holds no numbers where a space has them.
        """
        stored = settings.get(key)
        described = _unpickled(stored)
        if isinstance(described, Record):
            try:
                return cls.described(described)
            except (TypeError, ValueError, OverflowError) as error:
                raise PolicyFileError(f"its {key.replace('_', ' ')} cannot be read: {error}") from None
        kind = re.search(r"(\w+)'>", str(stored.get(":type:", ""))) if isinstance(stored, dict) else None
        return cls(kind[1] if kind else "an unknown space")

    @classmethod
    def described(cls, record: Record) -> _Space:
        """Return the space that a record describes."""
        kind, attributes = record.name.rpartition(".")[2], record.attributes
        if kind == "Box":
            low, high = (np.ravel(attributes.get(name, ())) for name in ("low", "high"))
            return cls(kind, tuple(map(float, low)), tuple(map(float, high)), len(low))
        if kind == "Dict" and isinstance(attributes.get("spaces"), dict):
            parts = [(str(name), cls.described(part)) for name, part in attributes["spaces"].items()]
            return cls(kind, parts=tuple(sorted(parts)))
        if kind == "MultiDiscrete" and "nvec" in attributes:
            choices = tuple(int(n) for n in np.ravel(attributes["nvec"]))
            return cls(kind, size=sum(choices), choices=choices)
        if kind == "Discrete" and "n" in attributes:
            return cls(kind, size=int(attributes["n"]), choices=(int(attributes["n"]),))
        return cls(kind)


def _parts(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], str]:
    try:
        with zipfile.ZipFile(io.BytesIO(read_bytes(path))) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            if sizes[_SETTINGS] + sizes[_WEIGHTS] > MOST_BYTES:
                raise PolicyFileError(f"{path} unpacks to more than {MOST_BYTES:,} bytes")
            settings, weights = json.loads(archive.read(_SETTINGS)), archive.read(_WEIGHTS)
            version = archive.read(_VERSION).decode("ascii", "replace").strip() if _VERSION in sizes else "1.0"
    except PolicyFileError:
        raise
    except DAMAGE as error:
        raise PolicyFileError(f"{path} is not a zip of stable-baselines3, or it is damaged: {error}") from None
    tree = read_torch_file(weights, f"{_WEIGHTS} in {path.name}").tree
    if not isinstance(settings, dict) or not isinstance(tree, dict):
        raise PolicyFileError(f"{path} is not a zip of stable-baselines3")
    return settings, {str(k): v for k, v in tree.items() if isinstance(v, np.ndarray)}, version


def _unpickled(entry: Any) -> Any:
    """Return what the pickle of a settings entry describes; None if it has none that can be described."""
    if not isinstance(entry, dict) or not isinstance(entry.get(":serialized:"), str):
        return None
    try:
        return read_symbolic_pickle(base64.b64decode(entry[":serialized:"]))
    except (PickleError, binascii.Error, ValueError):
        return None


def _network(weights: dict[str, np.ndarray], settings: Mapping[str, Any], actions: _Space) -> _Network:
    image = next((key for key in weights if "features_extractor.cnn" in key), None)
    if image is not None:
        raise PolicyFileError(f"it reads images through convolutions ({image}); only dense networks are imported")
    other = next((key for key in weights if "features_extractor" in key), None)
    if other is not None:
        raise PolicyFileError(f"it has a features extractor of its own ({other}), which cannot be described")
    if any(key.startswith(("q_net.q_net.", "quantile_net.quantile_net.")) for key in weights):
        return _values_of_choices(weights, settings, actions)
    if any(key.startswith(("actor.latent_pi", "actor.mu")) for key in weights):
        return _off_policy(weights, settings)
    if any(key.startswith("mlp_extractor") for key in weights) or "value_net.weight" in weights:
        return _on_policy(weights, settings)
    if any(key.startswith("action_net") for key in weights):
        return _random_search(weights, settings, actions)
    raise PolicyFileError(f"its weights {sorted(weights)[:5]} are not those of a policy that is known here")


def _on_policy(weights: dict[str, np.ndarray], settings: Mapping[str, Any]) -> _Network:
    shared = numbered_layers(weights, "mlp_extractor.shared_net")
    output, value = dense_layer(weights, "action_net"), dense_layer(weights, "value_net")
    kwargs = _kwargs(settings)
    squash = bool(kwargs.get("squash_output", False))
    log_std = weights.get("log_std")
    name, default = _activation(kwargs, "tanh")
    return _Network(
        _algorithm(settings, "PPO, A2C or TRPO"),
        (*shared, *numbered_layers(weights, "mlp_extractor.policy_net"), output),
        (*shared, *numbered_layers(weights, "mlp_extractor.value_net"), value),
        name, squash, squash, log_std=log_std if log_std is not None and log_std.ndim == 1 else None,
        default_activation=default,
    )  # fmt: skip


def _off_policy(weights: dict[str, np.ndarray], settings: Mapping[str, Any]) -> _Network:
    kwargs = _kwargs(settings)
    name, default = _activation(kwargs, "relu")
    latent = numbered_layers(weights, "actor.latent_pi")
    stochastic = any(key.startswith("actor.latent_pi") for key in weights) or "actor.log_std" in weights
    if not stochastic:
        actor, algorithm, clip = numbered_layers(weights, "actor.mu"), "TD3 or DDPG", None
    elif "actor.mu.weight" in weights:
        actor, algorithm, clip = (*latent, dense_layer(weights, "actor.mu")), "SAC or TQC", None
    else:  # gSDE limits the mean in front of the tanh
        actor, algorithm = (*latent, dense_layer(weights, "actor.mu.0")), "SAC or TQC with gSDE"
        clip = float(kwargs.get("clip_mean", 2.0))
    if not actor:
        raise PolicyFileError("its actor has no layers")
    return _Network(_algorithm(settings, algorithm), actor, (), name, True, True, clip, default_activation=default)


def _values_of_choices(weights: dict[str, np.ndarray], settings: Mapping[str, Any], actions: _Space) -> _Network:
    """Return the network of DQN or QR-DQN, whose values are read as logits; quantiles are averaged."""
    quantiles = any(key.startswith("quantile_net.") for key in weights)
    *body, last = numbered_layers(weights, "quantile_net.quantile_net" if quantiles else "q_net.q_net")
    name, default = _activation(_kwargs(settings), "relu")
    count = actions.size or 0
    if quantiles and count and len(last.bias) % count == 0:  # sb3-contrib views outputs as (quantiles, actions)
        weight = last.weight.reshape(-1, count, last.weight.shape[1]).mean(axis=0)
        last = Layer(weight, last.bias.reshape(-1, count).mean(axis=0))
    algorithm = "QR-DQN" if quantiles else "DQN"
    return _Network(algorithm, (*body, last), (), name, False, False, default_activation=default)


def _random_search(weights: dict[str, np.ndarray], settings: Mapping[str, Any], actions: _Space) -> _Network:
    kwargs = _kwargs(settings)
    linear = "LinearPolicy" in str(_policy_class(settings)) or len(numbered_layers(weights, "action_net")) == 1
    squash = actions.kind == "Box" and bool(kwargs.get("squash_output", not linear))
    actor = numbered_layers(weights, "action_net") or (dense_layer(weights, "action_net"),)
    name, default = _activation(kwargs, "relu")
    return _Network("ARS", actor, (), name, squash, squash, default_activation=default and len(actor) > 1)


def _kwargs(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the policy's settings: what the pickle describes, or the text next to it."""
    given = settings.get("policy_kwargs")
    described = _unpickled(given)
    if isinstance(described, dict):
        return described
    return given if isinstance(given, dict) else {}


def _policy_class(settings: Mapping[str, Any]) -> str:
    entry = settings.get("policy_class")
    described = _unpickled(entry)
    if isinstance(described, Name):
        return described.text
    return str(entry.get("__module__", "")) if isinstance(entry, dict) else ""


def _algorithm(settings: Mapping[str, Any], default: str) -> str:
    kind = re.search(r"\.(sac|tqc|td3|ddpg|ars|ppo|a2c|trpo)\.", _policy_class(settings))
    return kind[1].upper() if kind else default


def _activation(kwargs: Mapping[str, Any], default: str) -> tuple[str, bool]:
    """Return the activation of the hidden layers, and whether it is the library's default."""
    given = kwargs.get("activation_fn")
    if given is None:
        return default, True
    text = given.text if isinstance(given, Name) else str(given)
    name = re.sub(r"\W+$", "", text).rpartition(".")[2]
    if name not in _ACTIVATIONS:
        raise PolicyFileError(f"its activation is {name}; {', '.join(_ACTIVATIONS)} are imported")
    return _ACTIVATIONS[name], False


def _groups(space: _Space, inputs: int) -> dict[str, int]:
    if space.kind in ("Box", "an unknown space"):
        return {"observation": inputs}
    if space.kind == "Dict":
        groups = {name: part.size or 1 for name, part in space.parts if part.kind == "Box"}
        if len(groups) == len(space.parts) and sum(groups.values()) == inputs:
            return groups
    raise PolicyFileError(
        f"its observation space is {space.kind} and its network has {inputs} inputs; boxes and dictionaries of boxes "
        f"are imported"
    )


def _action_map(space: _Space, network: _Network) -> ActionMap:
    if space.kind in ("Discrete", "MultiDiscrete"):
        return ActionMap("argmax")
    if space.kind != "Box" or not space.low:
        raise PolicyFileError(f"its action space is {space.kind}; boxes, Discrete and MultiDiscrete are imported")
    return ActionMap("rescale" if network.rescale else "clip", space.low, space.high)


def _beside(path: Path, name: str) -> tuple[Path, ...]:
    return path.parent / name, path.parent / path.stem / name


def _training_config(path: Path) -> dict[str, Any]:
    """Return the hyper-parameters that RL Zoo stores next to a zip; its tags are read as plain lists."""
    file = next((p for p in _beside(path, "config.yml") if p.exists()), None)
    if file is None:
        return {}
    content = parse_yaml(read_bytes(file), str(file), PolicyFileError, loader=_PlainLoader)
    try:
        pairs = content[0] if isinstance(content, list) and len(content) == 1 else content
        return {str(k): v for k, v in (pairs.items() if isinstance(pairs, dict) else pairs)}
    except (ValueError, TypeError) as error:
        raise PolicyFileError(f"{file} is not a list of settings: {error}") from None


class _PlainLoader(yaml.SafeLoader):
    """Reads unknown tags as the plain node below them, so that nothing is constructed."""


def _plain(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.ScalarNode)
    return loader.construct_scalar(node)


_PlainLoader.add_multi_constructor("", _plain)


def _notes(network: _Network, standardization: Standardization | None) -> tuple[str, ...]:
    notes = []
    if network.default_activation:
        notes.append(f"the file names no activation; {network.activation} is the library's default")
    if standardization is None:
        notes.append("without a normalizer")
    elif note := note_on_dead(standardization):
        notes.append(note)
    if network.algorithm in ("DQN", "QR-DQN"):
        notes.append(
            "values of choices are read as logits; merge with --loss nll, the cross-entropy to the best choice"
        )
    if not network.critic:
        notes.append("without a critic of states")
    return tuple(notes)
