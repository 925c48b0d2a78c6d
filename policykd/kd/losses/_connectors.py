"""Small trainable networks that stand between a student's and a teacher's feature maps.

They belong to the optimizer and to a checkpoint of the run, never to the exported student.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn
from typing_extensions import override

from policykd.errors import ConfigError, ShapeError
from policykd.kd.options import check_choice
from policykd.kd.shapes import Features, as_levels, match_size

Dims = Literal[1, 2]
"""Axes of a map besides batch and channels: 2 for ``(B, C, H, W)``, 1 for ``(B, C, L)``."""


def convolution(dims: Dims, *args: Any, **options: Any) -> nn.Module:
    """Return a convolution over maps of one or two dimensions; arguments as of torch's."""
    check_choice("dims", dims, (1, 2))
    return (_Conv2d if dims == 2 else _Conv1d)(*args, **options)


def _check_axes(maps: Tensor, dims: Dims) -> None:
    """Refuse maps of other dimensions; torch would take ``(B, C, L)`` as one unbatched image."""
    if maps.dim() != dims + 2:
        made, given = ("(B, C, H, W)", 1) if dims == 2 else ("(B, C, L)", 2)
        hint = f"; make it with dims={given}" if maps.dim() == given + 2 else ""
        raise ShapeError(f"the loss was made for maps {made}, got {tuple(maps.shape)}{hint}")


class _Conv2d(nn.Conv2d):
    @override
    def forward(self, x: Tensor) -> Tensor:
        _check_axes(x, 2)
        return super().forward(x)


class _Conv1d(nn.Conv1d):
    @override
    def forward(self, x: Tensor) -> Tensor:
        _check_axes(x, 1)
        return super().forward(x)


def batch_norm(dims: Dims, channels: int) -> nn.Module:
    """Return batch normalization of maps of one or two dimensions."""
    return nn.BatchNorm2d(channels) if dims == 2 else nn.BatchNorm1d(channels)


def conv_bn(
    channels_in: int,
    channels_out: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    relu: bool = False,
    dims: Dims = 2,
) -> nn.Sequential:
    """Return convolution, batch normalization and, if asked, ReLU; odd kernels keep the size at stride 1."""
    layers = [
        convolution(dims, channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        batch_norm(dims, channels_out),
    ]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


def optional_connector(student_channels: int | None, teacher_channels: int | None) -> nn.Module:
    """Return a 1 x 1 convolution with batch normalization, or the identity if both numbers of channels are left out.

    Raises:
        ConfigError: one of them is left out.
    """
    if student_channels is None and teacher_channels is None:
        return nn.Identity()
    if student_channels is None or teacher_channels is None:
        raise ConfigError("give both student_channels and teacher_channels, or neither")
    return conv_bn(student_channels, teacher_channels)


def channel_pairs(student: Sequence[int], teacher: Sequence[int]) -> list[tuple[int, int]]:
    """Pair the channels of student and teacher levels.

    Raises:
        ConfigError: different numbers of levels.
    """
    if len(student) != len(teacher):
        raise ConfigError(f"need the channels of as many student as teacher levels, got {student!r} and {teacher!r}")
    return list(zip(student, teacher, strict=True))


def connected(connectors: nn.ModuleList, student: Features, teacher: Features) -> tuple[list[Tensor], list[Tensor]]:
    """Send every student level through its connector, if there are any, and match the sizes of the maps."""
    levels = as_levels(student, teacher)
    if connectors and len(connectors) != len(levels):
        raise ValueError(f"built for {len(connectors)} levels, got {len(levels)}")
    students, teachers = [], []
    for index, (s, t) in enumerate(levels):
        s = connectors[index](s) if connectors else s
        s, t = match_size(s, t) if s.dim() == t.dim() > 2 else (s, t)
        students.append(s)
        teachers.append(t)
    return students, teachers


class HintRegressor(nn.Module):
    """FitNets regressor from ``(B, C_s, H_s, W_s)`` to ``(B, C_t, H_t, W_t)``: one convolution, batch norm, ReLU.

    Maps ``(B, C, L)`` are taken, too. ``H_s = 2 H_t`` uses 3 x 3 with stride 2, ``2 H_s = H_t`` a transposed 4 x 4 with
    stride 2, ``H_s >= H_t`` a kernel of ``1 + H_s - H_t`` without padding; others are refused.

    Args:
        student_shape: ``(C_s, H_s, W_s)``, or ``(C_s, L_s)``.
        teacher_shape: ``(C_t, H_t, W_t)``, or ``(C_t, L_t)``.
        relu: End with ReLU; switch it off for features before an activation.
    """

    def __init__(self, student_shape: tuple[int, ...], teacher_shape: tuple[int, ...], *, relu: bool = True) -> None:
        super().__init__()
        (c_s, *own), (c_t, *other) = student_shape, teacher_shape
        if len(own) != len(other) or len(own) not in (1, 2):
            raise ConfigError(f"a hint is a map (C, H, W) or (C, L), got {student_shape} and {teacher_shape}")
        dims: Dims = 2 if len(own) == 2 else 1
        if own == [2 * size for size in other]:
            conv = convolution(dims, c_s, c_t, 3, 2, 1)
        elif [2 * size for size in own] == other:
            conv = (nn.ConvTranspose2d if dims == 2 else nn.ConvTranspose1d)(c_s, c_t, 4, 2, 1)
        elif all(mine >= its for mine, its in zip(own, other, strict=True)):
            kernel = tuple(1 + mine - its for mine, its in zip(own, other, strict=True))
            conv = convolution(dims, c_s, c_t, kernel)
        else:
            raise ConfigError(f"no hint regressor from size {tuple(own)} to {tuple(other)}: resize one of them first")
        self.net = nn.Sequential(conv, batch_norm(dims, c_t), *([nn.ReLU()] if relu else []))

    def forward(self, features: Tensor) -> Tensor:
        """Map student features to the teacher's shape."""
        mapped: Tensor = self.net(features)
        return mapped
