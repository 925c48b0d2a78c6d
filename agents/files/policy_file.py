"""Policy files: a folder, or a zip of one, that holds ``weights.safetensors`` and ``manifest.json``. No pickle, ever.

A file is written whole or not at all, and files from strangers are data: sizes, shapes and hashes are checked before
a network is built, zips are read in memory and never unpacked.

    save_policy(Path("experts/flat/policy"), policy, robot=robot, skills=["biped/flat"], operation="train", seed=0)
    policy, manifest = load_policy(Path("experts/flat/policy"))
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from policykd.agents.files.container import MANIFEST, WEIGHTS, read_parts, write_parts
from policykd.agents.files.fit import check_fits
from policykd.agents.files.manifest import Manifest, Parent, describe
from policykd.agents.function_policy import check_learns
from policykd.agents.policy import Policy
from policykd.envs.robots import Robot
from policykd.errors import ConfigError, PolicyFileError
from policykd.parsing import parse_json

__all__ = ["LoadedPolicy", "Manifest", "Parent", "check_fits", "load_policy", "read_manifest", "save_policy"]

_HEADER_BYTES = 100_000  # room for the safetensors header on top of four bytes per parameter


class LoadedPolicy(NamedTuple):
    """A policy and its manifest.

    Attributes:
        policy: the policy, on the CPU, in evaluation mode.
        manifest: its manifest.
    """

    policy: Policy
    manifest: Manifest


def save_policy(
    path: Path,
    policy: Policy,
    *,
    robot: Robot,
    skills: Sequence[str],
    operation: str,
    parents: Sequence[Parent] = (),
    seed: int,
    metrics: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    skill_records: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write a policy file atomically; an existing policy is replaced.

    Args:
        path: a folder, which will hold nothing else, or a ``.zip``. Parents are created.
        policy: the policy.
        robot: the robot that it moves.
        skills: ids of the skills that it was made for.
        operation: operation that made it: ``train``, ``merge``, ...
        parents: policies that it was made from; see :meth:`Manifest.as_parent`.
        seed: seed of the run, >= 0.
        metrics: numbers to keep with it, JSON.
        config: the run's configuration, JSON.
        skill_records: records of the skills whose ids do not say everything; see
            :func:`policykd.envs.skill_records.records_of`.

    Returns:
        The manifest as written.

    Raises:
        ContractError: if the policy's actions are not the robot's joints, or it is a function.
        ConfigError: for metrics or a configuration that JSON cannot hold.
        PolicyFileError: for weights that are not finite float32.
        OutputError: if the place cannot be written, or holds anything but a policy.
    """
    check_learns(policy, "a policy file")
    weights = save_tensors({_stored(name): value.cpu().contiguous() for name, value in policy.state_dict().items()})
    manifest = describe(
        policy,
        robot,
        skills=tuple(skills),
        operation=operation,
        parents=tuple(parents),
        seed=int(seed),
        metrics=dict(metrics or {}),
        config=dict(config or {}),
        skill_records=dict(skill_records) if skill_records else None,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    try:
        record = json.dumps(manifest.to_json(), indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"metrics and config must be JSON without NaN or infinity: {error}") from None
    try:
        _from_bytes(record.encode(), weights)  # a file that cannot be loaded must not replace one that can
    except PolicyFileError as error:
        raise PolicyFileError(f"not saved to {path}: {error}") from None
    write_parts(Path(path), {WEIGHTS: weights, MANIFEST: record.encode() + b"\n"})
    return manifest


FOREIGN_SUFFIXES = (".onnx", ".pt", ".pth", ".jit", ".cleanrl_model")
"""Suffixes of other libraries' policy files. stable-baselines3 writes zips; so can policykd."""


def load_policy(path: Path) -> LoadedPolicy:
    """Read a policy file.

    Args:
        path: a policy folder, a ``.zip`` of one, or a run folder that holds one named ``policy``.

    Raises:
        PolicyFileError: with the reason, for a path that is missing, truncated, altered, foreign or too large.
    """
    with _naming(path):
        return _from_bytes(*read_parts(Path(path)))


def load_named(paths: Sequence[Path]) -> dict[str, LoadedPolicy]:
    """Load policies and name them by the shortest distinct ends of their paths.

    Raises:
        PolicyFileError: as :func:`load_policy`.
        ConfigError: if a policy is given twice.
    """
    for depth in range(1, 20):
        names = ["/".join(p.resolve().parts[-depth:]).removesuffix(".zip") for p in paths]
        if len(set(names)) == len(paths):
            break
    else:
        raise ConfigError("the same policy was given twice; give every policy once")
    return {name: load_policy(path) for name, path in zip(names, paths, strict=True)}


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a policy file, without its weights; arguments and errors as in :func:`load_policy`."""
    with _naming(path):
        return _manifest_from(read_parts(Path(path))[0])


def _import_hint(path: Path) -> str:
    """Return what to do with a path that may be a policy of another library; empty for others."""
    files = [path] if path.is_file() else list(path.glob("*.zip"))
    if not any(one.suffix in (".zip", *FOREIGN_SUFFIXES) for one in files):
        return ""
    return f"; a policy of another library has to be imported first: policykd import {path} --out EXPERT"


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name in front of an error about it."""
    try:
        yield
    except PolicyFileError as error:
        raise PolicyFileError(f"cannot load {path}: {error}{_import_hint(Path(path))}") from None
    except OSError as error:
        raise PolicyFileError(f"cannot load {path}: {error.strerror or error}") from None


def _manifest_from(record: bytes) -> Manifest:
    return Manifest.from_json(parse_json(record, f"its {MANIFEST}", PolicyFileError))


def _from_bytes(record: bytes, weights: bytes) -> LoadedPolicy:
    """Build a policy after checking the manifest, the weights' size and hash, and every tensor."""
    manifest = _manifest_from(record)
    least = 4 * manifest.parameters
    if len(weights) < least:
        raise PolicyFileError(f"its weights are truncated: {len(weights):,} bytes, at least {least:,} are needed")
    if len(weights) > least + _HEADER_BYTES:
        raise PolicyFileError(f"its weights have {len(weights):,} bytes; {least:,} and a header belong to its networks")
    if hashlib.sha256(weights).hexdigest() != manifest.weights_sha256:
        raise PolicyFileError("its weights were altered or truncated: their sha256 is not the manifest's")
    try:
        tensors = load_tensors(weights)
    except (SafetensorError, ValueError, KeyError) as error:
        raise PolicyFileError(f"its weights are not safetensors ({error})") from None
    policy = manifest.build()
    expected = policy.state_dict()
    _check_tensors(tensors, {_stored(name): value for name, value in expected.items()})
    policy.load_state_dict({name: tensors[_stored(name)] for name in expected}, assign=True)
    return LoadedPolicy(policy.eval(), manifest)


def _stored(name: str) -> str:
    """Return the name of a tensor in the file: formats 1 and 2 spell the normalizer in British English."""
    return re.sub(r"^normalizer\b", "normaliser", name)


def _check_tensors(tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or extra:
        raise PolicyFileError(f"its weights lack the tensors {missing} and have {extra} too many")
    for name, wanted in expected.items():
        found = tensors[name]
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            have, need = (f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in (found, wanted))
            raise PolicyFileError(f"tensor {name} is {have}; its manifest describes {need}")
        if not torch.isfinite(found).all():
            raise PolicyFileError(f"tensor {name} holds NaN or infinity")
    if (tensors["normaliser.var"] < 0).any():
        raise PolicyFileError("tensor normaliser.var is negative")
    if (tensors["normaliser.count"] < 0).any():
        raise PolicyFileError("tensor normaliser.count is negative")
