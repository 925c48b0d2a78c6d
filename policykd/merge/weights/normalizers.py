"""Weights of policies with different normalizers, referred to one normalizer, so that they can be added.

Weights of a first layer expect features that their own normalizer has shifted and scaled: the same number means another
function under another normalizer, and the average of two such numbers means nothing. A policy is therefore first
written for the common normalizer. With ``z = (x - m) / s`` its own features and ``y = (x - M) / S`` the common ones,

    z = (S / s) y + (M - m) / s,    so    W z + b = (W S / s) y + (b + W (M - m) / s):

the first layer takes over the difference, and the function stays the same up to rounding. Only the clip of normalized
features cannot be taken over: features that are clipped under one normalizer and not under the other are an exception,
which :func:`check_reach` keeps out of the range of a policy's own states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from policykd.agents.networks import GroupEncoder, JoinedLayers, group_columns
from policykd.agents.policy import Normalizer, Policy
from policykd.errors import ContractError

LEAST_REACH = 3.0
"""Standard deviations of a policy's own features around their mean that the common normalizer must not clip."""

_UNIFORM = 1e-6  # spread of the scales and shifts of a group's features at which they count as equal


def pooled(normalizers: Sequence[Normalizer]) -> Normalizer:
    """Return the normalizer of all observations together: exact mean, variance and count.

    Each observation that a normalizer has seen counts once; those of a common ancestor count once for each descendant,
    because their statistics hold them. Features that no normalizer has seen have the mean of the given values, each
    normalizer counting the same, and a count of 0.

    Args:
        normalizers: at least one, with equal lower bounds and clips; the result has those of the first.

    Returns:
        A new normalizer, which counts features apart if any of the given ones does.
    """
    size = len(normalizers[0].mean)
    counts = torch.stack([n.count.double().expand(size) for n in normalizers])
    means = torch.stack([n.mean.double() for n in normalizers])
    variances = torch.stack([n.var.double() for n in normalizers])
    total = counts.sum(dim=0)
    weights = torch.where(total > 0, counts / total.clamp_min(1.0), 1.0 / len(normalizers))
    mean = (weights * means).sum(dim=0)
    variance = (weights * (variances + (means - mean) ** 2)).sum(dim=0)
    merged = Normalizer(size)
    merged.min_std, merged.clip = normalizers[0].min_std, normalizers[0].clip
    merged.mean.copy_(mean)
    merged.var.copy_(variance)
    if any(n.count.ndim > 0 for n in normalizers):
        merged.count_apart()
        merged.count.copy_(total)
    else:
        merged.count.copy_(total[0])
    return merged


def check_reach(policies: Mapping[str, Policy], common: Normalizer) -> None:
    """Raise unless the common normalizer leaves the usual features of every policy unclipped.

    Args:
        policies: name to policy.
        common: the normalizer of all.

    Raises:
        ContractError: naming the policy, and the feature whose usual values would be clipped.
    """
    for name, policy in policies.items():
        own = policy.normalizer
        distance = (own.mean.double() - common.mean.double()).abs()
        reach = (common.clip * _std(common) - distance) / _std(own)
        # A feature that its own normalizer clips closer than that keeps its own range.
        worst = int(reach.argmin())
        if reach[worst] < min(LEAST_REACH, own.clip):
            raise ContractError(
                f"the normalizers differ too much: {_feature(policy, worst)} has mean {float(own.mean[worst]):.3g} and "
                f"standard deviation {float(_std(own)[worst]):.3g} in {name}, and mean {float(common.mean[worst]):.3g} "
                f"and {float(_std(common)[worst]):.3g} in all policies together, where its usual values would be "
                f"clipped; distill the policies instead (policykd merge)"
            )


def referred(policy: Policy, common: Normalizer) -> dict[str, torch.Tensor]:
    """Return the parameters of a policy that does the same under another normalizer.

    Args:
        policy: the policy, without memory.
        common: the normalizer that its networks are to read.

    Returns:
        Parameter name to values, in double precision.

    Raises:
        ContractError: for a group that convolutions read and whose features are not shifted and scaled alike: one
            kernel serves all of them, and cannot take over differences between them.
    """
    own = policy.normalizer
    values = {name: value.detach().double().clone() for name, value in policy.named_parameters()}
    scale = _std(common) / _std(own)
    shift = (common.mean.double() - own.mean.double()) / _std(own)
    for network in ("actor", "critic"):
        first = getattr(policy, network)[0]
        if not isinstance(first, JoinedLayers):
            _take_over(values, f"{network}.0", scale, shift)
            continue
        columns = torch.cat([torch.arange(span.start, span.stop) for span in first.character])
        _take_over(values, f"{network}.0.layers.0", scale[columns], shift[columns])
        for k, (encoder, span) in enumerate(zip(first.encoders, first.encoded, strict=True)):
            assert isinstance(encoder, GroupEncoder)
            name = f"{network}.0.encoders.{k}"
            if len(encoder.convolutions) == 0:
                _take_over(values, f"{name}.dense", scale[span], shift[span])
            else:
                _take_over_in_kernel(values, f"{name}.convolutions.0", scale[span], shift[span], policy, span)
    return values


def _take_over(values: dict[str, torch.Tensor], layer: str, scale: torch.Tensor, shift: torch.Tensor) -> None:
    """Let the first columns of a dense layer, which read the features, take over scales and shifts (features,)."""
    weight = values[f"{layer}.weight"]
    read = weight[:, : len(scale)]
    values[f"{layer}.bias"] += read @ shift
    values[f"{layer}.weight"] = torch.cat([read * scale, weight[:, len(scale) :]], dim=1)


def _take_over_in_kernel(
    values: dict[str, torch.Tensor], layer: str, scale: torch.Tensor, shift: torch.Tensor, policy: Policy, span: slice
) -> None:
    """Let a convolution (channels, 1, width) take over one scale and one shift of all of its features."""
    for numbers in (scale, shift):
        if float(numbers.max() - numbers.min()) > _UNIFORM * (1.0 + float(numbers.abs().max())):
            raise ContractError(
                f"the normalizers differ in {_feature(policy, span.start).rpartition(',')[0]}, which convolutions "
                f"read: their weights cannot be added; distill the policies instead (policykd merge)"
            )
    kernel = values[f"{layer}.weight"]
    values[f"{layer}.bias"] += kernel.sum(dim=(1, 2)) * shift[0]
    values[f"{layer}.weight"] = kernel * scale[0]


def with_parameters(policy: Policy, values: Mapping[str, torch.Tensor], normalizer: Normalizer) -> Policy:
    """Fill a policy with parameters and a normalizer of its shape; return it."""
    if normalizer.count.ndim > policy.normalizer.count.ndim:
        policy.normalizer.count_apart()
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            parameter.copy_(values[name])
    policy.normalizer.load_state_dict(normalizer.state_dict())
    return policy


def _std(normalizer: Normalizer) -> torch.Tensor:
    """Return the standard deviations that a normalizer divides by, (features,), in double precision."""
    return normalizer.var.double().sqrt().clamp_min(normalizer.min_std)


def _feature(policy: Policy, column: int) -> str:
    """Return the name of a feature: its observation group and its number there."""
    for name, span in group_columns(policy.groups).items():
        if span.start <= column < span.stop:
            return f"observation group {name}, feature {column - span.start}"
    raise IndexError(column)
