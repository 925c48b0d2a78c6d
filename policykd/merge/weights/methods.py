"""Methods that combine weights: average, task arithmetic, TIES and DARE.

They work on parameters by name, in double precision, and know neither files nor policies. All of them take the mean of
``log_std``: the spread of the exploration is not part of what a policy does, and a sum of deltas would let it vanish.

* ``average``: the mean (model soups: Wortsman et al., 2022).
* ``task-arithmetic``: ancestor + scale * sum of the deltas over it (Ilharco et al., Editing Models with Task
  Arithmetic, 2023).
* ``ties``: of each delta the share ``density`` with the largest magnitudes is kept; every entry takes the sign of the
  kept deltas' sum; the deltas of that sign are averaged; ancestor + scale * that (Yadav et al., TIES-Merging, 2023).
  Departures: shares are taken of the actor and of the critic apart, because returns and actions have different units;
  an entry whose kept deltas sum to 0 stays as in the ancestor, where the paper's code takes the more frequent sign.
  Magnitudes are those of weights that read features under the policies' common normalizer.
* ``dare``: every entry of a delta is dropped with probability 1 - density, the others are divided by density; then as
  task arithmetic (Yu et al., Language Models are Super Mario, 2024). No departure but the seeded draws.

Symmetries of networks are not searched: hidden units of policies that were not trained from one ancestor do not
correspond to each other, and their average seldom does what either of them did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from policykd.errors import ConfigError
from policykd.merge.weights.config import WeightMergeConfig
from policykd.seeding import generator

Parameters = Mapping[str, torch.Tensor]
"""Parameters of a policy by name, in double precision."""

_AVERAGED = "log_std"


def combine(policies: Sequence[Parameters], ancestor: Parameters | None, config: WeightMergeConfig) -> Parameters:
    """Return the merged parameters.

    Args:
        policies: parameters of the policies, referred to one normalizer.
        ancestor: those of their common ancestor, referred to it, too; for methods with deltas.
        config: method, scale, density and seed.

    Raises:
        ConfigError: if the ancestor of a method with deltas is missing.
    """
    config = config.resolved()
    mean = {name: torch.stack([p[name] for p in policies]).mean(dim=0) for name in policies[0]}
    if not config.needs_ancestor:
        return mean
    if ancestor is None or config.scale is None:
        raise ConfigError(f"method {config.method} adds up deltas over a common ancestor; give one")
    merged = {_AVERAGED: mean[_AVERAGED]}
    for part in ("actor", "critic"):
        names = [name for name in policies[0] if name.startswith(f"{part}.")]
        base = _flat(ancestor, names)
        deltas = torch.stack([_flat(p, names) - base for p in policies])
        combined = base + config.scale * _combined(deltas, part, config)
        merged |= _unflat(combined, ancestor, names)
    return merged


def sign_conflicts(policies: Sequence[Parameters], ancestor: Parameters) -> float:
    """Return the share of the actor's parameters that some policies moved up and others down from their ancestor."""
    names = [name for name in ancestor if name.startswith("actor.")]
    deltas = torch.stack([_flat(p, names) for p in policies]) - _flat(ancestor, names)
    return float(((deltas > 0).any(dim=0) & (deltas < 0).any(dim=0)).double().mean())


def delta_norm(policy: Parameters, ancestor: Parameters) -> float:
    """Return the Euclidean norm of the actor's delta over the ancestor."""
    names = [name for name in ancestor if name.startswith("actor.")]
    return float((_flat(policy, names) - _flat(ancestor, names)).norm())


def trimmed(deltas: torch.Tensor, density: float) -> torch.Tensor:
    """Return deltas (policies, n) of which only the largest magnitudes are kept, in each row the same number.

    Args:
        deltas: (policies, n).
        density: share that is kept; at least one entry is.
    """
    count = max(1, round(density * deltas.shape[1]))
    kept = torch.zeros_like(deltas)
    largest = deltas.abs().topk(count, dim=1).indices
    return kept.scatter(1, largest, deltas.gather(1, largest))


def elected_mean(deltas: torch.Tensor) -> torch.Tensor:
    """Return (n,) the mean over those of the deltas (policies, n) that have the sign of their sum; 0 where it is 0."""
    agree = deltas.sign() == deltas.sum(dim=0).sign()  # where the sum is 0, only zeros agree
    return (deltas * agree).sum(dim=0) / agree.sum(dim=0).clamp_min(1)


def dropped(deltas: torch.Tensor, density: float, seed: int, part: str) -> torch.Tensor:
    """Return deltas (policies, n) whose entries are dropped at random and rescaled, so that their mean stays the same.

    Args:
        deltas: (policies, n).
        density: probability that an entry is kept.
        seed: seed of the draws; those of each policy and part are independent.
        part: ``actor`` or ``critic``.
    """
    rows = [generator(seed, "dare", part, i).random(deltas.shape[1]) < density for i in range(len(deltas))]
    return deltas * torch.stack([torch.from_numpy(row) for row in rows]) / density


def _combined(deltas: torch.Tensor, part: str, config: WeightMergeConfig) -> torch.Tensor:
    """Return the combined delta (n,) of a part of the networks, before it is scaled."""
    if config.density is None:
        return deltas.sum(dim=0)
    if config.method == "ties":
        return elected_mean(trimmed(deltas, config.density))
    return dropped(deltas, config.density, config.seed, part).sum(dim=0)


def _flat(parameters: Parameters, names: Sequence[str]) -> torch.Tensor:
    return torch.cat([parameters[name].flatten() for name in names])


def _unflat(values: torch.Tensor, shapes: Parameters, names: Sequence[str]) -> dict[str, torch.Tensor]:
    parts = values.split([shapes[name].numel() for name in names])
    return {name: part.reshape(shapes[name].shape) for name, part in zip(names, parts, strict=True)}
