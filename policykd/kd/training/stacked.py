"""Students of one architecture that learn on the same batches, trained as one stacked network.

Arms of a paired cell share the batches. Stacked along a new first dimension they also share every operation, which for
networks of a few thousand weights is several times faster than one after the other, and changes nothing: the loss is
the sum of the arms' losses, and Adam and SGD work element by element.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from policykd.divergences import categorical_kl
from policykd.errors import ConfigError
from policykd.kd.training.batches import Batch
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.loop import minimize

Targets = Tensor | Callable[[int], Tensor]  # teacher logits (K, N, C), for all epochs or by epoch


class SideBySide(nn.Module):
    """K networks of one architecture as a single module.

    Args:
        networks: The networks, without buffers or dropout; their weights are copied.

    Raises:
        ConfigError: A network has buffers, whose update would depend on the stacking.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if any(True for network in networks for _ in network.buffers()):
            raise ConfigError("networks with buffers (batch normalization) cannot be trained side by side")
        stacked, _ = stack_module_state(list(networks))
        self._names = tuple(stacked)
        self.stacked = nn.ParameterList(stacked.values())
        self.__dict__["_template"] = copy.deepcopy(networks[0]).to("meta")  # not a submodule: it has no weights

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, ...)`` to the logits of all networks ``(K, B, C)``."""
        template = self.__dict__["_template"]
        weights = dict(zip(self._names, self.stacked, strict=True))
        return vmap(lambda own: functional_call(template, own, (x,)))(weights)

    @torch.no_grad()
    def copy_to(self, networks: Sequence[nn.Module]) -> None:
        """Write the weights back into K networks."""
        for name, values in zip(self._names, self.stacked, strict=True):
            for network, value in zip(networks, values, strict=True):
                network.get_parameter(name).copy_(value)


def distil_side_by_side(
    students: Sequence[nn.Module],
    targets: Targets,
    data: object,
    config: TrainConfig,
    *,
    temperature: float,
    kd_weights: Sequence[float],
) -> None:
    """Train students, in place, each by ``(1 - w) CE + w T**2 KL(teacher || student)`` with its own teacher.

    Args:
        students: K students of one architecture, left in eval mode.
        targets: Teacher logits ``(K, N, C)`` for the samples of ``data`` in their order, or a function of the epoch
            that gives them.
        data: What ``policykd.kd.training.batches.Batches`` takes.
        config: The run, as for :func:`policykd.kd.training.loop.minimize`, without ``clip_norm``.
        temperature: T > 0.
        kd_weights: w of every student, in [0, 1]; 0 learns from labels alone, whatever its targets are.

    Raises:
        ConfigError: Numbers of students, targets and weights differ, or gradients are to be clipped.
    """
    if config.clip_norm is not None:
        raise ConfigError("clip_norm would tie students that are trained side by side to one another")
    first = targets(0) if callable(targets) else targets
    if not len(students) == len(kd_weights) == len(first):
        raise ConfigError(f"{len(students)} students, {len(first)} targets and {len(kd_weights)} weights must agree")
    stack, shares = SideBySide(students), torch.tensor(kd_weights, dtype=torch.float64)
    current: tuple[int, Tensor] = (0, first)

    def loss(batch: Batch, epoch: int) -> Tensor:
        nonlocal current
        if callable(targets) and epoch != current[0]:
            current = (epoch, targets(epoch))
        logits = stack(batch.x)
        soft = categorical_kl(logits, current[1][:, batch.index], temperature=temperature, reduction="none").mean(1)
        labels = batch.targets.expand(len(students), -1)
        hard = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels).mean(1)
        weights = shares.to(soft)
        return (weights * soft + (1 - weights) * hard).sum()

    minimize(loss, stack, data, config)
    stack.copy_to(students)
    for student in students:
        student.eval()
