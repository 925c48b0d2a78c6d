"""Small policy files with parents, made without training."""

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import read_manifest, save_policy
from policykd.agents.policy import Policy
from policykd.envs.robots import get_robot

ROBOT = get_robot("biped")


def small(seed=0):
    return Policy({"proprio": 5}, 11, Architecture((4,), (3,)), generator_seed=seed)


def keep(path, *, seed=0, skills=("biped/flat",), operation="train", parents=(), **options):
    """Write a policy whose parents are other files; return its path."""
    found = [read_manifest(parent).as_parent(parent.parent.name) for parent in parents]
    how = {"skills": skills, "operation": operation, "parents": found, "seed": seed, **options}
    save_policy(path, small(seed), robot=ROBOT, **how)
    return path


def family(folder):
    """A grandchild: merged from two trainings, of which the second began with the first."""
    flat = keep(folder / "flat" / "policy", seed=1, metrics={"success": 1.0, "reward_per_step": 0.75})
    gaps = keep(folder / "gaps" / "policy", seed=2, skills=("biped/gaps",), parents=[flat])
    both = ("biped/flat", "biped/gaps")
    merged = {"retention": {"biped/flat": 0.875, "biped/gaps": 1.0}, "states": 100}
    return keep(
        folder / "both" / "policy", seed=3, skills=both, operation="merge", parents=[flat, gaps], metrics=merged
    )
