"""A policy that is a Python function: a scripted controller, a torch module or an ONNX session of yours, as a teacher.

It calls the function and changes no weights; it cannot be trained, copied into a student or saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from typing_extensions import override

from policykd.agents.architecture import Architecture
from policykd.agents.policy import Policy
from policykd.errors import ContractError

Function = Callable[[np.ndarray], np.ndarray]
"""Observations (n, features), float32, to actions (n, actions) in the units of the environment."""

_TINY = Architecture(hidden=(1,), critic_hidden=(1,))  # of networks that are never asked


class FunctionPolicy(Policy):
    """A policy whose mean actions are those of a function.

    Its values are 0 and its normalizer knows nothing, so a merge with ``critic="teacher"`` or with ``support`` has no
    use for it.

    Args:
        function: from observations (n, features) of the groups, in order, to actions (n, actions). They are clipped to
            the bounds, as the environment would do.
        groups: observation groups that the function reads, and their sizes.
        low: lower bounds of the actions; a robot's are -1.
        high: upper bounds.
    """

    learns: ClassVar[bool] = False

    def __init__(
        self, function: Function, groups: Mapping[str, int], low: Sequence[float], high: Sequence[float]
    ) -> None:
        super().__init__(groups, len(low), _TINY, generator_seed=0)
        self._function = function
        self._low, self._high = (np.asarray(bound, dtype=np.float64) for bound in (low, high))

    @override
    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return actions (n, actions), -1 at the lower bounds and 1 at the upper ones.

        Raises:
            ContractError: if the function returns another shape, or a number that is not finite.
        """
        asked = observations.detach().cpu().numpy()
        found = np.asarray(self._function(asked), dtype=np.float64)
        if found.shape != (len(asked), self.actions):
            raise ContractError(
                f"the function returned actions of shape {found.shape} for {len(asked)} observations; "
                f"it must return {(len(asked), self.actions)}"
            )
        if not np.isfinite(found).all():
            row = int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])
            raise ContractError(f"the function returned {found[row].tolist()} for observation {asked[row].tolist()}")
        unit = 2.0 * (found.clip(self._low, self._high) - self._low) / (self._high - self._low) - 1.0
        return torch.from_numpy(unit).to(observations)

    @override
    def value(self, observations: torch.Tensor) -> torch.Tensor:
        """Return zeros (n,)."""
        return observations.new_zeros(len(observations))

    def __deepcopy__(self, memo: dict[int, Any]) -> FunctionPolicy:
        """Return the policy itself: sessions of other libraries cannot be copied, and nothing here changes."""
        return self


def check_learns(policy: Policy, operation: str) -> None:
    """Raise ContractError for a policy without weights of its own.

    Args:
        policy: the policy.
        operation: what needs weights, for the message.
    """
    if not policy.learns:
        raise ContractError(f"{operation} needs a policy with weights; a function can be evaluated and teach")
