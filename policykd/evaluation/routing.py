"""Routing: which expert of a mixture acts on which skill.

It runs whole episodes and reads the gate on the way; the policy is not changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from policykd.agents.episodes import run_episodes
from policykd.agents.networks import ExpertMixture
from policykd.agents.policy import Policy
from policykd.envs.env_records import EnvConfig
from policykd.envs.make import make_env
from policykd.envs.skills import Skill
from policykd.errors import ConfigError, ContractError, check_range
from policykd.seeding import integer_seed


@dataclass(frozen=True)
class SkillRouting:
    """How the gate of a mixture decides on one skill.

    Attributes:
        weights: mean weight of every expert; they sum to 1.
        leads: share of the states in which each expert has the largest weight; they sum to 1.
        evenness: mean entropy of the weights in a state, over that of even weights: 0 if one expert acts alone in every
            state, 1 if all act alike.
    """

    weights: tuple[float, ...]
    leads: tuple[float, ...]
    evenness: float


@dataclass(frozen=True)
class Routing:
    """Routing of a policy.

    Attributes:
        skills: figures by skill id.
        information: what the leading expert tells of the skill, bits, with all skills equally likely: 0 if the same
            experts lead everywhere, the logarithm of the number of skills if every skill has experts of its own.
        episodes: episodes per skill.
        seed: seed of the tracks.
    """

    skills: dict[str, SkillRouting]
    information: float
    episodes: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return the figures as they are written."""
        return {"format_version": 1, **asdict(self)}


def measure_routing(
    policy: Policy, skills: Sequence[Skill], *, episodes: int = 64, seed: int = 0, threads: int | None = None
) -> Routing:
    """Measure which expert of a mixture acts on which skill, over the states of its own episodes.

    Args:
        policy: a policy with a mixture of experts.
        skills: skills that it can act in.
        episodes: episodes per skill, each on its own track.
        seed: seed of the tracks.
        threads: threads of the simulation; None for one per usable core.

    Raises:
        ContractError: for a policy without a mixture.
        ConfigError: without skills, or for episodes out of range.
    """
    mixture = next((m for m in policy.actor if isinstance(m, ExpertMixture)), None)
    if mixture is None:
        raise ContractError(
            "routing needs a mixture of experts, and this policy has one actor; merge one with "
            "policykd merge ... --architecture moe"
        )
    if not skills:
        raise ConfigError("no skill was given; name at least one, for example biped/flat")
    check_range("episodes", episodes, 1, 100_000)
    config, found = EnvConfig(tracks=episodes, ordered=True), {}
    for skill in skills:
        env = make_env([skill], episodes, seed=integer_seed(seed, "routing"), config=config, threads=threads)
        with _watching(mixture) as seen:
            run_episodes(policy, env)
        found[skill.id] = routing_of(torch.cat(seen))
    return Routing(found, information([one.leads for one in found.values()]), episodes, seed)


def routing_of(weights: torch.Tensor) -> SkillRouting:
    """Return the figures for the weights (states, experts) of a gate."""
    experts = weights.shape[1]
    leads = torch.bincount(weights.argmax(dim=1), minlength=experts) / len(weights)
    entropy = -torch.xlogy(weights, weights).sum(dim=1).mean() / torch.tensor(float(experts)).log()
    return SkillRouting(tuple(weights.mean(dim=0).tolist()), tuple(leads.tolist()), float(entropy))


def information(leads: Sequence[Sequence[float]]) -> float:
    """Return the mutual information of skill and leading expert, bits.

    Args:
        leads: per skill, the share of states in which each expert leads; skills are equally likely.
    """
    shares = torch.tensor([list(row) for row in leads], dtype=torch.float64)
    both = (torch.xlogy(shares, shares).sum(dim=1)).mean()
    mean = shares.mean(dim=0)
    return max(0.0, float((both - torch.xlogy(mean, mean).sum()) / torch.tensor(2.0, dtype=torch.float64).log()))


@contextmanager
def _watching(mixture: ExpertMixture) -> Iterator[list[torch.Tensor]]:
    """Collect the gate's weights, (n, experts) at every step, while a mixture acts."""
    seen: list[torch.Tensor] = []

    def note(_: nn.Module, inputs: tuple[torch.Tensor, ...], __: torch.Tensor) -> None:
        seen.append(mixture.weights(inputs[0]))

    handle = mixture.register_forward_hook(note)
    try:
        yield seen
    finally:
        handle.remove()
