import torch

from policykd.agents.architecture import Architecture, Encoder
from policykd.agents.policy import Policy
from policykd.envs.observations import group_sizes
from policykd.envs.robots import get_robot
from policykd.envs.symmetry import mirror_symmetry

ROBOT = get_robot("biped")
SHAPE = Architecture((24, 16), (20, 12))
ENCODERS = {
    "columns": None,
    "last": Encoder("terrain", (4, 3), (8, 4), (1, 2), 10),
    "every": Encoder("terrain", (8,), (3,), (1,), 6, "every"),
}


def blind_policy(groups=("proprio",), symmetric=True, architecture=SHAPE, seed=0):
    """A policy with lively actions and a normalizer that has seen something."""
    symmetry = mirror_symmetry(groups, ROBOT) if symmetric else None
    policy = Policy(group_sizes(groups, ROBOT), 11, architecture, seed, symmetry)
    generator = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(policy.actor[-1].weight, std=0.3, generator=generator)
    policy.log_std.data.copy_(torch.linspace(-1.5, -1, 11))
    policy.update_normalizer(torch.randn(300, policy.observation_size, generator=generator) * 2 + 1)
    return policy


def random_groups(groups, count=500, seed=1, dtype=torch.float32):
    """Random observation groups; those that are not proprio take any value."""
    generator = torch.Generator().manual_seed(seed)
    sizes = group_sizes(groups, ROBOT)
    draws = {name: torch.randn(count, size, generator=generator, dtype=dtype) for name, size in sizes.items()}
    return {name: value * 2 + 1 if name == "proprio" else value * 1000 for name, value in draws.items()}
