"""Curriculum-based expert selection: each sample is taught by one expert, chosen by how hard the sample is.

Amara, Ziaeefard, Meyer, Gross, Clark, CES-KD (arXiv 2209.07606). Experts are ordered by capacity. Easy samples go to
small experts, hard ones to large experts, and the large ones are unlocked one after the other during training: scoring,
strata and pacing, our construction, are in ``policykd.kd.expert_selection``.

Departures: experts are trained on labels; a chain of assistants is not among the baselines (see ``takd``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from policykd.kd.ensembles import ensemble_logits, selected_logits
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.side_by_side import NO_TEACHER, SideBySideCell, SideBySideRecipe, Teaching
from policykd.kd.experiments.system import Fit, System, cross_entropy, higher
from policykd.kd.expert_selection import assigned, check_capacity_order, difficulty, strata, unlocked
from policykd.kd.metrics import measure
from policykd.kd.networks import count_parameters
from policykd.kd.training.evaluate import predict
from policykd.plain import Limits
from policykd.seeding import generator


@dataclass(frozen=True)
class CESKDRecipe(SideBySideRecipe):
    """Three experts of growing capacity and a student that is far smaller than any.

    Attributes:
        teacher: Widths and training of the largest expert.
        middle_expert: The same of the expert between the others.
        small_expert: The same of the smallest expert.
        curriculum_epochs: Epochs until all experts are unlocked.
    """

    teacher: Fit = Fit((256, 256), epochs=80)
    student: Fit = Fit((6,), epochs=80)
    shares: tuple[float, ...] = (0.4, 0.6)
    ce_weight: float = 0.3
    kd_weight: float = 0.7
    small_expert: Fit = Fit((16,), epochs=80)
    middle_expert: Fit = Fit((64,), epochs=80)
    curriculum_epochs: Annotated[float, Limits(0)] = 50.0


def teachings(seed: int, recipe: CESKDRecipe, logits: Tensor, target: Tensor) -> dict[str, Teaching]:
    """Return arm -> its teacher.

    Args:
        seed: The cell's seed.
        recipe: The configuration.
        logits: The experts' logits for the training samples ``(K, N, C)``, experts in order of capacity.
        target: Labels ``(N,)``.
    """
    count = len(logits)
    easy_first = strata(difficulty(logits, target), count)
    drawn = torch.from_numpy(generator(seed, "ces_kd", "random expert").integers(0, count, len(target)))

    def paced(stratum: Tensor, epoch: int) -> Tensor:
        return assigned(stratum, unlocked(epoch, experts=count, curriculum_epochs=recipe.curriculum_epochs))

    return {
        _SELECTION: lambda epoch: selected_logits(logits, paced(easy_first, epoch)),
        "reversed curriculum": lambda epoch: selected_logits(logits, count - 1 - paced(easy_first, epoch)),
        "reversed strata": lambda epoch: selected_logits(logits, paced(count - 1 - easy_first, epoch)),
        "no pacing": selected_logits(logits, easy_first),
        "random expert": selected_logits(logits, drawn),
        "mean of experts": ensemble_logits(logits, np.ones(count), temperature=recipe.temperature),
        "smallest expert": logits[0],
        "largest expert": logits[-1],
        NO_TEACHER: logits[-1],
    }


_SELECTION = "expert selection"
_SAYS = "The student of experts selected by difficulty is"


class CESKD(System[CESKDRecipe]):
    """One student per way of choosing among the experts."""

    name = "ces_kd"
    title = "Curriculum-based expert selection"
    paper = "Amara, Ziaeefard, Meyer, Gross, Clark, CES-KD, arXiv 2209.07606"
    claim = "A small student learns more if each sample is taught by an expert that is as strong as the sample is hard."
    claims = tuple(
        higher("accuracy", _SELECTION, than, required=required).says(f"{_SAYS} {text}.")
        for than, required, text in (
            ("largest expert", True, "more accurate than that of the largest expert"),
            ("random expert", True, "more accurate than that of a random expert per sample"),
            ("reversed curriculum", True, "more accurate than that of the reversed curriculum"),
            ("smallest expert", True, "at most 0.5 points less accurate than that of the smallest expert"),
            ("reversed strata", False, "more accurate than that of reversed strata at the same pacing"),
            ("mean of experts", False, "more accurate than that of the mean of the experts"),
            ("no pacing", False, "more accurate than that of the same selection without pacing"),
            (NO_TEACHER, False, "more accurate than a student trained on labels alone"),
        )
    )
    gates = (0.0093, 0.0, 0.006, -0.005)
    notes = (
        "Scoring, strata and pacing are our reading of the abstract; the authors' code was not found.",
        "The reversed curriculum mirrors the choice at every epoch: all samples begin with the largest expert and hard "
        "ones move to small ones. Reversed strata keep the pacing and swap easy and hard, a milder control.",
        "The student is so small that a teacher need not be better than plain labels here; the verdict does not depend "
        "on that comparison.",
    )
    recipe = CESKDRecipe()

    @override
    def run(self, seed: int, recipe: CESKDRecipe) -> Metrics:
        cell = SideBySideCell(seed, recipe)
        fits = (recipe.small_expert, recipe.middle_expert, recipe.teacher)
        experts = [cell.network("expert", fit, "expert", place) for place, fit in enumerate(fits)]
        check_capacity_order([count_parameters(expert) for expert in experts])
        for expert, fit in zip(experts, fits, strict=True):
            cell.fit(expert, cross_entropy, cell.train, fit, cell.teacher_order)
        logits = torch.stack([predict(expert, cell.train)[0] for expert in experts])
        students = cell.students(teachings(seed, recipe, logits, cell.train.y))
        return {
            **{f"expert {place + 1}": measure(expert, cell.test) for place, expert in enumerate(experts)},
            **{arm: measure(student, cell.test, teacher=experts[-1]) for arm, student in students.items()},
        }


EXPERIMENT = CESKD().experiment()
