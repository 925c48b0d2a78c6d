"""Scale-decoupled distillation (Wei et al. 2024).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from policykd.divergences import Reduction, reduce_loss
from policykd.errors import ConfigError
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.losses.dkd import dkd
from policykd.kd.losses.kd import kd
from policykd.kd.options import Rule, Temperature
from policykd.kd.shapes import check_labels, prepare_maps, shrink_map


def check_cells(name: str, cells: tuple[int, ...]) -> None:
    """Raise ConfigError unless the grid sizes are positive and the first is the whole image."""
    if not cells or cells[0] != 1 or min(cells) < 1:
        raise ConfigError(f"{name} must begin with 1 (the whole image) and hold positive sizes, got {cells!r}")


Cells = Annotated[tuple[int, ...], Rule(check_cells)]


def cell_logits(maps: Tensor, cells: tuple[int, ...]) -> Tensor:
    """Average logit maps ``(B, C, H, W)`` over grids of ``n x n`` cells: ``(B, C, R)``, ``R = sum n**2``.

    Maps ``(B, C, L)`` are averaged over n cells, ``R = sum n``.
    """
    return torch.cat([shrink_map(maps, [n] * (maps.dim() - 2)).flatten(2) for n in cells], 2)


@loss_function
def sdd(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    cells: Cells = (1, 2),
    base: Literal["kd", "dkd"] = "kd",
    temperature: Temperature = 4.0,
    tckd_weight: float = 1.0,
    nckd_weight: float = 8.0,
    complementary_weight: float = 2.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Distil the logits of image regions, so that a region with another object teaches that object.

    The maps are averaged over grids of cells, ``[1, 2]`` gives 5 regions; every region's logits pass through KD or DKD,
    and the value is the mean over regions (in the released code, too, for both bases). Where the teacher is right in
    the region but wrong on the whole image, or the other way round, the weight is `complementary_weight`, else 1. Wei
    et al., CVPR 2024, eq. 5 to 7 [numbering recalled].

    Args:
        student: Logit maps ``(B, C, H, W)`` or ``(B, C, L)``: the classifier applied at every place, whose mean is
            the logit.
        teacher: Logit maps ``(B, C, H', W')``, detached here; the larger is pooled to the smaller size.
        target: Class indices ``(B,)``.
        cells: Grid sizes; the first must be 1 (the whole image).
        base: Loss per cell.
        temperature: T > 0 of the base.
        tckd_weight: See `dkd`; only for that base, like the next.
        nckd_weight: See `dkd`.
        complementary_weight: Weight of cells that disagree with the whole image.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: maps are not floating-point, or labels not integers.
        ValueError: shapes do not fit, a label out of range, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> maps = torch.tensor([[[[4.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 4.0]]]])  # two classes on 2 x 2 places
        >>> sdd(maps, 2.0 * maps, torch.tensor([0]), cells=(1, 2))
        tensor(0.6445)
    """
    student, teacher = prepare_maps(student, teacher, same_channels=True)
    target = check_labels(student, target)
    local_s, local_t = (cell_logits(maps, cells).transpose(1, 2) for maps in (student, teacher))
    regions = local_s.shape[1]
    rows_s, rows_t = local_s.flatten(0, 1), local_t.flatten(0, 1)
    options: dict[str, Any] = {"temperature": temperature, "reduction": "none"}
    if base == "kd":
        values = kd(rows_s, rows_t, **options)
    else:
        options |= {"tckd_weight": tckd_weight, "nckd_weight": nckd_weight}
        values = dkd(rows_s, rows_t, target.repeat_interleave(regions), **options)
    right = local_t.argmax(2) == target[:, None]
    weight = torch.where(right == right[:, :1], 1.0, complementary_weight).to(values.dtype)
    weighted = weight * values.unflatten(0, (-1, regions))
    return reduce_loss(weighted.mean(1), reduction)


SDD = loss_module(sdd, signal="maps")
