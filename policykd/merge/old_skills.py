"""Old skills of a student that cannot be simulated: their stored labeled states, and the importance of its weights.

It reads datasets and makes the penalties of a merge of new skills; it fits nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from policykd.agents.files.policy_file import LoadedPolicy
from policykd.agents.policy import Policy
from policykd.envs.foreign.skill import choices_of
from policykd.errors import ConfigError, ContractError
from policykd.merge.config import MergeConfig
from policykd.merge.data.folder import LabeledData
from policykd.merge.data.pool import StatePool
from policykd.merge.data.rollout import LabeledRollout
from policykd.merge.ewc import FILE, Importance, consolidate, importance_parameters
from policykd.merge.penalties import EwcPenalty, Penalty, ReplayPenalty, check_matches
from policykd.plain import content_sha256
from policykd.seeding import integer_seed

FISHER_STATES = 1024
"""States of every skill on which the importance of weights is measured."""


@dataclass(frozen=True)
class OldSkills:
    """Old skills of the student that a merge starts from.

    Attributes:
        ids: their ids.
        log_std: (skills, actions) log standard deviations of their labels; of the student where nothing is stored.
        states: stored labeled states that are replayed; None without replay.
        importance: anchor and importance of the weights; None without EWC.
        records: records of those skills whose ids do not say everything, by id.
        sources: hashes of what was read, which a resumed merge must find again.
    """

    ids: tuple[str, ...]
    log_std: torch.Tensor
    states: StatePool | None
    importance: Importance | None
    records: dict[str, Any]
    sources: tuple[str, ...]

    def penalties(self, config: MergeConfig, new: int) -> list[Penalty]:
        """Return the penalties of a merge of ``new`` new skills."""
        found: list[Penalty] = []
        if self.states is not None:
            count = max(1, config.minibatch // (new + len(self.ids)))
            found.append(ReplayPenalty(self.states, [count] * len(self.ids), len(self.ids) / new, offset=new))
        if self.importance is not None:
            found.append(EwcPenalty(self.importance, config.ewc_weight, config.ewc_decay))
        return found


def read_old_skills(
    folders: Sequence[Path], init: LoadedPolicy | None, config: MergeConfig, new: Collection[str]
) -> OldSkills | None:
    """Read what protects the old skills of a student; nothing of it is simulated.

    Args:
        folders: datasets, or run folders of merges. With ``protection="ewc"``, one that holds the importance of the
            student's weights needs no states; without such a file it is measured on the stored states.
        init: the student; None for a merge that starts from none, whose old skills cannot be protected.
        config: the merge, with its ``protection`` and ``replay_share``.
        new: ids of the skills that are merged.

    Returns:
        The old skills; None without protection.

    Raises:
        ConfigError: for folders that would not be used, none where they are needed, or states of a skill that are
            missing.
        ContractError: for data of other groups or actions than the student's, or importance of other weights.
        DatasetError: for a damaged file.
    """
    if config.protection == "none":
        if folders:
            raise ConfigError("merge.protection is none, so --old would not be used; give --protect replay or ewc")
        return None
    if not folders:
        raise ConfigError(f"merge.protection is {config.protection}: give folders of the old skills' states (--old)")
    if init is None or config.start != "previous":
        raise ConfigError(
            f"merge.protection is {config.protection} and merge.start {config.start}; old skills are protected in a "
            f"student (--init STUDENT)"
        )
    _check_student(init, config)
    ids = tuple(skill for skill in init.manifest.skills if skill not in new)
    if not ids:
        raise ConfigError(f"the policy of --init has no other skill than {', '.join(sorted(new))}: nothing to protect")
    records = {name: record for name, record in (init.manifest.skill_records or {}).items() if name in ids}
    importance = _importance_in(folders, init) if config.protection == "ewc" else None
    if importance is not None:
        log_std = init.policy.log_std.detach().expand(len(ids), -1).clone()
        return OldSkills(ids, log_std, None, importance[0], records, (importance[1],))
    data = [LabeledData.open(folder) for folder in folders]
    _check_data(data, init, ids)
    rollouts = {skill: _rollouts_of(skill, data) for skill in ids}
    sources = tuple(one.manifest.to_json()["content_sha256"] for one in data)
    stds = {s.id: s.log_std for one in data for s in one.manifest.skills}
    log_std = torch.tensor([stds[skill] for skill in ids])
    if config.protection == "ewc":
        return OldSkills(ids, log_std, None, _measured(init, rollouts, config), records, sources)
    return OldSkills(ids, log_std, _replayed(rollouts, config), None, records, sources)


def _check_student(init: LoadedPolicy, config: MergeConfig) -> None:
    if config.device != "cpu":
        raise ConfigError(f"merge.protection is {config.protection}, which needs merge.device=cpu, not {config.device}")
    if init.policy.recurrent:
        raise ConfigError("a student with a memory cannot be protected by stored states or importance; merge it again "
                          "with all teachers")  # fmt: skip
    if config.protection == "ewc" and choices_of(init.manifest.body()):
        raise ConfigError("merge.protection is ewc, which is for continuous actions; give replay for discrete ones")


def _importance_in(folders: Sequence[Path], init: LoadedPolicy) -> tuple[Importance, str] | None:
    """Return the importance of the student's weights that a folder holds, and its hash; None if none does."""
    files = [folder / FILE for folder in folders if (folder / FILE).exists()]
    if len(files) > 1:
        raise ConfigError(
            f"{len(files)} folders of --old hold the importance of weights; give that of the student only"
        )
    if not files:
        return None
    found = Importance.load(files[0])
    check_matches(found, init.policy)
    for name, value in importance_parameters(init.policy).items():
        if name != "log_std" and not torch.equal(found.anchor[name], value.detach()):
            raise ContractError(f"{files[0]} was measured for another student than that of --init: {name} differs")
    return found, content_sha256({name: value.tolist() for name, value in found.fisher.items()})


def _check_data(data: Sequence[LabeledData], init: LoadedPolicy, ids: Sequence[str]) -> None:
    for one in data:
        if one.manifest.groups != tuple(init.policy.groups.items()):
            raise ContractError(
                f"{one.folder} holds the groups {dict(one.manifest.groups)}; the student reads {init.policy.groups}"
            )
        if one.manifest.actions != init.manifest.actions:
            raise ContractError(f"{one.folder} has other actions than the student")
    present = {shard.skill for one in data for shard in one.manifest.shards}
    if lacking := [skill for skill in ids if skill not in present]:
        raise ConfigError(f"no folder of --old holds states of {', '.join(lacking)}; name those of all old skills")


def _rollouts_of(skill: str, data: Sequence[LabeledData]) -> list[LabeledRollout]:
    return [one.load(shard) for one in data for shard in one.manifest.shards if shard.skill == skill]


def _replayed(rollouts: dict[str, list[LabeledRollout]], config: MergeConfig) -> StatePool:
    """Return a pool of the replayed share of every skill's states, drawn without replacement."""
    pool = StatePool(len(rollouts), None, config.support)
    for i, (skill, parts) in enumerate(rollouts.items()):
        total = sum(len(part.labels) for part in parts)
        chosen = _draw(total, max(1, round(config.replay_share * total)), config.seed, skill)
        begin = 0
        for part in parts:
            end = begin + len(part.labels)
            pool.add(i, _rows_of(part, chosen[(chosen >= begin) & (chosen < end)] - begin))
            begin = end
    return pool


def _rows_of(rollout: LabeledRollout, rows: torch.Tensor) -> LabeledRollout:
    """Return a rollout with the given rows only, of which nothing but single states can be used."""
    names = ("observations", "labels", "teacher_values", "distances")
    return replace(rollout, **{name: getattr(rollout, name)[rows] for name in names})


def _draw(total: int, count: int, seed: int, skill: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(integer_seed(seed, "stored states", skill))
    return torch.randperm(total, generator=generator)[:count].sort().values


def _measured(init: LoadedPolicy, rollouts: dict[str, list[LabeledRollout]], config: MergeConfig) -> Importance:
    """Return the importance of the student's weights for the skills that it learned together."""
    parts = [torch.cat([one.observations for one in rollouts[skill]]) for skill in rollouts]
    return consolidate(
        init.policy,
        [_some(states, config.seed, skill) for states, skill in zip(parts, rollouts, strict=True)],
        decay=1.0,
    )


def _some(states: torch.Tensor, seed: int, skill: str) -> torch.Tensor:
    """Return the states on which importance is measured."""
    return states[_draw(len(states), min(FISHER_STATES, len(states)), seed, skill)]


def store_importance(
    folder: Path, student: Policy, states: Sequence[torch.Tensor], old: OldSkills, config: MergeConfig
) -> None:
    """Write the importance of the student's weights after a merge with EWC, so that the next one needs no old states.

    Args:
        folder: run folder of the merge.
        student: the merged student.
        states: per new skill (n, observation_size) states.
        old: the old skills; without their importance nothing is written.
        config: the merge.
    """
    if old.importance is None:
        return
    chosen = [_some(rows, config.seed, f"new skill {i}") for i, rows in enumerate(states)]
    consolidate(student, chosen, old.importance, decay=config.ewc_decay).save(folder / FILE)
