"""Contrastive representation distillation: the critic's loss (Tian et al. 2020).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import Reduction, prepare_tensor, reduce_loss
from policykd.kd.losses._base import KDLoss, Signal
from policykd.kd.losses._function import loss_function
from policykd.kd.losses._negatives import NegativeDraw
from policykd.kd.options import Temperature, check_choice, check_options, check_positive, half_open_fraction
from policykd.kd.shapes import prepare_embeddings
from policykd.kd.training.distributed import gather_rows


def log_scores(anchor: Tensor, bank: Tensor, candidates: Tensor, temperature: float) -> Tensor:
    """Return ``v' m_k / T``, ``(B, 1 + K)``, of anchors ``(B, E)`` and the rows `candidates` of a bank ``(N, E)``."""
    if bank.shape[0] <= candidates.shape[1] * bank.shape[1]:
        # All products are cheaper than a copy of every candidate's row, which has E times more entries.
        return (anchor @ bank.T).gather(1, candidates) / temperature
    return torch.einsum("be,bke->bk", anchor, bank[candidates]) / temperature


def contrast(log_odds: Tensor, n_data: int) -> Tensor:
    """Noise-contrastive loss ``(B,)`` from log scores ``(B, 1 + K)``, the positive in column 0.

    ``-[log h_0 + sum_k log(1 - h_k)]`` with ``h = o / (o + K / n_data)``, in log space.
    """
    log_ratio = math.log((log_odds.shape[1] - 1) / n_data)
    positive = F.softplus(log_ratio - log_odds[:, 0])
    return positive + F.softplus(log_odds[:, 1:] - log_ratio).sum(1)


@loss_function
def crd(
    student: Tensor,
    teacher: Tensor,
    student_bank: Tensor,
    teacher_bank: Tensor,
    candidates: Tensor,
    *,
    temperature: Temperature = 0.07,
    log_z_student: float | Tensor = 0.0,
    log_z_teacher: float | Tensor = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Tell the pair of features of one sample from pairs of different samples.

    ``L(o_s) + L(o_t)``, ``L(o) = -log h_0 - sum_k log(1 - h_k)``, ``h = o / (o + K / N)``,
    ``o_s = exp(v_s' M_t / T) / Z_s``, ``o_t = exp(v_t' M_s / T) / Z_t``. Tian et al., ICLR 2020, eq. 10, 18 and 19
    [numbering recalled].

    Variants: ``paper`` has ``Z = 1`` (``log_z`` 0); ``fixed_z``, the code behind all published numbers, estimates Z on
    the first batch and keeps it; the module does that. Departure: log space instead of the code's 1e-7 in the
    denominators (the same to about 1e-6).

    Unlike everywhere else the second input is *not* detached: it is the teacher's embedding, whose linear map is
    trained. The banks get no gradient.

    Args:
        student: Unit embeddings ``(B, E)``.
        teacher: Unit embeddings ``(B, E)``.
        student_bank: Stored student embeddings ``(N, E)`` of the whole training set.
        teacher_bank: Stored teacher embeddings ``(N, E)``.
        candidates: Rows of the banks ``(B, 1 + K)``: the sample itself, then K negatives.
        temperature: T > 0.
        log_z_student: Logarithm of Z on the student's side.
        log_z_teacher: Logarithm of Z on the teacher's side.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes do not fit, candidates are not rows of the banks, a value is not finite, or a bad option.

    Example:
        >>> import torch
        >>> bank, candidates = torch.eye(3), torch.tensor([[0, 1, 2]])  # sample 0 against two others
        >>> crd(bank[:1], bank[:1], bank, bank, candidates, temperature=0.5)
        tensor(3.8379)
    """
    if candidates.is_floating_point() or candidates.dim() != 2 or candidates.shape[1] < 2:
        given = f"{candidates.dtype} {tuple(candidates.shape)}"
        raise ValueError(f"candidates must be integers (B, 1 + K) with K >= 1, got {given}")
    low, high = (int(x) for x in torch.aminmax(candidates))
    if low < 0 or high >= len(student_bank) or student_bank.shape != teacher_bank.shape:
        rows = f"banks of shapes {tuple(student_bank.shape)} and {tuple(teacher_bank.shape)}"
        raise ValueError(f"candidates must be rows of both banks, got {low} to {high} for {rows}")
    sides = []
    for name, anchor, bank, log_z in (
        ("student", student, teacher_bank, log_z_student),
        ("teacher", teacher, student_bank, log_z_teacher),
    ):
        anchor = prepare_tensor(f"{name} embeddings", anchor, min_dim=2)
        if bank.dim() != 2 or tuple(anchor.shape) != (candidates.shape[0], bank.shape[1]):
            need = f"({candidates.shape[0]}, {bank.shape[-1]})"
            raise ValueError(f"{name} embeddings must be {need} like candidates and bank, got {tuple(anchor.shape)}")
        scores = log_scores(anchor, bank.detach().to(anchor.dtype), candidates, temperature)
        sides.append(contrast(scores - log_z, bank.shape[0]))
    return reduce_loss(sides[0] + sides[1], reduction)


class CRD(KDLoss):
    """Contrastive representation distillation; equation and errors: :func:`crd`.

    Both features go through a trained linear map to unit vectors, which are compared with banks of earlier ones. In
    train mode a call also notes the batch's embeddings; they enter the banks at the next call, or, with
    ``auto_commit=False``, at ``commit()``: call that once per optimizer step and a batch in several micro-batches
    gives the loss and gradient of the whole. Banks, counts and Z are buffers: a checkpoint restores them. Under
    several processes the embeddings of all are exchanged, so that every process holds the same banks.

    Normalizers: ``fixed_z`` (the code) estimates Z on the first batch it sees, all processes together, and keeps it;
    with micro-batches call ``calibrate`` on the first whole batch instead. ``paper`` has no Z. Departures: negatives
    are drawn with replacement; without `labels` they may share the class but are never the sample itself.

    Args:
        n_data: Size of the training set; `index` counts it.
        student_dim: Width of the student's feature; found at the first call if left out.
        teacher_dim: Width of the teacher's feature; the same.
        dim: E, width of the embeddings.
        negatives: K per sample; of the order of `n_data` or below.
        temperature: T > 0.
        momentum: Share of the old entry when a bank is updated, in [0, 1).
        normalizer: ``fixed_z`` or ``paper``.
        labels: Class of every training sample; negatives then come from other classes.
        seed: For the banks' first content and the negatives.
        auto_commit: See above.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "crd"
    signal: ClassVar[Signal] = "features"
    inputs: ClassVar[tuple[str, ...]] = ("student", "teacher", "index")
    student_bank: Tensor
    teacher_bank: Tensor
    visits: Tensor
    log_z: Tensor

    def __init__(
        self,
        n_data: int,
        student_dim: int | None = None,
        teacher_dim: int | None = None,
        *,
        dim: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        normalizer: Literal["fixed_z", "paper"] = "fixed_z",
        labels: Tensor | None = None,
        seed: int = 0,
        auto_commit: bool = True,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_choice("normalizer", normalizer, ("fixed_z", "paper"))
        check_positive(dim=dim, negatives=negatives)
        half_open_fraction("momentum", momentum)
        check_options(crd, {"temperature": temperature})
        self.n_data, self.negatives, self.momentum = n_data, negatives, momentum
        self.temperature = temperature
        self.normalizer, self.auto_commit = normalizer, auto_commit
        self.draw = NegativeDraw(n_data, labels, seed=seed)
        self.student_embed = nn.LazyLinear(dim) if student_dim is None else nn.Linear(student_dim, dim)
        self.teacher_embed = nn.LazyLinear(dim) if teacher_dim is None else nn.Linear(teacher_dim, dim)
        generator = torch.Generator().manual_seed(seed)
        bound = 1.0 / math.sqrt(dim / 3.0)
        for bank in ("student_bank", "teacher_bank"):
            self.register_buffer(bank, (2.0 * torch.rand(n_data, dim, generator=generator) - 1.0) * bound)
        self.register_buffer("visits", torch.zeros(n_data, dtype=torch.int32))
        start = math.nan if normalizer == "fixed_z" else 0.0
        self.register_buffer("log_z", torch.full((2,), start, dtype=torch.float64))
        self._pending: list[tuple[Tensor, Tensor, Tensor]] = []

    def embed(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit embeddings ``(B, E)`` of both features; the teacher's feature is detached, not its linear map."""
        student, teacher = prepare_embeddings(student, teacher)
        weight_type = self.student_bank.dtype
        with torch.autocast(student.device.type, enabled=False):
            v_s, v_t = self.student_embed(student.to(weight_type)), self.teacher_embed(teacher.to(weight_type))
        return F.normalize(v_s, dim=1), F.normalize(v_t, dim=1)

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor, negatives: Tensor | None = None) -> Tensor:
        """Return the loss of features ``(B, ...)`` of the samples `index` ``(B,)``.

        `negatives` ``(B, K)`` replaces the module's own draw.
        """
        if self.auto_commit:
            self.commit()
        v_s, v_t = self.embed(student, teacher)
        candidates = self._candidates(index, negatives, batch=len(v_s))
        if bool(self.log_z.isnan().any()):
            self._set_z(v_s.detach(), v_t.detach(), candidates)
        loss = crd(
            v_s,
            v_t,
            self.student_bank,
            self.teacher_bank,
            candidates,
            temperature=self.temperature,
            log_z_student=float(self.log_z[0]),
            log_z_teacher=float(self.log_z[1]),
            reduction=self.reduction,
        )
        if self.training:
            rows = (gather_rows(x.detach()) for x in (index, v_s, v_t))
            self._pending.append(tuple(rows))  # type: ignore[arg-type]
        return loss

    @torch.no_grad()
    def calibrate(self, student: Tensor, teacher: Tensor, index: Tensor, negatives: Tensor | None = None) -> None:
        """Set Z (``fixed_z``) from one batch, without a loss and without touching the banks."""
        if self.normalizer == "fixed_z":
            v_s, v_t = self.embed(student, teacher)
            self._set_z(v_s, v_t, self._candidates(index, negatives, batch=len(v_s)))

    @torch.no_grad()
    def commit(self) -> None:
        """Put the embeddings noted since the last commit into the banks; call it between optimizer steps."""
        if not self._pending:
            return
        index, v_s, v_t = (torch.cat(parts).to(self.visits.device) for parts in zip(*self._pending, strict=True))
        self._pending.clear()
        rows, place = index.unique(return_inverse=True)
        # A sample that came twice: its last embedding counts, on every device.
        last = torch.zeros_like(rows).scatter_reduce_(0, place, torch.arange(len(index), device=index.device), "amax")
        for bank, fresh in ((self.student_bank, v_s), (self.teacher_bank, v_t)):
            mixed = self.momentum * bank[rows] + (1.0 - self.momentum) * fresh[last].to(bank.dtype)
            bank[rows] = F.normalize(mixed, dim=1)
        self.visits[rows] += 1

    @torch.no_grad()
    def _set_z(self, v_s: Tensor, v_t: Tensor, candidates: Tensor) -> None:
        for side, (anchor, bank) in enumerate(((v_s, self.teacher_bank), (v_t, self.student_bank))):
            scores = log_scores(anchor, bank, candidates, self.temperature).double()
            total = gather_rows(scores.logsumexp(1))
            self.log_z[side] = total.logsumexp(0) - math.log(len(total) * candidates.shape[1] / self.n_data)

    def _candidates(self, index: Tensor, negatives: Tensor | None, *, batch: int) -> Tensor:
        if index.is_floating_point() or tuple(index.shape) != (batch,):
            raise ValueError(f"index must be integers ({batch},), got {index.dtype} {tuple(index.shape)}")
        if int(index.min()) < 0 or int(index.max()) >= self.n_data:
            raise ValueError(f"index must be in [0, {self.n_data - 1}], got up to {int(index.max())}")
        index = index.long()
        if negatives is None:
            negatives = self.draw(index, self.visits[index], self.negatives)
        return torch.cat([index[:, None], negatives.long()], 1)

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.commit()
        super()._save_to_state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._pending.clear()  # noted before the checkpoint was loaded: not part of the restored run
        super()._load_from_state_dict(*args, **kwargs)
