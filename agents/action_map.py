"""How a policy's output becomes an action of an environment, as plain data: importing this loads no torch.

It holds bounds and a mode; applying it to tensors is one function at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from policykd.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    import torch

MODES = ("none", "clip", "rescale", "argmax")
"""Ways from an output to an action."""


@dataclass(frozen=True)
class ActionMap:
    """How outputs become actions.

    Attributes:
        mode: ``none`` leaves outputs as they are, ``clip`` clips them to the bounds, ``rescale`` maps [-1, 1] to the
            bounds, ``argmax`` takes the number of the largest output (discrete actions).
        low: lower bounds of the action space, one per action; empty for ``none`` and ``argmax``.
        high: upper bounds, in the same way.

    Raises:
        UnknownNameError: for an unknown mode.
        ConfigError: for bounds that are missing, or not ascending.
    """

    mode: str
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UnknownNameError("action mode", self.mode, MODES)
        if len(self.low) != len(self.high) or (self.mode in ("clip", "rescale")) != bool(self.low):
            raise ConfigError(
                f"an action map of mode {self.mode} has {len(self.low)} lower and {len(self.high)} upper bounds"
            )
        if any(not low < high for low, high in zip(self.low, self.high, strict=True)):
            raise ConfigError(f"lower bounds {self.low} of the actions must be below the upper bounds {self.high}")

    @property
    def size(self) -> int | None:
        """Number of actions; None if the map does not say."""
        return len(self.low) or None

    def apply(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return actions of the environment for outputs (n, actions); (n,) numbers for ``argmax``."""
        import torch

        if self.mode == "argmax":
            return outputs.argmax(dim=-1)
        if self.mode == "none":
            return outputs
        low, high = (torch.tensor(b, dtype=outputs.dtype, device=outputs.device) for b in (self.low, self.high))
        if self.mode == "rescale":
            outputs = low + 0.5 * (outputs + 1.0) * (high - low)
        return torch.maximum(torch.minimum(outputs, high), low)
