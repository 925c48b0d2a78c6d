"""CAT-KD: class activation maps (Guo et al. 2023).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, reduce_loss
from policykd.errors import ConfigError
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.options import Rule
from policykd.kd.shapes import prepare_maps, shrink_map


def check_pool_size(name: str, size: int | None) -> None:
    """Raise ConfigError unless there is at least one cell per side, or None."""
    if size is not None and size < 1:
        raise ConfigError(f"{name} must be at least 1, or None to keep the maps, got {size!r}")


PoolSize = Annotated[int | None, Rule(check_pool_size)]


@loss_function
def cat_kd(student: Tensor, teacher: Tensor, *, pool_size: PoolSize = 2, reduction: Reduction = "mean") -> Tensor:
    """Show the student where the teacher sees each class.

    ``mean_{c,r} (a_s - a_t)**2`` with ``a`` the class activation map of class c, pooled to ``pool_size`` squared
    cells and divided by its l2 norm. Guo et al., CVPR 2023, eq. 5 [numbering recalled].

    A class activation map is the classifier applied at every place before pooling (a 1 x 1 convolution); its spatial
    mean is the logit. Maps of norm 0 stay 0.

    Args:
        student: Maps ``(B, C, H, W)`` or ``(B, C, L)``, C classes.
        teacher: Maps ``(B, C, H', W')``, detached here; the larger is pooled to the smaller size.
        pool_size: Cells per side; `None` keeps the maps.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes do not fit, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]), torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
        >>> cat_kd(student, teacher, pool_size=None)
        tensor(0.1464)
    """
    student, teacher = prepare_maps(student, teacher, same_channels=True)
    if pool_size is not None:
        student, teacher = (shrink_map(maps, [pool_size] * (maps.dim() - 2)) for maps in (student, teacher))
    gap = F.normalize(student.flatten(2), dim=2) - F.normalize(teacher.flatten(2), dim=2)
    return reduce_loss(gap.square().mean((1, 2)), reduction)


CATKD = loss_module(cat_kd, signal="maps")
