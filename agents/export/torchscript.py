"""TorchScript archives of policies: the deterministic policy as one traced module.

It computes exactly what the policy computes, then clamps actions and adds joint targets.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping

import torch
from torch import nn

from policykd.agents.files.manifest import Action
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import RecurrentPolicy


class DeployedPolicy(nn.Module):
    """A policy from raw observations to actions in [-1, 1] and joint targets, rad.

    Args:
        policy: the policy.
        actions: mapping of each action, as the manifest holds it.
        per_group: take one input per observation group instead of one flat observation.
    """

    stand: torch.Tensor
    scale: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, policy: Policy, actions: tuple[Action, ...], *, per_group: bool = False) -> None:
        super().__init__()
        self.policy, self._per_group = policy, per_group
        columns = {
            "stand": [a.stand for a in actions],
            "scale": [a.scale for a in actions],
            "low": [a.limits[0] for a in actions],
            "high": [a.limits[1] for a in actions],
        }
        for name, values in columns.items():
            self.register_buffer(name, torch.tensor(values))

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return actions and joint targets, each (n, actions), for observations (n, size).

        A recurrent policy takes its states (n, state_size) as the last input, and also returns the next ones.
        """
        observations, after = list(inputs), []
        if isinstance(self.policy, RecurrentPolicy):
            state = observations.pop()
        flat = torch.cat(observations, dim=-1) if self._per_group else observations[0]
        if isinstance(self.policy, RecurrentPolicy):
            mean, state = self.policy.advance(flat, state)
            after.append(state)
        else:
            mean = self.policy(flat)
        actions = mean.clamp(-1.0, 1.0)
        targets = self.stand + self.scale * actions
        return actions, torch.maximum(torch.minimum(targets, self.high), self.low), *after


def torchscript_bytes(
    policy: Policy, actions: tuple[Action, ...], metadata: Mapping[str, str], *, per_group: bool = False
) -> bytes:
    """Return a TorchScript archive with the inputs and outputs of the ONNX file, for any batch size.

    Args:
        policy: the policy.
        actions: mapping of each action, as the manifest holds it.
        metadata: texts that become extra files of the archive.
        per_group: one input per observation group instead of one flat observation.
    """
    module = DeployedPolicy(policy, actions, per_group=per_group).eval()
    sizes = list(policy.groups.values()) if per_group else [policy.observation_size]
    if isinstance(policy, RecurrentPolicy):
        sizes.append(policy.state_size)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch announces another format, which runtimes on robots do not read
        traced = torch.jit.trace(module, tuple(torch.zeros(2, size) for size in sizes), check_trace=False)
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer, _extra_files=dict(metadata))
    return buffer.getvalue()
