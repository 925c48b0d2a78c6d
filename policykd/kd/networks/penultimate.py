"""Features and logits of a network in one pass, without a tap per step: for systems that write their own loss."""

from __future__ import annotations

from torch import Tensor

from policykd.kd.networks import MLP


def penultimate(network: MLP, x: Tensor) -> tuple[Tensor, Tensor]:
    """Last hidden layer ``(B, D)`` after its activation, and logits ``(B, C)``, of inputs ``(B, ...)``."""
    features = network.flatten(x)
    for number in range(1, network.depth + 1):
        features = network.get_submodule(f"hidden{number}")(features)
    return features, network.fc(features)
