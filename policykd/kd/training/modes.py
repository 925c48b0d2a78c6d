"""Train mode that leaves frozen layers alone, batch statistics and dropout included.

It changes no weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from policykd.errors import ConfigError
from policykd.kd.objective.taps import unwrap


def freeze(network: nn.Module, patterns: Iterable[str]) -> None:
    """Freeze the layers whose dotted paths match a pattern, and all below them: no gradient, and eval mode.

    Args:
        network: The network, wrapped or not.
        patterns: Paths such as ``"stem"``, or shell patterns such as ``"layer[12]"``.

    Raises:
        ConfigError: A pattern matches no layer.
    """
    layers = dict(unwrap(network).named_modules())
    for pattern in patterns:
        found = [layer for path, layer in layers.items() if path and fnmatchcase(path, pattern)]
        if not found:
            known = ", ".join([path for path in layers if path][:8])
            raise ConfigError(
                f"frozen={pattern!r} matches no layer of {type(unwrap(network)).__name__}; it has {known}"
            )
        for layer in found:
            layer.requires_grad_(False).eval()


def frozen_layers(network: nn.Module) -> list[nn.Module]:
    """Return the layers that are in eval mode on purpose.

    In a network in train mode these are all layers in eval mode. A network that is in eval mode as a whole was probably
    just evaluated; there they are the layers with parameters of which none is trained, and the layers below them.
    """
    if network.training:
        return [layer for layer in network.modules() if not layer.training]
    tops = [layer for layer in network.modules() if _all_frozen(layer) and not layer.training]
    return list({id(layer): layer for top in tops for layer in top.modules()}.values())


def _all_frozen(layer: nn.Module) -> bool:
    parameters = list(layer.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def train_except(network: nn.Module, frozen: Sequence[nn.Module]) -> None:
    """Put a network into train mode and its frozen layers into eval mode."""
    network.train()
    for layer in frozen:
        layer.training = False
