"""A blind expert, a sighted one and their student: random networks, since what users ran into is not the walking."""

import pytest
from user_policies import BLIND, SIGHTED, TINY_MERGE, Trio, keep, random_policy

from policykd.agents.files.policy_file import load_policy
from policykd.merge import merge_experts, teachers_from


@pytest.fixture(scope="session")
def trio(tmp_path_factory):
    """Files of a blind expert of flat ground, a sighted expert of gaps, and the run folder of their merge."""
    folder = tmp_path_factory.mktemp("trio")
    blind = keep(folder / "blind", random_policy(BLIND, 1), BLIND)
    sighted = keep(folder / "sighted", random_policy(SIGHTED, 2), SIGHTED)
    experts = [(path.name, load_policy(path)) for path in (blind, sighted)]
    merge_experts(teachers_from(experts), folder / "merge", TINY_MERGE)
    return Trio(blind, sighted, folder / "merge")
