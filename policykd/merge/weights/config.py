"""Settings of a merge in weight space.

Importing this loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from policykd.errors import ConfigError, UnknownNameError, check_range
from policykd.plain import Limits, check_limits


@dataclass(frozen=True)
class Method:
    """What a method needs.

    Attributes:
        scale: default factor of the combined delta; None for a method without deltas.
        density: default share of each delta that is kept; None for a method that keeps all of it.
    """

    scale: float | None = None
    density: float | None = None

    @property
    def ancestor(self) -> bool:
        """Whether it adds up deltas over a common ancestor."""
        return self.scale is not None


METHODS = {
    "average": Method(),
    "task-arithmetic": Method(scale=0.5),
    "ties": Method(scale=1.0, density=0.2),
    "dare": Method(scale=0.5, density=0.5),
}
"""Methods by name; see :mod:`policykd.merge.weights.methods`.

Scales and densities are our choices; none was tuned. A scale of 0.5 makes task arithmetic of two policies their
average."""


@dataclass(frozen=True)
class WeightMergeConfig:
    """A merge in weight space.

    Attributes:
        method: one of :data:`METHODS`.
        scale: factor of the combined delta, in [0, 10]; None for the method's own. ``average`` has none.
        density: share of each delta that is kept, in [0.001, 1]; None for the method's own. Of ``ties`` and ``dare``.
        seed: seed of the draws of ``dare``.

    Raises:
        UnknownNameError: for an unknown method.
        ConfigError: for a value out of range, or one that the method would not use.
    """

    method: str = "average"
    scale: float | None = None
    density: float | None = None
    seed: Annotated[int, Limits(0, 2**63)] = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UnknownNameError("method", self.method, METHODS)
        check_limits(self)
        for name, low, high in (("scale", 0.0, 10.0), ("density", 0.001, 1.0)):
            value = getattr(self, name)
            if value is None:
                continue
            if getattr(METHODS[self.method], name) is None:
                users = ", ".join(other for other, method in METHODS.items() if getattr(method, name) is not None)
                raise ConfigError(f"{name} is {value}, but method {self.method} has none; leave it out, or use {users}")
            check_range(name, value, low, high)

    @property
    def needs_ancestor(self) -> bool:
        """Whether the method adds up deltas over a common ancestor."""
        return METHODS[self.method].ancestor

    def resolved(self) -> WeightMergeConfig:
        """Return the settings with the method's own values where none are given."""
        usual = METHODS[self.method]
        scale = usual.scale if self.scale is None else self.scale
        density = usual.density if self.density is None else self.density
        return WeightMergeConfig(self.method, scale, density, self.seed)
