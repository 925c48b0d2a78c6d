"""The training loop: every network of this package is trained by :func:`train_epoch`, whatever its loss.

``minimize`` trains networks under a loss that is one expression of a batch; the distiller adds objectives, selection,
checkpoints and logs around the same epochs. Both draw the same batches for the same seed, so arms trained one way or
the other stay paired. ``seeded`` gives networks whose initial weights depend on the seed and the purpose alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.kd import functional as kf
from policykd.kd.training.batches import Batch, Batches, BatchSource
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.modes import frozen_layers, train_except
from policykd.kd.training.variants import Augment
from policykd.seeding import integer_seed
from policykd.torch_seeding import seeded_torch

Network = TypeVar("Network", bound=nn.Module)
Output = TypeVar("Output")
Loss = Callable[[Batch, int], Tensor]  # (batch, epoch counted from 0) -> scalar with its graph

_LARGEST_WEIGHT = 1e9  # beyond it a network overflows in its forward pass; no training that works comes near


def seeded(factory: Callable[[], Network], seed: int, *key: str | int) -> Network:
    """A network whose initial weights depend only on the seed and the key; the caller's random state is kept.

    Args:
        factory: Makes the network.
        seed: The cell's seed.
        key: What the network is for. Arms that share an initialization share the key.
    """
    with seeded_torch(integer_seed(seed, "network", *key), devices=[]):
        return factory()


def minimize(
    loss: Loss,
    networks: nn.Module | Sequence[nn.Module],
    data: Any,
    config: TrainConfig,
    *,
    augment: Augment | None = None,
    after_epoch: Callable[[int], None] | None = None,
) -> None:
    """Minimize a loss over batches, in place; the networks are in train mode meanwhile and in eval mode afterward.

    Layers that are frozen, see :func:`policykd.kd.training.modes.frozen_layers`, stay in eval mode.

    Args:
        loss: ``(batch, epoch) -> scalar``. It may also read ``batch.index``, positions in ``data``.
        networks: What is trained, together under one optimizer.
        data: What ``policykd.kd.training.batches.Batches`` takes.
        config: The run; of its fields ``epochs``, ``batch_size``, ``drop_last``, ``seed``, ``clip_norm``,
            ``optimizer`` and ``scheduler`` are used here.
        augment: ``(x, generator) -> x`` on training batches.
        after_epoch: Called with the number of every epoch, from 0, when it is done, for example to average weights.

    Raises:
        FloatingPointError: The loss is not finite at the end of an epoch, or the weights are beyond all bounds.
        ValueError: There is no batch, or nothing to train.
    """
    trained = [networks] if isinstance(networks, nn.Module) else list(networks)
    parameters = [p for network in trained for p in network.parameters() if p.requires_grad]
    optimizer = config.optimizer.build(parameters)
    set_rates = scheduled_rates(optimizer, config, config.epochs)
    batches = Batches(data, config.batch_size, seed=config.seed, drop_last=config.drop_last, augment=augment)
    for network in trained:
        train_except(network, frozen_layers(network))

    def backward(batch: Batch, position: float) -> Tensor:
        value = loss(batch, int(position))
        value.backward()
        return value.detach()

    with seeded_torch(config.seed, devices=[]):
        for epoch in range(config.epochs):
            for _, value in train_epoch(backward, optimizer, batches, epoch, set_rates, clip_norm=config.clip_norm):
                last = value
            if not bool(torch.isfinite(last)):
                raise FloatingPointError(f"the loss is {float(last)} after epoch {epoch + 1}; lower the learning rate")
            if after_epoch is not None:
                after_epoch(epoch)
    for network in trained:
        network.eval()


def scheduled_rates(optimizer: torch.optim.Optimizer, config: TrainConfig, epochs: int) -> Callable[[float], None]:
    """Return a function of the position that sets the learning rates, each its base rate times the schedule's factor.

    Args:
        optimizer: A new optimizer; its learning rates are the base rates.
        config: The run; ``scheduler`` is used here.
        epochs: Length of the schedule.
    """
    base = [group["lr"] for group in optimizer.param_groups]

    def set_rates(position: float) -> None:
        factor = config.scheduler.factor(position, epochs)
        for group, rate in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = rate * factor

    return set_rates


def train_epoch(
    backward: Callable[[Batch, float], Output],
    optimizer: torch.optim.Optimizer,
    batches: BatchSource,
    epoch: int,
    set_rates: Callable[[float], None],
    *,
    clip_norm: float | None = None,
    first: int = 0,
    start: int = 0,
) -> Iterator[tuple[Batch, Output]]:
    """Train one epoch, a batch per item: set the learning rate, take the gradient, clip it, update the weights.

    Args:
        backward: ``(batch, position) -> output``; computes the loss and adds its gradient to the parameters. The
            position is the number of epochs done, with the fraction of the running one.
        optimizer: The optimizer over everything that is trained.
        batches: The data.
        epoch: Number of the epoch, from 0; with the seed it fixes the order of the data.
        set_rates: Called with the position before every step.
        clip_norm: Largest norm of the gradient, or None.
        first: Epoch at which the position is 0.
        start: First batch of the epoch, above 0 after an interruption.

    Yields:
        Each batch with the output of ``backward``, after the update.

    Raises:
        FloatingPointError: ``backward`` refused the batch and the weights are beyond all bounds.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for step, batch in enumerate(batches.epoch(epoch, start), start):
        position = epoch - first + step / len(batches)
        set_rates(position)
        optimizer.zero_grad()
        output = _differentiated(backward, batch, position, parameters)
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, clip_norm)
        optimizer.step()
        yield batch, output


def _differentiated(
    backward: Callable[[Batch, float], Output], batch: Batch, position: float, parameters: Sequence[Tensor]
) -> Output:
    try:
        return backward(batch, position)
    except ValueError as error:  # losses refuse logits that are not finite; if the weights are to blame, say so
        if all(bool((parameter.abs() < _LARGEST_WEIGHT).all()) for parameter in parameters):
            raise
        raise FloatingPointError(
            f"the outputs are not finite after {position:.2g} epochs, since the weights have grown beyond all bounds; "
            "lower the learning rate"
        ) from error


def train_classifier(network: Network, data: Any, config: TrainConfig, *, augment: Augment | None = None) -> Network:
    """Train a network, in place, by cross-entropy; it is returned in eval mode."""
    minimize(
        lambda batch, epoch: F.cross_entropy(network(batch.x), batch.targets), network, data, config, augment=augment
    )
    return network


def distillation(
    student: nn.Module, teacher: nn.Module | Tensor, *, temperature: float, kd_weight: float, ce_weight: float
) -> Loss:
    """The loss ``ce_weight * CE + kd_weight * T**2 KL(teacher || student)`` (Hinton et al. 2015).

    Args:
        student: The student.
        teacher: The teacher in eval mode, or its logits ``(N, C)`` for the training samples in their order. It is not
            called when ``kd_weight`` is 0.
        temperature: T > 0.
        kd_weight: Weight of the divergence.
        ce_weight: Weight of the labels' cross-entropy; at 0 the labels are not read.
    """

    def loss(batch: Batch, epoch: int) -> Tensor:
        logits = student(batch.x)
        terms = []
        if kd_weight:
            terms.append(kd_weight * kf.kd(logits, teach(teacher, batch), temperature=temperature))
        if ce_weight or not terms:
            terms.append(ce_weight * F.cross_entropy(logits, batch.targets))
        return torch.stack(terms).sum() if len(terms) > 1 else terms[0]

    return loss


def distil(
    student: Network,
    teacher: nn.Module | Tensor,
    data: Any,
    config: TrainConfig,
    *,
    temperature: float,
    kd_weight: float,
    ce_weight: float,
) -> Network:
    """Train a student, in place, under :func:`distillation`; it is returned in eval mode."""
    loss = distillation(student, teacher, temperature=temperature, kd_weight=kd_weight, ce_weight=ce_weight)
    minimize(loss, student, data, config)
    return student


def teach(teacher: nn.Module | Tensor, batch: Batch) -> Tensor:
    """A teacher's logits for a batch, without gradient: asked for, or looked up by sample index."""
    if isinstance(teacher, Tensor):
        return teacher[batch.index]
    with torch.no_grad():
        return teacher(batch.x)
