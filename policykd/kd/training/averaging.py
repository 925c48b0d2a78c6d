"""Averages of a student's weights over a training: exponential moving (EMA) and stochastic weight averaging (SWA).

It reads the student's weights and writes only its own copies.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from policykd.errors import ConfigError, check_range
from policykd.kd.objective.inputs import Inputs, call_network
from policykd.kd.options import check_choice


@dataclass(frozen=True)
class Averaging:
    """How weights are averaged; validation, selection and export then use the average.

    Attributes:
        kind: ``"ema"``: after every step ``a = decay a + (1 - decay) w``; ``"swa"``: the mean over the ends of epochs
            (Izmailov et al., UAI 2018).
        decay: Decay of ``"ema"``, in [0, 1).
        start: Epochs of the stage before the average begins.
        refresh: Compute the running statistics of batch normalization for the averaged weights, by a pass over the
            training data without augmentation; otherwise they are averaged like weights. None does so for ``"swa"``.

    Raises:
        ConfigError: A field is out of range.
    """

    kind: Literal["ema", "swa"] = "ema"
    decay: float = 0.999
    start: int = 0
    refresh: bool | None = None

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, ("ema", "swa"))
        check_range("start", self.start, 0, 1_000_000)
        if not 0 <= self.decay < 1:
            raise ConfigError(f"decay must be in [0, 1), got {self.decay!r}")

    @property
    def refreshes(self) -> bool:
        """Whether the statistics of batch normalization are computed for the averaged weights."""
        return self.kind == "swa" if self.refresh is None else self.refresh


class WeightAverage:
    """The running average of a network's weights and floating-point buffers.

    Args:
        averaging: The kind of average.
    """

    def __init__(self, averaging: Averaging) -> None:
        self.averaging = averaging
        self.count = 0
        self.values: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take the network's present weights into the average."""
        state = network.state_dict()
        self.count += 1
        if self.count == 1:
            self.values = {name: value.clone() for name, value in state.items()}
            return
        share = 1.0 / self.count if self.averaging.kind == "swa" else 1.0 - self.averaging.decay
        for name, value in state.items():
            if value.is_floating_point():
                self.values[name].lerp_(value, share)
            else:
                self.values[name].copy_(value)

    def network(self, network: nn.Module, inputs: Iterable[Inputs], frozen: Iterable[str] = ()) -> nn.Module:
        """Return a copy of the network with averaged weights, in eval mode.

        Args:
            network: The network, unwrapped.
            inputs: Inputs of the training data, read only if statistics are computed for the averaged weights.
            frozen: Paths of layers whose statistics stay.
        """
        averaged = copy.deepcopy(network)
        averaged.load_state_dict(self.values)
        if self.averaging.refreshes:
            refresh_statistics(averaged, inputs, frozen)
        return averaged.eval()

    def state_dict(self) -> dict[str, Any]:
        """Return the average for a checkpoint."""
        return {"count": self.count, "values": dict(self.values)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the average that ``state_dict`` gave."""
        self.count, self.values = int(state["count"]), dict(state["values"])


@torch.no_grad()
def refresh_statistics(network: nn.Module, inputs: Iterable[Inputs], frozen: Iterable[str] = ()) -> None:
    """Compute the running statistics of batch normalization as the mean over batches; nothing else is in train mode.

    Args:
        network: The network, changed in place and left in eval mode.
        inputs: Batches of inputs.
        frozen: Paths of layers whose statistics stay.
    """
    kept = set(frozen)
    norms = [
        layer
        for path, layer in network.named_modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats and path not in kept
    ]
    network.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    if norms:
        for x in inputs:
            call_network(network, x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
