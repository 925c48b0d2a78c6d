"""Features and logits of a network in one pass, without a tap per step: for systems that write their own loss."""

from __future__ import annotations

from torch import Tensor

from policykd.kd.networks import MLP


def penultimate(network: MLP, x: Tensor) -> tuple[Tensor, Tensor]:
    """Last hidden layer ``(B, D)`` after its activation, and logits ``(B, C)``, of inputs ``(B, ...)``."""
    return network.features_and_logits(x)
