"""Positions of a policy's weights in a larger policy, which injection and growth share.

Every dense layer's columns have names (observation groups, ``hidden``, ``encoding of <group>``), and a larger policy
holds the columns of each name of the smaller one first. An optimizer's moments move with their weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from policykd.agents.networks import dense_layers, group_columns
from policykd.agents.policy import Policy


@dataclass(frozen=True)
class Place:
    """Position of a tensor of the smaller policy in a tensor of the larger one.

    Attributes:
        source: name of the smaller policy's tensor.
        columns: pairs of column ranges, in the smaller and in the larger tensor; None for tensors without named
            columns, which are at the beginning of the larger one.
    """

    source: str
    columns: tuple[tuple[slice, slice], ...] | None = None

    def put(self, small: torch.Tensor, large: torch.Tensor) -> None:
        """Copy a tensor of the smaller policy, or one shaped like it, to its place in the larger one."""
        if self.columns is None:
            large[tuple(slice(size) for size in small.shape)] = small
            return
        for source, target in self.columns:
            large[: len(small), target] = small[:, source]


def places(before: Policy, after: Policy) -> dict[str, Place]:
    """Return the places of all parameters of ``before`` in ``after``, by the name of the parameter in ``after``.

    Args:
        before: the smaller policy.
        after: the larger one; it has the groups, encoders and layers of the smaller one, and may have more groups,
            more encoders and wider layers.
    """
    found = {"log_std": Place("log_std")}
    for network in ("actor", "critic"):
        found.update(_dense_places(network, before, after))
        for i, encoder in enumerate(before.architecture.encoders):
            k = after.architecture.encoders.index(encoder)
            found |= {
                f"{network}.0.encoders.{k}.{name}": Place(f"{network}.0.encoders.{i}.{name}")
                for name, _ in getattr(before, network)[0].encoders[i].named_parameters()
            }
    return found


def _dense_places(network: str, before: Policy, after: Policy) -> dict[str, Place]:
    found = {}
    names, inputs = zip(
        *((dense_layers(getattr(p, network)), _inputs(p, network)) for p in (before, after)), strict=True
    )
    for old, new, old_inputs, new_inputs in zip(*names, *inputs, strict=True):
        sources, targets = group_columns(old_inputs), group_columns(new_inputs)
        columns = tuple(
            (source, slice(targets[name].start, targets[name].start + old_inputs[name]))
            for name, source in sources.items()
        )
        found[f"{network}.{new}.weight"] = Place(f"{network}.{old}.weight", columns)
        found[f"{network}.{new}.bias"] = Place(f"{network}.{old}.bias")
    return found


def _inputs(policy: Policy, network: str) -> list[dict[str, int]]:
    shape = policy.architecture
    return shape.layer_inputs(policy.groups, shape.hidden if network == "actor" else shape.critic_hidden)


@torch.no_grad()
def transplant(before: Policy, after: Policy, factor: float) -> None:
    """Give a larger policy the weights, the noise and the normalizer's statistics of a smaller one.

    Args:
        before: the smaller policy; see :func:`places`.
        after: the larger one, with fresh weights; changed in place.
        factor: factor on the fresh weights from new features, encodings and units to old units; 0 keeps the outputs.
    """
    old, new = dict(before.named_parameters()), dict(after.named_parameters())
    for name, place in places(before, after).items():
        if place.columns is not None:
            new[name][: len(old[place.source])] *= factor
        place.put(old[place.source], new[name])
    _transplant_normalizer(before, after)


def _transplant_normalizer(before: Policy, after: Policy) -> None:
    source, target = before.normalizer, after.normalizer
    target.min_std, target.clip = source.min_std, source.clip
    if before.groups == after.groups:
        target.count = source.count.clone()
    else:
        target.count_apart()
    sources, targets = group_columns(before.groups), group_columns(after.groups)
    for name, span in sources.items():
        target.mean[targets[name]] = source.mean[span]
        target.var[targets[name]] = source.var[span]
        if target.count.ndim:
            target.count[targets[name]] = source.count.expand(source.mean.shape)[span]


def grown_moments(
    before: Policy, after: Policy, state: Mapping[str, Mapping[str, torch.Tensor]]
) -> dict[str, dict[str, torch.Tensor]]:
    """Return an optimizer's state of each parameter, carried over to a larger policy.

    Args:
        before: the smaller policy.
        after: the larger one.
        state: by name of the parameter in ``before``, the optimizer's tensors: those of the parameter's shape, such as
            Adam's moments, grow with zeros; others, such as the number of steps, are kept.

    Returns:
        The same by name of the parameter in ``after``; new parameters have no entry, so that the optimizer begins
        without state there.
    """
    old, new = dict(before.named_parameters()), dict(after.named_parameters())
    grown: dict[str, dict[str, torch.Tensor]] = {}
    for name, place in places(before, after).items():
        if place.source not in state:
            continue
        grown[name] = {}
        for key, value in state[place.source].items():
            if value.shape == old[place.source].shape:
                grown[name][key] = torch.zeros_like(new[name], dtype=value.dtype, requires_grad=False)
                place.put(value, grown[name][key])
            else:
                grown[name][key] = value.clone()
    return grown
