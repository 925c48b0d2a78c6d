"""Labeled datasets on disk: a folder with ``manifest.json`` and one safetensors shard per round and skill. No pickle.

A merge writes one, resumes from it, and can be repeated from it with another network or loss and without a simulator.
Files from strangers are data: names, sizes, hashes, shapes and values are checked before anything is used.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import stat
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from policykd.errors import DatasetError
from policykd.merge.data.manifest import CHOICES, DataManifest, Shard
from policykd.merge.data.rollout import LabeledRollout
from policykd.parsing import parse_json
from policykd.storage import write_bytes, write_json

MANIFEST = "manifest.json"
_MAX_MANIFEST_BYTES = 64_000_000
_LONGEST_NAME = 120


class LabeledData:
    """A labeled dataset in a folder, to which rounds can be added.

    Args:
        folder: the folder; created if it is missing.
        manifest: content of the dataset so far.
    """

    def __init__(self, folder: Path, manifest: DataManifest) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.manifest = folder, manifest

    @classmethod
    def open(cls, folder: Path) -> LabeledData:
        """Open a dataset.

        Args:
            folder: a dataset, or a merge's run folder that holds one named ``data``.

        Raises:
            DatasetError: with the reason, for a folder that is missing, foreign, altered or of a newer format.
        """
        place = folder / "data" if not (folder / MANIFEST).exists() and (folder / "data").is_dir() else folder
        try:
            content = _read(place / MANIFEST, _MAX_MANIFEST_BYTES)
            return cls(place, DataManifest.from_json(parse_json(content, f"its {MANIFEST}", DatasetError)))
        except DatasetError as error:
            raise DatasetError(f"cannot read the dataset {folder}: {error}") from None

    def reopen(self, rounds: int) -> LabeledData:
        """Return the dataset as it is on disk, with its first rounds only.

        Raises:
            DatasetError: as :meth:`open`.
        """
        data = LabeledData.open(self.folder)
        data.keep(rounds)
        return data

    def store(self, round_: int, skill: str, rollout: LabeledRollout, beta: float) -> None:
        """Write a round of a skill, atomically; :meth:`commit` lists it in the manifest."""
        content = save_tensors(rollout.tensors())
        name = _shard_name(round_, skill)
        write_bytes(self.folder / name, content)
        steps, simulations = rollout.rewards.shape
        digest = hashlib.sha256(content).hexdigest()
        shard = Shard(name, skill, round_, float(beta), steps, simulations, len(content), digest)
        others = tuple(s for s in self.manifest.shards if s.file != name)
        self.manifest = dataclasses.replace(self.manifest, shards=(*others, shard))

    def commit(self) -> None:
        """Write the manifest, atomically."""
        write_json(self.folder / MANIFEST, self.manifest.to_json())

    def keep(self, rounds: int) -> None:
        """Drop all rounds from number ``rounds`` on, which a resumed merge collects again."""
        kept = tuple(s for s in self.manifest.shards if s.round < rounds)
        self.manifest = dataclasses.replace(self.manifest, shards=kept)

    def load(self, shard: Shard) -> LabeledRollout:
        """Read a shard.

        Raises:
            DatasetError: if it is missing, truncated, altered, or does not fit the manifest.
        """
        try:
            content = _read(self.folder / shard.file, shard.bytes)
            if len(content) != shard.bytes:
                raise DatasetError(f"it is truncated: {len(content):,} bytes of {shard.bytes:,}")
            if hashlib.sha256(content).hexdigest() != shard.sha256:
                raise DatasetError("it was altered: its sha256 is not the manifest's")
            features, actions = sum(size for _, size in self.manifest.groups), len(self.manifest.actions)
            rollout = _rollout(content, shard, features, actions)
            _check_labels(rollout.labels, self.manifest)
            return rollout
        except DatasetError as error:
            raise DatasetError(f"cannot read {self.folder / shard.file}: {error}") from None

    def find(self, round_: int, skill: str) -> LabeledRollout:
        """Read a round of a skill; errors as in :meth:`load`."""
        for shard in self.manifest.shards:
            if (shard.round, shard.skill) == (round_, skill):
                return self.load(shard)
        raise DatasetError(f"the dataset {self.folder} has no round {round_} of {skill}")


def _shard_name(round_: int, skill: str) -> str:
    """Return the name of a shard's file, in characters that every file system takes; different skills differ in it."""
    plain = skill.replace("/", "_").replace(":", "_").replace("@", "_")
    name = re.sub(r"[^A-Za-z0-9_.+-]+", "-", plain)
    if name != plain or len(name) > _LONGEST_NAME:  # an id may hold keyword arguments, and any number of them
        name = f"{name[:_LONGEST_NAME]}-{hashlib.sha256(skill.encode()).hexdigest()[:8]}"
    return f"{round_:03d}-{name}.safetensors"


def _read(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes."""
    try:
        info = path.lstat()
        if not stat.S_ISREG(info.st_mode):
            raise DatasetError(f"{path.name} is a link or not a regular file")
        if info.st_size > limit:
            raise DatasetError(f"{path.name} has {info.st_size:,} bytes; {limit:,} are expected at most")
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path.name}: {error.strerror or error}") from None


def _rollout(content: bytes, shard: Shard, features: int, actions: int) -> LabeledRollout:
    """Return the rollout of a shard, after checking every tensor."""
    try:
        tensors = load_tensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise DatasetError(f"it is not safetensors ({error})") from None
    states, grid = shard.steps * shard.simulations, (shard.steps, shard.simulations)
    final = len(tensors["final_rows"]) if "final_rows" in tensors else 0
    wanted = {
        "observations": ((states, features), torch.float32),
        "labels": ((states, actions), torch.float32),
        "rewards": (grid, torch.float32),
        "terminated": (grid, torch.bool),
        "truncated": (grid, torch.bool),
        "student_acted": (grid, torch.bool),
        "final_rows": ((final,), torch.int64),
        "final_observations": ((final, features), torch.float32),
        "teacher_values": ((states,), torch.float32),
        "distances": ((states,), torch.float32),
    }
    if tensors.keys() != wanted.keys():
        raise DatasetError(f"it holds the tensors {sorted(tensors)}; needed are {sorted(wanted)}")
    for name, (shape, dtype) in wanted.items():
        tensor = tensors[name]
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            raise DatasetError(f"{name} is {tuple(tensor.shape)} {tensor.dtype}; {shape} {dtype} are needed")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise DatasetError(f"{name} holds NaN or infinity")
    rows = tensors["final_rows"]
    if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= states):
        raise DatasetError("final_rows points beyond the rollout")
    return LabeledRollout(**tensors)


def _check_labels(labels: torch.Tensor, manifest: DataManifest) -> None:
    if manifest.labels == CHOICES:
        if float(labels.max()) > 0.0:
            raise DatasetError("a label is above 0; the logarithm of a probability is not")
    elif float(labels.abs().max()) > 1.0:
        raise DatasetError("a label is outside [-1, 1]")
