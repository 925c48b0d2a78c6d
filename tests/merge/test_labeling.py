"""Labels: one by one and batched are the same, whatever the teachers share."""

from dataclasses import replace

import pytest
import torch
from teacher_samples import make_teacher

from policykd.agents.architecture import Architecture
from policykd.agents.policy import Policy
from policykd.envs.symmetry import mirror_symmetry
from policykd.merge.labeling import Labeler


def states(teacher, n, seed):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, sum(teacher.skill.group_sizes.values()), generator=g)


def symmetric(teacher, seed):
    symmetry = mirror_symmetry(teacher.skill.groups, teacher.skill.robot)
    policy = Policy(teacher.skill.group_sizes, teacher.policy.actions, generator_seed=seed, symmetry=symmetry)
    torch.nn.init.normal_(policy.actor[-1].weight, std=0.5, generator=torch.Generator().manual_seed(seed))
    return replace(teacher, policy=policy)


@pytest.fixture
def mixed(teachers):
    """Two of one shape, two symmetric ones, one of another width, and one policy that teaches a second skill."""
    first, second = teachers
    other = Policy(first.skill.group_sizes, first.policy.actions, Architecture(hidden=(32,)), generator_seed=7)
    again = replace(make_teacher("biped/steps", 3), policy=first.policy)
    return [first, second, symmetric(first, 4), symmetric(first, 5), replace(second, policy=other), again]


def test_batched_labels_are_those_of_each_teacher(mixed):
    seen = [states(t, 5 + i, seed=i) for i, t in enumerate(mixed)]  # another number of states each
    expected = [t.policy(s).clamp(-1, 1) for t, s in zip(mixed, seen, strict=True)]
    assert max(float(e.detach().abs().max()) for e in expected) == 1.0  # some are clamped
    for batched in (False, True):
        for label, wanted in zip(Labeler(mixed, batched)(seen), expected, strict=True):
            torch.testing.assert_close(label, wanted, atol=1e-5, rtol=0)


def test_labels_carry_no_gradient(teachers):
    for batched in (False, True):
        assert not any(x.requires_grad for x in Labeler(teachers, batched)([states(t, 3, 0) for t in teachers]))
