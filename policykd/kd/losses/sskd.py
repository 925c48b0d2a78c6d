"""Self-supervised similarity between an image's rotated views and the originals of the batch (Xu et al. 2020).

Views of one image come one after another: the original, then the turned ones, so that row ``i`` of ``4 B`` rows belongs
to image ``i // 4`` and is an original where ``i % 4 == 0``. Nothing here may shuffle them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.losses.selective_kd import selective_kd
from policykd.kd.options import ClosedFraction, Temperature
from policykd.kd.shapes import prepare_embeddings

VIEWS = 4  # 0, 90, 180 and 270 degrees


def split_views(values: Tensor) -> tuple[Tensor, Tensor]:
    """Split values of views ``(4 B, ...)``, four after one another per image, into originals and rotated views.

    Returns:
        ``(B, ...)`` and ``(3 B, ...)``, row j of the latter from image ``j // 3``.

    Raises:
        ValueError: The number of rows is not a multiple of four.
    """
    if len(values) % VIEWS:
        raise ValueError(f"{len(values)} rows are not a whole number of images with {VIEWS} views")
    views = values.unflatten(0, (-1, VIEWS))
    return views[:, 0], views[:, 1:].flatten(0, 1)


def view_similarity(values: Tensor) -> Tensor:
    """Return the cosine between rotated and original views.

    Args:
        values: Outputs of the head for all views ``(4 B, d)``, four after one another per image.

    Returns:
        ``(3 B, B)``: row j holds the similarities of rotated view j to every original.
    """
    normal, rotated = split_views(F.normalize(values, dim=1))
    return rotated @ normal.T


def originals(similarity: Tensor) -> Tensor:
    """Return the right answers for the rows of a similarity ``(3 B, B)``: the image that a rotated view comes from."""
    rows, batch = similarity.shape
    return torch.arange(batch, device=similarity.device).repeat_interleave(rows // batch)


def head_loss(similarity: Tensor) -> Tensor:
    """Return the loss that trains the teacher's head: cross-entropy of the rows with the true original, at T = 1."""
    return F.cross_entropy(similarity, originals(similarity))


@loss_function
def sskd(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: Temperature = 0.5,
    share: ClosedFraction = 0.75,
    reduction: Reduction = "mean",
) -> Tensor:
    """Take over how similar the teacher finds a rotated image to every original of the batch.

    ``selective_kd`` between rows of :func:`view_similarity`, cosines between the embeddings of rotated and original
    views: ``T**2 KL(softmax(a_t / T) || softmax(a_s / T))`` over the rotated views whose original the teacher finds
    and the share k of the others on which it is least wrong. The similarity term of Xu, Liu, Li and Loy, Knowledge
    Distillation Meets Self-Supervision (ECCV 2020, arXiv 2006.07114); its terms on class logits are ``ce``, ``kd`` and
    ``selective_kd``. The value depends on the batch by definition.

    Args:
        student: Embeddings ``(4 B, d)`` of four views of every image, one image after another, the original first.
        teacher: The same ``(4 B, d')`` from a head that was trained by :func:`head_loss`, detached here.
        temperature: T > 0.
        share: k in [0, 1].
        reduction: How the values of the kept rotated views are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: rows are not a whole number of images, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> one, two = torch.eye(2)
        >>> teacher = torch.stack([one, one, one, one, two, two, two, two])  # finds every original
        >>> student = torch.stack([one, one, one, two, two, two, two, two])  # takes one view for the other image
        >>> sskd(student, teacher)
        tensor(0.0635)
    """
    student, teacher = prepare_embeddings(student, teacher)
    similar, known = view_similarity(student), view_similarity(teacher)
    return selective_kd(similar, known, originals(known), temperature=temperature, share=share, reduction=reduction)


SSKD = loss_module(sskd, signal="features", batch_coupled=True)
