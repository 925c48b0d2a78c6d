"""Shape of a policy's networks, as plain data: importing this loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from policykd.errors import ConfigError, UnknownNameError, check_range

ACTIVATIONS = ("elu", "relu", "tanh")
"""Names of the activation functions."""


@dataclass(frozen=True)
class Architecture:
    """Shape of a policy's networks.

    Attributes:
        hidden: widths of the actor's hidden layers; may be empty for a linear policy.
        critic_hidden: widths of the critic's hidden layers.
        activation: ``elu``, ``relu`` or ``tanh``.
        initial_std: standard deviation of a new policy's exploration noise, in units of the action.
        squash: whether a tanh bounds the mean actions (policies trained by SAC).

    Raises:
        ConfigError: for a width below 1 or a standard deviation outside [1e-4, 10].
        UnknownNameError: for an unknown activation.
    """

    hidden: tuple[int, ...] = (128, 128)
    critic_hidden: tuple[int, ...] = (128, 128)
    activation: str = "elu"
    initial_std: float = 0.5
    squash: bool = False

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise UnknownNameError("activation", self.activation, ACTIVATIONS)
        for name in ("hidden", "critic_hidden"):
            if any(width < 1 for width in getattr(self, name)):
                raise ConfigError(f"{name} is {getattr(self, name)}; every width must be at least 1")
        check_range("initial_std", self.initial_std, 1e-4, 10.0)
