"""Reference networks of the distillation literature, for small images and time series.

Every network maps a batch to logits, keeps its layers under the same dotted names (``layer1``, ``layer2``, ...,
``pool``, ``fc``) so that a tap path works across families, and activates out of place so that any layer can be tapped.
``create("resnet8x4", classes=100)`` builds one by the name that papers use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import nn

from policykd.errors import UnknownNameError
from policykd.kd.networks.mobilenet import MobileNetV2
from policykd.kd.networks.resnet import ResNet, resnet
from policykd.kd.networks.series import TCN, CNN1d
from policykd.kd.networks.shufflenet import ShuffleNetV1, ShuffleNetV2
from policykd.kd.networks.small import MLP, LeNet
from policykd.kd.networks.vgg import VGG
from policykd.kd.networks.wrn import WideResNet

__all__ = [
    "MLP",
    "NETWORKS",
    "TCN",
    "VGG",
    "CNN1d",
    "LeNet",
    "MobileNetV2",
    "ResNet",
    "ShuffleNetV1",
    "ShuffleNetV2",
    "WideResNet",
    "count_parameters",
    "create",
    "resnet",
]

NETWORKS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        "mlp": MLP,
        "lenet": LeNet,
        **{f"resnet{depth}": partial(resnet, depth) for depth in (8, 14, 20, 32, 44, 56, 110)},
        **{f"resnet{depth}x4": partial(resnet, depth, wide=True) for depth in (8, 14, 20, 32)},
        **{f"wrn{d}-{k}": partial(WideResNet, d, k) for d, k in ((10, 1), (16, 1), (16, 2), (28, 2), (40, 1), (40, 2))},
        **{f"vgg{depth}": partial(VGG, depth) for depth in (8, 11, 13, 16)},
        "mobilenetv2": MobileNetV2,
        "shufflenetv1": ShuffleNetV1,
        "shufflenetv2": ShuffleNetV2,
        "cnn1d": CNN1d,
        "tcn": TCN,
    }
)


def create(name: str, **options: Any) -> nn.Module:
    """Build a network by name.

    Args:
        name: A key of ``NETWORKS``, such as ``"resnet8x4"`` or ``"wrn16-2"``.
        **options: Passed to the network, for example ``classes`` and ``in_channels``.

    Raises:
        UnknownNameError: The network is unknown; the message names close matches.
    """
    if name not in NETWORKS:
        raise UnknownNameError("network", name, NETWORKS)
    return NETWORKS[name](**options)


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
