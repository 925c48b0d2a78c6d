"""The manifest of a labeled dataset: a strict, hashed JSON record; docs/labeled_data.md describes the format.

The hashes show damage and careless edits. They are not a signature: anyone who rewrites a file can rewrite its hashes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from policykd import __version__
from policykd.agents.files.manifest import Action, describe_actions
from policykd.envs.foreign.skill import PREFIX, choices_of, shared_actions
from policykd.envs.robots import Robot
from policykd.envs.robots.records import recorded_robot
from policykd.envs.skill_records import recorded_skill, records_of
from policykd.errors import ContractError, DatasetError
from policykd.merge.teachers import Teacher
from policykd.plain import Limits, added, as_plain, content_sha256, from_plain, versioned

FORMAT = "policykd-labelled-states"
FORMAT_VERSION = 1
LABELS = "deterministic mean action of the skill's teacher, noise-free, in units of the action, clamped to [-1, 1]"
RECORDED = "action recorded in a dataset, in units of the action, clamped to [-1, 1]; values of a teacher are not known"
CHOICES = "logarithms of the probabilities of all choices of the skill's teacher, one block per discrete action"

# A plain name, so that a path cannot lead out of the folder.
_FileName = Annotated[str, Limits(pattern=r"\d{3,6}-[A-Za-z0-9_.+-]{1,200}\.safetensors", what="a shard's file name")]
_Sha256 = Annotated[str, Limits(pattern=r"[0-9a-f]{64}", what="a sha256")]
_Count = Annotated[int, Limits(1, 1_000_000)]


@dataclass(frozen=True)
class LabeledSkill:
    """A skill of a dataset and the teacher that labeled it.

    Attributes:
        id: id of the skill.
        teacher: the teacher's policy file, for people.
        weights_sha256: hash of the teacher's weights.
        log_std: (actions,) log standard deviation of the teacher's actions.
        symmetric: whether the teacher treats left and right alike by construction.
        record: the whole skill, where the id does not say everything.
    """

    id: str
    teacher: str
    weights_sha256: _Sha256
    log_std: tuple[float, ...]
    symmetric: bool
    record: dict[str, Any] | None = added(None)


@dataclass(frozen=True)
class Shard:
    """One round of one skill: one safetensors file.

    Attributes:
        file: name in the dataset's folder.
        skill: id of the skill.
        round: round in which it was collected, from 0.
        beta: the expert's share of the acting.
        steps: length of the rollout, T.
        simulations: number of simulations, n; the shard has T * n states.
        bytes: size of the file.
        sha256: hash of the file.
    """

    file: _FileName
    skill: str
    round: Annotated[int, Limits(0, 1_000_000)]
    beta: float
    steps: _Count
    simulations: _Count
    bytes: Annotated[int, Limits(1, 2**40)]
    sha256: _Sha256


@dataclass(frozen=True)
class DataManifest:
    """Content of a labeled dataset.

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
    groups: tuple[tuple[str, _Count], ...]
    actions: tuple[Action, ...]
    labels: str
    skills: tuple[LabeledSkill, ...]
    shards: tuple[Shard, ...] = ()
    format: str = FORMAT
    format_version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return the record as it is written, with its own hash."""
        content = json.loads(json.dumps(as_plain(self), allow_nan=False))
        return {**content, "content_sha256": content_sha256(content)}

    @classmethod
    def from_json(cls, content: Any) -> DataManifest:
        """Read a record that may come from a stranger.

        Raises:
            DatasetError: for a foreign or newer format, a missing or unknown field, a value of the wrong type, or a
                hash that does not fit.
        """
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DatasetError(f"its manifest is not a manifest of labeled states: its format is not '{FORMAT}'")
        given = versioned(content, FORMAT_VERSION, "it", error=DatasetError)
        stored_sha256 = given.pop("content_sha256", None)
        if content_sha256(given) != stored_sha256:
            raise DatasetError("its manifest was altered: its content hash does not fit its content")
        manifest = from_plain(cls, given, error=_invalid, strict=True)
        _check(manifest)
        return manifest

    def check_robot(self) -> Robot:
        """Return the robot, after checking that it and its actions are those that the dataset was made with.

        Raises:
            ContractError: if the robot or its actions differ.
        """
        robot = self._robot()
        if self.actions != describe_actions(robot) or not math.isclose(self.control_dt, robot.control_dt):
            raise ContractError(f"the dataset was made with other actions than {robot.name} has now; record it again")
        return robot

    def _robot(self) -> Robot:
        """Return the robot as the skills' records describe it, or what stands for one in their environments."""
        records = {skill.id: skill.record for skill in self.skills if skill.record}
        if self.skills[0].id.startswith(PREFIX):
            return shared_actions([recorded_skill(skill.id, records) for skill in self.skills])
        return recorded_robot(self.robot, next((r.get("robot_record") for r in records.values()), None))


def describe_data(teachers: Sequence[Teacher], groups: Mapping[str, int]) -> DataManifest:
    """Return the manifest of a dataset without states.

    Args:
        teachers: one per skill.
        groups: observation groups in the order of the columns, name to number of features.
    """
    robot = shared_actions([teacher.skill for teacher in teachers])
    return DataManifest(
        policykd_version=__version__,
        robot=robot.name,
        control_dt=float(robot.control_dt),
        groups=tuple(groups.items()),
        actions=describe_actions(robot),
        labels=CHOICES if choices_of(robot) else LABELS,
        skills=tuple(
            LabeledSkill(
                t.skill.id,
                t.source,
                t.weights_sha256,
                tuple(float(x) for x in t.policy.log_std.detach()),
                t.policy.symmetry is not None,
                (records_of([t.skill]) or {}).get(t.skill.id),
            )
            for t in teachers
        ),
    )


def _invalid(reason: str) -> DatasetError:
    return DatasetError(f"its manifest is not valid: {reason}")


def _check(manifest: DataManifest) -> None:
    """Raise DatasetError unless the parts of a manifest belong together."""
    skills = {skill.id for skill in manifest.skills}
    groups, files = {name for name, _ in manifest.groups}, {shard.file for shard in manifest.shards}
    if not groups or len(groups) != len(manifest.groups) or len(skills) != len(manifest.skills):
        raise _invalid("groups and skills must be given, each once")
    if len(files) != len(manifest.shards):
        raise _invalid("a shard is listed twice")
    for skill in manifest.skills:
        if len(skill.log_std) != len(manifest.actions):
            raise _invalid(f"log_std of the teacher of {skill.id} must hold one value per action")
    for shard in manifest.shards:
        if shard.skill not in skills:
            raise _invalid(f"shard {shard.file} is of a skill that is not listed, {shard.skill}")
