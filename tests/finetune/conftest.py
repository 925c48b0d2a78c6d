"""A student of two tasks of one small environment: good at the first, poor at the second."""

import pytest
import torch
from point_tasks import NEW, OLD

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import load_policy, save_policy
from policykd.agents.policy import Policy
from policykd.envs.skill_records import records_of


@pytest.fixture(scope="session")
def student_file(tmp_path_factory):
    """A policy that steers to the goal of the old task, and to a wrong place in the new one."""
    policy = Policy(OLD.group_sizes, 1, Architecture((32,), (32,), activation="tanh", initial_std=0.05), 0)
    draw = torch.Generator().manual_seed(0)
    state = torch.cat([4 * torch.rand(4096, 2, generator=draw) - 2, torch.eye(2).repeat(2048, 1)], dim=1)
    policy.update_normalizer(state)
    place = torch.where(state[:, 2] > 0, -0.5, 0.3)
    wanted = ((3.0 * (place - state[:, 0]) - 1.0) / 3.0).clamp(-1, 1)[:, None]  # actions span -2 to 4
    optimizer = torch.optim.Adam(policy.actor.parameters(), 1e-2)
    for _ in range(300):
        loss = (policy(state).clamp(-1, 1) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("student") / "policy"
    skills = [OLD, NEW]
    save_policy(
        path, policy.eval(), robot=OLD.robot, skills=[s.id for s in skills], operation="merge", seed=0,
        skill_records=records_of(skills),
    )  # fmt: skip
    return path


@pytest.fixture
def student(student_file):
    return load_policy(student_file)
