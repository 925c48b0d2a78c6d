"""Adam whose steps can be recorded as a CUDA graph: step sizes and the number of steps are tensors on the device."""

from __future__ import annotations

from typing import Any

import torch
from typing_extensions import override

from policykd.agents.policy import Policy
from policykd.agents.training.sb3_policy import TwoRates


class DeviceAdam(TwoRates):
    """The optimizer of :class:`TwoRates` with step sizes in tensors that stay where they are.

    Args:
        network: the policy.
        rate: step size of the actor.
        critic_rate: step size of the critic; None for that of the actor.
        max_grad_norm: clip of the norm of each network's gradient.
    """

    def __init__(self, network: Policy, rate: float, critic_rate: float | None, max_grad_norm: float) -> None:
        super().__init__(network, rate, None, max_grad_norm)
        device = network.log_std.device
        self._own_critic_rate = critic_rate
        self._rates = [torch.tensor(rate, device=device) for _ in self.param_groups]
        for group in self.param_groups:
            group["capturable"] = device.type == "cuda"
        self._put_rates()
        self.set_rate(rate)

    def set_rate(self, rate: float) -> None:
        """Set the step size of the actor, and of the critic if it has none of its own."""
        critic = rate if self._own_critic_rate is None else self._own_critic_rate
        for mine, value in zip(self._rates, (rate, critic), strict=True):
            mine.fill_(value)

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for group, mine in zip(self.param_groups, self._rates, strict=True):
            mine.fill_(float(group["lr"]))
            group["capturable"] = mine.device.type == "cuda"
        self._put_rates()

    def _put_rates(self) -> None:
        for group, mine in zip(self.param_groups, self._rates, strict=True):
            group["lr"] = mine
