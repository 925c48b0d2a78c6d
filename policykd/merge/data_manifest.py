"""The manifest of a labeled dataset: a strict, hashed JSON record; docs/labeled_data.md describes the format.

The hashes show damage and careless edits. They are no signature: whoever rewrites a file can rewrite its hashes.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from policykd import __version__
from policykd.agents.manifest import Action, describe_actions
from policykd.envs.robots import Robot, get_robot
from policykd.errors import ContractError, DatasetError, PolicykdError
from policykd.merge.teachers import Teacher

FORMAT = "policykd-labelled-states"
FORMAT_VERSION = 1
LABELS = "deterministic mean action of the skill's teacher, noise-free, in units of the action, clamped to [-1, 1]"

_FILE = re.compile(r"\d{3,6}-[A-Za-z0-9_.-]{1,200}\.safetensors")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class LabeledSkill:
    """A skill of a dataset and who labeled it.

    Attributes:
        id: id of the skill.
        teacher: the teacher's policy file, for people.
        weights_sha256: hash of the teacher's weights.
        log_std: (actions,) log standard deviation of the teacher's actions.
        symmetric: whether the teacher treats left and right alike by construction.
    """

    id: str
    teacher: str
    weights_sha256: str
    log_std: tuple[float, ...]
    symmetric: bool


@dataclass(frozen=True)
class Shard:
    """One round of one skill: one safetensors file.

    Attributes:
        file: its name, in the dataset's folder.
        skill: id of the skill.
        round: when it was collected, from 0.
        beta: the expert's share of the acting.
        steps: length of the rollout, T.
        simulations: simulations side by side, n; the shard has T * n states.
        bytes: size of the file.
        sha256: hash of the file.
    """

    file: str
    skill: str
    round: int
    beta: float
    steps: int
    simulations: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class DataManifest:
    """What a labeled dataset holds.

    Attributes:
        policykd_version: version that wrote it.
        robot: name of the robot.
        control_dt: time between two actions, s.
        groups: observation groups, name and number of features, in the order of the columns.
        actions: meaning of each action.
        labels: meaning of the labels.
        skills: the skills and their teachers.
        shards: the files.
        format: always :data:`FORMAT`.
        format_version: version of the format.
    """

    policykd_version: str
    robot: str
    control_dt: float
    groups: tuple[tuple[str, int], ...]
    actions: tuple[Action, ...]
    labels: str
    skills: tuple[LabeledSkill, ...]
    shards: tuple[Shard, ...] = ()
    format: str = FORMAT
    format_version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, Any]:
        """The record as it is written, with its own hash."""
        content = json.loads(json.dumps(asdict(self), allow_nan=False))
        return {**content, "content_sha256": _hash(content)}

    @classmethod
    def from_json(cls, content: Any) -> DataManifest:
        """Read a record that may come from a stranger.

        Raises:
            DatasetError: for a foreign or newer format, a missing or unknown field, a value of the wrong type, or a
                hash that does not fit.
        """
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DatasetError(f"its manifest is no manifest of labeled states: its format is not '{FORMAT}'")
        version = content.get("format_version")
        if not isinstance(version, int) or isinstance(version, bool) or version > FORMAT_VERSION or version < 1:
            raise DatasetError(f"it has format {version!r}; this policykd reads 1 to {FORMAT_VERSION}: update policykd")
        given = dict(content)
        stored = given.pop("content_sha256", None)
        if given.keys() != {f.name for f in fields(cls)}:
            odd = ", ".join(sorted(given.keys() ^ {f.name for f in fields(cls)}))
            raise DatasetError(f"its manifest has missing or unknown fields: {odd}")
        if _hash(given) != stored:
            raise DatasetError("its manifest was altered: its content hash does not fit its content")
        try:
            return _parsed(given)
        except PolicykdError as error:
            raise DatasetError(f"its manifest is not valid: {error}") from None
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"its manifest is not valid: {type(error).__name__}: {error}") from None

    def check_robot(self) -> Robot:
        """The robot, after checking that it and its actions are still what the dataset was made with.

        Raises:
            ContractError: naming what differs.
        """
        robot = get_robot(self.robot)
        if self.actions != describe_actions(robot) or not math.isclose(self.control_dt, robot.control_dt):
            raise ContractError(f"the dataset was made with other actions than {robot.name} now has")
        return robot


def describe_data(teachers: Sequence[Teacher], groups: Mapping[str, int]) -> DataManifest:
    """Manifest of a dataset without states yet.

    Args:
        teachers: who labels which skill.
        groups: observation groups in the order of the columns, name to number of features.
    """
    skill = teachers[0].skill
    return DataManifest(
        policykd_version=__version__,
        robot=skill.robot.name,
        control_dt=float(skill.robot.control_dt),
        groups=tuple(groups.items()),
        actions=describe_actions(skill.robot),
        labels=LABELS,
        skills=tuple(
            LabeledSkill(
                t.skill.id,
                t.source,
                t.weights_sha256,
                tuple(float(x) for x in t.policy.log_std.detach()),
                t.policy.symmetry is not None,
            )
            for t in teachers
        ),
    )


def _hash(content: Any) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _parsed(given: dict[str, Any]) -> DataManifest:
    """The manifest from JSON values, every one checked."""
    skills = tuple(_skill(entry) for entry in given["skills"])
    known = {skill.id for skill in skills}
    shards = tuple(_shard(entry, known) for entry in given["shards"])
    groups = tuple((_text(name), _whole(size, 1, 1_000_000)) for name, size in given["groups"])
    actions = tuple(_action(entry) for entry in given["actions"])
    if not groups or len({name for name, _ in groups}) != len(groups) or len(known) != len(skills):
        raise DatasetError("groups and skills must be given, each once")
    if len({shard.file for shard in shards}) != len(shards) or any(len(s.log_std) != len(actions) for s in skills):
        raise DatasetError("a shard is listed twice, or a teacher's log_std has not one value per action")
    return DataManifest(
        policykd_version=_text(given["policykd_version"]),
        robot=_text(given["robot"]),
        control_dt=_number(given["control_dt"]),
        groups=groups,
        actions=actions,
        labels=_text(given["labels"]),
        skills=skills,
        shards=shards,
        format_version=given["format_version"],
    )


def _action(entry: dict[str, Any]) -> Action:
    low, high = entry["limits"]
    numbers = {name: _number(entry[name]) for name in ("stand", "scale", "stiffness", "damping", "torque")}
    return Action(joint=_text(entry["joint"]), limits=(_number(low), _number(high)), **numbers)


def _skill(entry: dict[str, Any]) -> LabeledSkill:
    if not isinstance(entry["symmetric"], bool):
        raise DatasetError("symmetric must be true or false")
    spread = tuple(_number(value) for value in entry["log_std"])
    digest = _matching(entry["weights_sha256"], _HASH, "weights_sha256")
    return LabeledSkill(_text(entry["id"]), _text(entry["teacher"]), digest, spread, entry["symmetric"])


def _shard(entry: dict[str, Any], known: set[str]) -> Shard:
    if entry["skill"] not in known:
        raise DatasetError(f"shard {entry['file']!r} is of a skill that is not listed")
    return Shard(
        file=_matching(entry["file"], _FILE, "a shard's file"),  # a plain name: no path leads out of the folder
        skill=entry["skill"],
        round=_whole(entry["round"], 0, 1_000_000),
        beta=_number(entry["beta"]),
        steps=_whole(entry["steps"], 1, 1_000_000),
        simulations=_whole(entry["simulations"], 1, 1_000_000),
        bytes=_whole(entry["bytes"], 1, 2**40),
        sha256=_matching(entry["sha256"], _HASH, "sha256"),
    )


def _checked(valid: bool, value: Any, what: str) -> Any:
    if not valid:
        raise DatasetError(f"{str(value)[:60]!r} is not {what}")
    return value


def _text(value: Any) -> str:
    return _checked(isinstance(value, str), value, "text")


def _matching(value: Any, pattern: re.Pattern[str], what: str) -> str:
    return _checked(isinstance(value, str) and pattern.fullmatch(value) is not None, value, what)


def _number(value: Any) -> float:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(_checked(plain and abs(value) < 1e300, value, "a finite number"))


def _whole(value: Any, low: int, high: int) -> int:
    plain = isinstance(value, int) and not isinstance(value, bool)
    return _checked(plain and low <= value <= high, value, f"a whole number in [{low}, {high}]")
