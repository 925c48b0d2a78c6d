"""Policy: actor and critic over named observation groups, with the normalizer inside.

The normalizer is part of the network, so training, merging, evaluation and export cannot disagree on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from policykd.agents.architecture import Architecture
from policykd.agents.networks import make_actor, make_network
from policykd.envs.skills import Skill
from policykd.envs.symmetry import MirrorSymmetry
from policykd.errors import ConfigError, ContractError
from policykd.torch_seeding import seeded_torch


class Normalizer(nn.Module):
    """Feature-wise running mean and variance.

    All features share one number of observations until :meth:`count_apart`: features that are added later are counted
    separately, so that their statistics begin from nothing and do not change the others.

    Args:
        size: number of features.

    Attributes:
        mean: (size,) running mean.
        var: (size,) running variance.
        count: number of observations, of all features () or of each (size,).
        min_std: lower bound of the standard deviation. Without it, features that were constant so far (terrain on flat
            ground) would explode at their first change.
        clip: largest magnitude of a normalized feature.
    """

    min_std = 0.1
    clip = 10.0

    mean: torch.Tensor
    var: torch.Tensor
    count: torch.Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))
        self.register_buffer("count", torch.zeros(()))

    @property
    def fresh(self) -> torch.Tensor:
        """Features without statistics: boolean, () for all together or (size,)."""
        return self.count == 0

    def count_apart(self) -> None:
        """Count every feature's observations separately from here on."""
        self.count = self.count.expand(self.mean.shape).clone()

    @torch.no_grad()
    def update(self, features: torch.Tensor, only: torch.Tensor | None = None) -> None:
        """Merge the statistics of features (n, size) into the running ones (Chan et al., 1979).

        Args:
            features: (n, size).
            only: features to update, boolean, () or (size,); None for all.

        Raises:
            ConfigError: if only some features are to be updated and all share one count.
        """
        n = features.shape[0]
        if n == 0 or (only is not None and not only.any()):
            return
        chosen = torch.ones_like(self.count, dtype=torch.bool) if only is None else only
        if chosen.ndim > self.count.ndim:
            raise ConfigError(
                "features that are updated separately must be counted separately: call count_apart() first"
            )
        features = features.double()
        mean, var = features.mean(0), features.var(0, unbiased=False)
        total = self.count + n
        delta = mean - self.mean
        weight = (n / total).double()
        merged = self.var * (1 - weight) + var * weight + delta**2 * weight * (1 - weight)
        merged = torch.where(self.count > 0, merged, var)
        self.mean.copy_(torch.where(chosen, self.mean + delta * weight, self.mean))
        self.var.copy_(torch.where(chosen, merged, self.var))
        self.count.copy_(torch.where(chosen, total, self.count))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return features (n, size) with zero mean and unit variance, clipped."""
        std = self.var.sqrt().clamp_min(self.min_std)
        return ((features - self.mean) / std).clamp(-self.clip, self.clip)


class Policy(nn.Module):
    """Actor and critic over named observation groups.

    The actor's output is the mean of a diagonal Gaussian over normalized actions; the deterministic policy takes the
    mean. Actions are clamped to [-1, 1] by the environment, not here, so that distillation targets stay linear.

    With a symmetry, networks and normalizer only see a robot whose right foot is ahead: if the left foot leads, left
    and right are exchanged before them, and the actions are exchanged back after them. The policy is then exactly
    equivariant, a robot cannot learn to limp, and every stride teaches both legs. (Abdolhosseini et al., On Learning
    Symmetric Locomotion, 2019, compare such methods; this one chooses one representative per pair of mirrored states,
    which adds no computation.)

    Args:
        groups: observation groups that the policy reads, name to number of features, in the order of the input.
        actions: number of actions.
        architecture: shape of the networks.
        generator_seed: seed of the initial weights; None for torch's global stream.
        symmetry: exchange of left and right; None for a policy without symmetry.

    Raises:
        ConfigError: for no group or no action, a symmetry of other sizes, encoders that do not fit the groups, or an
            architecture with a memory, which only recurrent policies have (``recurrent_policy``).
        UnknownNameError: for an encoder of a group that is not read.
    """

    recurrent: ClassVar[bool] = False
    latent: ClassVar[bool] = False
    learns: ClassVar[bool] = True  # whether its weights decide its actions, so that it can be trained and saved

    _mirrored_features: torch.Tensor
    _mirrored_actions: torch.Tensor
    _feature_signs: torch.Tensor | None
    _action_signs: torch.Tensor | None

    def __init__(
        self,
        groups: Mapping[str, int],
        actions: int,
        architecture: Architecture = Architecture(),
        generator_seed: int | None = None,
        symmetry: MirrorSymmetry | None = None,
    ) -> None:
        super().__init__()
        if not groups or actions < 1:
            raise ConfigError(f"a policy needs observation groups and actions; got {dict(groups)} and {actions}")
        if architecture.memory is not None and not self.recurrent:
            raise ConfigError(
                "policies without a memory are trained by reinforcement learning; leave out architecture.memory, and "
                "distill the policy into one that has it: policykd merge POLICY --architecture gru"
            )
        if architecture.latent is not None and not self.latent:
            raise ConfigError(
                "policies without a latent are trained by reinforcement learning; leave out architecture.latent, and "
                "distill the policy into one that has it: policykd merge POLICY --architecture latent"
            )
        architecture.check_groups(groups)
        self.groups, self.actions, self.architecture = dict(groups), actions, architecture
        self.symmetry = symmetry
        size = sum(self.groups.values())
        if symmetry is not None:
            self._register(symmetry, size)
        with seeded_torch(generator_seed):
            self.normalizer = Normalizer(size)
            self.actor = make_actor(self.groups, architecture, actions)
            self.critic = make_network(self.groups, architecture, architecture.critic_hidden, 1, last_gain=1.0)
        self.log_std = nn.Parameter(torch.full((actions,), architecture.initial_std).log())

    def _register(self, symmetry: MirrorSymmetry, size: int) -> None:
        if (len(symmetry.features), len(symmetry.actions)) != (size, self.actions):
            raise ConfigError(
                f"the symmetry is one of {len(symmetry.features)} features and {len(symmetry.actions)} actions; "
                f"the policy has {size} and {self.actions}"
            )
        # The manifest holds them, so the weights need not; on the CPU even where a policy is built without memory.
        for name, order in (("_mirrored_features", symmetry.features), ("_mirrored_actions", symmetry.actions)):
            self.register_buffer(name, torch.tensor(order, device="cpu"), persistent=False)
        for name, signs in (("_feature_signs", symmetry.feature_signs), ("_action_signs", symmetry.action_signs)):
            values = torch.tensor(signs, device="cpu") if signs else None
            self.register_buffer(name, values, persistent=False)

    @property
    def observation_size(self) -> int:
        """Number of features over all groups."""
        return sum(self.groups.values())

    def canonical(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return observations in the frame of the networks, before normalization.

        Args:
            observations: (n, observation_size).

        Returns:
            The observations, with left and right exchanged in rows where the left foot leads, and (n,) the mask of
            these rows; None for a policy without symmetry.
        """
        if self.symmetry is None:
            return observations, None
        right, left = self.symmetry.lead
        mirrored = observations[:, left] > observations[:, right]
        exchanged = _signed(observations[:, self._mirrored_features], self._feature_signs)
        return torch.where(mirrored[:, None], exchanged, observations), mirrored

    def oriented(self, actions: torch.Tensor, mirrored: torch.Tensor | None) -> torch.Tensor:
        """Exchange left and right in the rows ``mirrored`` (n,) of actions (n, actions); its own inverse."""
        if mirrored is None:
            return actions
        exchanged = _signed(actions[:, self._mirrored_actions], self._action_signs)
        return torch.where(mirrored[:, None], exchanged, actions)

    def update_normalizer(self, observations: torch.Tensor, only: torch.Tensor | None = None) -> None:
        """Update the normalizer with observations (n, observation_size); ``only`` as in :meth:`Normalizer.update`."""
        self.normalizer.update(self.canonical(observations)[0], only)

    def present(self, skills: Sequence[Skill]) -> torch.Tensor | None:
        """Return (observation_size,) which features some skill's environment has; None if none is absent in all.

        Features of absent groups are always zero there, and must not enter the normalizer's statistics.
        """
        absent = set.intersection(*(set(skill.absent_groups) for skill in skills))
        if absent.isdisjoint(self.groups):
            return None
        found = [torch.full((size,), name not in absent) for name, size in self.groups.items()]
        return torch.cat(found).to(self.log_std.device)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return mean actions (n, actions) for flat observations (n, observation_size)."""
        features, mirrored = self.canonical(observations)
        return self.oriented(self.bounded(self.actor(self.normalizer(features))), mirrored)

    def acting_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that decide the mean actions, which imitation trains."""
        return list(self.actor.parameters())

    def bounded(self, mean: torch.Tensor) -> torch.Tensor:
        """Return the actor's output (n, actions) within the bounds that the architecture names."""
        if self.architecture.mean_clip is not None:
            mean = mean.clamp(-self.architecture.mean_clip, self.architecture.mean_clip)
        return torch.tanh(mean) if self.architecture.squash else mean

    def value(self, observations: torch.Tensor) -> torch.Tensor:
        """Return estimated returns (n,), with rewards scaled by ``1 - gamma`` so that they are in [0, 1]."""
        return self.critic(self.normalizer(self.canonical(observations)[0])).squeeze(-1)

    def distribution(self, observations: torch.Tensor) -> torch.distributions.Normal:
        """Return the Gaussian over actions, (n, actions)."""
        mirrored = self.canonical(observations)[1]
        std = self.log_std.exp().expand(len(observations), -1)
        if mirrored is not None:  # the spread of an action has no sign
            std = torch.where(mirrored[:, None], std[:, self._mirrored_actions], std)
        return torch.distributions.Normal(self(observations), std)

    def select(self, flat: torch.Tensor, columns: Mapping[str, slice]) -> torch.Tensor:
        """Return the policy's features (n, observation_size) from an environment's flat observations.

        Args:
            flat: (n, features) observation groups side by side, as ``Step.flat`` holds them.
            columns: columns of each group in ``flat``, in order, as ``Skill.columns`` gives them.

        Returns:
            The groups that the policy reads, in its order; ``flat`` itself, not a copy, if it holds exactly those.

        Raises:
            ContractError: naming the group that is missing or has another size.
        """
        sizes = {name: span.stop - span.start for name, span in columns.items()}
        if list(sizes.items()) == list(self.groups.items()):
            return flat
        check_groups(self.groups, sizes, "the environment")
        return torch.cat([flat[..., columns[name]] for name in self.groups], dim=-1)

    def flatten(self, observations: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return (n, observation_size) from observation groups, each (n, size); other groups are left out.

        Raises:
            ContractError: naming the group that is missing or has another size.
        """
        check_groups(self.groups, {name: value.shape[-1] for name, value in observations.items()}, "the environment")
        return torch.cat([observations[name] for name in self.groups], dim=-1)

    @torch.no_grad()
    def act(self, observations: Mapping[str, ArrayLike] | ArrayLike) -> np.ndarray:
        """Return mean actions for observations as arrays: the policy in a loop of your own.

        :meth:`policykd.agents.files.manifest.Manifest.targets` makes joint positions, or the actions of a gymnasium
        environment, of them; ``policykd describe`` prints what each input is.

        Args:
            observations: the observation groups by name, each (size,) or (n, size), or all groups side by side in the
                policy's order, (observation_size,) or (n, observation_size).

        Returns:
            (actions,) or (n, actions) float32; policykd's environments clamp them to [-1, 1].

        Raises:
            ContractError: naming the group that is missing or has another size, or the feature that is not finite; for
                a policy with a memory, which acts through :class:`policykd.agents.acting.Acting`.
        """
        if self.recurrent:
            raise ContractError("the policy has a memory: let policykd.agents.acting.Acting(policy) keep its state")
        if isinstance(observations, Mapping):
            flat = self.flatten({name: torch.from_numpy(_rows(value)) for name, value in observations.items()})
        else:
            flat = torch.from_numpy(_rows(observations))
            if flat.shape[-1] != self.observation_size:
                wanted = " + ".join(f"{name} {size}" for name, size in self.groups.items())
                raise ContractError(f"observations have {flat.shape[-1]} features; {wanted} are needed, in this order")
        self._check_finite(flat)
        actions = self(flat.reshape(-1, self.observation_size).to(self.log_std.device))
        return actions.reshape(*flat.shape[:-1], self.actions).cpu().numpy()

    def _check_finite(self, flat: torch.Tensor) -> None:
        bad = (~torch.isfinite(flat)).reshape(-1, self.observation_size).any(0).nonzero()
        if len(bad):
            column = int(bad[0])
            for name, size in self.groups.items():
                if column < size:
                    raise ContractError(f"feature {column} of observation group {name} is NaN or infinite")
                column -= size


def _rows(values: ArrayLike) -> np.ndarray:
    """Return one observation (size,) or several (n, size) as float32."""
    rows = np.asarray(values, dtype=np.float32)
    if rows.ndim not in (1, 2):
        raise ContractError(f"observations have the shape {rows.shape}; (features,) or (n, features) is needed")
    return rows


def check_one_network(policy: Policy, operation: str, *, mixture: bool = False) -> None:
    """Raise ContractError for a policy whose actor is not one network that reads the observations.

    Args:
        policy: the policy.
        operation: what needs one network, for the message: ``policykd inject``.
        mixture: whether a mixture of experts counts as one.
    """
    parts = {"latent": "a latent"} if mixture else {"latent": "a latent", "mixture": "a mixture of experts"}
    for part, what in parts.items():
        if getattr(policy.architecture, part) is not None:
            raise ContractError(
                f"{operation} needs one network from observations to actions; this policy has {what}: it can be "
                f"evaluated, exported and teach; distill it first (policykd merge POLICY --out STUDENT)"
            )


def check_groups(needed: Mapping[str, int], offered: Mapping[str, int], where: str) -> None:
    """Raise unless every needed observation group is offered with its size.

    Args:
        needed: groups that a policy reads.
        offered: groups that are available; they may be more than needed.
        where: source of the groups, for messages.

    Raises:
        ContractError: naming the group and both sizes.
    """
    for name, size in needed.items():
        if name not in offered:
            have = ", ".join(f"{k} ({v})" for k, v in offered.items())
            raise ContractError(f"the policy reads observation group '{name}' ({size}); {where} offers only {have}")
        if offered[name] != size:
            raise ContractError(
                f"observation group '{name}' has {offered[name]} features in {where}; the policy reads {size}"
            )


def _signed(values: torch.Tensor, signs: torch.Tensor | None) -> torch.Tensor:
    """Return values (n, size) times signs (size,); the values themselves without signs."""
    return values if signs is None else values * signs
