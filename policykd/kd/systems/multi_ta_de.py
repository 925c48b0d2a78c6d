"""Several teaching assistants whose weighted ensemble, found by differential evolution, teaches the student.

Ganta, Das Gupta, Sheng, Knowledge Distillation via Weighted Ensemble of Teaching Assistants (arXiv 2206.12005). The
assistants are distilled from the teacher one by one, not in a chain. The weights of their ensemble are optimized on
held-out data, then frozen, and the ensemble teaches the student. The pieces are in ``policykd.kd.ensembles``.

Departures: only the abstract was readable. The objective is the negative log-likelihood by default (smooth; the
accuracy is available), the evolution has SciPy's settings, sizes and weights of the losses are ours. The ensemble is
softened after averaging at T = 1, where the objective was defined; averaging softened members is reported as well. A
chain of assistants is not among the baselines (see ``takd``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from policykd.kd.ensembles import EvolutionConfig, Goal, Softening, ensemble_logits, ensemble_nll, evolve_weights
from policykd.kd.experiments.digits import redrawn_labels, some
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Share
from policykd.kd.experiments.side_by_side import NO_TEACHER, SideBySideCell, SideBySideRecipe
from policykd.kd.experiments.system import MOST_EPOCHS, Fit, System, cross_entropy, higher, lower, plain_kd
from policykd.kd.tasks.base import Split
from policykd.kd.training.evaluate import predict
from policykd.plain import Limits
from policykd.seeding import generator, integer_seed


@dataclass(frozen=True)
class MultiTaDeRecipe(SideBySideRecipe):
    """A wide teacher, three assistants distilled from it, and a corrupted one that saw mostly random labels.

    Attributes:
        large_assistant: Widths and training of the widest assistant.
        middle_assistant: The same of the assistant between the others.
        small_assistant: The same of the narrowest assistant.
        corrupted_assistant: The same of the assistant that is trained on corrupted labels, without the teacher.
        assistant_kd_weight: Weight of the divergence in an assistant's distillation; the cross-entropy has the rest.
        corrupted_labels: Share of the corrupted assistant's labels that is redrawn at random.
        validation: Training samples that are held out to find the ensemble's weights.
        transfer: Other training samples that the students learn from.
        long_epochs: Epochs of a second set of students, nearer to convergence.
        goal: Objective of the evolution: ``nll`` or ``accuracy``.
        softening: How the ensemble is softened, see :func:`policykd.kd.ensembles.ensemble_logits`.
        evolution: Settings of the evolution.
    """

    teacher: Fit = Fit((128, 128), epochs=40)
    student: Fit = Fit((8,), epochs=100)
    shares: tuple[float, ...] = (0.6, 0.4)
    large_assistant: Fit = Fit((64,), epochs=40)
    middle_assistant: Fit = Fit((32,), epochs=40)
    small_assistant: Fit = Fit((16,), epochs=40)
    corrupted_assistant: Fit = Fit((32,), epochs=40)
    assistant_kd_weight: Share = 0.7
    corrupted_labels: Share = 0.7
    validation: int = 250
    transfer: int = 250
    long_epochs: Annotated[int, Limits(1, MOST_EPOCHS)] = 300
    goal: Goal = "nll"
    softening: Softening = "resoftened"
    evolution: EvolutionConfig = field(default_factory=EvolutionConfig)


class MultiTaDeCell(SideBySideCell[MultiTaDeRecipe]):
    """One seed; ``held_out`` are the samples that the weights are found on."""

    held_out: Split

    @override
    def splits(self) -> tuple[Split, Split]:
        whole, test = super().splits()
        order = generator(self.seed, "multi_ta_de", "validation").permutation(len(whole))
        self.held_out = whole.take(order[: self.recipe.validation])
        return whole.take(order[self.recipe.validation :]), test

    def assistants(self) -> list[nn.Module]:
        """Return the assistants, the corrupted one last."""
        recipe, weight = self.recipe, self.recipe.assistant_kd_weight
        taught, _ = predict(self.teacher, self.train)
        loss = plain_kd(taught, replace(recipe, kd_weight=weight, ce_weight=1 - weight))
        labels = redrawn_labels(self.train.y, recipe.corrupted_labels, seed=self.seed, purpose="corrupted assistant")
        noisy, corrupted = Split(self.train.x, labels), recipe.corrupted_assistant
        return [
            *(
                self.fit(self.network("assistant", fit, "assistant", *fit.hidden), loss, self.train, fit, None)
                for fit in (recipe.large_assistant, recipe.middle_assistant, recipe.small_assistant)
            ),
            self.fit(self.network("corrupted assistant", corrupted), cross_entropy, noisy, corrupted, None),
        ]

    def weightings(self, p: np.ndarray) -> dict[str, tuple[np.ndarray, Softening]]:
        """Return arm -> normalized weights of M assistants ``(M,)`` and how their ensemble is softened.

        Args:
            p: The assistants' probabilities of the held-out samples ``(M, N, C)``.
        """
        recipe, y = self.recipe, self.held_out.y.numpy()
        found = evolve_weights(
            p, y, seed=integer_seed(self.seed, "evolution"), goal=recipe.goal, config=recipe.evolution
        ).weights
        equal, alone = np.full(len(p), 1.0 / len(p)), np.eye(len(p))
        best = alone[int(np.argmin([ensemble_nll(p, y, one) for one in alone]))]
        return {
            "evolved ensemble": (found, recipe.softening),
            "equal ensemble": (equal, recipe.softening),
            "best assistant": (best, recipe.softening),
            "evolved ensemble, softened members": (found, "softened"),
            "equal ensemble, softened members": (equal, "softened"),
        }


_EVOLVED, _EQUAL, _LONG = "evolved ensemble", "equal ensemble", "accuracy after long training"
_STUDENT = "The student of the evolved ensemble is"


class MultiTaDe(System[MultiTaDeRecipe]):
    """Students of weighted ensembles of assistants, of the teacher, and of labels alone."""

    name = "multi_ta_de"
    title = "Teaching assistants in an ensemble weighted by differential evolution"
    paper = (
        "Ganta, Das Gupta, Sheng, Knowledge Distillation via Weighted Ensemble of Teaching Assistants, arXiv 2206.12005"
    )
    claim = (
        "Weights found on held-out data shut out a bad assistant, and the weighted ensemble teaches better than the "
        "equally weighted ensemble and than the teacher itself."
    )
    claims = (
        lower("corrupted weight", _EVOLVED, by=0.05, required=False).says(
            "The corrupted assistant gets less than 5 % of the evolved ensemble's weight."
        ),
        lower("ensemble nll", _EVOLVED, _EQUAL, by=0.6, statistic="ratio", required=False).says(
            "The evolved ensemble's negative log-likelihood on test data is below 0.6 of the equal ensemble's."
        ),
        higher("accuracy", _EVOLVED, _EQUAL).says(f"{_STUDENT} more accurate than the student of the equal ensemble."),
        higher("accuracy", _EVOLVED, "teacher").says(f"{_STUDENT} more accurate than the student of the teacher."),
        *(
            higher(metric, arm, than, required=False).says(f"{subject} more accurate than {other}.")
            for metric, arm, than, subject, other in (
                ("accuracy", _EVOLVED, "best assistant", _STUDENT, "that of the best single assistant"),
                ("accuracy", _EVOLVED, NO_TEACHER, _STUDENT, "a student trained on labels alone"),
                (
                    "accuracy",
                    f"{_EVOLVED}, softened members",
                    f"{_EQUAL}, softened members",
                    "If members are softened before they are averaged, the student of the evolved ensemble is",
                    "that of the equal ensemble",
                ),
                (_LONG, _EVOLVED, _EQUAL, f"After long training, {_STUDENT.lower()}", "that of the equal ensemble"),
                (_LONG, _EVOLVED, "teacher", f"After long training, {_STUDENT.lower()}", "that of the teacher"),
            )
        ),
    )
    notes = (
        "Unless an arm's name says otherwise, the ensemble averages probabilities at T = 1, as the evolution does, and "
        "softens the mean: a corrupted assistant flattens such targets. Arms with softened members average "
        "softmax(z / T); there a corrupted assistant does little harm, so weighting gains little.",
        "The students' ordinary training stops short of convergence; the comparisons after long training show which "
        "effects remain.",
        "On this small task distillation need not be better than labels alone; that comparison is reported and the "
        "verdict does not depend on it.",
    )
    recipe = MultiTaDeRecipe()

    @override
    def run(self, seed: int, recipe: MultiTaDeRecipe) -> Metrics:
        cell = MultiTaDeCell(seed, recipe)
        cell.transfer = some(cell.train, recipe.transfer, seed)
        assistants = cell.assistants()

        def logits(data: Split) -> Tensor:
            return torch.stack([predict(member, data)[0] for member in assistants])

        p, outputs = (logits(data).double().softmax(-1).numpy() for data in (cell.held_out, cell.test))
        on_transfer, weightings = logits(cell.transfer), cell.weightings(p)
        taught = {
            arm: ensemble_logits(on_transfer, weights, temperature=recipe.temperature, softening=softening)
            for arm, (weights, softening) in weightings.items()
        }
        direct, _ = predict(cell.teacher, cell.transfer)
        taught |= {"teacher": direct, NO_TEACHER: direct}
        longer = replace(recipe.student, epochs=recipe.long_epochs, steps=0)
        found = {arm: self.measure(cell, own) for arm, own in cell.students(taught).items()}
        for arm, own in cell.students(taught, longer).items():
            found[arm][_LONG] = self.measure(cell, own)["accuracy"]
        for arm, (weights, _) in weightings.items():
            found[arm] |= {
                "ensemble nll": ensemble_nll(outputs, cell.test.y.numpy(), weights),
                "validation nll": ensemble_nll(p, cell.held_out.y.numpy(), weights),
                "corrupted weight": float(weights[-1]),
            }
        return found


EXPERIMENT = MultiTaDe().experiment()
