"""Inject observation groups into a policy, grow its layers, and carry an optimizer's state along.

They work on networks in memory and touch no file and no environment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import nn

from policykd.agents.architecture import Architecture, Encoder
from policykd.agents.injection.geometry import grown_moments, transplant
from policykd.agents.policy import Policy, check_groups, check_one_network
from policykd.agents.recurrent_policy import check_memoryless
from policykd.envs.observations import group_sizes
from policykd.envs.robots import Robot
from policykd.envs.symmetry import MirrorSymmetry, mirror_symmetry
from policykd.errors import ConfigError, ContractError, UnknownNameError, check_range
from policykd.seeding import integer_seed

MODES = ("exact", "scaled", "random")
"""Initializations of the weights from new features to old units: zero, a share of the usual one, or the usual one."""

Trained = Callable[[Policy], Sequence[Sequence[nn.Parameter]]]
"""Function that returns an optimizer's parameters in its order, group by group."""


def inject(
    policy: Policy,
    groups: Sequence[str],
    *,
    robot: Robot,
    sizes: Mapping[str, int] | None = None,
    mode: str = "exact",
    encoder: Encoder | None = None,
    scale: float = 0.01,
    seed: int = 0,
) -> Policy:
    """Return a policy that reads more observation groups.

    Args:
        policy: the policy; it is not changed.
        groups: names of the new groups; they follow the old ones, in this order.
        robot: the robot of the policy, which determines the sizes of the groups and the exchange of left and right.
        sizes: sizes of groups, for gymnasium environments, where the robot does not determine them; see
            ``Skill.group_sizes``.
        mode: ``exact``, ``scaled`` or ``random``.
        encoder: branch of one of the new groups, in actor and critic; without, new groups go into the first layer.
        scale: share of the usual initialization with which new weights of ``scaled`` begin, in [0, 1].
        seed: seed of the new weights, >= 0.

    Returns:
        The new policy, on the old one's device and in its precision.

    Raises:
        ConfigError: without a group, for a group that the policy reads already, an encoder of another group or of a
            size that does not fit, or a group without mirror image for a policy that treats left and right alike.
        UnknownNameError: for an unknown group or mode, with the close matches.
        ContractError: if the policy was not made for this robot.
    """
    factor = _factor(mode, scale)
    known = _sizes([*policy.groups, *groups], robot, sizes)
    _check_new(policy, groups, robot, known, encoder)
    added = {name: known[name] for name in groups}
    architecture = policy.architecture
    if encoder is not None:
        architecture = replace(architecture, encoders=(*architecture.encoders, encoder))
    symmetry = _injected_symmetry(policy, groups, robot)
    return _enlarged(policy, {**policy.groups, **added}, architecture, symmetry, factor, seed)


def grow(
    policy: Policy,
    *,
    hidden: Sequence[int] | None = None,
    critic_hidden: Sequence[int] | None = None,
    seed: int = 0,
) -> Policy:
    """Return a policy with wider hidden layers and the same outputs.

    New units have random incoming weights, and outgoing weights of zero to old units (the aim of Net2Net, Chen et al.,
    2016, without its copied units), so that they learn from the first update on.

    Args:
        policy: the policy; it is not changed.
        hidden: widths of the actor's hidden layers, each at least as now; None leaves them.
        critic_hidden: widths of the critic's hidden layers, with the same meaning.
        seed: seed of the new weights, >= 0.

    Returns:
        The wider policy.

    Raises:
        ConfigError: for another number of layers, or a width below the present one.
    """
    now = policy.architecture
    wider = replace(
        now,
        hidden=now.hidden if hidden is None else tuple(hidden),
        critic_hidden=now.critic_hidden if critic_hidden is None else tuple(critic_hidden),
    )
    for name in ("hidden", "critic_hidden"):
        old, new = getattr(now, name), getattr(wider, name)
        if len(new) != len(old) or any(n < o for n, o in zip(new, old, strict=True)):
            raise ConfigError(
                f"{name} is {new}; growing from {old} needs the same number of layers, each at least as wide"
            )
    return _enlarged(policy, policy.groups, wider, policy.symmetry, 0.0, seed)


def inject_optimizer_state(
    state: Mapping[str, Any], before: Policy, after: Policy, *, trained: Trained
) -> dict[str, Any]:
    """Return the state of an optimizer that continues with a larger policy.

    Adam's moments are padded with zeros, so that a step without gradient on the new weights moves the old ones as in
    the smaller policy. New columns share their tensor's number of steps: bias correction treats their zero moments as
    history, and their first steps are up to ``(1 - beta1) / sqrt(1 - beta2)`` times the step size (3 times, with the
    usual values). New parameters begin without state.

    Args:
        state: ``state_dict()`` of the optimizer of ``before``.
        before: the smaller policy.
        after: the result of :func:`inject` or :func:`grow`.
        trained: parameters of a policy in the order of the optimizer, group by group; for expert training
            :func:`policykd.agents.training.sb3_policy.trained_parameters`.

    Returns:
        A state for ``load_state_dict`` of an optimizer of ``after``.

    Raises:
        ContractError: if the state is not one of the smaller policy's optimizer.
    """
    old, new = _names(before, trained), _names(after, trained)
    if [len(group["params"]) for group in state["param_groups"]] != [len(group) for group in old]:
        raise ContractError("the optimizer's state has other parameters than the policy before injection")
    remembered = {name: state["state"][i] for i, name in enumerate(chain(*old)) if i in state["state"]}
    for name, parameter in before.named_parameters():
        moments = remembered.get(name, {})
        if any(value.ndim and value.shape != parameter.shape for value in moments.values()):
            raise ContractError(f"the optimizer's state of {name} has another shape than the policy before injection")
    grown = grown_moments(before, after, remembered)
    flat = list(chain(*new))
    places = {name: i for i, name in enumerate(flat)}
    return {
        "state": {places[name]: grown[name] for name in flat if name in grown},
        "param_groups": [
            {**group, "params": [places[name] for name in names]}
            for group, names in zip(state["param_groups"], new, strict=True)
        ],
    }


@torch.no_grad()
def largest_difference(before: Policy, after: Policy, observations: Mapping[str, torch.Tensor]) -> float:
    """Return the largest absolute difference between two policies' mean actions and values.

    Args:
        before: a policy.
        after: another one.
        observations: observation groups that both read, name to (n, size).

    Raises:
        ContractError: naming a group that is missing or has another size.
    """
    a, b = before.flatten(observations), after.flatten(observations)
    pairs = ((before(a), after(b)), (before.value(a), after.value(b)))
    return max(float((one - other).abs().max()) for one, other in pairs)


def _factor(mode: str, scale: float) -> float:
    if mode not in MODES:
        raise UnknownNameError("mode of injection", mode, MODES)
    check_range("scale", scale, 0.0, 1.0)
    return {"exact": 0.0, "scaled": scale, "random": 1.0}[mode]


def _sizes(groups: Sequence[str], robot: Robot, sizes: Mapping[str, int] | None) -> Mapping[str, int]:
    """Return the sizes of groups, which the robot determines unless it stands for a gymnasium environment."""
    if robot.family != "gymnasium":
        return group_sizes(groups, robot)
    if sizes is None:
        raise ConfigError("the sizes of a gymnasium environment's groups are missing; give sizes=skill.group_sizes")
    for name in groups:
        if name not in sizes:
            raise UnknownNameError("observation group of the environments", name, sizes)
    return sizes


def _check_new(
    policy: Policy, groups: Sequence[str], robot: Robot, sizes: Mapping[str, int], encoder: Encoder | None
) -> None:
    if not groups or len(set(groups)) != len(groups):
        raise ConfigError(f"groups are {list(groups)}; name at least one new observation group, each once")
    for name in groups:
        if name in policy.groups:
            raise ConfigError(f"the policy already reads observation group '{name}' (it reads {list(policy.groups)})")
    check_groups(policy.groups, sizes, robot.name)
    if encoder is not None and encoder.group not in groups:
        raise ConfigError(f"the encoder is of group '{encoder.group}'; it must be one of the new ones, {list(groups)}")


def _injected_symmetry(policy: Policy, groups: Sequence[str], robot: Robot) -> MirrorSymmetry | None:
    if policy.symmetry is None:
        return None
    if not policy.symmetry.exchanges_like(mirror_symmetry(list(policy.groups), robot)):
        raise ContractError(
            f"the policy expects a different left/right layout of {robot.name}'s observations; train it again or use "
            f"the version of policykd that wrote it"
        )
    symmetry = mirror_symmetry([*policy.groups, *groups], robot)
    if symmetry is None:
        raise ConfigError(
            f"the policy treats left and right alike, but one of {list(groups)} has no mirror image; "
            f"train it without symmetry (symmetric=false) to inject that group"
        )
    return replace(symmetry, lead=policy.symmetry.lead)


def _enlarged(
    policy: Policy,
    groups: Mapping[str, int],
    architecture: Architecture,
    symmetry: MirrorSymmetry | None,
    factor: float,
    seed: int,
) -> Policy:
    check_memoryless(policy, "injection")
    check_one_network(policy, "injection")
    after = Policy(groups, policy.actions, architecture, integer_seed(seed, "injection"), symmetry)
    after.to(policy.log_std)
    transplant(policy, after, factor)
    return after.train(policy.training)


def _names(policy: Policy, trained: Trained) -> list[list[str]]:
    names = {id(parameter): name for name, parameter in policy.named_parameters()}
    return [[names[id(parameter)] for parameter in group] for group in trained(policy)]
