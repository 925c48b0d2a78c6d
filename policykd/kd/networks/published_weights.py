"""Weights of networks that RepDistiller and mdistiller trained, loaded into ours.

Both name their layers alike. A file is read with ``weights_only``, so that it can hold tensors but no code.
"""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from policykd.errors import ConfigError, PolicykdError
from policykd.kd.networks.mobilenet import MobileNetV2
from policykd.kd.networks.resnet import ResNet
from policykd.kd.networks.shufflenet import ShuffleNetV1, ShuffleNetV2
from policykd.kd.networks.vgg import VGG
from policykd.kd.networks.wrn import WideResNet

Network = TypeVar("Network", bound=nn.Module)


class WeightsError(PolicykdError, ValueError):
    """A file of weights that cannot be read, or whose tensors do not fit the network."""


_BRANCH = ("branch.0", "branch.2", "branch.3")
_STRIDED = ("shortcut.0", "shortcut.1", *_BRANCH)
_GROUPED = ("reduce.0", "depthwise", "expand")
_INVERTED = ("expand.0", "expand.1", "depthwise.0", "depthwise.1", "project.0", "project.1")
_SHARED = ((r"^module\.", ""),)
_RENAMED: Mapping[type[nn.Module], tuple[tuple[str, str], ...]] = {
    ResNet: (
        (r"^conv1\.", "stem.0."),
        (r"^bn1\.", "stem.1."),
        (r"^(layer\d+\.\d+)\.bn(\d)\.", r"\1.norm\2."),
        (r"\.downsample\.", ".shortcut."),
    ),
    WideResNet: (
        (r"^conv1\.", "stem."),
        (r"^bn1\.", "act.0."),
        (r"^block(\d+)\.layer\.(\d+)\.bn(\d)\.", r"layer\1.\2.norm\3."),
        (r"^block(\d+)\.layer\.", r"layer\1."),
        (r"\.convShortcut\.", ".shortcut."),
    ),
    ShuffleNetV2: (
        *((rf"^(layer\d+\.0)\.conv{k}\.", rf"\1.{place}.0.") for k, place in enumerate(_STRIDED, 1)),
        *((rf"^(layer\d+\.0)\.bn{k}\.", rf"\1.{place}.1.") for k, place in enumerate(_STRIDED, 1)),
        *((rf"^(layer\d+\.\d+)\.conv{k}\.", rf"\1.{place}.0.") for k, place in enumerate(_BRANCH, 1)),
        *((rf"^(layer\d+\.\d+)\.bn{k}\.", rf"\1.{place}.1.") for k, place in enumerate(_BRANCH, 1)),
        (r"^conv1\.", "stem.0.0."),
        (r"^bn1\.", "stem.0.1."),
        (r"^conv2\.", "head.0.0."),
        (r"^bn2\.", "head.0.1."),
        (r"^linear\.", "fc."),
    ),
    ShuffleNetV1: (
        *((rf"^(layer\d+\.\d+)\.conv{k}\.", rf"\1.{unit}.0.") for k, unit in enumerate(_GROUPED, 1)),
        *((rf"^(layer\d+\.\d+)\.bn{k}\.", rf"\1.{unit}.1.") for k, unit in enumerate(_GROUPED, 1)),
        (r"^conv1\.", "stem.0.0."),
        (r"^bn1\.", "stem.0.1."),
        (r"^linear\.", "fc."),
    ),
    MobileNetV2: (
        *(
            (rf"^blocks\.{stage}\.(\d+)\.conv\.{place}\.", rf"layer{stage + 1}.\1.{unit}.")
            for stage in range(7)
            for place, unit in zip((0, 1, 3, 4, 6, 7), _INVERTED, strict=True)
        ),
        (r"^conv1\.", "stem."),
        (r"^conv2\.", "head."),
        (r"^classifier\.0\.", "fc."),
    ),
    VGG: ((r"^classifier\.", "fc."), *((rf"^block{n}\.", f"layer{n + 1}.") for n in range(5))),
}


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint: of its entry ``model`` or ``state_dict``, or of the file itself.

    Besides tensors and plain values only ``argparse.Namespace`` is accepted, in which RepDistiller keeps its options.

    Raises:
        WeightsError: The file is missing or damaged, asks for other classes, or holds no tensors.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{path} cannot be read as weights without running code from it: {reason}") from None
    for entry in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(entry), Mapping):
            content = content[entry]
            break
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{path} holds no state dict: expected tensors by name, or an entry model or state_dict")
    return dict(content)


def load_published(network: Network, weights: Mapping[str, Tensor] | str | Path) -> Network:
    """Load weights of RepDistiller or mdistiller into a network of the same family and size.

    The families ``ResNet``, ``WideResNet``, ``VGG`` and ``ShuffleNetV2`` compute the same function on 32 x 32 images
    here and there; ``MobileNetV2`` and ``ShuffleNetV1`` do in the variant ``repdistiller``, and are refused in another.

    Args:
        network: The network, for example ``create("resnet8x4", classes=100)``.
        weights: Tensors by their names there, or the file.

    Returns:
        The network.

    Raises:
        ConfigError: The network is of another family or variant.
        WeightsError: The file cannot be read, or names or shapes do not fit; nothing was loaded then.
    """
    rules = next((rules for kind, rules in _RENAMED.items() if isinstance(network, kind)), None)
    if rules is None:
        known = ", ".join(kind.__name__ for kind in _RENAMED)
        raise ConfigError(f"weights of others can be loaded into {known}, not into a {type(network).__name__}")
    if getattr(network, "variant", "repdistiller") != "repdistiller":
        kind = type(network).__name__
        raise ConfigError(
            f'their {kind} is another network than that of the paper: make {kind}(variant="repdistiller")'
        )
    given = weights if isinstance(weights, Mapping) else read_weights(weights)
    renamed = {_renamed(name, rules): value for name, value in given.items()}
    own = network.state_dict()
    renamed |= {name: own[name] for name in own if name.endswith("num_batches_tracked") and name not in renamed}
    _check(type(network).__name__, own, renamed)
    network.load_state_dict(renamed)
    return network


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in (*_SHARED, *rules):
        name = re.sub(pattern, replacement, name)
    return name


def _check(kind: str, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    missing, unknown = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    if missing or unknown:
        raise WeightsError(
            f"the weights do not fit this {kind}: {len(missing)} tensors are missing ({', '.join(missing[:3])}), "
            f"{len(unknown)} are unknown ({', '.join(unknown[:3])}); compare depth and family"
        )
    for name, tensor in own.items():
        if tensor.shape != given[name].shape:
            shapes = f"{tuple(given[name].shape)}, expected {tuple(tensor.shape)}"
            raise WeightsError(f"the weights do not fit this {kind}: {name} is {shapes}; compare widths and classes")
