"""Policies whose input and output columns are reordered: weights, exploration noise, normalizer and symmetry.

It works on networks in memory and reads no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from policykd.agents.architecture import WRAPPERS
from policykd.agents.latent_policy import LatentPolicy
from policykd.agents.networks import ExpertMixture, GroupEncoder, JoinedLayers
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import RecurrentPolicy, make_policy
from policykd.agents.remapping.orders import Orders
from policykd.envs.symmetry import MirrorSymmetry
from policykd.errors import ContractError


@torch.no_grad()
def reordered(policy: Policy, orders: Orders) -> Policy:
    """Return a policy that gives the same actions for the same features, both in another order.

    Every weight is one of the policy's, at another place; sums run in another order, so that actions are equal up to
    the rounding of single precision.

    Args:
        policy: the policy; it is not changed.
        orders: the new orders, of the policy's groups and actions.

    Returns:
        The new policy, on the old one's device and in its precision.

    Raises:
        ContractError: for an encoder with convolutions over a group whose order changes, or a memory that is a
            wrapper of an imported policy.
    """
    _check(policy, orders)
    symmetry = None if policy.symmetry is None else _conjugated(policy.symmetry, orders)
    after = make_policy(policy.groups, policy.actions, policy.architecture, 0, symmetry).to(policy.log_std)
    if policy.normalizer.count.ndim:
        after.normalizer.count_apart()
    after.normalizer.min_std, after.normalizer.clip = policy.normalizer.min_std, policy.normalizer.clip
    after.load_state_dict(policy.state_dict())
    for name in ("mean", "var", "count"):
        value = getattr(after.normalizer, name)
        value.copy_(value[orders.features] if value.ndim else value)
    after.log_std.copy_(after.log_std[list(orders.actions)])
    _reorder_inputs(after, orders)
    _reorder_outputs(after.actor, orders.actions)
    return after.train(policy.training)


def _check(policy: Policy, orders: Orders) -> None:
    memory = policy.architecture.memory
    if memory is not None and memory.kind in WRAPPERS:
        raise ContractError(
            f"the policy has a memory of kind {memory.kind}, which cannot be reordered; distill it first (policykd "
            f"merge POLICY --out STUDENT)"
        )
    for encoder in policy.architecture.encoders:
        if encoder.channels and orders.changes(encoder.group):
            raise ContractError(
                f"the policy has convolutions over observation group {encoder.group}, whose features have another "
                f"order in the robot; distill it into a student without them (policykd merge POLICY --out STUDENT)"
            )


def _conjugated(symmetry: MirrorSymmetry, orders: Orders) -> MirrorSymmetry:
    """Return the exchange of left and right in the new orders; the same pair of features leads."""
    features, actions = orders.features, list(orders.actions)
    place, action_place = ({old: new for new, old in enumerate(order)} for order in (features, actions))
    right, left = symmetry.lead
    return MirrorSymmetry(
        features=tuple(place[symmetry.features[i]] for i in features),
        actions=tuple(action_place[symmetry.actions[i]] for i in actions),
        lead=(place[right], place[left]),
        feature_signs=tuple(symmetry.feature_signs[i] for i in features) if symmetry.feature_signs else (),
        action_signs=tuple(symmetry.action_signs[i] for i in actions) if symmetry.action_signs else (),
    )


def _reorder_inputs(policy: Policy, orders: Orders) -> None:
    """Reorder what reads observations: actor, critic, memory, and the networks around a latent."""
    groups, shape = policy.groups, policy.architecture
    _reorder_first(policy.critic, groups, orders)
    if isinstance(policy, RecurrentPolicy):
        if len(policy.front):
            _reorder_first(policy.front, groups, orders)
        else:
            assert isinstance(policy.memory, nn.RNNCellBase)
            _reorder_columns(policy.memory.weight_ih, groups, orders)
        return
    _reorder_first(policy.actor, shape.actor_inputs(groups), orders)
    if isinstance(policy, LatentPolicy):
        assert shape.latent is not None
        for network, names in ((policy.adaptation, shape.latent.history), (policy.encoder, shape.latent.privileged)):
            if names:
                _reorder_first(network, {name: groups[name] for name in names}, orders)


def _reorder_first(network: nn.Sequential, sizes: Mapping[str, int], orders: Orders) -> None:
    """Reorder the columns of a network's first layers, which read blocks, name to size."""
    first = network[0]
    if isinstance(first, ExpertMixture):
        for part in (first.gate, *first.experts):
            assert isinstance(part, nn.Sequential)
            _reorder_first(part, sizes, orders)
    elif isinstance(first, JoinedLayers):
        own = {name: size for name, size in sizes.items() if name not in first.encoded_names}
        lowest = first.layers[0]
        assert isinstance(lowest, nn.Linear)
        _reorder_columns(lowest.weight, own, orders)
        for name, encoder in zip(first.encoded_names, first.encoders, strict=True):
            assert isinstance(encoder, GroupEncoder)
            if orders.changes(name):  # one without convolutions
                _reorder_columns(encoder.dense.weight, {name: sizes[name]}, orders)
    else:
        assert isinstance(first, nn.Linear)
        _reorder_columns(first.weight, sizes, orders)


def _reorder_columns(weight: torch.Tensor, sizes: Mapping[str, int], orders: Orders) -> None:
    """Reorder the first columns of a weight (outputs, inputs), which belong to blocks; others keep their places."""
    columns: list[int] = []
    for name, size in sizes.items():
        columns += [len(columns) + i for i in orders.groups.get(name, range(size))]
    weight[:, : len(columns)] = weight[:, columns]


def _reorder_outputs(actor: nn.Sequential, actions: Sequence[int]) -> None:
    first = actor[0]
    if isinstance(first, ExpertMixture):
        for expert in first.experts:
            assert isinstance(expert, nn.Sequential)
            _reorder_outputs(expert, actions)
        return
    last = actor[-1]
    assert isinstance(last, nn.Linear)
    last.weight.copy_(last.weight[list(actions)])
    last.bias.copy_(last.bias[list(actions)])
