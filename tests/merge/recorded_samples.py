"""Small labeled datasets of two skills, without a simulator."""

import torch
from teacher_samples import make_teacher

from policykd.agents.architecture import Architecture
from policykd.merge import LabeledData, MergeConfig
from policykd.merge.data.manifest import describe_data
from policykd.merge.data.rollout import LabeledRollout

GROUPS = {"proprio": 49, "terrain": 50}
SKILLS = ("biped/flat", "biped/gaps")
SMALL = MergeConfig(
    rounds=2, updates=3, minibatch=8, critic="teacher", held_out=0.25, architecture=Architecture((4,), (4,)), seed=3
)


def rollout(steps=2, sims=4, seed=0, far=0.0):
    g = torch.Generator().manual_seed(seed)
    n = steps * sims
    grids = torch.zeros(3, steps, sims, dtype=torch.bool).unbind()
    return LabeledRollout(
        torch.randn(n, 99, generator=g), torch.rand(n, 11, generator=g) - 0.5, torch.rand(steps, sims, generator=g),
        *(grid.clone() for grid in grids), torch.tensor([n - 1]), torch.randn(1, 99, generator=g),
        torch.rand(n, generator=g), torch.full((n,), far),
    )  # fmt: skip


def recorded(folder, skills=SKILLS, sims=4, seed=0):
    teachers = [make_teacher(skill, i + 1) for i, skill in enumerate(skills)]
    data = LabeledData(folder, describe_data(teachers, GROUPS))
    for i, skill in enumerate(skills):
        data.store(0, skill, rollout(sims=sims, seed=seed + i), 0.5)
    data.commit()
    return data
