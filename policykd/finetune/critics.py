"""Critics of fine-tuning: the policy's own, or one that also reads what the policy does not, for the run only.

A policy that sees less than its simulation cannot tell good luck from good actions. A critic that sees more can, and is
not needed once the policy is trained (Pinto et al., Asymmetric Actor Critic, 2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from typing_extensions import override

from policykd.agents.architecture import Architecture
from policykd.agents.policy import Policy
from policykd.agents.training.algorithms.ppo import PpoConfig
from policykd.agents.training.device_ppo import Rollout
from policykd.envs.skills import Skill


class Critic(Protocol):
    """Estimates of the returns along a rollout, and their loss."""

    def begin_rollout(self) -> None:
        """Begin a rollout."""

    def judge(self, flat: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return values (n,) of the next states of a rollout.

        Args:
            flat: (n, size) flat observations of the environment.
            features: (n, features) normalized observations of the policy.
        """

    def value(self, flat: torch.Tensor) -> torch.Tensor:
        """Return values (n,) of states outside the rollout, by the flat observations of the environment."""

    def prepare(self, *, settled: bool) -> None:
        """Prepare for the losses of a rollout; until it is ``settled``, the normalizer of its inputs learns, too."""

    def loss(self, rollout: Rollout, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the squared error in rows (m,) of a rollout whose targets are (m,)."""

    def step(self) -> None:
        """Make a step with the gradients of a loss, and clear them; the policy's own critic is the optimizer's."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to go on."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a :meth:`state_dict`."""


class OwnCritic(Critic):
    """The critic of the policy.

    Args:
        policy: the policy.
        columns: columns of the groups in a flat observation of the environment.
    """

    def __init__(self, policy: Policy, columns: Mapping[str, slice]) -> None:
        self._policy, self._columns = policy, columns

    @override
    def begin_rollout(self) -> None: ...

    @override
    def judge(self, flat: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self._policy.critic(features)).squeeze(1)

    @override
    def value(self, flat: torch.Tensor) -> torch.Tensor:
        return self._policy.value(self._policy.select(flat, self._columns))

    @override
    def prepare(self, *, settled: bool) -> None: ...

    @override
    def loss(self, rollout: Rollout, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        values = self._policy.critic(rollout.features.flatten(0, 1)[rows]).squeeze(1)
        return torch.nn.functional.mse_loss(values, targets)

    @override
    def step(self) -> None: ...

    @override
    def state_dict(self) -> dict[str, Any]:
        return {}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class PrivilegedCritic(Critic):
    """A critic with more observation groups than the policy; the policy's own critic learns the same targets, too.

    Args:
        policy: the policy.
        skill: skill of the environment, which offers all groups.
        groups: groups that the policy does not read.
        ppo: step size and clip of the gradient.
        seed: seed of the weights.
    """

    def __init__(self, policy: Policy, skill: Skill, groups: Sequence[str], ppo: PpoConfig, seed: int) -> None:
        sizes = {**policy.groups, **{name: skill.group_sizes[name] for name in groups}}
        shape = policy.architecture
        networks = Architecture((), shape.critic_hidden, shape.activation)
        self._own, self._columns = OwnCritic(policy, skill.columns), skill.columns
        self._network = Policy(sizes, policy.actions, networks, seed)  # its actor is not used
        rate = ppo.learning_rate if ppo.critic_rate is None else ppo.critic_rate
        self._weights, self._most = list(self._network.critic.parameters()), ppo.max_grad_norm
        self._optimizer = torch.optim.Adam(self._weights, rate, eps=1e-5, fused=True)
        self._raw: list[torch.Tensor] = []
        self._features = torch.zeros(0)

    @override
    def begin_rollout(self) -> None:
        self._raw = []

    @override
    def judge(self, flat: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        self._raw.append(self._network.select(flat, self._columns))
        return self._network.value(self._raw[-1])

    @override
    def value(self, flat: torch.Tensor) -> torch.Tensor:
        return self._network.value(self._network.select(flat, self._columns))

    @override
    def prepare(self, *, settled: bool) -> None:
        raw = torch.cat(self._raw)
        if not settled:
            self._network.update_normalizer(raw)
        self._features = self._network.normalizer(raw)

    @override
    def loss(self, rollout: Rollout, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        values = self._network.critic(self._features[rows]).squeeze(1)
        return torch.nn.functional.mse_loss(values, targets) + self._own.loss(rollout, rows, targets)

    @override
    def step(self) -> None:
        torch.nn.utils.clip_grad_norm_(self._weights, self._most)
        self._optimizer.step()
        self._optimizer.zero_grad()

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"network": self._network.state_dict(), "optimizer": self._optimizer.state_dict()}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
