"""Factor transfer (Kim et al. 2018).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from policykd.divergences import Reduction, prepare_pair, reduce_loss
from policykd.kd.losses._base import KDLoss, Signal
from policykd.kd.losses._connectors import Dims, batch_norm, convolution
from policykd.kd.losses._function import loss_function
from policykd.kd.options import check_options, check_positive
from policykd.kd.shapes import match_size


@loss_function
def ft(
    student: Tensor,
    teacher: Tensor,
    *,
    norm: Literal["l1", "l2"] = "l1",
    variant: Literal["paper", "code"] = "paper",
    reduction: Reduction = "mean",
) -> Tensor:
    """Match compressed features: the student's translator output to the teacher's paraphraser output.

    Variants: ``paper`` ``|| f_s / ||f_s||_2 - f_t / ||f_t||_2 ||_p`` on the whole factor (Kim et al., NeurIPS 2018,
    eq. 3); ``code`` (the common benchmark) first takes the channel mean of the squared factor, an attention map,
    normalizes that and averages ``|difference|**p`` over places: another method, to which the weight 200 belongs.

    Args:
        student: Factors ``(B, K, H, W)`` of the student.
        teacher: Factors of the same shape, detached here.
        norm: ``l1`` (p = 1) or ``l2`` (p = 2; squared in ``code``).
        variant: See above.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is unknown.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]), torch.tensor([[[[3.0, 4.0], [0.0, 0.0]]]])
        >>> ft(student, teacher)
        tensor(1.2000)
    """
    student, teacher = prepare_pair(student, teacher, what="factors", min_dim=3)
    if variant == "code":
        gap = _energy(student) - _energy(teacher)
        return reduce_loss((gap.abs() if norm == "l1" else gap.square()).mean(1), reduction)
    gap = F.normalize(student.flatten(1), dim=1) - F.normalize(teacher.flatten(1), dim=1)
    return reduce_loss(gap.norm(p=1 if norm == "l1" else 2, dim=1), reduction)


def _energy(factor: Tensor) -> Tensor:
    return F.normalize(factor.square().mean(1).flatten(1), dim=1)


def _block(c_in: int, c_out: int, dims: Dims, *, transposed: bool = False) -> list[nn.Module]:
    if transposed:
        conv: nn.Module = (nn.ConvTranspose2d if dims == 2 else nn.ConvTranspose1d)(c_in, c_out, 3, 1, 1)
    else:
        conv = convolution(dims, c_in, c_out, 3, 1, 1)
    return [conv, batch_norm(dims, c_out), nn.LeakyReLU(0.1)]


class Paraphraser(nn.Module):
    """Convolutional auto-encoder of the teacher's map; its middle is the factor.

    It is trained first and alone, on ``reconstruction_loss``, and then frozen.

    Args:
        channels: Channels of the teacher's map.
        rate: Channels of the factor as a share of `channels`.
        dims: 2 for maps ``(B, C, H, W)``, 1 for ``(B, C, L)``.
    """

    def __init__(self, channels: int, *, rate: float = 0.5, dims: Dims = 2) -> None:
        super().__init__()
        check_positive(rate=rate)
        factor = max(1, int(channels * rate))
        self.factor_channels = factor
        encoder = [*_block(channels, channels, dims), *_block(channels, factor, dims), *_block(factor, factor, dims)]
        up = (_block(factor, factor, dims, transposed=True), _block(factor, channels, dims, transposed=True))
        decoder = [*up[0], *up[1], *_block(channels, channels, dims, transposed=True)]
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)

    def forward(self, features: Tensor) -> Tensor:
        """Return the factor ``(B, K, H, W)``."""
        factor: Tensor = self.encoder(features)
        return factor

    def reconstruction_loss(self, features: Tensor) -> Tensor:
        """Return the mean squared error of the auto-encoder, the paraphraser's own training loss."""
        return (self.decoder(self.encoder(features)) - features).square().mean()


class FrozenParaphraserLoss(KDLoss):
    """Base of losses that read the teacher's map through a paraphraser that was trained before and is frozen here."""

    paraphraser: Paraphraser

    def freeze(self, paraphraser: Paraphraser) -> None:
        """Set the paraphraser and stop its gradients."""
        self.paraphraser = paraphraser
        self.paraphraser.requires_grad_(False)

    @override
    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.paraphraser.eval()  # its batch statistics are frozen, too
        return self

    @torch.no_grad()
    def factor(self, teacher: Tensor) -> Tensor:
        """Return the factor of the teacher's map."""
        factor: Tensor = self.paraphraser(teacher)
        return factor


class FT(FrozenParaphraserLoss):
    """Factor transfer; equation, variants and errors: :func:`ft`.

    The student's map goes through a trained translator, the teacher's through the paraphraser, which is frozen here.
    Train it before: ``paraphraser.requires_grad_(True)``, some epochs on ``paraphraser.reconstruction_loss``, then
    ``False`` again.

    Args:
        student_channels: Channels of the student's map.
        teacher_channels: Channels of the teacher's map.
        rate: Channels of the factor as a share of the teacher's.
        norm: ``l1`` or ``l2``.
        variant: ``paper`` or ``code``.
        dims: 2 for maps ``(B, C, H, W)``, 1 for ``(B, C, L)``.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "ft"
    signal: ClassVar[Signal] = "features"
    channels_first: ClassVar[bool] = True

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        *,
        rate: float = 0.5,
        norm: Literal["l1", "l2"] = "l1",
        variant: Literal["paper", "code"] = "paper",
        dims: Dims = 2,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_options(ft, {"norm": norm, "variant": variant})
        self.norm: Literal["l1", "l2"] = norm
        self.variant: Literal["paper", "code"] = variant
        self.freeze(Paraphraser(teacher_channels, rate=rate, dims=dims))
        factor = self.paraphraser.factor_channels
        translator = [*_block(student_channels, student_channels, dims), *_block(student_channels, factor, dims)]
        self.translator = nn.Sequential(*translator, *_block(factor, factor, dims))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of feature maps ``(B, C_s, H, W)`` and ``(B, C_t, H', W')``."""
        student, teacher = match_size(student, teacher)
        factor = self.factor(teacher)
        return ft(self.translator(student), factor, norm=self.norm, variant=self.variant, reduction=self.reduction)
