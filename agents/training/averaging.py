"""Moving average of a policy's weights, which training validates and saves.

It changes its own copy of the weights only; training decides when.
"""

from __future__ import annotations

import copy
import math

import torch

from policykd.agents.policy import Policy

_SHARE = 0.1


class WeightAverage:
    """Exponential moving average of a policy's weights over environment steps.

    A policy-gradient step contains as much noise as signal, so that the success of successive policies fluctuates; the
    average of their weights removes the noise (Polyak and Juditsky, 1992).

    Args:
        policy: the policy in training.
        horizon: time constant of the average, environment steps; never more than a tenth of the steps so far, so that
            the average keeps up with a policy that learns fast. 0 disables averaging.

    Attributes:
        policy: a separate policy with the average weights, under the normalizer of the last update.
    """

    def __init__(self, policy: Policy, horizon: float) -> None:
        self.policy = copy.deepcopy(policy)
        self._horizon, self._steps = horizon, 0

    @torch.no_grad()
    def update(self, policy: Policy, steps: int) -> None:
        """Add the weights of a policy to the average.

        Args:
            policy: the policy in training.
            steps: environment steps of the run so far.
        """
        passed, self._steps = steps - self._steps, steps
        horizon = min(self._horizon, _SHARE * steps)
        share = 1.0 if horizon <= 0 else -math.expm1(-passed / horizon)
        mine: list[torch.Tensor] = list(self.policy.parameters())
        torch._foreach_lerp_(mine, list(policy.parameters()), share)
        self.policy.normalizer.load_state_dict(policy.normalizer.state_dict())

    def state_dict(self) -> dict[str, torch.Tensor | int]:
        """Return the weights and the steps so far, for a checkpoint."""
        return {**self.policy.state_dict(), "steps": self._steps}

    def load_state_dict(self, state: dict[str, torch.Tensor | int]) -> None:
        """Continue from a checkpoint."""
        weights = dict(state)
        self._steps = int(weights.pop("steps"))
        self.policy.load_state_dict(weights)
