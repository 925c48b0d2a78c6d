"""BD-KD: online distillation that balances forward and reverse divergence by the entropies of the two networks.

Amara, Sepahvand, Meyer, Gross and Clark, BD-KD: Balancing the Divergences for Online Knowledge Distillation
(arXiv 2212.12965). Teacher and student learn together. The losses are in ``policykd.kd.losses.balanced_kl``; here is
the experiment on digits with noisy labels, with deep mutual learning (DML, Zhang et al. 2018) as the control.

Departures: only the abstract was readable, so temperature, weight and schedule are ours. Both networks step together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from policykd.errors import ConfigError
from policykd.kd.experiments.digits import with_label_noise
from policykd.kd.experiments.limits import Share
from policykd.kd.experiments.system import Arm, Cell, Fit, Recipe, System, cross_entropy, higher, lower
from policykd.kd.losses.balanced_kl import Balance, Fixed, Rule, balanced_kl, own_first_kl, peer_first_kl
from policykd.kd.metrics import measure
from policykd.kd.training.batches import Batch
from policykd.plain import Limits

Term = Callable[[Tensor, Tensor], Tensor]  # (own logits, the peer's logits, detached) -> scalar


@dataclass(frozen=True)
class BDKDRecipe(Recipe):
    """Noisy training labels, and a teacher that learns together with the student.

    Attributes:
        label_noise: Share of wrong training labels.
        delta: Larger weight of the balance.
    """

    teacher: Fit = Fit((128, 128), epochs=80, batch_size=128)
    student: Fit = Fit((16,), epochs=80, batch_size=128)
    shares: tuple[float, ...] = (0.4, 0.6)
    temperature: float = 2.0
    ce_weight: float = 1.0
    kd_weight: float = 1.0
    label_noise: Share = 0.1
    delta: Annotated[float, Limits(1.0, 1e6)] = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if replace(self.teacher, hidden=self.student.hidden) != self.student:
            raise ConfigError(
                "teacher and student are trained together; set epochs, steps, batch_size, lr and drop_last of both to "
                f"equal values, got {self.teacher} and {self.student}"
            )


class BDKDCell(Cell[BDKDRecipe]):
    """All networks see batches in one order."""

    student_order = ("order",)


def online(teacher: nn.Module, student_term: Term, teacher_term: Term, recipe: Recipe) -> Arm:
    """Return the arm in which both networks learn, each by cross-entropy and a term toward the detached peer.

    Both losses come from the same forward passes. No gradient of one loss reaches the other network, so one optimizer
    over both does the work of two.

    Args:
        teacher: The teacher, which is trained together with the student.
        student_term: ``(own logits, peer logits) -> scalar`` of the student.
        teacher_term: The same of the teacher.
        recipe: Gives the weights of cross-entropy and terms, 1 and lambda in the paper.
    """

    def loss(student: nn.Module, batch: Batch, epoch: int) -> Tensor:
        def half(own: Tensor, peer: Tensor, term: Term) -> Tensor:
            hard = recipe.ce_weight * F.cross_entropy(own, batch.targets)
            return hard + recipe.kd_weight * term(own, peer.detach())

        own, other = student(batch.x), teacher(batch.x)
        return half(own, other, student_term) + half(other, own, teacher_term)

    return Arm(loss, along=(teacher,))


_CONTROLS = {"DML": "deep mutual learning", "CE": "cross-entropy"}
_RULES = {
    "fixed sum": "the unweighted sum of both divergences",
    "flipped rule": "a rule that gives the larger weight to the other divergence",
}


class BDKD(System[BDKDRecipe]):
    """The student alone, and with a teacher that learns at the same time, under every rule."""

    name = "bd_kd"
    title = "Balanced divergences in online distillation"
    paper = "Amara, Sepahvand, Meyer, Gross, Clark, arXiv 2212.12965"
    claim = (
        "Using both divergences with a teacher that learns at the same time calibrates the student better than deep "
        "mutual learning (DML)."
    )
    claims = (
        *(
            lower("ece", "BD-KD", arm).says(f"BD-KD has a smaller calibration error than {other}.")
            for arm, other in _CONTROLS.items()
        ),
        *(
            higher("accuracy", "BD-KD", arm).says(f"BD-KD costs under 1 point of accuracy against {other}.")
            for arm, other in _CONTROLS.items()
        ),
        *(
            lower("ece", "BD-KD", arm, required=False).says(f"BD-KD has a smaller calibration error than {other}.")
            for arm, other in _RULES.items()
        ),
    )
    gates = (-0.0048, -0.01, -0.01, -0.01)
    notes = (
        "DML has one divergence and BD-KD two, each with the same weight; the fixed sum is the control for that.",
        "This setting is not expected to separate the rule from the fixed sum or from its opposite.",
    )
    recipe = BDKDRecipe()
    cell = BDKDCell
    with_teacher = False

    @override
    def prepare(self, cell: Cell[BDKDRecipe]) -> None:
        cell.transfer = with_label_noise(cell.train, cell.recipe.label_noise, cell.seed)

    @override
    def arms(self, cell: Cell[BDKDRecipe]) -> dict[str, Arm]:
        t = cell.recipe.temperature
        dml, own_first = partial(peer_first_kl, temperature=t), partial(own_first_kl, temperature=t)
        rules: dict[str, Rule] = {
            "fixed sum": Fixed(),
            "BD-KD": Balance(cell.recipe.delta),
            "flipped rule": Balance(cell.recipe.delta, flipped=True),
        }
        pairs: dict[str, tuple[Term, Term]] = {"DML": (dml, dml)}
        pairs |= {arm: (partial(balanced_kl, rule=rule, temperature=t), own_first) for arm, rule in rules.items()}
        return {"CE": Arm(cross_entropy)} | {
            arm: online(cell.network("teacher", cell.recipe.teacher), *terms, cell.recipe)
            for arm, terms in pairs.items()
        }

    @override
    def measure(self, cell: Cell[BDKDRecipe], network: nn.Module) -> dict[str, float]:
        return measure(network, cell.test, only=("accuracy", "ece", "nll"))


EXPERIMENT = BDKD().experiment()
