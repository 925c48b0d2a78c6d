"""Acting: a policy in a batch of simulations, with the state that a recurrent one keeps in each of them.

It runs policies and changes none; every place that acts in or labels a simulation has an ``Acting`` of its own.
"""

from __future__ import annotations

import torch

from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import RecurrentPolicy
from policykd.errors import ContractError


class Acting:
    """A policy that acts in n simulations step by step; without memory it is the policy itself.

    Args:
        policy: the policy.

    Attributes:
        state: (n, state_size) what a recurrent policy remembers of the running episodes; None at their beginning.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.state: torch.Tensor | None = None

    def __call__(self, observations: torch.Tensor) -> torch.Tensor:
        """Return mean actions (n, actions) for the next observations (n, observation_size) of the simulations.

        Raises:
            ContractError: if a recurrent policy gets another number of simulations than since :meth:`begin`.
        """
        if not isinstance(self.policy, RecurrentPolicy):
            return self.policy(observations)
        if self.state is None:
            self.state = observations.new_zeros(len(observations), self.policy.state_size)
        if len(self.state) != len(observations):
            raise ContractError(
                f"the policy remembers {len(self.state)} simulations and got observations of {len(observations)}"
            )
        actions, self.state = self.policy.advance(observations, self.state)
        return actions

    def distribution(self, observations: torch.Tensor) -> torch.distributions.Normal:
        """Return the Gaussian over actions, (n, actions), for the next observations; arguments as in a call."""
        if not isinstance(self.policy, RecurrentPolicy):
            return self.policy.distribution(observations)
        mean = self(observations)
        return torch.distributions.Normal(mean, self.policy.log_std.exp().expand_as(mean))

    def begin(self) -> None:
        """Forget all states: every simulation was reset."""
        self.state = None

    def forget(self, ended: torch.Tensor) -> None:
        """Forget the states of the simulations whose episode ended: (n,) boolean."""
        if self.state is not None:
            self.state = torch.where(ended[:, None], torch.zeros_like(self.state), self.state)


def replay(policy: Policy, observations: torch.Tensor, ended: torch.Tensor) -> torch.Tensor:
    """Return the mean actions of a policy along a recorded rollout, from episode begin to episode end.

    Args:
        policy: the policy.
        observations: (T * n, observation_size) observations of n simulations, in time order.
        ended: (T, n) whether an episode ended with the step.

    Returns:
        (T * n, actions) mean actions.
    """
    if not isinstance(policy, RecurrentPolicy):
        return policy(observations)
    acting, means = Acting(policy), []
    for rows, over in zip(observations.view(*ended.shape, -1), ended, strict=True):
        means.append(acting(rows))
        acting.forget(over)
    return torch.cat(means)
