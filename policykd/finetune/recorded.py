"""Recorded states that hold a policy near the actions of old skills which cannot be simulated."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from policykd.agents.files.policy_file import LoadedPolicy
from policykd.agents.recurrent_policy import check_memoryless
from policykd.errors import ContractError
from policykd.merge.data.folder import LabeledData
from policykd.merge.data.pool import StatePool


def read_recorded(data: Sequence[LabeledData], student: LoadedPolicy) -> tuple[StatePool | None, int]:
    """Return all states of labeled datasets and the number of skills among them; (None, 0) without datasets.

    The labels are replaced by the policy's own actions: what it does there is to be kept, not what its teachers would
    have done.

    Raises:
        ContractError: if the policy has a memory, reads other groups or has other actions than the datasets.
        DatasetError: for a damaged shard.
    """
    if not data:
        return None, 0
    check_memoryless(student.policy, "rehearsal of recorded states (--data)")
    for one in data:
        if one.manifest.groups != tuple(student.policy.groups.items()):
            raise ContractError(
                f"{one.folder} holds the groups {dict(one.manifest.groups)}; the policy reads {student.policy.groups}"
            )
        if one.manifest.actions != student.manifest.actions:
            raise ContractError(f"{one.folder} has other actions than the policy")
    skills = sorted({shard.skill for one in data for shard in one.manifest.shards})
    pool = StatePool(len(skills))
    for one in data:
        for shard in one.manifest.shards:
            rollout = one.load(shard)
            with torch.no_grad():
                kept = torch.as_tensor(student.policy(rollout.observations))
            pool.add(skills.index(shard.skill), dataclasses.replace(rollout, labels=kept))
    return pool, len(skills)
