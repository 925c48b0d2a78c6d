"""Module twin of `policykd.kd.functional.ft`, with the paraphraser and the translator."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from policykd.divergences import Reduction
from policykd.kd import functional as kf
from policykd.kd.functional.shapes import check_choice, check_positive, match_size
from policykd.kd.losses.base import KDLoss, Signal


def _block(c_in: int, c_out: int, *, transposed: bool = False) -> list[nn.Module]:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    return [kind(c_in, c_out, 3, 1, 1), nn.BatchNorm2d(c_out), nn.LeakyReLU(0.1)]


class Paraphraser(nn.Module):
    """Convolutional auto-encoder of the teacher's map; its middle is the factor.

    It is trained first and alone, on ``reconstruction_loss``, and then frozen.

    Args:
        channels: Channels of the teacher's map.
        rate: Channels of the factor as a share of `channels`.
    """

    def __init__(self, channels: int, *, rate: float = 0.5) -> None:
        super().__init__()
        check_positive(rate=rate)
        factor = max(1, int(channels * rate))
        self.factor_channels = factor
        encoder = [*_block(channels, channels), *_block(channels, factor), *_block(factor, factor)]
        up = (_block(factor, factor, transposed=True), _block(factor, channels, transposed=True))
        decoder = [*up[0], *up[1], *_block(channels, channels, transposed=True)]
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)

    def forward(self, features: Tensor) -> Tensor:
        """Return the factor ``(B, K, H, W)``."""
        factor: Tensor = self.encoder(features)
        return factor

    def reconstruction_loss(self, features: Tensor) -> Tensor:
        """Return the mean squared error of the auto-encoder, the paraphraser's own training loss."""
        return (self.decoder(self.encoder(features)) - features).square().mean()


class FT(KDLoss):
    """Factor transfer; equation, variants and errors as in `policykd.kd.functional.ft`.

    The student's map goes through a trained translator, the teacher's through the paraphraser, which is frozen here.
    Train it before: ``paraphraser.requires_grad_(True)``, some epochs on ``paraphraser.reconstruction_loss``, then
    ``False`` again.

    Args:
        student_channels: Channels of the student's map.
        teacher_channels: Channels of the teacher's map.
        rate: Channels of the factor as a share of the teacher's.
        norm: ``l1`` or ``l2``.
        variant: ``paper`` or ``code``.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "ft"
    signal: ClassVar[Signal] = "features"

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        *,
        rate: float = 0.5,
        norm: Literal["l1", "l2"] = "l1",
        variant: Literal["paper", "code"] = "paper",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_choice("norm", norm, ("l1", "l2"))
        check_choice("variant", variant, ("paper", "code"))
        self.norm: Literal["l1", "l2"] = norm
        self.variant: Literal["paper", "code"] = variant
        self.paraphraser = Paraphraser(teacher_channels, rate=rate)
        factor = self.paraphraser.factor_channels
        translator = [*_block(student_channels, student_channels), *_block(student_channels, factor)]
        self.translator = nn.Sequential(*translator, *_block(factor, factor))
        self.paraphraser.requires_grad_(False)

    def train(self, mode: bool = True) -> FT:
        """Set the mode of the translator; the paraphraser stays in eval mode."""
        super().train(mode)
        self.paraphraser.eval()
        return self

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of feature maps ``(B, C_s, H, W)`` and ``(B, C_t, H', W')``."""
        student, teacher = match_size(student, teacher)
        with torch.no_grad():
            factor = self.paraphraser(teacher)
        return kf.ft(self.translator(student), factor, norm=self.norm, variant=self.variant, reduction=self.reduction)
