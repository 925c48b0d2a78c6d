"""Explanations whose queries stay in distribution: masks with a learned fill against masks with zeros or noise.

Heiss, Levie, Resnick, Kutyniok, Bruna, In-Distribution Interpretability for Challenging Modalities (2020, arXiv
2007.00758). A classifier of digits is explained: which patches decide an output? Masks are optimized with three ways to
fill in hidden patches (``policykd.kd.mask_explanations``) and judged by a fourth that none of them used: completions by
real digits that look alike in the kept patches. ``policykd.report.terrain_relevance`` explains walking policies.

Departures: the in-painter is a Gaussian that was fitted to the digits, given the kept pixels, instead of a trained
network; the paper's data are music and radio maps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
from torch import Tensor
from typing_extensions import override

from policykd.errors import check_range
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Temperature, Weight
from policykd.kd.experiments.system import Cell, Fit, Recipe, System, lower
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
from policykd.kd.metrics import accuracy
from policykd.kd.training.evaluate import predict
from policykd.plain import Limits
from policykd.seeding import generator, integer_seed

PATCHES = torch.arange(16).reshape(4, 4).repeat_interleave(2, 0).repeat_interleave(2, 1).flatten()
"""Patch of 2 x 2 of every pixel of an 8 x 8 image ``(64,)``."""


@dataclass(frozen=True)
class InterpretabilityRecipe(Recipe):
    """A classifier, the digits that are explained, and the optimization of masks.

    Attributes:
        explained: Test digits that are explained per seed.
        size_weight: lambda, price of a patch in shares of the distortion of hiding everything.
        mask_steps: Optimizer steps of a mask.
        mask_draws: Masks per step.
        mask_temperature: Temperature of the masks.
        kept: Patches of 16 that a mask keeps when it is judged.
        judged_draws: Completions that judge a mask.
    """

    teacher: Fit = Fit((128, 64), epochs=30)
    student: Fit = Fit((32,), epochs=1)
    explained: Annotated[int, Limits(1, 1000)] = 6
    size_weight: Weight = 0.02
    mask_steps: Annotated[int, Limits(1, 100_000)] = 200
    mask_draws: Annotated[int, Limits(1, 10_000)] = 32
    mask_temperature: Temperature = 0.1
    kept: Annotated[int, Limits(1, 15)] = 4
    judged_draws: Annotated[int, Limits(1, 100_000)] = 400

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("explained", self.explained, 1, 500)


class InterpretabilityCell(Cell[InterpretabilityRecipe]):
    """The classifier, the fills fitted to its training digits, and the explanations."""

    def probabilities(self, x: Tensor) -> Tensor:
        """Return class probabilities ``(B, 10)``, the explained outputs."""
        return self.teacher(x).softmax(1)

    @cached_property
    def fills(self) -> dict[str, Fill]:
        """The ways to fill in hidden patches, by the names of their arms."""
        data = self.train.x
        return {
            "in distribution": GaussianFill.fit(data),
            "independent noise": IndependentFill(data.mean(0), data.std(0)),
            "zeros": ConstantFill(torch.zeros(data.shape[1])),
        }

    def draws(self, *purpose: str | int) -> torch.Generator:
        """Return torch's generator of a purpose."""
        return torch.Generator().manual_seed(integer_seed(self.seed, "interpretability", *purpose))

    def relevances(self, x: Tensor, place: int) -> Mapping[str, Tensor]:
        """Return the relevance of every patch of an image ``(64,)``, by arm."""
        recipe, mean = self.recipe, self.train.x.mean(0)
        found = {}
        for name, fill in self.fills.items():
            everything = distortion(
                self.probabilities, x, torch.zeros(64), fill, draws=256, generator=self.draws(name, "scale")
            )
            found[name] = relevance(
                self.probabilities,
                x,
                fill,
                PATCHES,
                weight=recipe.size_weight,
                scale=max(everything, 1e-3),
                steps=recipe.mask_steps,
                draws=recipe.mask_draws,
                temperature=recipe.mask_temperature,
                generator=self.draws(name, place),
            )
        found["gradient times input"] = gradient_relevance(self.probabilities, x, mean, PATCHES)
        found["ink"] = torch.zeros(16).index_add_(0, PATCHES, x)
        found["random"] = torch.rand(16, generator=self.draws("random", place))
        return found

    def judged(self, x: Tensor, relevances: Tensor, place: int) -> dict[str, float]:
        """Return the distortion of the most relevant patches by real completions, and by those that are left."""
        judge = NeighborFill(self.train.x)
        mask = largest_mask(relevances, PATCHES, self.recipe.kept)
        draws, generator = self.recipe.judged_draws, self.draws("judge", place)
        kept, rest = (
            distortion(self.probabilities, x, one, judge, draws=draws, generator=generator)
            for one in (mask, 1.0 - mask)
        )
        return {"distortion": kept, "distortion without them": rest}


_ARM = "in distribution"


class InDistributionInterpretability(System[InterpretabilityRecipe]):
    """Six ways to rank the patches of a digit, judged by real digits that look alike where patches are kept."""

    name = "in_distribution_interpretability"
    title = "Explanations that query a network in distribution only"
    paper = "Heiss, Levie, Resnick, Kutyniok, Bruna, 2020, arXiv 2007.00758"
    claim = (
        "Inputs that are found with plausible fills keep a network's output under real completions better than inputs "
        "that are found with zeros or noise."
    )
    claims = (
        lower("distortion", _ARM, "zeros").says(
            "Under real completions, patches found with plausible fills keep the output better than with zeros."
        ),
        lower("distortion", _ARM, "independent noise").says(
            "Under real completions, patches found with plausible fills keep the output better than with noise."
        ),
        lower("distortion", _ARM, "gradient times input").says(
            "Under real completions, patches found with plausible fills keep the output better than by gradients."
        ),
        lower("distortion", _ARM, "random").says(
            "Under real completions, patches found with plausible fills keep the output better than random ones."
        ),
        lower("distortion", _ARM, "ink", required=False).says(
            "Under real completions, patches found with plausible fills keep the output better than the darkest ones."
        ),
    )
    notes = (
        "Distortion is the squared change of the class probabilities when all but four of sixteen patches come from "
        "another real digit.",
        "A fill that knows the answer from the rest shares credit among patches that say the same.",
    )
    recipe = InterpretabilityRecipe()
    cell = InterpretabilityCell

    @override
    def run(self, seed: int, recipe: InterpretabilityRecipe) -> Metrics:
        cell = InterpretabilityCell(seed, recipe)
        right = accuracy(*predict(cell.teacher, cell.test))
        rows = generator(seed, "interpretability", "explained").permutation(len(cell.test))[: recipe.explained]
        totals: dict[str, dict[str, list[float]]] = {}
        for place, row in enumerate(rows.tolist()):
            x = cell.test.x[row]
            for name, values in cell.relevances(x, place).items():
                for metric, value in cell.judged(x, values, place).items():
                    totals.setdefault(name, {}).setdefault(metric, []).append(value)
        found = {
            name: {metric: sum(values) / len(values) for metric, values in own.items()} for name, own in totals.items()
        }
        return {"classifier": {"accuracy": right}} | found


EXPERIMENT = InDistributionInterpretability().experiment()
