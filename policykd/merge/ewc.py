"""Importance of a policy's weights for the skills that it has: the diagonal Fisher information, and its running sum.

Elastic weight consolidation holds weights that matter for old skills (Kirkpatrick et al., 2017). Its online form keeps
one anchor and one decaying sum for all old skills (Schwarz et al., Progress & Compress, 2018). Everything here is
numerics; files are read and written as safetensors, which execute no code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch.func import functional_call, grad, vmap

from policykd.agents.policy import Policy
from policykd.errors import ConfigError, DatasetError, check_range
from policykd.storage import write_bytes

_CHUNK = 128  # states whose gradients are in memory at a time
FILE = "importance.safetensors"
"""Name of the file in a run folder."""


@dataclass(frozen=True)
class Importance:
    """Anchor and importance of a policy's weights, by name.

    Attributes:
        anchor: the weights after the last skill was learned.
        fisher: the running sum of their Fisher information, nats per squared weight; >= 0.
    """

    anchor: Mapping[str, torch.Tensor]
    fisher: Mapping[str, torch.Tensor]

    def save(self, path: Path) -> None:
        """Write the importance to a file, atomically."""
        tensors = {f"anchor.{name}": value for name, value in self.anchor.items()}
        tensors |= {f"fisher.{name}": value for name, value in self.fisher.items()}
        write_bytes(path, save_tensors({name: value.detach().cpu().clone() for name, value in tensors.items()}))

    @classmethod
    def load(cls, path: Path) -> Importance:
        """Read a file.

        Raises:
            DatasetError: for a file that is missing, damaged, or has values that no importance has.
        """
        try:
            tensors = load_tensors(path.read_bytes())
        except (OSError, SafetensorError, ValueError) as error:
            raise DatasetError(f"cannot read the importance of weights in {path}: {error}") from None
        parts: dict[str, dict[str, torch.Tensor]] = {"anchor": {}, "fisher": {}}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind not in parts or not value.is_floating_point() or not torch.isfinite(value).all():
                raise DatasetError(f"{path} holds {name}, which is not a finite anchor or fisher tensor")
            parts[kind][rest] = value
        shapes = [{name: value.shape for name, value in part.items()} for part in parts.values()]
        if shapes[0] != shapes[1] or any((value < 0).any() for value in parts["fisher"].values()):
            raise DatasetError(f"{path} holds anchors and fishers that do not fit each other, or a negative fisher")
        return cls(**parts)


def importance_parameters(policy: Policy) -> dict[str, torch.Tensor]:
    """Return the parameters that imitation trains, by name: those of the actor, and the log standard deviation."""
    trained = {id(value) for value in [*policy.acting_parameters(), policy.log_std]}
    return {name: value for name, value in policy.named_parameters() if id(value) in trained}


def fisher_diagonal(policy: Policy, observations: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the diagonal Fisher information of a Gaussian policy, averaged over states.

    For a mean ``m(s)`` and a standard deviation ``s_a`` per action, the expectation over actions is exact: a weight of
    the mean has ``sum_a (d m_a / d theta)^2 / s_a^2``, the log standard deviation of an action 2. The papers draw
    actions and square the gradients of their log probabilities, which has this expectation.

    Args:
        policy: a policy without a memory.
        observations: (n, observation_size) states of the skills that it has.

    Returns:
        The information of every parameter that imitation trains, nats per squared weight.

    Raises:
        ConfigError: for a policy with a memory, or no state.
    """
    if policy.recurrent:
        raise ConfigError(
            "the importance of weights is measured for policies without a memory; merge this one with all teachers"
        )
    if not len(observations):
        raise ConfigError("the importance of weights needs at least one state")
    weights = {name: value.detach() for name, value in importance_parameters(policy).items()}
    rest = {**dict(policy.named_parameters()), **dict(policy.named_buffers())}
    rest = {name: value.detach() for name, value in rest.items() if name not in weights}

    def scaled_mean(one: dict[str, torch.Tensor], state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Return a mean action over its standard deviation, which counts as a constant."""
        mirrored = policy.canonical(state[None])[1]
        means = policy.oriented(functional_call(policy, {**rest, **one}, (state[None],)), mirrored)  # as the networks
        scaled: torch.Tensor = means[0] * torch.exp(-policy.log_std.detach())
        return scaled[action]

    gradients = vmap(grad(scaled_mean), in_dims=(None, 0, None))
    found = {name: torch.zeros_like(value) for name, value in weights.items()}
    for states in observations.split(_CHUNK):
        for action in torch.arange(policy.actions):
            for name, value in gradients(weights, states, action).items():
                found[name] += value.square().sum(dim=0)
    found = {name: value / len(observations) for name, value in found.items()}
    (log_std,) = (name for name, value in importance_parameters(policy).items() if value is policy.log_std)
    found[log_std] = torch.full_like(policy.log_std.detach(), 2.0)
    return found


def consolidate(
    policy: Policy, observations: Sequence[torch.Tensor], previous: Importance | None = None, *, decay: float
) -> Importance:
    """Return the importance after skills were learned: the old one, decayed, plus that of the new skills' states.

    ``F <- decay * F + F_new``, and the anchor moves to the present weights (Schwarz et al., 2018). Skills that were
    learned together add up without decay, so that each counts alike.

    Args:
        policy: the policy that has learned the skills.
        observations: per new skill (n, observation_size) states.
        previous: importance before; None for the first.
        decay: gamma in [0, 1]; 1 forgets nothing.

    Raises:
        ConfigError: for a decay out of range; see also :func:`fisher_diagonal`.
    """
    check_range("merge.ewc_decay", decay, 0.0, 1.0)
    parts = [fisher_diagonal(policy, states) for states in observations]
    fisher = {name: torch.stack([part[name] for part in parts]).sum(dim=0) for name in parts[0]}
    if previous is not None:
        fisher = {name: decay * previous.fisher[name] + value for name, value in fisher.items()}
    anchor = {name: value.detach().clone() for name, value in importance_parameters(policy).items()}
    return Importance(anchor, fisher)
