"""Which ground heights decide a walking policy's next action: masks over blocks of its terrain scan.

It records a policy in simulation, explains moments of the record with ``policykd.kd.mask_explanations`` and judges the
explanations as the system ``in_distribution_interpretability`` does. Heiss et al. (2020, arXiv 2007.00758).

    policykd kd run policykd.report.terrain_relevance:EXPERIMENT                    # trains a small policy first
    policykd kd run policykd.report.terrain_relevance:EXPERIMENT --set policy=experts/steps
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor
from typing_extensions import override

from policykd.errors import ConfigError
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Temperature, Weight
from policykd.kd.experiments.system import System, higher, lower
from policykd.kd.mask_explanations import (
    ConstantFill,
    Fill,
    GaussianFill,
    IndependentFill,
    NeighborFill,
    distortion,
    gradient_relevance,
    largest_mask,
    relevance,
)
from policykd.plain import Limits, check_limits
from policykd.seeding import generator, integer_seed

if TYPE_CHECKING:
    from policykd.agents.policy import Policy


@dataclass(frozen=True)
class TerrainRecipe:
    """A planar robot's policy, its record, and the explanations.

    Attributes:
        skill: The skill that is recorded; its policy must read the group ``terrain``.
        policy: Folder of a trained policy; empty to train one on the skill.
        train_steps: Environment steps of that training; all seeds explain the one policy.
        simulations: Simulations of the record; half of them are for the fills, half are explained.
        recorded_steps: Steps of the record.
        blocks: Blocks of neighboring heights that a mask keeps or hides.
        explained: Moments that are explained per seed, of the third with the most uneven ground.
        size_weight: lambda, price of a block in shares of the distortion of hiding all.
        mask_steps: Optimizer steps of a mask.
        mask_draws: Masks per step.
        mask_temperature: Temperature of the masks.
        kept: Blocks that a mask keeps when it is judged.
        judged_draws: Completions that judge a mask.

    Raises:
        ConfigError: A field is out of range.
    """

    skill: str = "biped/steps"
    policy: str = ""
    train_steps: Annotated[int, Limits(1000, 10**9)] = 400_000
    simulations: Annotated[int, Limits(4, 10_000)] = 24
    recorded_steps: Annotated[int, Limits(10, 100_000)] = 150
    blocks: Annotated[int, Limits(2, 50)] = 10
    explained: Annotated[int, Limits(1, 1000)] = 6
    size_weight: Weight = 0.02
    mask_steps: Annotated[int, Limits(1, 100_000)] = 150
    mask_draws: Annotated[int, Limits(1, 10_000)] = 16
    mask_temperature: Temperature = 0.1
    kept: Annotated[int, Limits(1, 49)] = 3
    judged_draws: Annotated[int, Limits(1, 100_000)] = 200

    def __post_init__(self) -> None:
        check_limits(self)
        if self.kept >= self.blocks:
            raise ConfigError(f"kept is {self.kept}; it must be below blocks ({self.blocks})")


@lru_cache(maxsize=2)
def walking_policy(skill: str, folder: str, steps: int) -> Policy:
    """Return a policy from a folder or, without one, a policy that was trained on a skill for a number of steps."""
    from policykd.agents.files.policy_file import load_policy
    from policykd.agents.training.config import TrainConfig
    from policykd.agents.training.experts import train_expert
    from policykd.envs.skills import get_skill

    if folder:
        return load_policy(Path(folder)).policy
    with tempfile.TemporaryDirectory() as made:
        result = train_expert([get_skill(skill)], Path(made) / "expert", TrainConfig(steps=steps))
        return load_policy(result.policy_path).policy


@torch.no_grad()
def recorded(policy: Policy, recipe: TerrainRecipe, seed: int) -> Tensor:
    """Return the policy's observations ``(steps, simulations, n)`` while it walks."""
    from policykd.agents.acting import Acting
    from policykd.envs.make import make_env
    from policykd.envs.skills import get_skill

    skill = get_skill(recipe.skill)
    env = make_env([skill], recipe.simulations, seed=integer_seed(seed, "terrain relevance", "tracks"), threads=1)
    flat, act, rows = torch.cat(list(env.reset().values()), -1), Acting(policy), []
    for _ in range(recipe.recorded_steps):
        observations = policy.select(flat, skill.columns)
        rows.append(observations.clone())
        flat = env.step(act(observations)).flat
    return torch.stack(rows)


def terrain_columns(policy: Policy) -> slice:
    """Return the columns of the terrain scan in a policy's observations.

    Raises:
        ConfigError: The policy does not read it.
    """
    from policykd.agents.networks import group_columns

    columns = group_columns(policy.groups)
    if "terrain" not in columns:
        raise ConfigError(f"the policy reads {', '.join(policy.groups)}; explaining the ground needs the group terrain")
    return columns["terrain"]


@dataclass(frozen=True)
class Part:
    """A fill of some columns of an input whose other columns are kept.

    Attributes:
        fill: Fills whole inputs.
        whole: The whole input ``(n,)``.
        columns: Columns that may be hidden.
    """

    fill: Fill
    whole: Tensor
    columns: slice

    def __call__(self, x: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Return the columns of full inputs; see :class:`policykd.kd.mask_explanations.Fill`."""
        kept = torch.ones(len(mask), len(self.whole))
        kept[:, self.columns] = mask
        return self.fill(self.whole, kept, generator)[:, self.columns]


class Explainer:
    """One policy and its record, standardized: fills, network, explanations and their judge.

    Args:
        policy: The policy.
        record: Observations ``(steps, simulations, n)``; the first half of the simulations is for the fills.
        recipe: The configuration.
        seed: The seed.
    """

    def __init__(self, policy: Policy, record: Tensor, recipe: TerrainRecipe, seed: int) -> None:
        self.policy, self.recipe, self.seed, self.columns = policy, recipe, seed, terrain_columns(policy)
        half = record.shape[1] // 2
        known, self.open = record[:, :half].flatten(0, 1), record[:, half:].flatten(0, 1)
        self.mean, self.spread = known.mean(0), known.std(0).clamp_min(1e-3)
        self.known = (known - self.mean) / self.spread
        with torch.no_grad():
            self.unit = policy(known).std(0).clamp_min(1e-3)  # actions count in units of their deviation
        flat_ground = torch.zeros_like(self.mean)
        flat_ground[self.columns] = (-self.mean / self.spread)[self.columns]
        self.fills: dict[str, Fill] = {
            "in distribution": GaussianFill.fit(self.known),
            "independent noise": IndependentFill(torch.zeros_like(self.mean), torch.ones_like(self.mean)),
            "flat ground": ConstantFill(flat_ground),
        }
        size = self.columns.stop - self.columns.start
        self.groups = torch.arange(size) * recipe.blocks // size

    def moments(self) -> Tensor:
        """Return standardized observations ``(explained, n)`` of held-out simulations on uneven ground."""
        roughness = self.open[:, self.columns].std(1)
        uneven = roughness.argsort(descending=True)[: max(self.recipe.explained, len(roughness) // 3)]
        chosen = generator(self.seed, "terrain relevance", "moments").permutation(len(uneven))[: self.recipe.explained]
        return (self.open[uneven[torch.from_numpy(chosen)]] - self.mean) / self.spread

    def network(self, whole: Tensor, heights: Tensor) -> Tensor:
        """Return actions ``(B, m)`` for heights ``(B, scan)`` under the other inputs of a moment ``(n,)``."""
        rows = whole.expand(len(heights), -1)
        rows = torch.cat([rows[:, : self.columns.start], heights, rows[:, self.columns.stop :]], 1)
        return self.policy(rows * self.spread + self.mean) / self.unit

    def draws(self, *purpose: str | int) -> torch.Generator:
        """Return torch's generator of a purpose."""
        return torch.Generator().manual_seed(integer_seed(self.seed, "terrain relevance", *purpose))

    def relevances(self, whole: Tensor, place: int) -> Mapping[str, Tensor]:
        """Return the relevance of every block ``(blocks,)`` at a moment, by arm."""
        recipe, heights = self.recipe, whole[self.columns]

        def network(rows: Tensor) -> Tensor:
            return self.network(whole, rows)

        found = {}
        for name, fill in self.fills.items():
            part, nothing = Part(fill, whole, self.columns), torch.zeros_like(heights)
            all_hidden = distortion(network, heights, nothing, part, draws=64, generator=self.draws(name, "scale"))
            found[name] = relevance(
                network,
                heights,
                part,
                self.groups,
                weight=recipe.size_weight,
                scale=max(all_hidden, 1e-6),
                steps=recipe.mask_steps,
                draws=recipe.mask_draws,
                rate=0.1,
                temperature=recipe.mask_temperature,
                generator=self.draws(name, place),
            )
        found["gradient times input"] = gradient_relevance(network, heights, torch.zeros_like(heights), self.groups)
        found["nearest ahead"] = -(self.centers() - 0.3).abs()
        found["random"] = torch.rand(recipe.blocks, generator=self.draws("random", place))
        return found

    def centers(self) -> Tensor:
        """Return the distance of every block ahead of the root ``(blocks,)``, m."""
        from policykd.envs.observations.planar import SCAN_AHEAD, SCAN_BEHIND

        places = torch.linspace(SCAN_BEHIND, SCAN_AHEAD, len(self.groups))
        return torch.stack([places[self.groups == block].mean() for block in range(self.recipe.blocks)])

    def judged(self, whole: Tensor, values: Tensor, place: int) -> float:
        """Return the distortion of the most relevant blocks when the others come from similar recorded moments."""
        judge, heights = Part(NeighborFill(self.known), whole, self.columns), whole[self.columns]
        mask = largest_mask(values, self.groups, self.recipe.kept)
        draws, rng = self.recipe.judged_draws, self.draws("judge", place)
        return distortion(lambda rows: self.network(whole, rows), heights, mask, judge, draws=draws, generator=rng)


_ARM = "in distribution"


class TerrainRelevance(System[TerrainRecipe]):
    """Six ways to rank the blocks of a terrain scan, judged by recorded moments that look alike in what is kept."""

    name = "terrain_relevance"
    title = "Which ground heights decide a step of a walking policy"
    paper = "Heiss, Levie, Resnick, Kutyniok, Bruna, 2020, arXiv 2007.00758"
    claim = (
        "Ground heights that are found with plausible fills keep a walking policy's action better than those found "
        "otherwise, and near ground decides more than far ground."
    )
    claims = (
        lower("distortion", _ARM, "flat ground").says(
            "Heights found with plausible fills keep the action better than those found with flat ground."
        ),
        lower("distortion", _ARM, "gradient times input").says(
            "Heights found with plausible fills keep the action better than those found by gradients."
        ),
        lower("distortion", _ARM, "random").says(
            "Heights found with plausible fills keep the action better than random ones."
        ),
        higher("relevance", "ground below 1 m", "ground beyond 1 m").says(
            "Heights up to 1 m ahead are more relevant than those further ahead."
        ),
        lower("distortion", _ARM, "independent noise", required=False).says(
            "Heights found with plausible fills keep the action better than those found with noise."
        ),
        lower("distortion", _ARM, "nearest ahead", required=False).says(
            "Heights found with plausible fills keep the action better than the nearest ones ahead."
        ),
    )
    notes = (
        "All seeds explain one policy; each has its own tracks and moments.",
        "What the policy reads besides the ground is always kept.",
    )
    recipe = TerrainRecipe()

    @override
    def run(self, seed: int, recipe: TerrainRecipe) -> Metrics:
        policy = walking_policy(recipe.skill, recipe.policy, recipe.train_steps)
        explainer = Explainer(policy, recorded(policy, recipe, seed), recipe, seed)
        moments, found, maps = explainer.moments(), dict[str, list[float]](), []
        for place, whole in enumerate(moments):
            ranked = explainer.relevances(whole, place)
            maps.append(ranked[_ARM])
            for name, values in ranked.items():
                found.setdefault(name, []).append(explainer.judged(whole, values, place))
        metrics = {name: {"distortion": sum(values) / len(values)} for name, values in found.items()}
        mean, centers = torch.stack(maps).mean(0), explainer.centers()
        metrics[_ARM] |= {f"at {float(c):.2f} m": float(v) for c, v in zip(centers, mean, strict=True)}
        metrics["ground below 1 m"] = {"relevance": float(mean[centers < 1.0].mean())}
        metrics["ground beyond 1 m"] = {"relevance": float(mean[centers >= 1.0].mean())}
        return metrics


EXPERIMENT = TerrainRelevance().experiment()
