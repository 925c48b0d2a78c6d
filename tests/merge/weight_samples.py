"""Policies to merge in weight space, and policies that do the same under another normalizer."""

import copy

import numpy as np
import torch

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import load_policy, read_manifest, save_policy
from policykd.agents.policy import Policy
from policykd.envs.robots import get_robot
from policykd.envs.skills import get_skill

ROBOT = get_robot("biped")
SIZES = get_skill("biped/flat").group_sizes
COUNT = sum(SIZES.values())


def draws(seed):
    return torch.Generator().manual_seed(seed)


def states(policy, count=64, seed=0):
    """Observations within one standard deviation or so of a policy's own."""
    own = policy.normalizer
    return own.mean + own.var.sqrt() * torch.randn(count, policy.observation_size, generator=draws(seed))


def seen(policy, seed, count=50, scale=3.0, shift=1.0):
    """Give a policy statistics."""
    policy.normalizer.update(torch.randn(count, policy.observation_size, generator=draws(seed)) * scale + shift)
    return policy


def new_policy(seed, architecture=Architecture((16, 8), (12,), "tanh", 0.3), groups=None, symmetry=None):
    policy = Policy(groups or SIZES, ROBOT.num_actions, architecture, seed, symmetry)
    with torch.no_grad():  # output layers begin near zero
        policy.actor[-1].weight.normal_(0.0, 0.3, generator=draws(seed))
        policy.critic[-1].weight.normal_(0.0, 0.3, generator=draws(seed + 1))
    return seen(policy, seed)


def moved(policy, seed, size=0.02):
    """A descendant: other weights, near those of its ancestor."""
    found, generator = copy.deepcopy(policy), draws(seed)
    with torch.no_grad():
        for value in found.parameters():
            value.add_(size * torch.randn(value.shape, generator=generator))
    return found


def under_other_statistics(policy, mean, std, count):
    """The same function with another normalizer, for networks of dense layers; computed with NumPy."""
    found = copy.deepcopy(policy)
    old = policy.normalizer
    old_mean, old_std = old.mean.double().numpy(), np.maximum(np.sqrt(old.var.double().numpy()), old.min_std)
    for network in (found.actor, found.critic):
        weight, bias = (value.detach().double().numpy() for value in (network[0].weight, network[0].bias))
        raw = weight / old_std  # for observations that are neither shifted nor scaled
        offset = bias - raw @ old_mean
        network[0].weight.data = torch.from_numpy(raw * std).float()
        network[0].bias.data = torch.from_numpy(offset + raw @ mean).float()
    found.normalizer.mean = torch.from_numpy(mean).float()
    found.normalizer.var = torch.from_numpy(std**2).float()
    found.normalizer.count = torch.tensor(float(count))
    return found


def keep(path, policy, skills=("biped/flat",), parents=(), operation="train", **options):
    found = [read_manifest(parent).as_parent(parent.parent.name) for parent in parents]
    how = {"robot": ROBOT, "skills": skills, "operation": operation, "parents": found, "seed": 0, **options}
    save_policy(path, policy, **how)
    return path


def loaded(path):
    return load_policy(path).policy
