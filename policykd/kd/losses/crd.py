"""Module twin of `policykd.kd.functional.crd`, with embeddings, memory banks and the constant Z."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import Reduction, check_temperature
from policykd.kd import functional as kf
from policykd.kd.functional.crd import log_scores
from policykd.kd.functional.shapes import check_choice, check_positive, prepare_embeddings
from policykd.kd.losses.base import KDLoss, Signal
from policykd.kd.losses.negatives import NegativeDraw
from policykd.kd.training.distributed import gather_rows


class CRD(KDLoss):
    """Contrastive representation distillation; equation and errors as in `policykd.kd.functional.crd`.

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
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum must lie in [0, 1), got {momentum!r}")
        self.n_data, self.negatives, self.momentum = n_data, negatives, momentum
        self.temperature = check_temperature(temperature)
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
        loss = kf.crd(
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
            raise ValueError(f"index must lie in [0, {self.n_data - 1}], got up to {int(index.max())}")
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
