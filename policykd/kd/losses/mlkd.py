"""Multi-level logit distillation: samples, batch and classes (Jin et al. 2023).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor

from policykd.divergences import Reduction, categorical_kl, reduce_loss
from policykd.errors import ConfigError
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.losses._gather import gather_pair
from policykd.kd.options import Rule, finite_above_zero
from policykd.kd.shapes import prepare_logits


def check_temperatures(name: str, temperatures: Sequence[float]) -> None:
    """Raise ConfigError unless there is a temperature and all are finite and above 0."""
    if not len(temperatures):
        raise ConfigError(f"{name} must hold at least one temperature, got none")
    for temperature in temperatures:
        finite_above_zero("temperature", temperature)


Temperatures = Annotated[Sequence[float], Rule(check_temperatures)]


@loss_function
def mlkd(
    student: Tensor,
    teacher: Tensor,
    *,
    temperatures: Temperatures = (2.0, 3.0, 4.0, 5.0, 6.0),
    instance_weight: float = 1.0,
    batch_weight: float = 1.0,
    class_weight: float = 1.0,
    scale_t2: bool = True,
    reduction: Reduction = "mean",
    gather_distributed: bool = False,
) -> Tensor:
    """Match predictions, how samples resemble one another and how classes do, at several temperatures.

    Sum over T of ``w_i T**2 KL(p_t || p_s) + w_b ||P_t P_t' - P_s P_s'||^2 / B + w_c ||P_t' P_t - P_s' P_s||^2 / C``,
    P the softened probabilities ``(B, C)``. Jin, Wang, Lin, CVPR 2023, eq. 3 to 9 [numbering recalled].

    Both Gram terms grow with the batch by definition; under ``none`` a sample has its row of the first, and the second
    is added to every sample equally. Departures from the released code: the masks of confident samples and classes,
    which there act as a factor on an averaged number, are left out; a second, strongly augmented view is a second call.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)``, detached here.
        temperatures: T > 0, summed over.
        instance_weight: w_i.
        batch_weight: w_b.
        class_weight: w_c.
        scale_t2: Multiply the first term by ``T**2``.
        reduction: How the values of shape ``(B,)`` are reduced.
        gather_distributed: Compare the samples of all processes; needs reduction ``mean`` or ``batchmean``.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[3.0, 0.0], [1.0, 0.0]])
        >>> mlkd(student, teacher, temperatures=(1.0, 2.0))
        tensor(1.1173)
    """
    student, teacher = gather_pair(student, teacher, gather_distributed, reduction)
    student, teacher = prepare_logits(student, teacher)
    values = student.new_zeros(len(student))
    for temperature in temperatures:
        own = categorical_kl(student, teacher, temperature=temperature, scale_t2=scale_t2, reduction="none")
        p_s, p_t = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
        samples = (p_t @ p_t.T - p_s @ p_s.T).square().sum(1)
        classes = (p_t.T @ p_t - p_s.T @ p_s).square().sum() / student.shape[1]
        values = values + instance_weight * own + batch_weight * samples + class_weight * classes
    return reduce_loss(values, reduction)


MLKD = loss_module(mlkd, batch_coupled=True)
