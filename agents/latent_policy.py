"""Policies with a latent: an encoder of privileged groups while they are distilled, an adaptation module when they act.

A policy file holds both, so that distillation can go on; what leaves for a robot is :func:`without_encoder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn
from typing_extensions import override

from policykd.agents.architecture import Architecture
from policykd.agents.networks import group_columns, make_actor, make_network
from policykd.agents.policy import Policy
from policykd.envs.symmetry import MirrorSymmetry
from policykd.errors import ConfigError
from policykd.torch_seeding import seeded_torch


class LatentPolicy(Policy):
    """A policy whose actor reads a latent next to the groups that the robot measures; see :class:`Policy`.

    It acts on the latent that the adaptation module estimates from histories: its actions do not depend on privileged
    groups. The critic reads all groups.

    Args:
        groups: as in :class:`Policy`, privileged groups included.
        actions: as in :class:`Policy`.
        architecture: shape of the networks, with a ``latent``.
        generator_seed: as in :class:`Policy`.
        symmetry: as in :class:`Policy`.

    Attributes:
        adaptation: network from histories to the latent.
        encoder: network from privileged groups to the latent; empty without privileged groups.

    Raises:
        ConfigError: for an architecture without a latent, or as :class:`Policy`.
    """

    latent = True

    _own: torch.Tensor
    _history: torch.Tensor
    _privileged: torch.Tensor

    def __init__(
        self,
        groups: Mapping[str, int],
        actions: int,
        architecture: Architecture,
        generator_seed: int | None = None,
        symmetry: MirrorSymmetry | None = None,
    ) -> None:
        shape = architecture.latent
        if shape is None:
            raise ConfigError("a latent policy needs an architecture with a latent")
        super().__init__(groups, actions, architecture, generator_seed, symmetry)
        own = [name for name in groups if name not in (*shape.history, *shape.privileged)]
        for name, chosen in (("_own", own), ("_history", shape.history), ("_privileged", shape.privileged)):
            self.register_buffer(name, _columns(groups, chosen), persistent=False)
        plain = replace(architecture, latent=None, mixture=None)
        with seeded_torch(generator_seed):
            self.actor = make_actor(architecture.actor_inputs(groups), architecture, actions)
            self.adaptation, self.encoder = (
                make_network({n: groups[n] for n in names}, plain, shape.hidden, shape.size, last_gain=1.0)
                if names else nn.Sequential()
                for names in (shape.history, shape.privileged)
            )  # fmt: skip

    @override
    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        canonical, mirrored = self.canonical(observations)
        features = self.normalizer(canonical)
        return self._act(features, self.adaptation(features[:, self._history]), mirrored)

    def imitate(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean actions on the encoder's latent, and how far the adaptation module is from it.

        Args:
            observations: (n, observation_size).

        Returns:
            (n, actions) mean actions, and () the squared error of the estimate, whose gradient trains the adaptation
            module and, a tenth as strongly, makes the encoder's latent one that can be estimated.
        """
        canonical, mirrored = self.canonical(observations)
        features = self.normalizer(canonical)
        encoded = self.encoder(features[:, self._privileged])
        estimated = self.adaptation(features[:, self._history])
        error = (estimated - encoded.detach()).square().mean() + 0.1 * (encoded - estimated.detach()).square().mean()
        return self._act(features, encoded, mirrored), error

    def _act(self, features: torch.Tensor, latent: torch.Tensor, mirrored: torch.Tensor | None) -> torch.Tensor:
        mean = self.bounded(self.actor(torch.cat([features[:, self._own], latent], dim=1)))
        return self.oriented(mean, mirrored)

    @override
    def acting_parameters(self) -> list[nn.Parameter]:
        return [*self.actor.parameters(), *self.adaptation.parameters(), *self.encoder.parameters()]


@torch.no_grad()
def without_encoder(policy: LatentPolicy) -> LatentPolicy:
    """Return the policy as a robot runs it: it reads no privileged groups, and acts as before.

    The critic, which reads privileged groups, is a new one: the result acts and does not learn.
    """
    shape = policy.architecture.latent
    assert shape is not None
    groups = {name: size for name, size in policy.groups.items() if name not in shape.privileged}
    architecture = replace(policy.architecture, latent=replace(shape, privileged=()))
    columns = _columns(policy.groups, list(groups))
    symmetry = None if policy.symmetry is None else _restricted(policy.symmetry, columns.tolist())
    found = LatentPolicy(groups, policy.actions, architecture, 0, symmetry)
    found.normalizer.count_apart()
    for name in ("mean", "var", "count"):
        whole = getattr(policy.normalizer, name)
        getattr(found.normalizer, name).copy_(whole.expand(policy.observation_size)[columns])
    found.normalizer.min_std, found.normalizer.clip = policy.normalizer.min_std, policy.normalizer.clip
    found.actor.load_state_dict(policy.actor.state_dict())
    found.adaptation.load_state_dict(policy.adaptation.state_dict())
    found.log_std.copy_(policy.log_std)
    return found.train(policy.training)


def _columns(groups: Mapping[str, int], names: Sequence[str]) -> torch.Tensor:
    """Return the columns of named groups, on the CPU also where a policy is built without memory."""
    spans = group_columns(groups)
    chosen = [i for name in names for i in range(spans[name].start, spans[name].stop)]
    return torch.tensor(chosen, dtype=torch.long, device="cpu")


def _restricted(symmetry: MirrorSymmetry, columns: Sequence[int]) -> MirrorSymmetry:
    """Return the symmetry of some of the features; a group's features are exchanged among themselves."""
    place = {column: i for i, column in enumerate(columns)}
    right, left = symmetry.lead
    signs = tuple(symmetry.feature_signs[c] for c in columns) if symmetry.feature_signs else ()
    return replace(
        symmetry,
        features=tuple(place[symmetry.features[c]] for c in columns),
        feature_signs=() if all(sign == 1.0 for sign in signs) else signs,
        lead=(place[right], place[left]),
    )
